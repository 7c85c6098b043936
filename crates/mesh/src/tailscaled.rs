//! The driver for machines where tailscaled runs: it is asked who is who and which addresses are ours, over its Unix socket;
//! listening and connecting are ordinary sockets on its interface. Whom it doesn't know, and everybody while it doesn't
//! answer, is not served.

mod answer;
mod judge;
mod local_api;
mod watching;

pub(crate) use answer::{moment, plain};
pub use local_api::SOCKET;

use crate::{
    Answer, Connection, Interfaces, Listener, Mesh, MeshError, MeshStatus, Mode, Peer, Trouble, guard,
    sockets,
};
use local_api::LocalApi;
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio::{sync::watch, task::JoinHandle};

/// The driver's name.
const DRIVER: &str = "tailscaled";

/// How the daemon is reached and what is wanted of it.
#[derive(Debug, Clone)]
pub struct TailscaledSettings {
    /// Its socket: [`SOCKET`] unless it was told another.
    pub socket: PathBuf,
    /// Listen on this address only, instead of on all that the machine has on the mesh.
    pub only: Option<IpAddr>,
    /// What is allowed besides the mesh's ranges.
    pub mode: Mode,
}

impl TailscaledSettings {
    /// A socket, and all that the mesh gives.
    #[must_use]
    pub fn at(socket: PathBuf) -> Self {
        Self { socket, only: None, mode: Mode::default() }
    }
}

/// A mesh that tailscaled runs.
#[derive(Debug)]
pub struct TailscaledMesh {
    core: Arc<Core>,
    status: watch::Receiver<MeshStatus>,
    watching: JoinHandle<()>,
}

#[derive(Debug)]
struct Core {
    api: LocalApi,
    settings: TailscaledSettings,
}

impl TailscaledMesh {
    /// Looks once, then follows what changes. A daemon that isn't there yet is no error: the status says so.
    ///
    /// # Errors
    /// [`MeshError::Refused`] for an address that may not be listened on.
    pub async fn start(settings: TailscaledSettings) -> Result<Self, MeshError> {
        if let Some(only) = settings.only {
            guard::may_listen(only, &settings.mode)?;
        }
        let core = Arc::new(Core { api: LocalApi::new(settings.socket.clone()), settings });
        let first = core.look(&nothing_known()).await;
        let (tell, status) = watch::channel(first);
        let watching = tokio::spawn(watching::run(Arc::clone(&core), tell));
        Ok(Self { core, status, watching })
    }

    /// Whether a daemon answers at this socket.
    pub async fn answers(socket: &Path) -> bool {
        LocalApi::new(socket.to_owned()).status().await.is_ok()
    }
}

impl Drop for TailscaledMesh {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

fn nothing_known() -> MeshStatus {
    MeshStatus {
        addresses: Vec::new(),
        interface: None,
        name: None,
        up: false,
        key_expiry: None,
        troubles: Vec::new(),
        driver: DRIVER,
    }
}

impl Core {
    /// How it stands now; `before` is what counts while the daemon is silent.
    async fn look(&self, before: &MeshStatus) -> MeshStatus {
        match self.ask().await {
            Ok(status) => status,
            Err(MeshError::Trouble(trouble)) => {
                judge::without_daemon(before, trouble, &Interfaces::look().unwrap_or_default())
            }
            Err(error) => {
                let trouble = Trouble::Unreadable { why: error.to_string() };
                judge::without_daemon(before, trouble, &Interfaces::default())
            }
        }
    }

    async fn ask(&self) -> Result<MeshStatus, MeshError> {
        let standing = self.standing().await?;
        Ok(judge::judge(&standing, self.settings.only, &Interfaces::look()?))
    }

    async fn standing(&self) -> Result<answer::Standing, MeshError> {
        let text = self.api.status().await?;
        answer::parse_status(&text, &self.settings.mode).map_err(MeshError::Trouble)
    }

    async fn whois(&self, peer: SocketAddr) -> Result<Option<Peer>, MeshError> {
        match self.api.whois(peer).await? {
            Some(text) => answer::parse_whois(&text, peer.ip()).map_err(MeshError::Trouble),
            None => Ok(None),
        }
    }

    async fn listen(&self, port: u16) -> Result<Listener, MeshError> {
        let standing = self.standing().await?;
        if let Some(only) = self.settings.only
            && !standing.addresses.is_empty()
            && !standing.addresses.contains(&only.to_canonical())
        {
            return Err(MeshError::NotOwn { address: only, own: standing.addresses });
        }
        let status = judge::judge(&standing, self.settings.only, &Interfaces::look()?);
        if status.addresses.is_empty() {
            let grave = status.troubles.into_iter().find(Trouble::is_grave);
            return Err(grave.map_or(MeshError::NoAddress, MeshError::Trouble));
        }
        let bound = sockets::listen(&status.addresses, port, status.interface.as_ref())?;
        let first = SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port);
        Listener::of(bound, self.settings.mode.clone())
            .map_err(|source| MeshError::Listen { address: first, source })
    }

    async fn connect(&self, to: SocketAddr) -> Result<Connection, MeshError> {
        if guard::may_listen(to.ip(), &self.settings.mode).is_err() || self.whois(to).await?.is_none() {
            return Err(MeshError::NotAPeer { address: to.ip() });
        }
        let standing = self.standing().await?;
        let to_itself = standing.addresses.contains(&to.ip().to_canonical());
        let interface = self.interface(&standing)?;
        // What a machine sends to itself never passes the interface.
        let stream = sockets::connect(to, interface.as_ref().filter(|_| !to_itself)).await?;
        let local = stream.local_addr().map_err(|source| MeshError::Connect { address: to, source })?;
        Ok(Connection::of(stream, to, local))
    }

    fn interface(&self, standing: &answer::Standing) -> Result<Option<crate::Interface>, MeshError> {
        let status = judge::judge(standing, None, &Interfaces::look()?);
        if status.interface.is_none() {
            let grave = status.troubles.into_iter().find(Trouble::is_grave);
            return Err(grave.map_or(MeshError::NoAddress, MeshError::Trouble));
        }
        Ok(status.interface)
    }
}

impl Mesh for TailscaledMesh {
    fn status(&self) -> Answer<'_, MeshStatus> {
        Box::pin(async {
            let before = self.status.borrow().clone();
            Ok(self.core.look(&before).await)
        })
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
