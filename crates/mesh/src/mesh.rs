//! How a process is on the private network, whoever runs that network: a trait that every driver keeps.

use crate::{Connection, Interface, Listener, Refusal, Trouble};
use allod_proto::Timestamp;
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

    /// Who is at this end of a connection; `None` is somebody the mesh doesn't know, who must not be served.
    fn whois(&self, peer: SocketAddr) -> Answer<'_, Option<Peer>>;

    /// Connects to a port of another machine on the mesh, or of this one; of nobody else.
    fn connect(&self, to: SocketAddr) -> Answer<'_, Connection>;

    /// Tells each change of what [`Mesh::status`] says, beginning with how it is now.
    fn watch(&self) -> watch::Receiver<MeshStatus>;
}

/// How this machine is on the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MeshStatus {
    /// The machine's own addresses there; empty while it has none.
    pub addresses: Vec<IpAddr>,
    /// The interface that has them, where the mesh has one. Another number under the same name is another interface:
    /// a listener that was bound to the one before hears nothing any more.
    pub interface: Option<Interface>,
    /// Its name there, if it has one.
    pub name: Option<String>,
    /// Whether it can reach and be reached.
    pub up: bool,
    /// When its key on the mesh ends, if it does.
    pub key_expiry: Option<Timestamp>,
    /// What is wrong, the gravest first.
    pub troubles: Vec<Trouble>,
    /// Which driver says so: `loopback`, `static`, `tailscaled`, `embedded`.
    pub driver: &'static str,
}

impl MeshStatus {
    /// Whether a listener that was made under `self` is to be made anew under `now`.
    #[must_use]
    pub fn is_elsewhere(&self, now: &Self) -> bool {
        self.addresses != now.addresses || self.interface != now.interface
    }
}

/// Somebody on the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// The machine's name, or its address where there are no names.
    pub name: String,
    /// Whose machine it is, where the mesh knows; nobody's if it has tags.
    pub user: Option<String>,
    /// Its tags, as `tag:name`.
    pub tags: Vec<String>,
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
    /// Nothing but a given address can tell which one is this machine's.
    #[error("which address is this machine's on the mesh has to be given, as ADDRESS:PORT")]
    AddressNeeded,
    /// It was asked to listen on an address that is not this machine's on the mesh.
    #[error("{address} is not this machine's address on the mesh, which has {}", listed(.own))]
    NotOwn {
        /// The address of the settings.
        address: IpAddr,
        /// Those it has.
        own: Vec<IpAddr>,
    },
    /// Nobody on the mesh has that address.
    #[error("{address} is nobody's on the mesh, as far as this machine knows")]
    NotAPeer {
        /// The address.
        address: IpAddr,
    },
    /// What runs the mesh is in no state to do it.
    #[error("{0}")]
    Trouble(Trouble),
    /// It is the machine's address by the settings, but not on any interface (yet).
    #[error("{address} is not on any interface of this machine")]
    NotHere {
        /// The address.
        address: IpAddr,
    },
    /// The interfaces of this machine can't be told.
    #[error("the network interfaces of this machine can't be listed")]
    Interfaces {
        /// Why.
        source: io::Error,
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

impl MeshError {
    /// Whether time may mend it, so that waiting is worth it.
    #[must_use]
    pub fn may_pass(&self) -> bool {
        match self {
            Self::NoAddress | Self::NotHere { .. } | Self::Trouble(_) => true,
            Self::Refused(_)
            | Self::AddressNeeded
            | Self::NotOwn { .. }
            | Self::NotAPeer { .. }
            | Self::Interfaces { .. }
            | Self::Listen { .. }
            | Self::Connect { .. } => false,
        }
    }
}

fn listed(addresses: &[IpAddr]) -> String {
    let words: Vec<_> = addresses.iter().map(IpAddr::to_string).collect();
    words.join(" and ")
}
