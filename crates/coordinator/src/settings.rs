//! What a coordinator is told: where it keeps its state, what it is called from outside, and the relay that it is itself.

use crate::policy::Policy;
use allod_meshproto::control::{DerpMap, DerpRegion, DerpRelay, derp_map::PLAIN};
use rustls::ServerConfig;
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};

/// What a coordinator is told.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The folder that it alone writes.
    pub folder: PathBuf,
    /// Where machines reach it, for the pages that they are sent to: `https://mesh.example.org`, without a slash at the end.
    pub url: String,
    /// The domain of the nodes' names: `mesh.internal`.
    pub domain: String,
    /// The relay.
    pub relay: RelaySettings,
    /// TLS, if there is a certificate. Without it only nodes of ours are told of the relay.
    pub tls: Option<Tls>,
    /// The policy of a network that is made here; one that is there keeps its own.
    pub first_policy: Policy,
}

/// Where the relay is, as nodes are told. It answers on the coordinator's own port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelaySettings {
    /// The region's number; own ones begin at 900.
    pub region: u32,
    /// A name for people.
    pub name: String,
    /// The host's name or address.
    pub host: String,
    /// The port.
    pub port: u16,
    /// The port of STUN, if it is answered.
    pub stun_port: Option<u16>,
}

/// A certificate with its key.
#[derive(Debug, Clone)]
pub struct Tls {
    /// For the listener; its ALPN is set to `http/1.1`.
    pub config: Arc<ServerConfig>,
    /// Of a certificate that no authority signed: the hexadecimal SHA-256 of it, for clients to compare.
    pub pin: Option<String>,
}

impl Settings {
    /// What is wrong with them, if anything.
    #[must_use]
    pub fn complaint(&self) -> Option<String> {
        let is_domain = !self.domain.is_empty()
            && self.domain.len() <= 180
            && self.domain.split('.').all(crate::state::is_label);
        let is_url = (self.url.starts_with("http://") || self.url.starts_with("https://"))
            && !self.url.ends_with('/')
            && self.url.len() <= 255
            && self.url.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_domain {
            return Some(format!("`{}` is no domain of lower-case labels", self.domain));
        }
        if !is_url {
            return Some(format!(
                "`{}` is not http:// or https:// and a host, without a slash at the end",
                self.url
            ));
        }
        if self.relay.region == 0 || self.relay.host.is_empty() || self.relay.port == 0 {
            return Some("the relay needs a region, a host and a port".to_owned());
        }
        None
    }

    /// The relays that a node is told of: without TLS only one of ours hears of it, as no other would take it.
    pub(crate) fn relays(&self, is_ours: bool) -> DerpMap {
        let cert_name = match &self.tls {
            Some(Tls { pin: Some(pin), .. }) => format!("sha256-raw:{pin}"),
            Some(Tls { pin: None, .. }) => String::new(),
            None if is_ours => PLAIN.to_owned(),
            None => return DerpMap { omit_default_regions: true, ..DerpMap::default() },
        };
        let (ipv4, ipv6) = match self.relay.host.parse() {
            Ok(std::net::IpAddr::V4(ip)) => (ip.to_string(), "none".to_owned()),
            Ok(std::net::IpAddr::V6(ip)) => ("none".to_owned(), ip.to_string()),
            Err(_) => (String::new(), String::new()),
        };
        let relay = DerpRelay {
            name: format!("{}a", self.relay.region),
            region_id: self.relay.region,
            host_name: self.relay.host.clone(),
            cert_name,
            ipv4,
            ipv6,
            stun_port: self.relay.stun_port.map_or(-1, i32::from),
            derp_port: self.relay.port,
            ..DerpRelay::default()
        };
        let region = DerpRegion {
            region_id: self.relay.region,
            region_code: "own".to_owned(),
            region_name: self.relay.name.clone(),
            nodes: vec![relay],
            ..DerpRegion::default()
        };
        DerpMap { regions: BTreeMap::from([(self.relay.region, Some(region))]), omit_default_regions: true }
    }
}
