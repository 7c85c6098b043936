//! What somebody with a recovery key may ask: a closed list, one JSON line each way on a socket of the executor's that
//! needs no agent and no enrolled key.

use crate::{
    CommandId, Fault, Fingerprint,
    messages::{
        keys::KeysListReply,
        server::{ServerDoctorReply, Succession},
    },
    record::Head,
};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// The longest line either way, in bytes; the answer to `keys` may need more room than any ask.
pub const LINE: usize = 1024 * 1024;
/// The longest ask, in bytes.
pub const ASK: usize = 16 * 1024;
/// The longest name of a key, in bytes.
pub const NAME: usize = 64;

/// The closed list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum RecoveryAction {
    /// What is wrong.
    Doctor {},
    /// Who this server is.
    Identity {},
    /// Who may call it.
    Keys {},
    /// Enrol an owner.
    Enrol {
        /// The public key: type and base64, without options and without a comment.
        key: String,
        /// Whose it is: letters, digits and `@._-`, at most [`NAME`].
        name: Option<String>,
    },
    /// Enrol a caller of named commands. For root on the machine alone; the recovery user may not.
    EnrolCaller {
        /// The public key: type and base64, without options and without a comment.
        key: String,
        /// What the caller is called: letters, digits and `@._-`, at most [`NAME`].
        name: String,
        /// From where, as `from=` in a key's line.
        from: Option<String>,
        /// Until when, as `expiry-time=` in a key's line.
        expires: Option<String>,
    },
    /// Begin anew: executor and agent. Apps and proxy run on.
    Restart {},
}

impl RecoveryAction {
    /// As a person types it and as the record has it.
    #[must_use]
    pub fn word(&self) -> &'static str {
        match self {
            Self::Doctor {} => "doctor",
            Self::Identity {} => "identity",
            Self::Keys {} => "keys",
            Self::Enrol { .. } => "enrol",
            Self::EnrolCaller { .. } => "enrol_caller",
            Self::Restart {} => "restart",
        }
    }

    /// The command of the record: `recovery.enrol`.
    #[must_use]
    pub fn command(&self) -> String {
        format!("recovery.{}", self.word())
    }

    /// Whether it is recorded before and after, because it changes something.
    #[must_use]
    pub fn changes(&self) -> bool {
        match self {
            Self::Enrol { .. } | Self::EnrolCaller { .. } | Self::Restart {} => true,
            Self::Doctor {} | Self::Identity {} | Self::Keys {} => false,
        }
    }

    /// Whether a name can stand at the end of a key's line and be shown.
    #[must_use]
    pub fn name_is_sound(name: &str) -> bool {
        (1..=NAME).contains(&name.len())
            && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"@._-".contains(&byte))
    }
}

/// One line to the executor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RecoveryAsk {
    /// Made by the asker, for the record.
    pub id: CommandId,
    /// What is asked.
    pub action: RecoveryAction,
    /// Who logged in, as sshd told the forced command.
    #[serde(default)]
    pub login: Login,
}

/// What sshd said of a login. The executor has only the recovery user's word for it, and the record says so.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The key, where sshd has `ExposeAuthInfo yes`.
    #[serde(default)]
    pub key: Option<Fingerprint>,
    /// From where.
    #[serde(default)]
    pub from: Option<IpAddr>,
}

/// The line back.
pub type RecoveryAnswer = Result<RecoveryDone, Fault>;

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RecoveryDone {
    /// Findings, worst first.
    Doctor(ServerDoctorReply),
    /// Who this server is.
    Identity(ServerIdentity),
    /// Keys, also after one was enrolled.
    Keys(KeysListReply),
    /// Executor and agent begin anew.
    Restarting {},
}

/// Who a server is: what a client pins, and from where it came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerIdentity {
    /// The identity.
    pub identity: Fingerprint,
    /// The record key.
    pub record_key: Fingerprint,
    /// The `age` recipient that secrets are sealed to.
    pub recipient: String,
    /// The head of the record.
    pub record: Head,
    /// How the identity came from the ones before, oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub succession: Vec<Succession>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_could_be_read_as_something_else_is_not_sound() {
        for bad in ["", "a b", "a\nb", "a\"b", "a,b", "é", "a;b", "$a", &"a".repeat(65)] {
            assert!(!RecoveryAction::name_is_sound(bad), "{bad:?}");
        }
        assert!(RecoveryAction::name_is_sound("ana@laptop-2.example"));
    }

    #[test]
    fn an_ask_with_a_field_or_an_action_too_many_is_none() {
        let good = r#"{"id":"0123456789abcdef","action":{"doctor":{}}}"#;
        assert!(serde_json::from_str::<RecoveryAsk>(good).is_ok());
        for bad in [
            r#"{"id":"0123456789abcdef","action":{"doctor":{}},"uid":0}"#,
            r#"{"id":"0123456789abcdef","action":{"doctor":{},"keys":{}}}"#,
            r#"{"id":"0123456789abcdef","action":{"shell":{"argv":["id"]}}}"#,
            r#"{"id":"0123456789abcdef","action":{"enrol":{"key":"k","name":null,"role":"owner"}}}"#,
            r#"{"id":"short","action":{"doctor":{}}}"#,
        ] {
            assert!(serde_json::from_str::<RecoveryAsk>(bad).is_err(), "{bad}");
        }
    }
}
