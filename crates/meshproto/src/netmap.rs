//! The current map of a node: what all responses so far add up to. Merging is pure; a map that contradicts itself is refused, and
//! whoever held the former one keeps it and says so.

mod check;
mod merge;
mod stored;

pub use stored::{MOST_AGE, StoredMap, StoredMapError};

use crate::{
    control::{DerpMap, DisplayMessage, DnsConfig, FilterRule, Node, NodeId, UserId, UserProfile},
    filter::{Complaint, Filter},
    key::NodeKey,
    prefix::Prefix,
};
use allod_proto::Timestamp;
use std::{collections::BTreeMap, net::IpAddr, sync::Arc};

/// The filter that the older, unnamed one stands for.
const BASE_FILTER: &str = "base";
/// Deletes all of something, where a name is deleted.
const ALL: &str = "*";

/// A map. Cloning one is cheap: nodes are shared.
#[derive(Debug, Clone, PartialEq)]
pub struct NetMap {
    /// The node itself.
    pub me: Arc<Node>,
    /// The others, by number. No two nodes, this one included, share a number, a key or an address.
    pub peers: BTreeMap<NodeId, Arc<Node>>,
    /// The relays.
    pub derp_map: Arc<DerpMap>,
    /// Names.
    pub dns: Arc<DnsConfig>,
    /// The network's name.
    pub domain: String,
    /// Packet filters by name. None at all refuse everything.
    pub filters: BTreeMap<String, Arc<Vec<FilterRule>>>,
    /// Users.
    pub profiles: BTreeMap<UserId, UserProfile>,
    /// What the coordinator finds wrong.
    pub health: Vec<String>,
    /// The same, by name.
    pub messages: BTreeMap<String, DisplayMessage>,
    /// How many milliseconds the coordinator's clock is ahead of this node's, if it said and it matters.
    pub clock_ahead: i64,
}

/// Which response of a stream it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The first: the whole map. What it leaves out is empty; only the relays go on.
    First,
    /// A later one: what it leaves out is unchanged.
    Later,
}

/// What a response comes to.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// A sign of life, nothing more.
    Alive,
    /// The map from now on.
    Map(Box<NetMap>),
}

/// Why a response can't be merged: the map that it would make is refused whole.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// A first response does not say who the node is, or a later one came first.
    #[error("a map without the node itself")]
    NoSelf,
    /// A node without a number or a key.
    #[error("node {0:?} has no number or no key")]
    Nameless(NodeId),
    /// Two nodes with one number.
    #[error("two nodes have the number {0:?}")]
    SameId(NodeId),
    /// Two nodes with one key.
    #[error("nodes {0:?} and {1:?} have the same key")]
    SameKey(NodeId, NodeId),
    /// Two nodes with one address, or one that may send from another's.
    #[error("nodes {0:?} and {1:?} have {2}")]
    SameAddress(NodeId, NodeId, Prefix),
    /// An address of a node that is more than one.
    #[error("node {0:?} has {1}, which is not one address")]
    NotOneAddress(NodeId, Prefix),
    /// More of something than a map may have.
    #[error("more {0} than a map may have")]
    TooMany(&'static str),
}

impl NetMap {
    /// This node's own addresses.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.me.addresses.iter().map(Prefix::address)
    }

    /// The coordinator's time.
    #[must_use]
    pub fn control_time(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_add_signed(self.clock_ahead))
    }

    /// The peers that may be talked to at `now`: those whose key has not expired, by the coordinator's clock.
    pub fn live_peers(&self, now: Timestamp) -> impl Iterator<Item = &Arc<Node>> {
        let now = self.control_time(now);
        self.peers.values().filter(move |peer| !peer.is_expired(now))
    }

    /// When the next key expires after `now`, by this node's clock: look again then.
    #[must_use]
    pub fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let there = self.control_time(now);
        let nodes = self.peers.values().chain([&self.me]);
        let next = nodes.filter_map(|node| node.key_expiry).filter(|expiry| *expiry > there).min()?;
        Some(Timestamp(next.0.saturating_add_signed(self.clock_ahead.saturating_neg())))
    }

    /// The peer with this key, whether expired or not.
    #[must_use]
    pub fn peer_by_key(&self, key: NodeKey) -> Option<&Arc<Node>> {
        self.peers.values().find(|peer| peer.key == key)
    }

    /// The peer that has this address as its own, whether expired or not. Routes don't count: they prove nobody.
    #[must_use]
    pub fn peer_by_address(&self, address: IpAddr) -> Option<&Arc<Node>> {
        self.peers.values().find(|peer| peer.addresses.iter().any(|own| own.address() == address))
    }

    /// What all filters together mean.
    #[must_use]
    pub fn filter(&self) -> (Filter, Vec<Complaint>) {
        Filter::new(self.filters.values().flat_map(|rules| rules.iter()))
    }
}

#[cfg(test)]
mod tests;
