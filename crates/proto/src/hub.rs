//! What is said over the hub's control socket, which only its own user and root may use: one line of JSON each way, [`HubAsk`] and
//! [`HubAnswer`]. After `backup` the answer is followed by the bytes it names. Times are milliseconds since 1970, as everywhere.

use crate::{Fault, Fingerprint, Timestamp};
use serde::{Deserialize, Serialize};
use std::{fmt, time::Duration};
use zeroize::Zeroizing;

/// The name of the socket in the hub's folder.
pub const SOCKET: &str = "control.sock";
/// The longest line that is asked with, in bytes: a policy as a text within JSON.
pub const ASK: usize = 4 * 1024 * 1024;
/// The longest line of an answer, in bytes: a whole network's nodes.
pub const ANSWER: usize = 32 * 1024 * 1024;
/// How long the line that asks may take to come.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// The port of a hub on the mesh.
pub const PORT: u16 = 9845;

/// What is asked of the hub. A `node` is a number, an address or a name. What takes nothing has braces all the same: only so does
/// serde refuse what is unknown there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum HubAsk {
    /// Take what the server says now for what counts.
    Acknowledge {
        /// Which server.
        identity: Fingerprint,
    },
    /// Forget a server.
    Forget {
        /// Which server.
        identity: Fingerprint,
    },
    /// The nodes of the mesh.
    Nodes {},
    /// One of them.
    Node {
        /// Which.
        node: String,
    },
    /// The machines that wait for a person.
    Waiting {},
    /// Let one of those in.
    Approve {
        /// The id on its page.
        id: String,
        /// Its tags; none makes it a person's own machine.
        #[serde(default)]
        tags: Vec<String>,
        /// Its name, if it isn't to be the one it has.
        #[serde(default)]
        name: Option<String>,
    },
    /// Send one of those away.
    Reject {
        /// The id on its page.
        id: String,
    },
    /// Give a node a name.
    Rename {
        /// Which.
        node: String,
        /// A DNS label.
        name: String,
    },
    /// Give a node these tags and no others.
    Tag {
        /// Which.
        node: String,
        /// `tag:name`.
        tags: Vec<String>,
    },
    /// Say when a node's key ends.
    Expire {
        /// Which.
        node: String,
        /// When.
        when: Expiry,
    },
    /// Delete a node.
    Delete {
        /// Which.
        node: String,
    },
    /// Make a join key, told as the token that a machine joins with.
    JoinToken {
        /// How many machines it lets in; any number without it.
        #[serde(default)]
        uses: Option<u32>,
        /// For how long.
        seconds: u64,
        /// Tags of the nodes that it lets in; none makes them a person's own machines.
        #[serde(default)]
        tags: Vec<String>,
        /// Whether its nodes are forgotten when they are away.
        #[serde(default)]
        ephemeral: bool,
    },
    /// The join keys.
    Keys {},
    /// Revoke a join key.
    RevokeKey {
        /// Which.
        id: String,
    },
    /// The policy.
    Policy {},
    /// Replace the policy, if its own cases hold in it.
    SetPolicy {
        /// Its text.
        text: String,
    },
    /// What that would change, and whether it would be taken.
    TestPolicy {
        /// Its text.
        text: String,
    },
    /// The whole network as one file, whose bytes follow the answer.
    Backup {},
    /// Prepare another Noise key, for the root key to sign.
    PrepareNoiseKey {},
    /// Take the prepared Noise key into use.
    TakeNoiseKey {
        /// What the root key said for it.
        signed: serde_json::Value,
        /// For how long the one before answers still.
        overlap_seconds: u64,
    },
}

impl HubAsk {
    /// Whether it changes something.
    #[must_use]
    pub const fn is_change(&self) -> bool {
        match self {
            Self::Nodes {}
            | Self::Node { .. }
            | Self::Waiting {}
            | Self::Keys {}
            | Self::Policy {}
            | Self::TestPolicy { .. } => false,
            Self::Acknowledge { .. }
            | Self::Forget { .. }
            | Self::Approve { .. }
            | Self::Reject { .. }
            | Self::Rename { .. }
            | Self::Tag { .. }
            | Self::Expire { .. }
            | Self::Delete { .. }
            | Self::JoinToken { .. }
            | Self::RevokeKey { .. }
            | Self::SetPolicy { .. }
            | Self::Backup {}
            | Self::PrepareNoiseKey {}
            | Self::TakeNoiseKey { .. } => true,
        }
    }
}

/// When a node's key ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Expiry {
    /// It doesn't.
    Never,
    /// At once.
    Now,
    /// Then.
    At(Timestamp),
}

