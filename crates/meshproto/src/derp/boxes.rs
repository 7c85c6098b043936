//! What the ends of a relay connection say of themselves, sealed between the node's key and the relay's.

use super::DerpError;
use crate::{
    control::go,
    json,
    key::{NodeKey, NodePrivate},
    limits,
    salsa::KeyPairBox,
};
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fmt;

/// The version of DERP that is spoken here: packets arrive with their sender's key.
pub const VERSION: u32 = 2;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ClientInfo {
    /// The version it speaks.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub version: u32,
    /// Whether it answers pings.
    #[serde(rename = "CanAckPings")]
    pub can_ack_pings: bool,
    /// Whether it only measures.
    #[serde(rename = "IsProber", skip_serializing_if = "go::is_empty")]
    pub is_prober: bool,
}

impl Default for ClientInfo {
    /// A node that answers pings.
    fn default() -> Self {
        Self { version: VERSION, can_ack_pings: true, is_prober: false }
    }
}

/// What a relay says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// The version it speaks.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub version: u32,
    /// How many bytes a second a node may send; 0 for any.
    #[serde(rename = "TokenBucketBytesPerSecond", skip_serializing_if = "go::is_empty")]
    pub bytes_per_second: u64,
    /// How many of them at once.
    #[serde(rename = "TokenBucketBytesBurst", skip_serializing_if = "go::is_empty")]
    pub bytes_at_once: u64,
}

impl Default for ServerInfo {
    /// A relay without a limit that it tells.
    fn default() -> Self {
        Self { version: VERSION, bytes_per_second: 0, bytes_at_once: 0 }
    }
}

/// What the two ends of a relay connection seal to each other with.
pub struct DerpBox {
    own: NodeKey,
    inner: KeyPairBox,
}

impl DerpBox {
    /// Between one's own key and the other end's.
    #[must_use]
    pub fn new(own: &NodePrivate, other: NodeKey) -> Self {
        Self { own: own.public(), inner: KeyPairBox::new(&own.export(), other.as_bytes()) }
    }

    /// The node's first frame.
    pub fn client_info(
        &self,
        info: &ClientInfo,
        random: &dyn SecureRandom,
    ) -> Result<super::Frame, DerpError> {
        Ok(super::Frame::ClientInfo { key: self.own, sealed: self.seal(info, random)? })
    }

    /// The relay's answer.
    pub fn server_info(
        &self,
        info: &ServerInfo,
        random: &dyn SecureRandom,
    ) -> Result<super::Frame, DerpError> {
        Ok(super::Frame::ServerInfo(self.seal(info, random)?))
    }

    /// Opens what a node said: proves that it holds the private half of the key that its frame names.
    pub fn open_client_info(&self, sealed: &[u8]) -> Result<ClientInfo, DerpError> {
        self.open(sealed)
    }

    /// Opens what a relay said.
    pub fn open_server_info(&self, sealed: &[u8]) -> Result<ServerInfo, DerpError> {
        self.open(sealed)
    }

    fn seal<T: Serialize>(&self, info: &T, random: &dyn SecureRandom) -> Result<Vec<u8>, DerpError> {
        let json = json::write(info).map_err(|_| DerpError::Info)?;
        self.inner.seal(&json, random).ok_or(DerpError::Random)
    }

    #[cfg(test)]
    pub(super) fn inner_seal(&self, json: &[u8]) -> Vec<u8> {
        self.inner.seal_with([9; 24], json).unwrap()
    }

    fn open<T: DeserializeOwned>(&self, sealed: &[u8]) -> Result<T, DerpError> {
        let json = self.inner.open(sealed).ok_or(DerpError::Box)?;
        json::read(&json, limits::DERP_INFO).map_err(|_| DerpError::Info)
    }
}

impl fmt::Debug for DerpBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DerpBox(of {})", self.own)
    }
}
