//! The driver for machines whose place on the mesh is owned by `allod node`: everything is asked of that program's Unix socket, and
//! connections are carried through it. Whom it doesn't know, and everybody while it doesn't answer, is not served.

mod asking;
mod judge;
mod listening;
mod names;
mod stream;
mod trust;
mod watching;

pub(crate) use listening::Accepting;
pub use names::ResolveError;
pub(crate) use stream::NodeStream;

use crate::{Answer, Connection, Listener, Mesh, MeshError, MeshStatus, Mode, Peer, Trouble, guard};
use allod_proto::{
    Fault, FaultCode,
    node::{NodeAnswer, NodeAsk, NodePeer},
};
use asking::Asking;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};
use tokio::{sync::watch, task::JoinHandle};

/// Where the node's socket is unless told otherwise.
pub const NODE_SOCKET: &str = "/run/allod/node/node.sock";

/// The driver's name.
const DRIVER: &str = "embedded";
/// How long a question and its answer may take together.
const PATIENCE: Duration = Duration::from_secs(3);
/// How long a connection may take to come about: through a relay, after a handshake that was lost.
const CONNECT: Duration = Duration::from_secs(20);

/// How the node is reached and what is wanted of it.
#[derive(Debug, Clone)]
pub struct EmbeddedSettings {
    /// Its socket.
    pub socket: PathBuf,
    /// Listen on this address only, instead of on all that the machine has on the mesh.
    pub only: Option<IpAddr>,
}

impl EmbeddedSettings {
    /// A socket, and all that the mesh gives.
    #[must_use]
    pub fn at(socket: PathBuf) -> Self {
        Self { socket, only: None }
    }
}

/// A mesh that `allod node` is on.
#[derive(Debug)]
pub struct EmbeddedMesh {
    core: Arc<Core>,
    status: watch::Receiver<MeshStatus>,
    watching: JoinHandle<()>,
}

#[derive(Debug)]
struct Core {
    asking: Arc<Asking>,
    only: Option<IpAddr>,
}

impl EmbeddedMesh {
    /// Looks once, then follows what changes. A node that isn't there yet is no error: the status says so.
    ///
    /// # Errors
    /// [`MeshError::Refused`] for an address that may not be listened on.
    pub async fn start(settings: EmbeddedSettings) -> Result<Self, MeshError> {
        let EmbeddedSettings { socket, only } = settings;
        if let Some(only) = only {
            guard::may_listen(only, &Mode::default())?;
        }
        let core = Arc::new(Core { asking: Arc::new(Asking::new(socket)), only });
        let (tell, status) = watch::channel(core.look().await);
        let watching = tokio::spawn(watching::run(Arc::clone(&core), tell));
        Ok(Self { core, status, watching })
    }

    /// Everybody on the mesh but this machine, as far as it may see.
    ///
    /// # Errors
    /// [`MeshError`] where the node doesn't answer.
    pub async fn peers(&self) -> Result<Vec<NodePeer>, MeshError> {
        match self.core.asking.ask(&NodeAsk::Peers {}, PATIENCE).await? {
            NodeAnswer::Peers { peers } => Ok(peers.into_iter().map(judge::tamed).collect()),
            other => Err(odd(other)),
        }
    }

    /// Who has this name, whole or without the domain: this machine too. Upper and lower case are the same.
    ///
    /// # Errors
    /// [`ResolveError`] for a name that nobody has, or more than one.
    pub async fn resolve(&self, name: &str) -> Result<NodePeer, ResolveError> {
        let mut peers = self.peers().await?;
        let own = self.core.look().await;
        if let Some(address) = own.addresses.first() {
            peers.extend(self.core.asked(*address).await?);
        }
        names::find(peers, name)
    }
}

impl Drop for EmbeddedMesh {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

impl Core {
    /// How it stands now. Without a node there is no mesh: its addresses are on no interface.
    async fn look(&self) -> MeshStatus {
        match self.asking.ask(&NodeAsk::Status {}, PATIENCE).await {
            Ok(NodeAnswer::Status(state)) => judge::status(state, self.only),
            Ok(other) => judge::away(trouble(&odd(other))),
            Err(error) => judge::away(trouble(&error)),
        }
    }

    /// Whom the node says to have this address. An answer about another one counts for nothing.
    async fn asked(&self, address: IpAddr) -> Result<Option<NodePeer>, MeshError> {
        let address = address.to_canonical();
        match self.asking.ask(&NodeAsk::Whois { address }, PATIENCE).await? {
            NodeAnswer::Whois { peer } => {
                let has_it = |peer: &NodePeer| peer.addresses.iter().any(|own| own.to_canonical() == address);
                Ok(peer.filter(has_it).map(judge::tamed))
            }
            other => Err(odd(other)),
        }
    }

