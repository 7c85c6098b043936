//! Which mesh this machine is on: `network.json`. What was known before and what is asked for now give what holds from now on.
//!
//! The join key is in the same file until the node is in, so that no kill and no power cut finds one without the other; then the
//! file is written without it. A node that was let in and was killed before that shows its key once more, which the coordinator
//! takes from the same machine.

use crate::Way;
use allod_meshproto::token::{JOIN_KEY_LENGTH, JoinToken, RootKey, URL_LENGTH};
use allod_store::{Format, StoreError};
use serde::{Deserialize, Serialize};
use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// The file.
const FILE: &str = "network.json";
const MODE: u32 = 0o600;

/// `network.json`, format 1. The coordinator's own key, once it was met, is with the node's keys (`place/coordinator.json`).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NetworkRecord {
    /// Where the coordinator is, best first.
    pub urls: Vec<String>,
    /// Who vouches for its key; without one, the key that it had first counts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub root: Option<RootKey>,
    /// The name that the node asks for.
    pub hostname: String,
    /// Whether the coordinator may forget it as soon as it is away.
    pub ephemeral: bool,
    /// What lets the node in. Gone once it is.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "key")]
    pub join_key: Option<Zeroizing<String>>,
}

impl Format for NetworkRecord {
    const NAME: &'static str = "mesh-network";
    const FORMAT: u32 = 1;
}

impl fmt::Debug for NetworkRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NetworkRecord")
            .field("urls", &self.urls)
            .field("root", &self.root)
            .field("hostname", &self.hostname)
            .field("ephemeral", &self.ephemeral)
            .finish_non_exhaustive()
    }
}

mod key {
    use serde::{Deserialize as _, Deserializer, Serializer};
    use zeroize::Zeroizing;

    #[expect(clippy::ref_option, reason = "serde gives the field by reference")]
    pub(super) fn serialize<S: Serializer>(
        key: &Option<Zeroizing<String>>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match key {
            Some(key) => serializer.serialize_some(key.as_str()),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Zeroizing<String>>, D::Error> {
        Ok(Option::<String>::deserialize(deserializer)?.map(Zeroizing::new))
    }
}

/// Why it can't be told which mesh to be on.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// It never joined, and is not told where.
    #[error("this machine is on no mesh yet{}: start with --join FILE, or with --coordinator URL", reason(.why.as_ref()))]
    Nowhere {
        /// What else was to be known.
        why: Option<String>,
    },
    /// The folder is a place on another mesh.
    #[error("{} is a place on the mesh of {known}, not of {wanted}; to move, use another folder or remove this one", folder.display())]
    Other {
        /// The folder.
        folder: PathBuf,
        /// Its mesh.
        known: String,
        /// The one that is asked for.
        wanted: String,
    },
    /// A coordinator's URL that can't be one.
    #[error("`{0}` is not http://HOST[:PORT] or https://HOST[:PORT]")]
    Url(String),
    /// A coordinator that could be anybody.
    #[error(
        "`{0}` is plain http: whoever is on the way could take the coordinator's place; use https, or the token that \
         `allod hub keys create` makes, which holds the root key to check it by"
    )]
    Plain(String),
    /// A key that can't be one.
    #[error("a key to join with has 1 to {JOIN_KEY_LENGTH} printable ASCII characters")]
    Key,
    /// The file.
    #[error(transparent)]
    Store(#[from] StoreError),
}

fn reason(why: Option<&String>) -> String {
    why.map(|why| format!(" ({why})")).unwrap_or_default()
}

/// What is wanted besides the way.
#[derive(Debug, Clone)]
pub(crate) struct Wishes {
    pub(crate) hostname: Option<String>,
    pub(crate) ephemeral: bool,
    /// What the machine calls itself.
    pub(crate) machine: String,
}

/// What is known in a folder.
pub(crate) fn load(folder: &Path) -> Result<Option<NetworkRecord>, StoreError> {
    allod_store::load(&folder.join(FILE))
}

/// Keeps what holds now.
pub(crate) fn save(folder: &Path, record: &NetworkRecord) -> Result<(), StoreError> {
    allod_store::save(&folder.join(FILE), record, MODE)
}

