//! Secrets, sealed by the client to the executor's recipient.

use crate::{AppRef, SecretName, Timestamp};
use serde::{Deserialize, Serialize};

/// `secrets.set`: a new version of a secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsSet {
    /// The app.
    pub app: AppRef,
    /// Sealed values, at most 200.
    pub secrets: Vec<SealedSecret>,
}

/// One sealed value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SealedSecret {
    /// Its name.
    pub name: SecretName,
    /// `age` ciphertext in standard base64. The sealed text is `<app>/<env>`, newline, `<NAME>`, newline, the exact bytes.
    pub sealed: String,
}

/// Answer to `secrets.set` and `secrets.remove`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsReply {
    /// What is set now.
    pub secrets: Vec<SecretEntry>,
}

/// One secret, without its value.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretEntry {
    /// Its name.
    pub name: SecretName,
    /// Counts up with each change.
    pub version: u64,
    /// When it was set.
    pub set_at: Timestamp,
    /// Who set it.
    pub by: String,
    /// The version that the current release uses, if it uses one.
    #[serde(default)]
    pub in_use: Option<u64>,
}

/// `secrets.list`: names and versions.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsList {
    /// The app.
    pub app: AppRef,
}

/// `secrets.remove`: releases that use it keep their version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsRemove {
    /// The app.
    pub app: AppRef,
    /// Which.
    pub name: SecretName,
}

/// `secrets.export`: the values, sealed again to a recipient of the caller. Recorded like a change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretsExport {
    /// The app.
    pub app: AppRef,
    /// An `age` X25519 recipient: `age1…`.
    pub recipient: String,
}

/// Answer to `secrets.export`: the newest version of each, sealed as [`SealedSecret::sealed`] says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretsExportReply {
    /// The sealed values.
    pub secrets: Vec<SealedSecret>,
}
