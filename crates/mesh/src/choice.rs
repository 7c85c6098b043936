//! Which mesh a program is told to be on, and where on it to listen: the words of its settings, once for all programs.

use crate::{
    EmbeddedMesh, EmbeddedSettings, Mesh, MeshError, Mode, NODE_SOCKET, StaticMesh, StaticSettings,
    TailscaledMesh, TailscaledSettings, tailscaled::SOCKET,
};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    str::FromStr,
    sync::Arc,
};

/// A driver, by the word for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MeshKind {
    /// Development: this machine only.
    Loopback,
    /// A given address.
    Static,
    /// What the tailscaled of this machine says.
    Tailscaled,
    /// What the `allod node` of this machine owns.
    Embedded,
    /// Tailscaled where it is installed, else `allod node` where its socket's folder is, otherwise the given address.
    Auto,
}

/// Where to listen: a port, on one address or on all that this machine has on the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The one address.
    pub address: Option<IpAddr>,
    /// The port.
    pub port: u16,
}

/// What is neither of the words for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChoiceError {
    /// No such driver.
    #[error("`{0}` is none of loopback, static, tailscaled, embedded, auto")]
    Kind(String),
    /// No such place.
    #[error("`{0}` is neither ADDRESS:PORT nor PORT")]
    Place(String),
}

/// What a program is told of the mesh.
#[derive(Debug, Clone)]
pub struct MeshSettings {
    /// The driver.
    pub kind: MeshKind,
    /// The one address to listen on.
    pub address: Option<IpAddr>,
    /// The socket of tailscaled or of `allod node`, where it isn't at its usual place. With `auto`, one that is called
    /// `node.sock` is the node's.
    pub socket: Option<PathBuf>,
}

impl MeshSettings {
    /// Begins to follow that mesh. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`MeshError::Refused`] for an address that may not be listened on, [`MeshError::AddressNeeded`] where nothing but
    /// an address can tell which one is ours.
    pub async fn open(&self) -> Result<Arc<dyn Mesh>, MeshError> {
        match self.kind {
            MeshKind::Loopback => {
                let address = self.address.unwrap_or(Ipv4Addr::LOCALHOST.into());
                given(Some(address), StaticSettings::loopback().mode)
            }
            MeshKind::Static => given(self.address, Mode::default()),
            MeshKind::Tailscaled => self.tailscaled().await,
            MeshKind::Embedded => self.embedded().await,
            MeshKind::Auto if self.names_a_node() => self.embedded().await,
            MeshKind::Auto if self.is_installed().await => self.tailscaled().await,
            MeshKind::Auto if self.socket.is_none() && has_a_node() => self.embedded().await,
            MeshKind::Auto => {
                tracing::info!(
                    "there is no tailscaled and no node here; the given address is taken for the mesh's"
                );
                given(self.address, Mode::default())
            }
        }
    }

    async fn tailscaled(&self) -> Result<Arc<dyn Mesh>, MeshError> {
        let mut settings = TailscaledSettings::at(self.socket().to_owned());
        settings.only = self.address;
        Ok(Arc::new(TailscaledMesh::start(settings).await?))
    }

    async fn embedded(&self) -> Result<Arc<dyn Mesh>, MeshError> {
        let settings = EmbeddedSettings { socket: self.node_socket().to_owned(), only: self.address };
        Ok(Arc::new(EmbeddedMesh::start(settings).await?))
    }

    /// The socket of `allod node`.
    #[must_use]
    pub fn node_socket(&self) -> &Path {
        self.socket.as_deref().unwrap_or(Path::new(NODE_SOCKET))
    }

    /// Whether the given socket is called as a node's is.
    fn names_a_node(&self) -> bool {
        self.socket.as_deref().and_then(Path::file_name).is_some_and(|name| name == allod_proto::node::SOCKET)
    }

    /// Tailscaled's socket.
    #[must_use]
    pub fn socket(&self) -> &Path {
        self.socket.as_deref().unwrap_or(Path::new(SOCKET))
    }

    // One that starts later than we do must not make us believe addresses instead of it.
    async fn is_installed(&self) -> bool {
        let socket = self.socket();
        let usual = self.socket.is_none() && Path::new("/var/lib/tailscale").exists();
        usual || socket.exists() || TailscaledMesh::answers(socket).await
    }
}

/// Whether a node is set up here, running or not: its folder is made with its user, and a node that starts later than we do must
/// not make us believe addresses instead of it.
fn has_a_node() -> bool {
    Path::new(NODE_SOCKET).parent().is_some_and(Path::exists)
}

