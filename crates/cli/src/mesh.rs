//! The mesh of the person's own machine, where it is one that can be asked who is on it. It says who is meant to be at an
//! address; who is there is proved by their signature alone.

mod authorities;
mod on_demand;
mod place;
mod token;

pub use authorities::read_authorities;
pub use on_demand::start;
pub use place::{MeshPlace, NodeFolders};
pub use token::read_token;

use crate::{failure::Failure, settings::Settings};
use allod_mesh::{
    EmbeddedMesh, EmbeddedSettings, Mesh, MeshError, MeshKind, MeshSettings, MeshStatus, TailscaledMesh,
    TailscaledSettings,
};
use allod_proto::FaultCode;
use allod_rpc::client::{Dialer, Dialing, Transport};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::time::timeout;

/// How long a mesh may take to say that it is up.
const SETTLED: Duration = Duration::from_secs(2);

/// What the mesh of this machine says.
pub struct OwnMesh {
    mesh: Arc<dyn Mesh>,
    /// The same, where it is a node of our own.
    node: Option<Arc<EmbeddedMesh>>,
    /// Whether the person's settings say that it is the mesh.
    chosen: bool,
}

impl OwnMesh {
    /// The one that the settings name; with `auto` the one that was joined by `allod join`, otherwise tailscaled's if it is here.
    /// A node that is started on demand is started.
    ///
    /// # Errors
    /// [`Failure`] when it is not known where the node is, or it can't be started.
    pub async fn of(settings: &Settings) -> Result<Option<Self>, Failure> {
        match settings.mesh {
            MeshKind::Embedded => Ok(Some(Self::embedded(settings, MeshPlace::load(settings)?).await?)),
            MeshKind::Auto => match MeshPlace::load(settings)? {
                Some(place) => Ok(Some(Self::embedded(settings, Some(place)).await?)),
                None => Ok(Self::tailscaled(settings, false).await),
            },
            MeshKind::Tailscaled => Ok(Self::tailscaled(settings, true).await),
            MeshKind::Loopback | MeshKind::Static => Ok(None),
        }
    }

    async fn embedded(settings: &Settings, place: Option<MeshPlace>) -> Result<Self, Failure> {
        let socket = match (&settings.mesh_socket, place) {
            (Some(socket), _) => socket.clone(),
            (None, Some(place)) => {
                on_demand::ensure(&place).await?;
                place.socket
            }
            (None, None) => socket_of(MeshKind::Embedded, None),
        };
        let node = Arc::new(node_at(socket).await?);
        Ok(Self { mesh: Arc::clone(&node) as Arc<dyn Mesh>, node: Some(node), chosen: true })
    }

    async fn tailscaled(settings: &Settings, chosen: bool) -> Option<Self> {
        let socket = socket_of(MeshKind::Tailscaled, settings.mesh_socket.clone());
        if !chosen && !socket.exists() {
            return None;
        }
        // Without an address of its own to listen on, there is nothing that could be refused.
        let mesh = TailscaledMesh::start(TailscaledSettings::at(socket)).await.ok()?;
        Some(Self { mesh: Arc::new(mesh), node: None, chosen })
    }

    /// The mesh itself.
    #[must_use]
    pub fn mesh(&self) -> &Arc<dyn Mesh> {
        &self.mesh
    }

    /// Whether the person said that this is the mesh, so that what it doesn't know is wrong.
    #[must_use]
    pub fn is_chosen(&self) -> bool {
        self.chosen
    }

    /// How this machine stands there.
    #[must_use]
    pub fn status(&self) -> MeshStatus {
        self.mesh.watch().borrow().clone()
    }

    /// How this machine stands there, once that is known; what was known last when it takes too long.
    pub async fn settled_status(&self) -> MeshStatus {
        let mut statuses = self.mesh.watch();
        // Whatever became of it, the last word is the answer.
        let _ = timeout(SETTLED, statuses.wait_for(|status| status.up)).await.is_ok();
        self.status()
    }

