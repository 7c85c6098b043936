//! What the coordinator streams (tailcfg.MapResponse): the whole map first, then what changed. Absent means "unchanged".

use super::{CapMap, DerpMap, DnsConfig, FilterRule, Node, NodeId, PingRequest, UserProfile, go, over};
use crate::{
    key::{DiscoKey, NodeKey},
    limits,
};
use allod_proto::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::SocketAddr};

/// One response. How responses add up to a map is in [`netmap`](crate::netmap).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MapResponse {
    /// Names this stream, for taking it up again; in the first response only.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub map_session_handle: String,
    /// This response's number in such a stream.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub seq: i64,
    /// Nothing but a sign of life: only `ping_request`, `control_time` and `pop_browser_url` count.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub keep_alive: bool,
    /// Asks whether the node is there.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub ping_request: Option<PingRequest>,
    /// A page for a person to see.
    #[serde(rename = "PopBrowserURL", skip_serializing_if = "go::is_empty")]
    pub pop_browser_url: String,
    /// The node itself.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub node: Option<Box<Node>>,
    /// The relays.
    #[serde(rename = "DERPMap", skip_serializing_if = "go::is_empty")]
    pub derp_map: Option<DerpMap>,
    /// All peers. Empty means none in the first response, and unchanged in the others.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub peers: Vec<Node>,
    /// Peers that are new or changed, whole.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub peers_changed: Vec<Node>,
    /// Peers that are gone.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub peers_removed: Vec<NodeId>,
    /// What changed in peers, after all of the above.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub peers_changed_patch: Vec<PeerChange>,
    /// Peers that were seen just now (true), or are away.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub peer_seen_change: BTreeMap<NodeId, bool>,
    /// Peers that came or went.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub online_change: BTreeMap<NodeId, bool>,
    /// Names.
    #[serde(rename = "DNSConfig", skip_serializing_if = "go::is_empty")]
    pub dns_config: Option<DnsConfig>,
    /// The network's name.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub domain: String,
    /// Whether nodes shall tell their services.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub collect_services: Option<bool>,
    /// The packet filter named `base`, as older servers send it. An empty one refuses everything.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub packet_filter: Option<Vec<FilterRule>>,
    /// Packet filters by name; `None` deletes one, and under the name `*` all that were there.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub packet_filters: BTreeMap<String, Option<Vec<FilterRule>>>,
    /// Users that are new or changed.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub user_profiles: Vec<UserProfile>,
    /// What the coordinator finds wrong with the node; an empty list for nothing.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub health: Option<Vec<String>>,
    /// The same, by name; `None` deletes one, and under the name `*` all.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub display_messages: BTreeMap<String, Option<DisplayMessage>>,
    /// The coordinator's clock.
    #[serde(skip_serializing_if = "Option::is_none", with = "go::time")]
    pub control_time: Option<Timestamp>,
    /// Switches for the client.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub debug: Option<Debug>,
}

impl MapResponse {
    /// The sign of life.
    #[must_use]
    pub fn alive() -> Self {
        Self { keep_alive: true, ..Self::default() }
    }

    pub(super) fn too_much(&self) -> Option<&'static str> {
        let rules = || self.packet_filters.values().flatten().chain(self.packet_filter.as_ref());
        let entries = rules().flatten().map(|rule| rule.src_ips.len().max(rule.dst_ports.len()));
        let nodes = || self.node.as_deref().into_iter().chain(&self.peers).chain(&self.peers_changed);
        let patched =
            self.peers_changed_patch.iter().filter_map(|patch| patch.endpoints.as_ref()).map(Vec::len);
        let counts = [
            (self.peers.len(), limits::PEERS, "peers"),
            (self.peers_changed.len(), limits::PEERS, "changed peers"),
            (self.peers_removed.len(), limits::PEERS, "removed peers"),
            (self.peers_changed_patch.len(), limits::PEERS, "patches"),
            (patched.max().unwrap_or(0), limits::ENDPOINTS, "endpoints of a node"),
            (self.user_profiles.len(), limits::PROFILES, "user profiles"),
            (self.packet_filters.len(), limits::FILTERS, "packet filters"),
            (rules().map(Vec::len).sum(), limits::FILTER_RULES, "filter rules"),
            (entries.max().unwrap_or(0), limits::RULE_ENTRIES, "addresses in a rule"),
            (self.domain.len(), limits::NAME, "bytes in the network's name"),
        ];
        if self.derp_map.as_ref().is_some_and(DerpMap::is_too_much) {
            return Some("relays");
        }
        over(&counts).or_else(|| nodes().find_map(Node::excess))
    }
}

/// What changed in a peer; what is absent did not.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PeerChange {
    /// Which peer.
    #[serde(rename = "NodeID")]
    pub node_id: NodeId,
    /// Its home region, unless 0.
    #[serde(rename = "DERPRegion", skip_serializing_if = "go::is_empty")]
    pub derp_region: u32,
    /// Its capability version, unless 0.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub cap: u32,
    /// Its capabilities.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub cap_map: Option<CapMap>,
    /// Where its datagrams may be sent.
    #[serde(skip_serializing_if = "Option::is_none", with = "go::maybe_endpoints")]
    pub endpoints: Option<Vec<SocketAddr>>,
    /// Its WireGuard key.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub key: Option<NodeKey>,
    /// Its disco key.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub disco_key: Option<DiscoKey>,
    /// Whether it is there.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub online: Option<bool>,
    /// When it was last there.
    #[serde(skip_serializing_if = "Option::is_none", with = "go::time")]
    pub last_seen: Option<Timestamp>,
    /// When its key expires. Absent is unchanged: that it never does can't be said here.
    #[serde(skip_serializing_if = "Option::is_none", with = "go::time")]
    pub key_expiry: Option<Timestamp>,
}

/// Something that the coordinator finds wrong.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DisplayMessage {
    /// In a few words.
    pub title: String,
    /// In a sentence.
    pub text: String,
    /// `high`, `medium` or `low`.
    pub severity: String,
    /// Whether it hinders connections.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub impacts_connectivity: bool,
}

/// Switches for the client. A node of ours heeds none; a coordinator sends `disable_log_tail` to stock clients.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Debug {
    /// Pause before the next request.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub sleep_seconds: f64,
    /// Send no logs to anybody.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub disable_log_tail: bool,
}
