//! The manifest of a release: every file, by the digests of its chunks, and what the app is. Its own digest names the
//! artefact; the deploy request signs that digest.

use crate::{Digest, spec::AppSpec};
use serde::{Deserialize, Serialize};

/// The format number of manifests.
pub const FORMAT: u32 = 1;

/// Everything a release's files and behaviour follow from, secrets excepted. As JSON, in chunks of at most
/// [`crate::limits::CHUNK`] bytes, it travels like any file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: u32,
    /// What the app is.
    pub spec: AppSpec,
    /// The machine the programs in it are for (`x86_64`, `aarch64`), where the client could tell.
    #[serde(default)]
    pub architecture: Option<String>,
    /// A word for people: a commit, a tag.
    #[serde(default)]
    pub version: Option<String>,
    /// What is in the folder, sorted by path, each path once.
    pub entries: Vec<ManifestEntry>,
}

/// One file, folder or link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestEntry {
    /// Relative, `/`-separated, without empty, `.` and `..` parts, valid UTF-8, no control characters.
    pub path: String,
    /// What it is.
    pub what: EntryKind,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum EntryKind {
    /// A folder.
    Folder {},
    /// A regular file.
    File {
        /// Whether it may be run.
        executable: bool,
        /// Bytes.
        size: u64,
        /// Its chunks in order; empty for an empty file.
        chunks: Vec<Digest>,
    },
    /// A symbolic link that stays within the folder.
    Link {
        /// Relative to the link's own folder.
        to: String,
    },
}

/// A manifest is named by the chunks that its JSON was cut into; this list, itself JSON and one chunk, is what
/// `app.deploy` names by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ManifestIndex {
    /// [`FORMAT`].
    pub format: u32,
    /// Bytes of the manifest's JSON.
    pub size: u64,
    /// Chunks of the manifest's JSON, in order.
    pub chunks: Vec<Digest>,
}
