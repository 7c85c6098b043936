//! What the engine wants done.

use allod_meshproto::NodeKey;
use std::net::SocketAddr;

/// Endpoints that are told to the coordinator and to peers.
pub(super) const MOST_ENDPOINTS: usize = 32;

/// One thing to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a datagram from the UDP socket.
    Udp {
        /// To where.
        to: SocketAddr,
        /// What.
        datagram: Vec<u8>,
    },
    /// Send a packet through the relay of a region. If it can't be sent soon, drop it.
    Relay {
        /// Which region.
        region: u32,
        /// To whom.
        to: NodeKey,
        /// What.
        packet: Vec<u8>,
    },
    /// An IP packet for this node, from whom it says, allowed by the filter.
    Packet(Vec<u8>),
    /// Tell the coordinator.
    Standing(Standing),
}

/// Where a node can be reached.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// Addresses of its interfaces, with its port.
    pub local: Vec<SocketAddr>,
    /// Addresses that the world sees.
    pub public: Vec<SocketAddr>,
    /// Its home region; 0 for none.
    pub home: u32,
    /// How often this machine slept, as far as this node lived through it.
    pub sleeps: u32,
}

/// From where connections are made: once it is another, those that there are may lead nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Footing {
    local: Vec<SocketAddr>,
    sleeps: u32,
}

impl Footing {
    /// Whether connections from there have most likely gone: one of its addresses is not among these, or it slept since.
    pub(crate) fn is_left_for(&self, now: &Self) -> bool {
        self.sleeps != now.sleeps || self.local.iter().any(|at| !now.local.contains(at))
    }
}

impl Standing {
    /// From where connections are made now.
    pub(crate) fn footing(&self) -> Footing {
        Footing { local: self.local.clone(), sleeps: self.sleeps }
    }

    /// All endpoints, those that the world sees last.
    #[must_use]
    pub fn endpoints(&self) -> Vec<SocketAddr> {
        let public = self.public.iter().filter(|at| !self.local.contains(at));
        self.local.iter().chain(public).take(MOST_ENDPOINTS).copied().collect()
    }
}
