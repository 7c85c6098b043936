//! A map as a node keeps it, for the time that the coordinator is away: JSON with a format number and the time of the last response.

use super::{NetMap, Refusal};
use crate::{
    control::{DerpMap, DnsConfig, FilterRule, Node, UserProfile},
    json::{self, JsonError},
    limits,
};
use allod_proto::Timestamp;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, sync::Arc, time::Duration};

/// For so long a stored map may be used.
pub const MOST_AGE: Duration = Duration::from_secs(14 * 24 * 60 * 60);

const FORMAT: u32 = 1;

/// A map and when the coordinator last said that it holds.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredMap {
    /// The map. What the coordinator found wrong, and by how much its clock differed, is not kept.
    pub map: NetMap,
    /// When it was heard of last.
    pub heard_at: Timestamp,
}

/// Why a stored map can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoredMapError {
    /// It is of a format that this version does not know.
    #[error("a stored map of format {0}; this version knows {FORMAT}")]
    Format(u32),
    /// It can't be read or written.
    #[error("a stored map that can't be read")]
    Json(#[from] JsonError),
    /// It contradicts itself.
    #[error("a stored map that contradicts itself")]
    Refused(#[from] Refusal),
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "snake_case")]
struct OnlyFormat {
    format: u32,
}

#[derive(Serialize)]
struct Written<'a> {
    format: u32,
    heard_at: Timestamp,
    me: &'a Node,
    peers: Vec<&'a Node>,
    derp_map: &'a DerpMap,
    dns: &'a DnsConfig,
    domain: &'a str,
    filters: BTreeMap<&'a str, &'a [FilterRule]>,
    profiles: Vec<&'a UserProfile>,
}

#[derive(Deserialize)]
struct Read {
    heard_at: Timestamp,
    me: Node,
    peers: Vec<Node>,
    derp_map: DerpMap,
    dns: DnsConfig,
    domain: String,
    filters: BTreeMap<String, Vec<FilterRule>>,
    profiles: Vec<UserProfile>,
}

impl StoredMap {
    /// Writes it.
    pub fn write(&self) -> Result<Vec<u8>, StoredMapError> {
        let map = &self.map;
        Ok(json::write(&Written {
            format: FORMAT,
            heard_at: self.heard_at,
            me: &map.me,
            peers: map.peers.values().map(AsRef::as_ref).collect(),
            derp_map: &map.derp_map,
            dns: &map.dns,
            domain: &map.domain,
            filters: map.filters.iter().map(|(name, rules)| (name.as_str(), rules.as_slice())).collect(),
            profiles: map.profiles.values().collect(),
        })?)
    }

    /// Reads it. A newer format, a broken text and a map that contradicts itself are errors, never an empty map.
    pub fn read(text: &[u8]) -> Result<Self, StoredMapError> {
        let most = limits::MAP_JSON.saturating_mul(2);
        let OnlyFormat { format } = json::read(text, most)?;
        if format != FORMAT {
            return Err(StoredMapError::Format(format));
        }
        let read: Read = json::read(text, most)?;
        let count = read.peers.len();
        let map = NetMap {
            me: Arc::new(read.me),
            peers: read.peers.into_iter().map(|peer| (peer.id, Arc::new(peer))).collect(),
            derp_map: Arc::new(read.derp_map),
            dns: Arc::new(read.dns),
            domain: read.domain,
            filters: read.filters.into_iter().map(|(name, rules)| (name, Arc::new(rules))).collect(),
            profiles: read.profiles.into_iter().map(|profile| (profile.id, profile)).collect(),
            health: Vec::new(),
            messages: BTreeMap::new(),
            clock_ahead: 0,
        };
        if map.peers.len() != count {
            return Err(Refusal::SameId(map.me.id).into());
        }
        map.check()?;
        Ok(Self { map, heard_at: read.heard_at })
    }

    /// Whether it may still be used at `now`. On a clock that went back it may: keys that expire are checked all the same.
    #[must_use]
    pub fn is_usable(&self, now: Timestamp) -> bool {
        now.since(self.heard_at) <= MOST_AGE
    }
}