    /// Whether it can be told that nobody there has this address.
    pub async fn is_nobodys(&self, address: SocketAddr) -> bool {
        allod_mesh::is_mesh_address(address.ip()) && matches!(self.mesh.whois(address).await, Ok(None))
    }

    /// The node of our own, where that is the mesh.
    #[must_use]
    pub fn node(&self) -> Option<&Arc<EmbeddedMesh>> {
        self.node.as_ref()
    }

    /// What dials this address, where the machine's own network doesn't lead there.
    #[must_use]
    pub fn dialer(&self, address: SocketAddr) -> Option<Arc<dyn Dialer>> {
        let node = self.node().filter(|_| allod_mesh::is_mesh_address(address.ip()))?;
        Some(over(Arc::clone(node)))
    }

    /// Refuses an address that the mesh doesn't know.
    ///
    /// # Errors
    /// [`Failure`] when the settings name a mesh that can be asked, and it knows nobody there or doesn't answer.
    pub async fn check_peer(&self, address: SocketAddr) -> Result<(), Failure> {
        if !self.chosen || !allod_mesh::is_mesh_address(address.ip()) {
            return Ok(());
        }
        match self.mesh.whois(address).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(self.nobody(address)),
            Err(error) => Err(Failure::new(FaultCode::Unreachable, error.to_string())
                .hint("`allod doctor` says what is wrong with this machine's place on the mesh")),
        }
    }

    fn nobody(&self, address: SocketAddr) -> Failure {
        let message = format!("{} is nobody's on the mesh, as far as this machine knows", address.ip());
        Failure::new(FaultCode::Unreachable, message).hint(self.about_nobody())
    }

    /// What to do about an address that nobody has.
    #[must_use]
    pub fn about_nobody(&self) -> &'static str {
        if self.node.is_some() {
            "`allod mesh` here shows who is there, on the hub `allod hub nodes list`. \
             The mesh's own policy may also hide the two from each other"
        } else {
            "`tailscale status` here shows who is there; on the server, `tailscale up`. \
             The mesh's own policy may also hide the two from each other"
        }
    }
}

fn socket_of(kind: MeshKind, socket: Option<PathBuf>) -> PathBuf {
    MeshSettings { kind, address: None, socket }.socket().to_owned()
}

/// The node behind this socket.
///
/// # Errors
/// [`Failure`] when the settings make no sense.
pub async fn node_at(socket: PathBuf) -> Result<EmbeddedMesh, Failure> {
    let started = EmbeddedMesh::start(EmbeddedSettings::at(socket)).await;
    started.map_err(|error| Failure::new(FaultCode::Invalid, error.to_string()))
}

/// The tag of the hub's machine, which only an administrator gives.
pub const HUB: &str = "tag:hub";

/// Where the hub of a mesh is, by its tag. This machine is no peer of its own, so one that is the hub itself has none.
pub async fn hub_of(mesh: &EmbeddedMesh) -> Option<IpAddr> {
    let peers = mesh.peers().await.ok()?;
    let hub = peers.into_iter().find(|peer| peer.tags.iter().any(|tag| tag == HUB))?;
    hub.addresses.first().copied()
}

/// What dials through this node.
#[must_use]
pub fn over(mesh: Arc<EmbeddedMesh>) -> Arc<dyn Dialer> {
    Arc::new(OverNode(mesh))
}

/// Dials through the node's socket.
struct OverNode(Arc<EmbeddedMesh>);

impl Dialer for OverNode {
    fn dial(&self, to: SocketAddr) -> Dialing<'_> {
        Box::pin(async move {
            let connection = self.0.connect(to).await.map_err(as_io)?;
            Ok(Box::new(connection) as Box<dyn Transport>)
        })
    }
}

fn as_io(error: MeshError) -> io::Error {
    match error {
        MeshError::Connect { source, .. } => source,
        other => io::Error::other(other),
    }
}
