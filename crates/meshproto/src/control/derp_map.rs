//! The relays of a mesh (tailcfg.DERPMap).

use super::go;
use crate::limits;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, net::IpAddr};

/// Regions by their number. In a map without any, the regions known before go on.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DerpMap {
    /// The regions; `None` (null) is one that is not there.
    pub regions: BTreeMap<u32, Option<DerpRegion>>,
    /// Whether a client leaves out the relays that it was built with.
    #[serde(rename = "omitDefaultRegions", skip_serializing_if = "go::is_empty")]
    pub omit_default_regions: bool,
}

impl DerpMap {
    /// Whether one has more than it may.
    pub(super) fn is_too_much(&self) -> bool {
        let relays = self.regions.values().flatten().map(|region| region.nodes.len());
        self.regions.len() > limits::REGIONS || relays.max() > Some(limits::REGIONS)
    }
}

/// Relays that are near each other; a client talks to one of them.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DerpRegion {
    /// The same number as its key in the map. Not 0; own ones begin at 900.
    #[serde(rename = "RegionID")]
    pub region_id: u32,
    /// A short name.
    pub region_code: String,
    /// A name for people.
    pub region_name: String,
    /// Whether no client may choose it as its home.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub avoid: bool,
    /// Whether it is neither measured nor anybody's home.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub no_measure_no_home: bool,
    /// The relays, the first to be tried first.
    pub nodes: Vec<DerpRelay>,
}

/// One relay (tailcfg.DERPNode).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct DerpRelay {
    /// A name, unique in all regions.
    pub name: String,
    /// The region it is in.
    #[serde(rename = "RegionID")]
    pub region_id: u32,
    /// Its host's name or address.
    pub host_name: String,
    /// What its certificate must say: a name, or `sha256-raw:` and the hexadecimal SHA-256 of the certificate itself.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub cert_name: String,
    /// Its IPv4 address as text, `none` for none, empty for whatever the name resolves to.
    #[serde(rename = "IPv4", skip_serializing_if = "go::is_empty")]
    pub ipv4: String,
    /// Its IPv6 address, likewise.
    #[serde(rename = "IPv6", skip_serializing_if = "go::is_empty")]
    pub ipv6: String,
    /// The port of STUN: 0 is 3478, -1 is none.
    #[serde(rename = "STUNPort", skip_serializing_if = "go::is_empty")]
    pub stun_port: i32,
    /// Whether it answers STUN and relays nothing.
    #[serde(rename = "STUNOnly", skip_serializing_if = "go::is_empty")]
    pub stun_only: bool,
    /// The port of the relay: 0 is 443.
    #[serde(rename = "DERPPort", skip_serializing_if = "go::is_empty")]
    pub derp_port: u16,
    /// Whether any certificate will do.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub insecure_for_tests: bool,
    /// Whether it answers captive-portal checks on port 80.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub can_port80: bool,
}

/// What is known of one family's address of a relay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RelayAddress {
    /// It is this one.
    Known(IpAddr),
    /// It is whatever the name resolves to.
    Resolve,
    /// There is none.
    Absent,
}

/// In [`DerpRelay::cert_name`]: a relay of ours without TLS. Only nodes of ours are told of one; what passes is sealed end to end.
pub const PLAIN: &str = "allod-plain";

impl DerpRelay {
    /// Whether it has no TLS.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.cert_name == PLAIN
    }

    /// Its IPv4 address. A text that is no address is no address, as in Go.
    #[must_use]
    pub fn v4(&self) -> RelayAddress {
        relay_address(&self.ipv4, IpAddr::is_ipv4)
    }

    /// Its IPv6 address.
    #[must_use]
    pub fn v6(&self) -> RelayAddress {
        relay_address(&self.ipv6, IpAddr::is_ipv6)
    }

    /// Its STUN port, if it has one.
    #[must_use]
    pub fn stun(&self) -> Option<u16> {
        match self.stun_port {
            0 => Some(3478),
            port => u16::try_from(port).ok(),
        }
    }

    /// The relay's port, if it relays.
    #[must_use]
    pub fn derp(&self) -> Option<u16> {
        let port = if self.derp_port == 0 { 443 } else { self.derp_port };
        (!self.stun_only).then_some(port)
    }
}

fn relay_address(text: &str, is_right: impl Fn(&IpAddr) -> bool) -> RelayAddress {
    if text.is_empty() {
        return RelayAddress::Resolve;
    }
    text.parse().ok().filter(is_right).map_or(RelayAddress::Absent, RelayAddress::Known)
}
