//! Who may call: enrolled keys and what each may do.

use crate::{Fingerprint, Role, messages::named::Runnable};
use serde::{Deserialize, Serialize};

/// `keys.list`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysList {}

/// Answer to `keys.list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysListReply {
    /// The keys that authorise somebody.
    pub keys: Vec<KeyEntry>,
    /// Lines that authorise nobody, each with its reason.
    pub complaints: Vec<String>,
    /// Revoked fingerprints and certificate serials.
    #[serde(default)]
    pub revoked: Vec<String>,
}

/// One enrolled key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyEntry {
    /// Its fingerprint.
    pub fingerprint: Fingerprint,
    /// Whose it is.
    pub name: String,
    /// `ssh-ed25519` and so on.
    pub algorithm: String,
    /// The ceiling.
    pub role: Role,
    /// The line, as it stands in the file.
    pub line: String,
}

/// `keys.add`: enrol a key, or change what an enrolled one may do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysAdd {
    /// One line in `authorized_keys` format with `role=`.
    pub line: String,
}

/// `keys.revoke`: works on the very next request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysRevoke {
    /// Whose.
    pub fingerprint: Fingerprint,
}

/// `keys.rotate`: one key for another, with the same role, scopes and name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysRotate {
    /// The key that goes.
    pub old: Fingerprint,
    /// The key that comes: type, base64 and comment, without options.
    pub new: String,
}

/// `keys.can`: exactly what a key may do here.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeysCan {
    /// Whose; the caller's own if not given. Another's needs the operator role.
    #[serde(default)]
    pub fingerprint: Option<Fingerprint>,
}

/// Answer to `keys.can`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysCanReply {
    /// Whose.
    pub fingerprint: Option<Fingerprint>,
    /// Its name.
    pub name: String,
    /// Its role.
    pub role: Role,
    /// The apps it is narrowed to; `None` is all.
    #[serde(default)]
    pub apps: Option<Vec<String>>,
    /// The commands it may call, with what they are limited to.
    pub commands: Vec<Allowed>,
    /// The named commands it may run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub named: Vec<Runnable>,
}

/// One command somebody may call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowed {
    /// `app.deploy`.
    pub command: String,
    /// Whether only for the apps of the key.
    pub scoped: bool,
}
