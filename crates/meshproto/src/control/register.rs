//! `POST /machine/register`: a machine asks for a place (tailcfg.RegisterRequest and its response).

use super::{Hostinfo, Login, User, go};
use crate::{CAPABILITY_VERSION, key::NodeKey};
use allod_proto::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt;

/// What the node asks. Which machine asks, the Noise handshake has proven; nothing here does.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RegisterRequest {
    /// The capability version it speaks.
    pub version: u32,
    /// The node key it wants to have from now on.
    pub node_key: NodeKey,
    /// The one before, when it changes; otherwise zero.
    pub old_node_key: NodeKey,
    /// How it proves that it may. **Absent** when it has nothing to prove it with: with an empty key in it, Headscale answers a
    /// node that it knows with a page to log in at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<RegisterAuth>,
    /// When the node key shall expire: `None` as the coordinator likes, a time in the past to log out.
    #[serde(with = "go::time")]
    pub expiry: Option<Timestamp>,
    /// The page to log in at that it was sent to before, to wait for.
    pub followup: String,
    /// What it says of itself.
    pub hostinfo: Option<Hostinfo>,
    /// Whether it may be forgotten as soon as it is away.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub ephemeral: bool,
    /// The network it wants into, by name.
    #[serde(skip_serializing_if = "go::is_empty")]
    pub tailnet: String,
}

impl Default for RegisterRequest {
    /// Of [`CAPABILITY_VERSION`], everything else empty.
    fn default() -> Self {
        Self {
            version: CAPABILITY_VERSION.into(),
            node_key: NodeKey::default(),
            old_node_key: NodeKey::default(),
            auth: None,
            expiry: None,
            followup: String::new(),
            hostinfo: None,
            ephemeral: false,
            tailnet: String::new(),
        }
    }
}

impl RegisterRequest {
    /// The key to prove with, if there is one.
    #[must_use]
    pub fn auth_key(&self) -> Option<&str> {
        self.auth.as_ref().map(|auth| auth.auth_key.as_str()).filter(|key| !key.is_empty())
    }
}

/// A proof that a node may join. Its text is never shown.
#[derive(Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RegisterAuth {
    /// The key, as it was handed out.
    #[serde(default, skip_serializing_if = "go::is_empty")]
    pub auth_key: String,
}

impl Drop for RegisterAuth {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.auth_key);
    }
}

impl fmt::Debug for RegisterAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RegisterAuth(…)")
    }
}

/// What the coordinator answers, with status 200 also when it refuses (tailcfg.RegisterResponse).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct RegisterReply {
    /// Whose node it is.
    pub user: User,
    /// How that user logged in.
    pub login: Login,
    /// Whether the node key has expired: make a new one and ask again.
    pub node_key_expired: bool,
    /// Whether it is in.
    pub machine_authorized: bool,
    /// Where a person must go first; empty for nowhere.
    #[serde(rename = "AuthURL")]
    pub auth_url: String,
    /// Why it is refused; empty for not.
    pub error: String,
}

/// What a reply means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Registration<'a> {
    /// The node is in.
    In,
    /// It is refused, in these words of the coordinator.
    Refused(&'a str),
    /// Its node key has expired.
    Expired,
    /// A person must go to this page, then ask again with it as `followup`.
    LogIn(&'a str),
    /// Somebody must let it in; ask again later.
    Waiting,
}

impl RegisterReply {
    /// What it means; what speaks against the node counts first.
    #[must_use]
    pub fn meaning(&self) -> Registration<'_> {
        match self {
            reply if !reply.error.is_empty() => Registration::Refused(&reply.error),
            reply if reply.node_key_expired => Registration::Expired,
            reply if !reply.auth_url.is_empty() => Registration::LogIn(&reply.auth_url),
            reply if reply.machine_authorized => Registration::In,
            _ => Registration::Waiting,
        }
    }
}
