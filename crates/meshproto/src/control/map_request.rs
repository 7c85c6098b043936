//! `POST /machine/map`: a node says where it is and asks for the map (tailcfg.MapRequest).

use super::{Hostinfo, go};
use crate::{
    CAPABILITY_VERSION,
    key::{DiscoKey, NodeKey},
};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What the node asks: a stream of maps, or (a "lite" update) nothing but to be heard.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct MapRequest {
    /// The capability version it speaks.
    pub version: u32,
    /// `zstd` to have each frame compressed, otherwise empty.
    pub compress: String,
    /// Whether it wants a sign of life in the stream.
    pub keep_alive: bool,
    /// Which node.
    pub node_key: NodeKey,
    /// Its disco key.
    pub disco_key: DiscoKey,
    /// Whether it wants a stream. Servers may ignore the endpoints and the host's account in such a request.
    pub stream: bool,
    /// What it says of itself.
    pub hostinfo: Option<Hostinfo>,
    /// A session to take up again.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub map_session_handle: String,
    /// The last of its responses that was read.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub map_session_seq: i64,
    /// Where its datagrams may be sent.
    #[serde(skip_serializing_if = "go::is_empty", with = "go::endpoints")]
    pub endpoints: Vec<SocketAddr>,
    /// What kind each of them is, in the same order. May be shorter.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub endpoint_types: Vec<EndpointKind>,
    /// Whether it asks without wanting to be changed by it.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub read_only: bool,
    /// Whether it wants no peers: a lite update.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub omit_peers: bool,
}

impl Default for MapRequest {
    /// Of [`CAPABILITY_VERSION`], everything else empty.
    fn default() -> Self {
        Self {
            version: CAPABILITY_VERSION.into(),
            compress: String::new(),
            keep_alive: false,
            node_key: NodeKey::default(),
            disco_key: DiscoKey::default(),
            stream: false,
            hostinfo: None,
            map_session_handle: String::new(),
            map_session_seq: 0,
            endpoints: Vec::new(),
            endpoint_types: Vec::new(),
            read_only: false,
            omit_peers: false,
        }
    }
}

impl MapRequest {
    /// Asks for the stream, compressed.
    #[must_use]
    pub fn stream(node_key: NodeKey, disco_key: DiscoKey, hostinfo: Hostinfo) -> Self {
        Self {
            compress: "zstd".to_owned(),
            keep_alive: true,
            stream: true,
            ..Self::own(node_key, disco_key, hostinfo)
        }
    }

    /// Says where the node is, beside its stream.
    #[must_use]
    pub fn lite(
        node_key: NodeKey,
        disco_key: DiscoKey,
        hostinfo: Hostinfo,
        endpoints: &[(SocketAddr, EndpointKind)],
    ) -> Self {
        let (endpoints, endpoint_types) = endpoints.iter().copied().unzip();
        Self { omit_peers: true, endpoints, endpoint_types, ..Self::own(node_key, disco_key, hostinfo) }
    }

    /// Whether the reply's frames are to be compressed.
    #[must_use]
    pub fn wants_zstd(&self) -> bool {
        self.compress == "zstd"
    }

    fn own(node_key: NodeKey, disco_key: DiscoKey, hostinfo: Hostinfo) -> Self {
        Self { node_key, disco_key, hostinfo: Some(hostinfo), ..Self::default() }
    }
}

/// How a node came to know an endpoint of its own (tailcfg.EndpointType). Numbers of newer clients are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EndpointKind(pub i32);

impl EndpointKind {
    /// It does not say.
    pub const UNKNOWN: Self = Self(0);
    /// An address of one of its interfaces.
    pub const LOCAL: Self = Self(1);
    /// What STUN answered.
    pub const STUN: Self = Self(2);
    /// A port that the router mapped.
    pub const PORT_MAPPED: Self = Self(3);
    /// The address of STUN with the local port: a guess at a static mapping.
    pub const STUN_LOCAL_PORT: Self = Self(4);
    /// Given by settings.
    pub const EXPLICIT: Self = Self(5);
}
