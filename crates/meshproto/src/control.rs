//! The messages of coordinator and node (tailscale.com/tailcfg), each way. All are read as Go reads them ([`json`])
//! and written as Go writes them: zero values that Go omits are omitted, "never" is the year 1, a key that is not there is zeros.

pub mod ask;
pub mod derp_map;
pub mod dns;
pub mod go;
pub mod hostinfo;
pub mod map_request;
pub mod map_response;
pub mod node;
pub mod people;
pub mod register;
pub mod rules;

pub use ask::{KeyReply, PingAnswer, PingRequest};
pub use derp_map::{DerpMap, DerpRegion, DerpRelay};
pub use dns::{DnsConfig, DnsRecord, Resolver};
pub use hostinfo::{Hostinfo, NetInfo, Service};
pub use map_request::{EndpointKind, MapRequest};
pub use map_response::{Debug, DisplayMessage, MapResponse, PeerChange};
pub use node::{CapMap, Node, NodeId, UserId};
pub use people::{Login, User, UserProfile};
pub use register::{RegisterAuth, RegisterReply, RegisterRequest};
pub use rules::{CapGrant, FilterRule, PortRange, RuleTarget};

use crate::{json, json::JsonError, limits};
use serde::{Serialize, de::DeserializeOwned};

/// A message that travels as one JSON text.
pub trait Message: Serialize + DeserializeOwned {
    /// Bytes of its text at most.
    const MOST: usize;

    /// What it has more of than it may, if anything.
    fn excess(&self) -> Option<&'static str> {
        None
    }

    /// Reads it. Whatever is too long, too much or not this message is an error that names the field.
    fn read(text: &[u8]) -> Result<Self, JsonError> {
        let message: Self = json::read(text, Self::MOST)?;
        message.excess().map_or(Ok(message), |what| Err(JsonError::TooMany(what)))
    }

    /// Writes it. What [`read`](Self::read) would refuse for its size is refused here too.
    fn write(&self) -> Result<Vec<u8>, JsonError> {
        if let Some(what) = self.excess() {
            return Err(JsonError::TooMany(what));
        }
        let text = json::write(self)?;
        if text.len() > Self::MOST { Err(JsonError::TooLong(Self::MOST)) } else { Ok(text) }
    }
}

impl Message for KeyReply {
    const MOST: usize = limits::KEY_REPLY;
}

impl Message for PingAnswer {
    const MOST: usize = limits::SMALL_BODY;
}

impl Message for RegisterRequest {
    const MOST: usize = limits::SMALL_BODY;

    fn excess(&self) -> Option<&'static str> {
        self.hostinfo.as_ref().and_then(Hostinfo::excess)
    }
}

impl Message for RegisterReply {
    const MOST: usize = limits::SMALL_BODY;
}

impl Message for MapRequest {
    const MOST: usize = limits::SMALL_BODY;

    fn excess(&self) -> Option<&'static str> {
        if self.endpoints.len() > limits::ENDPOINTS || self.endpoint_types.len() > limits::ENDPOINTS {
            return Some("endpoints");
        }
        self.hostinfo.as_ref().and_then(Hostinfo::excess)
    }
}

impl Message for MapResponse {
    const MOST: usize = limits::MAP_JSON;

    fn excess(&self) -> Option<&'static str> {
        self.too_much()
    }
}

/// The first of these counts that is over its bound.
fn over(counts: &[(usize, usize, &'static str)]) -> Option<&'static str> {
    counts.iter().find(|(count, most, _)| count > most).map(|(_, _, what)| *what)
}

#[cfg(test)]
mod tests;