fn given(address: Option<IpAddr>, mode: Mode) -> Result<Arc<dyn Mesh>, MeshError> {
    let addresses = vec![address.ok_or(MeshError::AddressNeeded)?];
    Ok(Arc::new(StaticMesh::start(StaticSettings { addresses, name: None, mode })?))
}

impl FromStr for MeshKind {
    type Err = ChoiceError;

    fn from_str(word: &str) -> Result<Self, ChoiceError> {
        match word {
            "loopback" => Ok(Self::Loopback),
            "static" => Ok(Self::Static),
            "tailscaled" => Ok(Self::Tailscaled),
            "embedded" => Ok(Self::Embedded),
            "auto" => Ok(Self::Auto),
            other => Err(ChoiceError::Kind(other.to_owned())),
        }
    }
}

impl fmt::Display for MeshKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Loopback => "loopback",
            Self::Static => "static",
            Self::Tailscaled => "tailscaled",
            Self::Embedded => "embedded",
            Self::Auto => "auto",
        })
    }
}

impl FromStr for Place {
    type Err = ChoiceError;

    fn from_str(words: &str) -> Result<Self, ChoiceError> {
        if let Ok(port) = words.parse() {
            return Ok(Self { address: None, port });
        }
        let at: SocketAddr = words.parse().map_err(|_| ChoiceError::Place(words.to_owned()))?;
        Ok(Self { address: Some(at.ip()), port: at.port() })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address {
            Some(address) => SocketAddr::new(address, self.port).fmt(f),
            None => self.port.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(kind: MeshKind, address: Option<&str>, socket: &Path) -> MeshSettings {
        let address = address.map(|address| address.parse().unwrap());
        MeshSettings { kind, address, socket: Some(socket.to_owned()) }
    }

    #[test]
    fn a_place_is_a_port_or_an_address_with_one() {
        for bad in ["", "localhost:1", "100.64.0.1", "65536", ":9844", "*:9844", "100.64.0.1:"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
        for good in ["9844", "100.64.0.1:9844", "[fd7a:115c:a1e0::1]:9844"] {
            assert_eq!(good.parse::<Place>().unwrap().to_string(), good);
        }
        for kind in ["loopback", "static", "tailscaled", "embedded", "auto"] {
            assert_eq!(kind.parse::<MeshKind>().unwrap().to_string(), kind);
        }
        assert!("embeded".parse::<MeshKind>().is_err());
    }

    #[tokio::test]
    async fn an_address_that_may_not_be_listened_on_is_refused_whatever_the_driver() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("sock");
        use MeshKind::{Auto, Embedded, Loopback, Static, Tailscaled};
        for kind in [Loopback, Static, Tailscaled, Embedded, Auto] {
            for bad in ["0.0.0.0", "192.0.2.1", "::"] {
                let opened = settings(kind, Some(bad), &socket).open().await;
                assert!(matches!(opened, Err(MeshError::Refused(_))), "{kind}: {bad}");
            }
        }
    }

    #[tokio::test]
    async fn without_tailscaled_auto_takes_the_given_address_and_needs_one() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("sock");
        let opened = settings(MeshKind::Auto, None, &socket).open().await;
        assert!(matches!(opened, Err(MeshError::AddressNeeded)));
        let opened = settings(MeshKind::Auto, Some("100.64.77.77"), &socket).open().await.unwrap();
        assert_eq!(opened.status().await.unwrap().driver, "static");
    }

    #[tokio::test]
    async fn auto_asks_the_node_whose_socket_is_named_even_before_it_answers() {
        let folder = tempfile::tempdir().unwrap();
        let opened = settings(MeshKind::Auto, None, &folder.path().join("node.sock")).open().await.unwrap();
        let status = opened.status().await.unwrap();
        assert!(status.driver == "embedded" && !status.up, "{status:?}");
        assert!(
            status.troubles[0].is_grave() && status.troubles[0].fix().contains("allod node"),
            "{status:?}"
        );
    }

    #[tokio::test]
    async fn with_a_daemons_socket_auto_asks_the_daemon_even_before_it_answers() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("sock");
        drop(std::os::unix::net::UnixListener::bind(&socket).unwrap());
        let opened = settings(MeshKind::Auto, Some("100.64.77.77"), &socket).open().await.unwrap();
        assert_eq!(opened.status().await.unwrap().driver, "tailscaled");
    }
}
