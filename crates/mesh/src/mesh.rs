//! How a process is on the private network, whoever runs that network: a trait that every driver keeps.

use crate::{Connection, Listener, Refusal};
use std::{
    future::Future,
    io,
    net::{IpAddr, SocketAddr},
    pin::Pin,
};
use tokio::sync::watch;

/// What a driver answers, later.
pub type Answer<'a, T> = Pin<Box<dyn Future<Output = Result<T, MeshError>> + Send + 'a>>;

/// The private network as this machine sees it.
pub trait Mesh: Send + Sync {
    /// How things stand now.
    fn status(&self) -> Answer<'_, MeshStatus>;

    /// Listens on this port of every address this machine has on the mesh now. When [`Mesh::watch`] tells of other
    /// addresses, listen again; 0 picks a free port, the same on all of them.
    fn listen(&self, port: u16) -> Answer<'_, Listener>;

    /// Who is at an address; `None` is somebody the mesh doesn't know, who must not be served.
    fn whois(&self, address: IpAddr) -> Answer<'_, Option<Peer>>;

    /// Connects to a port of another machine on the mesh.
    fn connect(&self, to: SocketAddr) -> Answer<'_, Connection>;

    /// Tells each change of what [`Mesh::status`] says, beginning with how it is now.
    fn watch(&self) -> watch::Receiver<MeshStatus>;
}

/// How this machine is on the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshStatus {
    /// The machine's own addresses there; empty while it has none.
    pub addresses: Vec<IpAddr>,
    /// Its name there, if it has one.
    pub name: Option<String>,
    /// Whether it can reach and be reached.
    pub up: bool,
    /// Which driver says so: `loopback`, `static`, `tailscaled`, `embedded`.
    pub driver: &'static str,
}

/// Somebody on the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The machine's name, or its address where there are no names.
    pub name: String,
    /// Whose machine it is, where the mesh knows.
    pub user: Option<String>,
}

/// Why the mesh could not do it.
#[derive(Debug, thiserror::Error)]
pub enum MeshError {
    /// The rule forbids that address.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The machine has no address on the mesh (yet).
    #[error("this machine has no address on the mesh")]
    NoAddress,
    /// It is the machine's address by the settings, but not on any interface (yet).
    #[error("{address} is not on any interface of this machine")]
    NotHere {
        /// The address.
        address: IpAddr,
    },
    /// The system refused to listen.
    #[error("listening on {address} failed")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The other side can't be reached.
    #[error("connecting to {address} failed")]
    Connect {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
}
