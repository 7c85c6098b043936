//! Small questions: the coordinator's key, and its pings.

use super::go;
use crate::{key::MachineKey, token::SignedNoiseKey};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The reply to `GET /key?v=N` (tailcfg.OverTLSPublicKeyResponse).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct KeyReply {
    /// For clients older than ts2021; zero for none.
    #[serde(rename = "legacyPublicKey")]
    pub legacy_public_key: MachineKey,
    /// The coordinator's Noise key. A node that has it pinned does not ask.
    #[serde(rename = "publicKey")]
    pub public_key: MachineKey,
    /// Of a coordinator of ours: its Noise keys, each with the root key's word for it. Stock clients read over it.
    #[serde(rename = "allodKeys", skip_serializing_if = "Vec::is_empty")]
    pub allod_keys: Vec<SignedNoiseKey>,
}

/// The coordinator asks whether the node is still there (tailcfg.PingRequest).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PingRequest {
    /// Where to answer, with `HEAD` or for some types `POST`.
    #[serde(rename = "URL", skip_serializing_if = "go::is_empty")]
    pub url: String,
    /// Whether to answer inside the Noise connection. A node answers nowhere else.
    #[serde(rename = "URLIsNoise", skip_serializing_if = "go::is_empty")]
    pub url_is_noise: bool,
    /// Whether to log it.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub log: bool,
    /// Kinds of ping to make, separated by commas: `disco`, `TSMP`, `ICMP`, `peerapi`, or `c2n`.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub types: String,
    /// Whom to ping.
    #[serde(rename = "IP", with = "go::address")]
    pub ip: Option<IpAddr>,
    /// An HTTP request, when `types` is `c2n`.
    #[serde(skip_serializing_if = "go::is_empty", with = "go::bytes")]
    pub payload: Vec<u8>,
}

/// What came of it (tailcfg.PingResponse).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct PingAnswer {
    /// The kind of ping that was made.
    #[serde(rename = "Type")]
    pub kind: String,
    /// Whom it was sent to.
    #[serde(rename = "IP", skip_serializing_if = "go::is_empty")]
    pub ip: String,
    /// The node that has this address.
    #[serde(rename = "NodeIP", skip_serializing_if = "go::is_empty")]
    pub node_ip: String,
    /// That node's name.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub node_name: String,
    /// Why there is no answer.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub err: String,
    /// The round trip.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub latency_seconds: f64,
    /// The address that it went to directly.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub endpoint: String,
    /// The relay's region that it went through.
    #[serde(rename = "DERPRegionID", skip_serializing_if = "go::is_empty")]
    pub derp_region_id: u32,
}