    async fn whois(&self, peer: SocketAddr) -> Result<Option<Peer>, MeshError> {
        if !guard::is_mesh_address(peer.ip()) {
            return Ok(None);
        }
        let found = self.asked(peer.ip()).await?;
        let named = |name: String| if name.is_empty() { peer.ip().to_canonical().to_string() } else { name };
        Ok(found.map(|found| Peer { name: named(found.name), user: found.user, tags: found.tags }))
    }

    async fn listen(&self, port: u16) -> Result<Listener, MeshError> {
        let first = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        let failed = |source| MeshError::Listen { address: first, source };
        let (answer, kept) = self.asking.begin(&NodeAsk::Listen { port }, PATIENCE).await?;
        let (listener, addresses) = match answer {
            NodeAnswer::Listening { listener, addresses } => (listener, addresses),
            NodeAnswer::Failed(fault) if fault.code == FaultCode::Conflict => {
                return Err(failed(io::Error::new(io::ErrorKind::AddrInUse, fault.message)));
            }
            NodeAnswer::Failed(fault) => return Err(failed(io::Error::other(fault.message))),
            other => return Err(odd(other)),
        };
        let own: Vec<IpAddr> = addresses.iter().map(SocketAddr::ip).collect();
        if let Some(only) = self.only
            && !own.is_empty()
            && !own.contains(&only)
        {
            return Err(MeshError::NotOwn { address: only, own });
        }
        let mut addresses = addresses;
        addresses.retain(|at| judge::is_wanted(at.ip(), self.only));
        if addresses.is_empty() {
            let grave = self.look().await.troubles.into_iter().find(Trouble::is_grave);
            return Err(grave.map_or(MeshError::NoAddress, MeshError::Trouble));
        }
        let accepting = Accepting::start(Arc::clone(&self.asking), kept, listener, self.only);
        Ok(Listener::of_node(accepting, addresses))
    }

    async fn connect(&self, to: SocketAddr) -> Result<Connection, MeshError> {
        let nobody = || MeshError::NotAPeer { address: to.ip() };
        if !guard::is_mesh_address(to.ip()) {
            return Err(nobody());
        }
        let failed = |source| MeshError::Connect { address: to, source };
        let (answer, stream) = self.asking.begin(&NodeAsk::Connect { to }, CONNECT).await?;
        match answer {
            NodeAnswer::Connected { local } => Ok(Connection::of_node(stream.into_stream(), to, local)),
            NodeAnswer::Failed(fault) => match fault.code {
                FaultCode::NotFound => Err(nobody()),
                FaultCode::Timeout => Err(failed(io::Error::new(io::ErrorKind::TimedOut, fault.message))),
                FaultCode::Unreachable => {
                    Err(failed(io::Error::new(io::ErrorKind::ConnectionRefused, fault.message)))
                }
                FaultCode::NotAllowed => Err(unusable(&fault)),
                _ => Err(failed(io::Error::other(fault.message))),
            },
            other => Err(odd(other)),
        }
    }
}

/// What the node says where it should have answered.
fn odd(answer: NodeAnswer) -> MeshError {
    match answer {
        NodeAnswer::Failed(fault) => unusable(&fault),
        NodeAnswer::Status(_)
        | NodeAnswer::Whois { .. }
        | NodeAnswer::Peers { .. }
        | NodeAnswer::Connected { .. }
        | NodeAnswer::Listening { .. }
        | NodeAnswer::Accepted { .. } => MeshError::Trouble(Trouble::NodeAnswer {
            why: "it answers something else than it was asked".to_owned(),
        }),
    }
}

fn unusable(fault: &Fault) -> MeshError {
    MeshError::Trouble(Trouble::NodeAnswer { why: crate::tailscaled::plain(&fault.message, 200) })
}

fn trouble(error: &MeshError) -> Trouble {
    match error {
        MeshError::Trouble(trouble) => trouble.clone(),
        other => Trouble::NodeAnswer { why: other.to_string() },
    }
}

impl Mesh for EmbeddedMesh {
    fn status(&self) -> Answer<'_, MeshStatus> {
        Box::pin(async { Ok(self.core.look().await) })
    }

    fn listen(&self, port: u16) -> Answer<'_, Listener> {
        Box::pin(self.core.listen(port))
    }

    fn whois(&self, peer: SocketAddr) -> Answer<'_, Option<Peer>> {
        Box::pin(self.core.whois(peer))
    }

    fn connect(&self, to: SocketAddr) -> Answer<'_, Connection> {
        Box::pin(self.core.connect(to))
    }

    fn watch(&self) -> watch::Receiver<MeshStatus> {
        self.status.clone()
    }
}
