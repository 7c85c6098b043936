//! Headscale's documents, as written and as meant.

use crate::{
    coordination::{
        CoordinationError, JoinGrant, JoinKey, JoinRequest, MeshNode, MeshUser, NodeId, Secret,
        words::list_or_null,
    },
    is_mesh_address,
    tailscaled::{moment, plain},
};
use allod_proto::Timestamp;
use serde::Deserialize;
use std::net::IpAddr;

#[derive(Deserialize)]
pub(super) struct VersionWritten {
    version: String,
}

#[derive(Deserialize)]
pub(super) struct PolicyWritten {
    #[serde(default)]
    pub(super) policy: String,
}

#[derive(Deserialize)]
pub(super) struct UsersListed {
    #[serde(default, deserialize_with = "list_or_null")]
    users: Vec<UserWritten>,
}

#[derive(Deserialize)]
pub(super) struct UserMade {
    user: UserWritten,
}

#[derive(Deserialize)]
struct UserWritten {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    email: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeysListed {
    #[serde(default, deserialize_with = "list_or_null")]
    pre_auth_keys: Vec<KeyWritten>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyMade {
    pre_auth_key: KeyWritten,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct KeyWritten {
    id: String,
    key: Secret,
    #[serde(default)]
    user: Option<UserWritten>,
    #[serde(default)]
    reusable: bool,
    #[serde(default)]
    ephemeral: bool,
    #[serde(default)]
    used: bool,
    #[serde(default)]
    expiration: Option<String>,
    #[serde(default, deserialize_with = "list_or_null")]
    acl_tags: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct NodesListed {
    #[serde(default, deserialize_with = "list_or_null")]
    nodes: Vec<NodeWritten>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct NodeWritten {
    id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    given_name: String,
    #[serde(default, deserialize_with = "list_or_null")]
    ip_addresses: Vec<IpAddr>,
    #[serde(default)]
    user: Option<UserWritten>,
    #[serde(default)]
    node_key: String,
    #[serde(default)]
    expiry: Option<String>,
    #[serde(default)]
    last_seen: Option<String>,
    #[serde(default)]
    online: bool,
    #[serde(default, deserialize_with = "list_or_null")]
    tags: Vec<String>,
    // Before 0.28 there were three kinds.
    #[serde(default, deserialize_with = "list_or_null")]
    forced_tags: Vec<String>,
    #[serde(default, deserialize_with = "list_or_null")]
    valid_tags: Vec<String>,
}

impl VersionWritten {
    pub(super) fn meant(self) -> Option<String> {
        let version = plain(&self.version, 60);
        (!version.is_empty() && version != "dev").then_some(version)
    }
}

impl UserWritten {
    fn meant(self) -> MeshUser {
        let name = if self.name.is_empty() { &self.email } else { &self.name };
        MeshUser { name: plain(name, 120), id: plain(&self.id, 20) }
    }
}

impl UsersListed {
    pub(super) fn meant(self) -> Vec<MeshUser> {
        self.users.into_iter().map(UserWritten::meant).collect()
    }
}

impl UserMade {
    pub(super) fn meant(self) -> MeshUser {
        self.user.meant()
    }
}

impl KeyWritten {
    fn meant(self) -> (Secret, JoinKey) {
        let key = JoinKey {
            id: plain(&self.id, 20),
            user: self.user.map(|user| user.meant().name).filter(|_| self.acl_tags.is_empty()),
            tags: self.acl_tags.iter().map(|tag| plain(tag, 80)).collect(),
            reusable: self.reusable,
            ephemeral: self.ephemeral,
            used: Some(self.used),
            // It ends a key by setting its expiration to now.
            revoked: false,
            expires: self.expiration.as_deref().and_then(moment),
        };
        (self.key, key)
    }
}

impl KeysListed {
    pub(super) fn meant(self) -> Vec<JoinKey> {
        self.pre_auth_keys.into_iter().map(|key| key.meant().1).collect()
    }
}

impl KeyMade {
    /// Refuses one that is more than what was asked for.
    pub(super) fn meant(
        self,
        asked: &JoinRequest,
        expires: Timestamp,
    ) -> Result<JoinGrant, CoordinationError> {
        let (secret, key) = self.pre_auth_key.meant();
        let more = key.reusable && !asked.reusable || key.expires.is_none_or(|at| at > expires);
        if more || secret.expose().is_empty() {
            let why = "the key that was made is not the one that was asked for".to_owned();
            return Err(CoordinationError::Unreadable { why });
        }
        Ok(JoinGrant { secret, key })
    }
}

impl NodesListed {
    pub(super) fn meant(self) -> Result<Vec<MeshNode>, CoordinationError> {
        self.nodes.into_iter().map(NodeWritten::meant).collect()
    }
}

impl NodeWritten {
    fn meant(self) -> Result<MeshNode, CoordinationError> {
        let name = if self.given_name.is_empty() { &self.name } else { &self.given_name };
        let mut tags: Vec<_> = [self.tags, self.forced_tags, self.valid_tags].concat();
        tags.sort();
        tags.dedup();
        Ok(MeshNode {
            id: NodeId::new(number(&self.id)?)?,
            name: plain(name, 80),
            addresses: self.ip_addresses.into_iter().filter(|ip| is_mesh_address(*ip)).collect(),
            user: self.user.map(|user| user.meant().name).filter(|_| tags.is_empty()),
            tags: tags.iter().map(|tag| plain(tag, 80)).collect(),
            online: Some(self.online),
            key_expiry: self.expiry.as_deref().and_then(moment),
            last_seen: self.last_seen.as_deref().and_then(moment),
            node_key: Some(plain(&self.node_key, 100)).filter(|key| !key.is_empty()),
        })
    }
}

/// An id, which is a decimal number in a string.
pub(super) fn number(id: &str) -> Result<String, CoordinationError> {
    match id.parse::<u64>() {
        Ok(number) => Ok(number.to_string()),
        Err(_) => Err(CoordinationError::Word { what: "an id of Headscale's", word: plain(id, 40) }),
    }
}

/// A point in time as RFC 3339.
pub(super) fn written(at: Timestamp) -> Result<String, CoordinationError> {
    let out_of_range = || CoordinationError::Word { what: "an expiry", word: at.to_string() };
    let milliseconds = i64::try_from(at.0).map_err(|_| out_of_range())?;
    let at = jiff::Timestamp::from_millisecond(milliseconds).map_err(|_| out_of_range())?;
    Ok(at.to_string())
}
