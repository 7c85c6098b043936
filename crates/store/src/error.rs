//! What can go wrong with a durable file. Every error names the path, and an I/O error the step that failed.

use std::{
    fmt, io,
    path::{Path, PathBuf},
};

/// What was being done to a path when the operating system refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Making a file or folder.
    Create,
    /// Opening it.
    Open,
    /// Reading it.
    Read,
    /// Writing bytes.
    Write,
    /// Setting aside room on the disk.
    Allocate,
    /// Setting the mode.
    SetMode,
    /// Waiting until it is on the disk.
    Sync,
    /// Giving it its name.
    Rename,
    /// Removing it.
    Remove,
    /// Waiting until the folder that holds it is on the disk.
    SyncFolder,
    /// Asking for its size, kind or room.
    Inspect,
    /// Taking the lock.
    Lock,
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Create => "create",
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write",
            Self::Allocate => "set aside room for",
            Self::SetMode => "set the mode of",
            Self::Sync => "sync",
            Self::Rename => "rename to",
            Self::Remove => "remove",
            Self::SyncFolder => "sync the folder of",
            Self::Inspect => "inspect",
            Self::Lock => "lock",
        })
    }
}

/// Why a durable file could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The operating system refused a step.
    #[error("can't {step} {}", path.display())]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// What was being done.
        step: Step,
        /// What the operating system said.
        source: io::Error,
    },
    /// The file is there and is not what it should be: torn, of another kind, or without a value of this type.
    #[error("{} is not a readable {kind} file: {problem}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        kind: &'static str,
        /// What is wrong with it.
        problem: String,
    },
    /// A newer program wrote the file.
    #[error("{} has {kind} format {found}; this program reads up to {known}, use a version that reads {found}", path.display())]
    NewerFormat {
        /// The file.
        path: PathBuf,
        /// What it holds.
        kind: &'static str,
        /// The format that is needed.
        found: u32,
        /// The newest format this program reads.
        known: u32,
    },
    /// The file is older than the format before this program's.
    #[error("{} has {kind} format {found}; this program reads {oldest} and later, use an older version first", path.display())]
    OlderFormat {
        /// The file.
        path: PathBuf,
        /// What it holds.
        kind: &'static str,
        /// The format it has.
        found: u32,
        /// The oldest format this program reads.
        oldest: u32,
    },
    /// The value can't be written as a JSON object with a kind and a format.
    #[error("can't write {kind} to {}: {problem}", path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// What it should hold.
        kind: &'static str,
        /// Why not.
        problem: String,
    },
    /// The file is larger than the caller takes.
    #[error("{} is larger than {limit} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// The bound.
        limit: usize,
    },
    /// The path leads out of its root, or through a link.
    #[error("{} leads out of its folder or through a link", path.display())]
    Outside {
        /// The root and what was asked for below it.
        path: PathBuf,
    },
    /// The path names a folder, pipe, socket or device where a regular file was asked for.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
    },
    /// Another process owns the folder.
    #[error("{} is in use by {}", path.display(), holder.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}")))]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The process id that the owner wrote into the lock file.
        holder: Option<u32>,
    },
}

impl StoreError {
    pub(crate) fn io(path: &Path, step: Step, source: impl Into<io::Error>) -> Self {
        Self::Io { path: path.to_owned(), step, source: source.into() }
    }

    /// Whether there was no room: the disk or the quota is full. Giving up the [`crate::Reserve`] may help.
    #[must_use]
    pub fn is_disk_full(&self) -> bool {
        matches!(self, Self::Io { source, .. }
            if matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded))
    }

    /// Whether the file is not there.
    #[must_use]
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::Io { source, .. } if source.kind() == io::ErrorKind::NotFound)
    }
}
