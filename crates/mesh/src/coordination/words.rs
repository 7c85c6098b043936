//! What is said between an administrator and a coordinator, whichever it is.

use super::{CoordinationError, Secret};
use allod_proto::Timestamp;
use serde::Serialize;
use std::{fmt, net::IpAddr, time::Duration};

/// What a kind of coordinator can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Which kind it is: `headscale`, `tailscale`, `embedded`.
    pub driver: &'static str,
    /// Users can be made.
    pub creates_users: bool,
    /// A change of the policy can be made to depend on what it was.
    pub guards_policy: bool,
    /// Its backup has everything that it takes to begin again elsewhere.
    pub backs_up_whole: bool,
}

/// How a coordinator that accepts us stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Administered {
    /// Its version, where it tells.
    pub version: Option<String>,
    /// Whether it says that it is well.
    pub well: bool,
}

/// Whose a machine is that joins with a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JoinOwner {
    /// Nobody's: these tags say what it is. At least one.
    Tags(Vec<Tag>),
    /// This user's, by name.
    User(String),
}

/// What a key to join with is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinRequest {
    /// Whose machine it makes.
    pub owner: JoinOwner,
    /// Good for more than one machine.
    pub reusable: bool,
    /// Makes machines that are removed when they are away.
    pub ephemeral: bool,
    /// For how long somebody may join with it.
    pub lasts: Duration,
}

/// A key that was just made.
#[derive(Debug)]
pub struct JoinGrant {
    /// The key itself.
    pub secret: Secret,
    /// What is known of it from now on.
    pub key: JoinKey,
}

/// A key to join with, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct JoinKey {
    /// The coordinator's name for it.
    pub id: String,
    /// Whose machines it makes, if somebody's.
    pub user: Option<String>,
    /// The tags of the machines it makes.
    pub tags: Vec<String>,
    /// Good for more than one machine.
    pub reusable: bool,
    /// Makes machines that are removed when they are away.
    pub ephemeral: bool,
    /// Whether somebody joined with it, where that is told.
    pub used: Option<bool>,
    /// Whether it was ended before its time.
    pub revoked: bool,
    /// When it ends by itself.
    pub expires: Option<Timestamp>,
}

impl JoinKey {
    /// Whether somebody may still join with it.
    #[must_use]
    pub fn is_good(&self, now: Timestamp) -> bool {
        !self.revoked
            && self.expires.is_none_or(|expires| expires > now)
            && (self.reusable || self.used != Some(true))
    }
}

/// A machine that has joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MeshNode {
    /// The coordinator's name for it, never given to another.
    pub id: NodeId,
    /// Its name on the mesh.
    pub name: String,
    /// Its addresses there; those that no mesh has are left out.
    pub addresses: Vec<IpAddr>,
    /// Whose it is, if it has no tags.
    pub user: Option<String>,
    /// What it is.
    pub tags: Vec<String>,
    /// Whether it is connected to the coordinator, where that is told.
    pub online: Option<bool>,
    /// When its key ends; never, if none.
    pub key_expiry: Option<Timestamp>,
    /// When the coordinator last heard of it.
    pub last_seen: Option<Timestamp>,
    /// Its present key on the mesh.
    pub node_key: Option<String>,
}

/// Somebody who has machines.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MeshUser {
    /// The coordinator's name for them.
    pub id: String,
    /// The name that people use.
    pub name: String,
}

/// Who may reach whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// In the coordinator's own words (huJSON).
    pub text: String,
    /// Which one it is, where the coordinator tells.
    pub version: Option<String>,
}

/// What a backup has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupManifest {
    /// Which kind of coordinator.
    pub driver: String,
    /// The files, each with how many things it has.
    pub files: Vec<(String, usize)>,
    /// What is not in it, and where that is to be had.
    pub missing: Vec<String>,
}

/// `tag:name`: a machine's role on the mesh.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Tag(String);

/// A machine, as its coordinator counts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct NodeId(String);

/// A name that a machine can have: one label of a host name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeName(String);

macro_rules! word {
    ($type:ident, $what:literal, $good:expr) => {
        impl $type {
            /// Checks it.
            ///
            /// # Errors
            /// [`CoordinationError::Word`] for any other.
            pub fn new(word: impl Into<String>) -> Result<Self, CoordinationError> {
                let word = word.into();
                let good: fn(&str) -> bool = $good;
                if good(&word) {
                    return Ok(Self(word));
                }
                Err(CoordinationError::Word { what: $what, word: crate::tailscaled::plain(&word, 80) })
            }

            /// As it is written.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

word!(Tag, "a tag", |word| word.strip_prefix("tag:").is_some_and(is_label));
// It becomes a part of a path: no dot, no slash, nothing to escape.
word!(NodeId, "a machine's id", |word| {
    (1..=64).contains(&word.len())
        && word.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
});
word!(NodeName, "a machine's name", is_label);

/// A label of a host name (RFC 1123), in small letters, beginning with one.
fn is_label(word: &str) -> bool {
    let good = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    (1..=63).contains(&word.len())
        && word.bytes().all(good)
        && word.starts_with(|c: char| c.is_ascii_lowercase())
        && !word.ends_with('-')
}

/// Reads a list; `null`, which Go writes for an empty one, is none of anything.
pub(super) fn list_or_null<'de, D, T>(from: D) -> Result<Vec<T>, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de>,
{
    use serde::Deserialize as _;
    Option::<Vec<T>>::deserialize(from).map(Option::unwrap_or_default)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_that_would_be_another_path_or_no_name_are_refused() {
        for bad in ["", "tag:", "server", "tag:Server", "tag:a b", "tag:-a", "tag:a/b", "tag:1a", "tag:a-"] {
            assert!(Tag::new(bad).is_err(), "{bad}");
        }
        for bad in ["", ".", "..", "1/2", "1?x", "1%2f", "a b", &"1".repeat(65), "ä"] {
            assert!(NodeId::new(bad).is_err(), "{bad}");
        }
        for bad in ["", "Web1", "web.1", "-web", "web/../x", "1web"] {
            assert!(NodeName::new(bad).is_err(), "{bad}");
        }
        assert_eq!(Tag::new("tag:web-1").unwrap().as_str(), "tag:web-1");
        assert_eq!(NodeId::new("n5SUKe8CNTRL").unwrap().to_string(), "n5SUKe8CNTRL");
        assert!(NodeName::new("web-1").is_ok());
    }

    #[test]
    fn a_key_is_good_until_it_is_used_ended_or_over() {
        let now = Timestamp(1_780_000_000_000);
        let key = JoinKey {
            id: "1".to_owned(),
            user: None,
            tags: Vec::new(),
            reusable: false,
            ephemeral: false,
            used: Some(false),
            revoked: false,
            expires: Some(now.plus(Duration::from_secs(1))),
        };
        assert!(key.is_good(now));
        assert!(!JoinKey { expires: Some(now), ..key.clone() }.is_good(now));
        assert!(!JoinKey { used: Some(true), ..key.clone() }.is_good(now));
        assert!(!JoinKey { revoked: true, ..key.clone() }.is_good(now));
        assert!(JoinKey { used: Some(true), reusable: true, ..key }.is_good(now));
    }
}
