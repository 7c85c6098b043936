//! The packet filter as it travels (tailcfg.FilterRule). Addresses are texts here, as in Go: [`filter`](crate::filter) gives
//! them their meaning, and one that has none does not lose the map.

use super::go;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Who may reach what on this node. Whatever no rule allows is refused.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct FilterRule {
    /// From where: `*`, an address, a prefix, `first-last`, or `cap:` and a capability.
    #[serde(rename = "SrcIPs")]
    pub src_ips: Vec<String>,
    /// To where, and which ports.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub dst_ports: Vec<RuleTarget>,
    /// Numbers of IP protocols; empty for TCP, UDP and ICMP.
    #[serde(rename = "IPProto", skip_serializing_if = "go::is_empty")]
    pub ip_proto: Vec<i32>,
    /// What the sources may do inside programs; such a rule has no ports.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub cap_grant: Vec<CapGrant>,
}

/// A destination of a rule (tailcfg.NetPortRange).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RuleTarget {
    /// `*`, an address, a prefix, or `first-last`.
    #[serde(rename = "IP")]
    pub ip: String,
    /// Which ports.
    pub ports: PortRange,
}

/// Ports from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last.
    pub last: u16,
}

impl PortRange {
    /// Every port.
    pub const ALL: Self = Self { first: 0, last: u16::MAX };

    /// Only this one.
    #[must_use]
    pub const fn only(port: u16) -> Self {
        Self { first: port, last: port }
    }

    /// Whether it holds `port`. One whose first is past its last holds none.
    #[must_use]
    pub const fn contains(&self, port: u16) -> bool {
        self.first <= port && port <= self.last
    }
}

/// What sources may do inside programs on these destinations (tailcfg.CapGrant).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct CapGrant {
    /// Destinations, as prefixes.
    pub dsts: Vec<String>,
    /// Names of capabilities.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub caps: Vec<String>,
    /// Capabilities with what they say.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub cap_map: BTreeMap<String, Vec<serde_json::Value>>,
}
