//! A node in a map (tailcfg.Node): oneself or a peer.

use super::{Hostinfo, go, over};
use crate::{
    key::{DiscoKey, MachineKey, NodeKey},
    limits,
    prefix::Prefix,
};
use allod_proto::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr};

/// A node's number in its network: never given to another node, nor 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub i64);

/// A user's number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UserId(pub i64);

/// Capabilities by name, with what each says, mostly nothing.
pub type CapMap = BTreeMap<String, Vec<serde_json::Value>>;

/// A node.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Node {
    /// Its number.
    #[serde(rename = "ID")]
    pub id: NodeId,
    /// The same as text, for people and URLs.
    #[serde(rename = "StableID")]
    pub stable_id: String,
    /// Its full name, with a full stop at the end: `web1.mesh.internal.`
    pub name: String,
    /// Whose it is.
    pub user: UserId,
    /// Its WireGuard key.
    pub key: NodeKey,
    /// When that expires; `None` for never.
    #[serde(with = "go::time")]
    pub key_expiry: Option<Timestamp>,
    /// Its machine.
    pub machine: MachineKey,
    /// Its disco key; zero if it has none, then it is reached through relays only.
    pub disco_key: DiscoKey,
    /// Its own addresses, as prefixes of one address each.
    #[serde(with = "go::prefixes")]
    pub addresses: Vec<Prefix>,
    /// What it may send from. `None` means its addresses ([`may_send_from`](Self::may_send_from)).
    #[serde(rename = "AllowedIPs", skip_serializing_if = "Option::is_none", with = "go::maybe_prefixes")]
    pub allowed_ips: Option<Vec<Prefix>>,
    /// Where its datagrams may be sent.
    #[serde(skip_serializing_if = "go::is_empty", with = "go::endpoints")]
    pub endpoints: Vec<SocketAddr>,
    /// Its home region, as older servers and clients say it: `127.3.3.40:N` ([`home`](Self::home)).
    #[serde(rename = "DERP", skip_serializing_if = "go::is_empty")]
    pub legacy_derp: String,
    /// Its home region; 0 while it has none.
    #[serde(rename = "HomeDERP", skip_serializing_if = "go::is_empty")]
    pub home_derp: u32,
    /// What it says of itself.
    pub hostinfo: Hostinfo,
    /// Since when it is here.
    #[serde(with = "go::time")]
    pub created: Option<Timestamp>,
    /// The capability version it speaks; 0 if that is not known.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub cap: u32,
    /// Its tags: `tag:web`.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub tags: Vec<String>,
    /// Routes that it is the one to take, of those it offers.
    #[serde(skip_serializing_if = "go::is_empty", with = "go::prefixes")]
    pub primary_routes: Vec<Prefix>,
    /// When it was last there, while it is not.
    #[serde(skip_serializing_if = "Option::is_none", with = "go::time")]
    pub last_seen: Option<Timestamp>,
    /// Whether it is there; `None` if that is not known.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub online: Option<bool>,
    /// Whether it was let in.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub machine_authorized: bool,
    /// Capabilities by name alone, as older servers say them.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub capabilities: Vec<String>,
    /// Its capabilities.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub cap_map: CapMap,
    /// Whether its key has expired, by the coordinator's clock.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub expired: bool,
    /// Whether it speaks neither disco nor relays.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub is_wire_guard_only: bool,
    /// Whether it may not begin connections.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub is_jailed: bool,
}

impl Node {
    /// What it may send from, and what is sent to it.
    #[must_use]
    pub fn may_send_from(&self) -> &[Prefix] {
        self.allowed_ips.as_deref().unwrap_or(&self.addresses)
    }

    /// Its home region, in whichever way it is said.
    #[must_use]
    pub fn home(&self) -> Option<u32> {
        let legacy = || self.legacy_derp.strip_prefix("127.3.3.40:")?.parse().ok();
        Some(self.home_derp).filter(|region| *region != 0).or_else(legacy).filter(|region| *region != 0)
    }

    /// Says its home region in both ways, for clients old and new.
    pub fn set_home(&mut self, region: u32) {
        self.home_derp = region;
        self.legacy_derp = if region == 0 { String::new() } else { format!("127.3.3.40:{region}") };
    }

    /// Whether its key has expired at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expired || self.key_expiry.is_some_and(|expiry| expiry <= now)
    }

    /// Whether it has a capability, in either way.
    #[must_use]
    pub fn has_capability(&self, name: &str) -> bool {
        self.cap_map.contains_key(name) || self.capabilities.iter().any(|known| known == name)
    }

    /// What it has more of than it may, if anything.
    pub(super) fn excess(&self) -> Option<&'static str> {
        let counts = [
            (self.endpoints.len(), limits::ENDPOINTS, "endpoints of a node"),
            (self.addresses.len(), limits::PREFIXES, "addresses of a node"),
            (self.may_send_from().len(), limits::PREFIXES, "prefixes of a node"),
            (self.primary_routes.len(), limits::PREFIXES, "routes of a node"),
            (self.name.len(), limits::NAME, "bytes in a node's name"),
            (self.stable_id.len(), limits::NAME, "bytes in a node's id"),
            (self.tags.len(), limits::PREFIXES, "tags of a node"),
        ];
        over(&counts).or_else(|| self.hostinfo.excess())
    }
}
