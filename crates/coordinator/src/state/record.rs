//! What is kept of a node. What a node says of its host is cut to what others need, so that no node can make the map large.

use allod_meshproto::{
    DiscoKey, MachineKey, NodeKey,
    control::{Hostinfo, NodeId, Service},
};
use allod_proto::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// Bytes of one text that a node says of itself.
const TEXT: usize = 64;
/// Services that are told to others.
const SERVICES: usize = 8;
/// Endpoints that are told to others.
pub(super) const ENDPOINTS: usize = 24;

/// A node, as it is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeRecord {
    /// Its number; never another node's.
    pub id: NodeId,
    /// The machine that it is bound to for good.
    pub machine: MachineKey,
    /// Its node key of now.
    pub key: NodeKey,
    /// Its disco key; zero before its first map request.
    pub disco: DiscoKey,
    /// Its name, a DNS label, unique.
    pub name: String,
    /// Its IPv4 address; never another node's.
    pub v4: Ipv4Addr,
    /// Its IPv6 address; never another node's.
    pub v6: Ipv6Addr,
    /// Its tags, by its join key or an administrator.
    pub tags: Vec<String>,
    /// The join key that let it in last.
    pub join_key: Option<String>,
    /// Whether it is forgotten when it is away.
    pub ephemeral: bool,
    /// Since when it is here.
    pub created: Timestamp,
    /// When its key expires.
    pub expiry: Option<Timestamp>,
    /// When it was last there.
    pub last_seen: Option<Timestamp>,
    /// The capability version it speaks.
    pub version: u32,
    /// What it says of its host, cut down.
    pub host: Hostinfo,
    /// Where its datagrams may be sent.
    pub endpoints: Vec<SocketAddr>,
    /// The region of its home relay; 0 for none.
    pub home: u32,
}

impl NodeRecord {
    /// Whether its key has expired.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expiry.is_some_and(|expiry| expiry <= now)
    }

    /// Whether it is a node of ours rather than a stock client; its own word.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.host.app == "allod"
    }

    /// Both its addresses.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }
}

/// Of what a node says of its host, what others may need.
pub(super) fn cut(host: &Hostinfo) -> Hostinfo {
    let service = |service: &Service| Service {
        proto: cut_text(&service.proto),
        port: service.port,
        description: String::new(),
    };
    Hostinfo {
        ipn_version: cut_text(&host.ipn_version),
        os: cut_text(&host.os),
        os_version: cut_text(&host.os_version),
        app: cut_text(&host.app),
        hostname: cut_text(&host.hostname),
        machine: cut_text(&host.machine),
        go_arch: cut_text(&host.go_arch),
        shields_up: host.shields_up,
        userspace: host.userspace,
        services: host.services.iter().take(SERVICES).map(service).collect(),
        ..Hostinfo::default()
    }
}

fn cut_text(text: &str) -> String {
    let mut kept = String::new();
    for character in text.chars().filter(|character| !character.is_control()) {
        if kept.len().saturating_add(character.len_utf8()) > TEXT {
            break;
        }
        kept.push(character);
    }
    kept
}
