//! The documents of Tailscale's API v2, as written and as meant.

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
use std::{net::IpAddr, time::Duration};
use zeroize::Zeroizing;

/// By how much their clock and ours may differ about when a key ends.
const SKEW: Duration = Duration::from_secs(600);

#[derive(Deserialize)]
pub(super) struct TokenWritten {
    pub(super) access_token: Secret,
    #[serde(default)]
    pub(super) expires_in: u64,
}

#[derive(Deserialize)]
pub(super) struct KeysListed {
    #[serde(default, deserialize_with = "list_or_null")]
    pub(super) keys: Vec<KeyWritten>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct KeyWritten {
    pub(super) id: String,
    #[serde(default)]
    key: Option<Secret>,
    #[serde(default)]
    key_type: Option<String>,
    #[serde(default)]
    expires: Option<String>,
    #[serde(default)]
    revoked: Option<String>,
    #[serde(default)]
    invalid: bool,
    #[serde(default)]
    capabilities: Option<CapabilitiesWritten>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CapabilitiesWritten {
    devices: DevicesWritten,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct DevicesWritten {
    create: CreateWritten,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct CreateWritten {
    reusable: bool,
    ephemeral: bool,
    tags: Option<Vec<String>>,
}

#[derive(Deserialize)]
pub(super) struct DevicesListed {
    #[serde(default, deserialize_with = "list_or_null")]
    devices: Vec<DeviceWritten>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DeviceWritten {
    id: String,
    #[serde(default)]
    node_id: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    hostname: String,
    #[serde(default, deserialize_with = "list_or_null")]
    addresses: Vec<IpAddr>,
    #[serde(default)]
    user: String,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    key_expiry_disabled: bool,
    #[serde(default)]
    expires: Option<String>,
    #[serde(default)]
    last_seen: Option<String>,
    #[serde(default)]
    connected_to_control: Option<bool>,
    #[serde(default)]
    node_key: String,
}

#[derive(Deserialize)]
pub(super) struct UsersListed {
    #[serde(default, deserialize_with = "list_or_null")]
    users: Vec<UserWritten>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct UserWritten {
    id: String,
    #[serde(default)]
    login_name: String,
    #[serde(default)]
    display_name: String,
}

impl KeyWritten {
    /// Whether it may be one to join with; OAuth clients and API keys are listed as well.
    pub(super) fn may_be_auth(&self) -> bool {
        self.key_type.as_deref().is_none_or(|kind| kind == "auth")
    }

    pub(super) fn is_whole(&self) -> bool {
        self.capabilities.is_some()
    }

    /// As a key to join with, if it is one.
    pub(super) fn meant(self) -> Option<JoinKey> {
        if !self.may_be_auth() {
            return None;
        }
        let create = self.capabilities?.devices.create;
        Some(JoinKey {
            id: plain(&self.id, 64),
            user: None,
            tags: create.tags.unwrap_or_default().iter().map(|tag| plain(tag, 80)).collect(),
            reusable: create.reusable,
            ephemeral: create.ephemeral,
            used: None,
            revoked: self.invalid || self.revoked.as_deref().and_then(moment).is_some(),
            expires: self.expires.as_deref().and_then(moment),
        })
    }

    /// As one that was just made; refuses one that is more than what was asked for.
    pub(super) fn granted(
        mut self,
        asked: &JoinRequest,
        now: Timestamp,
    ) -> Result<JoinGrant, CoordinationError> {
        let other = || CoordinationError::Unreadable {
            why: "the key that was made is not the one that was asked for".to_owned(),
        };
        let secret = self.key.take().filter(|key| !key.expose().is_empty()).ok_or_else(other)?;
        let key = self.meant().ok_or_else(other)?;
        let latest = now.plus(asked.lasts).plus(SKEW);
        if key.reusable && !asked.reusable || key.expires.is_none_or(|at| at > latest) {
            return Err(other());
        }
        Ok(JoinGrant { secret, key })
    }
}

impl DevicesListed {
    pub(super) fn meant(self) -> Result<Vec<MeshNode>, CoordinationError> {
        self.devices.into_iter().map(DeviceWritten::meant).collect()
    }
}

impl DeviceWritten {
    fn meant(self) -> Result<MeshNode, CoordinationError> {
        let id = if self.node_id.is_empty() { self.id } else { self.node_id };
        let name = if self.name.is_empty() { &self.hostname } else { &self.name };
        let tags: Vec<_> = self.tags.unwrap_or_default().iter().map(|tag| plain(tag, 80)).collect();
        Ok(MeshNode {
            id: NodeId::new(id)?,
            name: plain(name, 253),
            addresses: self.addresses.into_iter().filter(|ip| is_mesh_address(*ip)).collect(),
            user: Some(plain(&self.user, 120)).filter(|user| tags.is_empty() && !user.is_empty()),
            tags,
            online: self.connected_to_control,
            key_expiry: self.expires.as_deref().and_then(moment).filter(|_| !self.key_expiry_disabled),
            last_seen: self.last_seen.as_deref().and_then(moment),
            node_key: Some(plain(&self.node_key, 100)).filter(|key| !key.is_empty()),
        })
    }
}

impl UsersListed {
    pub(super) fn meant(self) -> Vec<MeshUser> {
        let one = |user: UserWritten| {
            let name = if user.login_name.is_empty() { &user.display_name } else { &user.login_name };
            MeshUser { name: plain(name, 120), id: plain(&user.id, 64) }
        };
        self.users.into_iter().map(one).collect()
    }
}

/// A word within a form (`application/x-www-form-urlencoded`).
pub(super) fn form(word: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(word.len().saturating_mul(3)));
    for byte in word.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            text.push(char::from(byte));
        } else {
            text.push_str(&format!("%{byte:02X}"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_gets_out_of_its_place_in_a_form() {
        assert_eq!(form("a&b=c+d e%\u{e9}").as_str(), "a%26b%3Dc%2Bd%20e%25%C3%A9");
    }
}
