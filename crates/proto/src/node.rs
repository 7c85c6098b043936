//! What programs say to `allod node`, the program that owns this machine's place on the mesh, over its Unix socket. Each connection
//! begins with one line of JSON, [`NodeAsk`], answered by one line, [`NodeAnswer`]. After `connected` and `accepted` the same
//! connection carries the bytes of the stream, both ways; `watch` is answered by a line for each change.

mod forward;

pub use forward::{Forward, ForwardError};

use crate::{Fault, Timestamp};
use serde::{Deserialize, Serialize};
use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// The name of the socket in the node's run folder.
pub const SOCKET: &str = "node.sock";
/// The file in the node's folder with the certificate authorities that it believes instead of the system's, if it is there.
pub const AUTHORITIES: &str = "authorities.pem";
/// The longest line that is asked with, in bytes.
pub const ASK: usize = 4096;
/// The longest line of an answer, in bytes.
pub const ANSWER: usize = 4 * 1024 * 1024;
/// How long the line that asks may take to come.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked of the node. Those without words are `{}` and not bare, so that unknown words are refused there too.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum NodeAsk {
    /// How things stand.
    Status {},
    /// How things stand, now and at each change.
    Watch {},
    /// Who has this address.
    Whois {
        /// The address.
        address: IpAddr,
    },
    /// Who is on the mesh, as far as this node may see.
    Peers {},
    /// A connection to a port of somebody on the mesh, or of this machine.
    Connect {
        /// Where to.
        to: SocketAddr,
    },
    /// Listen on a port of every address of this machine on the mesh, for as long as this connection lasts; 0 picks a free one.
    Listen {
        /// The port.
        port: u16,
    },
    /// Wait for the next connection to a port that is listened on, and become it. Several may wait.
    Accept {
        /// What `listening` said.
        listener: u64,
    },
}

/// What the node answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum NodeAnswer {
    /// To `status` and `watch`.
    Status(NodeState),
    /// To `whois`.
    Whois {
        /// `None` where nobody on the mesh has it.
        peer: Option<NodePeer>,
    },
    /// To `peers`.
    Peers {
        /// All of them but this machine.
        peers: Vec<NodePeer>,
    },
    /// To `connect`: what follows on this connection are the stream's bytes.
    Connected {
        /// This side's address.
        local: SocketAddr,
    },
    /// To `listen`.
    Listening {
        /// What to `accept` with.
        listener: u64,
        /// Where it listens now.
        addresses: Vec<SocketAddr>,
    },
    /// To `accept`: what follows on this connection are the stream's bytes.
    Accepted {
        /// The other side's address.
        peer: SocketAddr,
        /// This side's address.
        local: SocketAddr,
    },
    /// It could not be done.
    Failed(Fault),
}

/// How this machine is on the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeState {
    /// Its own addresses; none while it is not on the mesh.
    pub addresses: Vec<IpAddr>,
    /// Its name there, with its domain.
    pub name: Option<String>,
    /// When its key ends, if it does.
    pub key_expiry: Option<Timestamp>,
    /// Its UDP port.
    pub port: u16,
    /// How things stand with the coordinator. The mesh works without it.
    pub coordinator: CoordinatorState,
    /// The relays it uses, and what is wrong with each, if something is.
    pub relays: Vec<RelayState>,
}

/// How things stand between a node and the coordinator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum CoordinatorState {
    /// It is being asked.
    Connecting,
    /// A person must open this page first.
    LogIn {
        /// The page.
        page: String,
    },
    /// Somebody must let the machine in.
    Waiting,
    /// It tells what changes.
    Connected,
    /// It can't be had; what it said last holds.
    Away {
        /// Why.
        why: String,
    },
    /// It does not want this machine.
    Refused {
        /// Why.
        why: String,
    },
    /// The machine's key has expired.
    Expired,
}

/// How a relay is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayState {
    /// Its region.
    pub region: u32,
    /// What is wrong with it, if something is.
    pub trouble: Option<String>,
}

/// Somebody on the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePeer {
    /// Its name, with its domain.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Its tags, as `tag:name`.
    pub tags: Vec<String>,
    /// Whose it is, where the coordinator says so.
    pub user: Option<String>,
    /// Whether the coordinator sees it, where it says so.
    pub online: Option<bool>,
    /// How it is reached.
    pub path: NodePath,
}

/// How a peer is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "way", rename_all = "snake_case")]
pub enum NodePath {
    /// It is this machine itself.
    Own,
    /// There was no traffic lately.
    Idle,
    /// Directly.
    Direct {
        /// To this address.
        to: SocketAddr,
        /// There and back, in microseconds, where it was measured.
        trip_microseconds: Option<u64>,
    },
    /// Through a relay.
    Relay,
}
