//! What a node says of itself (tailcfg.Hostinfo). Nothing of it is proven.

use super::{go, over};
use crate::{limits, prefix::Prefix};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A node's own account of its host.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Hostinfo {
    /// The version of its program.
    #[serde(rename = "IPNVersion", skip_serializing_if = "go::is_empty")]
    pub ipn_version: String,
    /// `linux`, `macOS`, `windows`, …
    #[serde(rename = "OS", skip_serializing_if = "go::is_empty")]
    pub os: String,
    /// The version of that.
    #[serde(rename = "OSVersion", skip_serializing_if = "go::is_empty")]
    pub os_version: String,
    /// `debian`, …
    #[serde(skip_serializing_if = "go::is_empty")]
    pub distro: String,
    /// The version of that.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub distro_version: String,
    /// Which program it is, when it is not the usual daemon.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub app: String,
    /// Whether it runs in a container.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub container: Option<bool>,
    /// How it was packaged.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub package: String,
    /// Which device it is.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub device_model: String,
    /// The host's name. Neither unique nor a valid DNS label before it is made one.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub hostname: String,
    /// Whether it refuses incoming connections.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub shields_up: bool,
    /// The machine's architecture.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub machine: String,
    /// The program's architecture, in Go's words.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub go_arch: String,
    /// The Go that built it.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub go_version: String,
    /// Routes that it offers to others.
    #[serde(rename = "RoutableIPs", skip_serializing_if = "go::is_empty", with = "go::prefixes")]
    pub routable_ips: Vec<Prefix>,
    /// Tags that it asks for: a wish, no more.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub request_tags: Vec<String>,
    /// Services it offers.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub services: Vec<Service>,
    /// What it found out about its network.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub net_info: Option<NetInfo>,
    /// Host keys of its ssh server.
    #[serde(rename = "sshHostKeys", skip_serializing_if = "go::is_empty")]
    pub ssh_host_keys: Vec<String>,
    /// Whether it has no interface in the kernel.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub userspace: Option<bool>,
}

impl Hostinfo {
    /// What it has more of than it may, if anything.
    pub(super) fn excess(&self) -> Option<&'static str> {
        over(&[
            (self.hostname.len(), limits::NAME, "bytes in a host name"),
            (self.routable_ips.len(), limits::PREFIXES, "routes"),
            (self.request_tags.len(), limits::PREFIXES, "tags"),
            (self.services.len(), limits::PREFIXES, "services"),
        ])
    }
}

/// A service of a node.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Service {
    /// `tcp`, `udp`, `peerapi4`, `peerapi6`, …
    pub proto: String,
    /// Its port.
    pub port: u16,
    /// A few words on it.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub description: String,
}

/// What a node found out about its network; `None` is "not known".
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct NetInfo {
    /// Whether its NAT maps each destination anew (then no hole can be punched).
    #[serde(rename = "MappingVariesByDestIP", skip_serializing_if = "go::is_empty")]
    pub mapping_varies_by_dest_ip: Option<bool>,
    /// Whether IPv6 reaches the internet.
    #[serde(rename = "WorkingIPv6", skip_serializing_if = "go::is_empty")]
    pub working_ipv6: Option<bool>,
    /// Whether the system has IPv6.
    #[serde(rename = "OSHasIPv6", skip_serializing_if = "go::is_empty")]
    pub os_has_ipv6: Option<bool>,
    /// Whether UDP reaches the internet.
    #[serde(rename = "WorkingUDP", skip_serializing_if = "go::is_empty")]
    pub working_udp: Option<bool>,
    /// Whether its router maps a port for it.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub have_port_map: bool,
    /// The region of its home relay; 0 while it has none.
    #[serde(rename = "PreferredDERP", skip_serializing_if = "go::is_empty")]
    pub preferred_derp: u32,
    /// `wired`, `wifi`, `mobile`.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub link_type: String,
    /// Seconds to each region: `"900-v4"`.
    #[serde(rename = "DERPLatency", skip_serializing_if = "go::is_empty")]
    pub derp_latency: BTreeMap<String, f64>,
}