/// What the hub answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum HubAnswer {
    /// It was done.
    Done {
        /// A sentence about it.
        message: String,
    },
    /// To `nodes`.
    Nodes(HubNodes),
    /// A node, as it is now: to `node`, and to what changes one.
    Node(HubNode),
    /// To `waiting`.
    Waiting {
        /// Those that wait, longest first.
        machines: Vec<WaitingMachine>,
    },
    /// To `join_token`.
    JoinToken {
        /// The key that is in it.
        key: HubKey,
        /// What a machine is given. Told here and never again.
        token: TokenText,
        /// What a person has to know besides.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        warning: Option<String>,
    },
    /// To `keys`.
    Keys {
        /// All of them, also those that let nobody in any more.
        keys: Vec<HubKey>,
    },
    /// To `policy`.
    Policy {
        /// The policy itself.
        policy: serde_json::Value,
        /// Whether it is the one that a network begins with.
        is_first: bool,
    },
    /// To `set_policy` and `test_policy`.
    PolicyChange(PolicyChange),
    /// To `backup`: so many bytes follow this line.
    Backup {
        /// How many.
        bytes: u64,
    },
    /// To `prepare_noise_key`.
    NoiseKey {
        /// Its public half.
        key: String,
        /// The number to sign it under.
        serial: u64,
    },
    /// It could not be done.
    Failed(Fault),
}

/// The nodes of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubNodes {
    /// The domain of their names.
    pub domain: String,
    /// All of them, by their numbers.
    pub nodes: Vec<HubNode>,
    /// How many machines wait for a person.
    pub waiting: usize,
    /// What is to be done with the root key, while something is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root_key: Option<String>,
    /// Stock clients that are told of no relay, since there is no certificate: they may never come up.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub without_relay: Vec<String>,
}

/// A node of the mesh. What it says of itself is text of a stranger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubNode {
    /// Its number; never another node's.
    pub id: i64,
    /// Its name.
    pub name: String,
    /// Its addresses on the mesh.
    pub addresses: Vec<std::net::IpAddr>,
    /// Its tags.
    pub tags: Vec<String>,
    /// Whether it is there now.
    pub online: bool,
    /// When it was last there.
    pub seen_at: Option<Timestamp>,
    /// Since when it is a node.
    pub created_at: Timestamp,
    /// When its key ends.
    pub expires_at: Option<Timestamp>,
    /// Whether it has ended.
    pub expired: bool,
    /// Whether it is forgotten when it is away.
    pub ephemeral: bool,
    /// The join key that let it in last.
    pub join_key: Option<String>,
    /// What it calls its host.
    pub hostname: String,
    /// What it says it runs.
    pub os: String,
    /// Its node key.
    pub key: String,
}

/// A machine that waits for a person.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingMachine {
    /// The id on its page.
    pub id: String,
    /// What it calls its host.
    pub hostname: String,
    /// What it says it runs.
    pub os: String,
    /// Where it asked from.
    pub source: std::net::IpAddr,
    /// The node key that it shows.
    pub key: String,
    /// Since when.
    pub since_at: Timestamp,
}

/// A join key; nothing of it lets anybody in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubKey {
    /// Its first half, which names it.
    pub id: String,
    /// How many more nodes it lets in; any number without it.
    pub uses_left: Option<u32>,
    /// Until when.
    pub expires_at: Option<Timestamp>,
    /// Tags of its nodes.
    pub tags: Vec<String>,
    /// Whether its nodes are forgotten when they are away.
    pub ephemeral: bool,
    /// Since when there is one.
    pub created_at: Timestamp,
    /// Whether it was revoked.
    pub revoked: bool,
    /// Whether it lets anybody in still.
    pub good: bool,
}

/// What another policy changes: rules as one line of JSON each.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyChange {
    /// Rules that are not in it any more.
    pub removed: Vec<String>,
    /// Rules that are new in it.
    pub added: Vec<String>,
    /// How many cases hold in it.
    pub cases: usize,
    /// Whether it is the policy now.
    pub is_set: bool,
}

/// A join token, which lets in whoever has it. It shows itself to nobody and is wiped when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TokenText(pub Zeroizing<String>);

impl fmt::Debug for TokenText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenText(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_ask_is_refused() {
        for bad in [
            r#"{"ask":"nodes","more":1}"#,
            r#"{"ask":"backup","to":"x"}"#,
            r#"{"ask":"become_root"}"#,
            r#"{"ask":"join_token"}"#,
            r#"{"ask":"join_token","seconds":-1}"#,
            r#"{"ask":"expire","node":"web1","when":"soon"}"#,
            "[]",
        ] {
            assert!(serde_json::from_str::<HubAsk>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn asks_are_written_as_the_protocol_has_them() {
        let at = HubAsk::Expire { node: "web1".to_owned(), when: Expiry::At(Timestamp(5)) };
        let text = r#"{"ask":"expire","node":"web1","when":{"at":5}}"#;
        assert_eq!(serde_json::to_string(&at).unwrap(), text);
        let short: HubAsk = serde_json::from_str(r#"{"ask":"join_token","seconds":60,"uses":1}"#).unwrap();
        let whole = HubAsk::JoinToken { uses: Some(1), seconds: 60, tags: Vec::new(), ephemeral: false };
        assert_eq!(short, whole);
    }

    #[test]
    fn a_token_is_not_shown_where_an_answer_is_logged() {
        let token = TokenText(Zeroizing::new("allod-join-1.secret".to_owned()));
        assert!(!format!("{token:?}").contains("secret"));
        assert_eq!(serde_json::to_string(&token).unwrap(), r#""allod-join-1.secret""#);
    }
}