/// What holds from now on.
pub(crate) fn decide(
    folder: &Path,
    known: Option<NetworkRecord>,
    way: &Way,
    wishes: &Wishes,
) -> Result<NetworkRecord, NetworkError> {
    let mut record = match way {
        Way::Back => known.ok_or(NetworkError::Nowhere { why: None })?,
        Way::Missing(why) => known.ok_or_else(|| NetworkError::Nowhere { why: Some(why.clone()) })?,
        Way::Token(token) => by_token(folder, known, token, wishes)?,
        Way::Coordinator { url, key } => by_url(folder, known, url, key.as_ref(), wishes)?,
    };
    if let Some(hostname) = &wishes.hostname {
        record.hostname.clone_from(hostname);
    }
    record.ephemeral |= wishes.ephemeral;
    Ok(record)
}

fn by_token(
    folder: &Path,
    known: Option<NetworkRecord>,
    token: &JoinToken,
    wishes: &Wishes,
) -> Result<NetworkRecord, NetworkError> {
    if let Some(known) = &known
        && known.root != Some(token.root())
    {
        return Err(other(folder, known, format!("the root key {}", token.root())));
    }
    let mut record = known.unwrap_or_else(|| fresh(wishes));
    record.urls = token.urls().to_vec();
    record.root = Some(token.root());
    // Also for a node that is in: it may have been deleted or have expired, and this is what brings it back.
    record.join_key = Some(token.join_key().to_owned().into());
    Ok(record)
}

fn by_url(
    folder: &Path,
    known: Option<NetworkRecord>,
    url: &str,
    key: Option<&Zeroizing<String>>,
    wishes: &Wishes,
) -> Result<NetworkRecord, NetworkError> {
    let url = tidied(url)?;
    let is_key = |key: &Zeroizing<String>| {
        (1..=JOIN_KEY_LENGTH).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if key.is_some_and(|key| !is_key(key)) {
        return Err(NetworkError::Key);
    }
    if let Some(known) = known.as_ref().filter(|known| known.root.is_some()) {
        return Err(other(folder, known, url));
    }
    // The key of one that was met before is pinned.
    let is_known = known.as_ref().is_some_and(|known| known.urls.contains(&url));
    if is_plain(&url) && !is_known {
        return Err(NetworkError::Plain(url));
    }
    let mut record = known.unwrap_or_else(|| fresh(wishes));
    // Another URL of the same coordinator is good: its key is pinned, and nobody else has it.
    let urls = vec![url];
    if record.urls != urls {
        record.join_key = None;
    }
    record.urls = urls;
    if let Some(key) = key {
        record.join_key = Some(key.clone());
    }
    Ok(record)
}

/// A place and nothing more; people copy the slash at its end with it.
fn tidied(url: &str) -> Result<String, NetworkError> {
    let bad = || NetworkError::Url(url.chars().take(URL_LENGTH).filter(|c| !c.is_control()).collect());
    let tidy = url.trim_end_matches('/');
    let host = tidy.strip_prefix("https://").or_else(|| tidy.strip_prefix("http://")).ok_or_else(bad)?;
    let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
    if host.is_empty() || tidy.len() > URL_LENGTH || !host.bytes().all(is_host) {
        return Err(bad());
    }
    Ok(tidy.to_owned())
}

/// Whether whoever is on the way could answer in the coordinator's place: by http, but from this very machine.
fn is_plain(url: &str) -> bool {
    let Some(place) = url.strip_prefix("http://") else { return false };
    let own = |at: SocketAddr| at.ip().is_loopback();
    let with_port = || format!("{place}:80");
    !place.parse().or_else(|_| with_port().parse()).is_ok_and(own)
}

fn other(folder: &Path, known: &NetworkRecord, wanted: String) -> NetworkError {
    let known = match &known.root {
        Some(root) => format!("the root key {root}"),
        None => known.urls.join(" or "),
    };
    NetworkError::Other { folder: folder.to_owned(), known, wanted }
}

fn fresh(wishes: &Wishes) -> NetworkRecord {
    let hostname = wishes.hostname.clone().unwrap_or_else(|| label(&wishes.machine));
    NetworkRecord { urls: Vec::new(), root: None, hostname, ephemeral: false, join_key: None }
}

/// The first label of a machine's own name.
fn label(machine: &str) -> String {
    let first = machine.split('.').next().unwrap_or_default();
    let kept: String = first.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').take(63).collect();
    let kept = kept.trim_matches('-').to_ascii_lowercase();
    if kept.is_empty() { "node".to_owned() } else { kept }
}

#[cfg(test)]
mod tests;
