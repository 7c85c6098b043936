//! How long a chunk is waited for. Its time of change says when somebody last asked for it or sent it; for an hour from
//! then it is about to be used. Once it is in a release that time is set to the very first: nobody waits any more.

use allod_proto::{Digest, Timestamp, limits};
use allod_store::disk;
use std::{
    collections::HashSet,
    fs::{File, FileTimes},
    io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How a chunk stands with those who may be about to use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Leased {
    /// Somebody may be.
    Until,
    /// Nobody is any more.
    Over,
}

/// A file in an app's folder.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// What it is named for; none of a file that was being written when its writer ended.
    digest: Option<Digest>,
    pub(super) bytes: u64,
    touched: Timestamp,
}

impl Found {
    pub(super) fn is_one_of(&self, kept: &HashSet<Digest>) -> bool {
        self.digest.is_some_and(|digest| kept.contains(&digest))
    }

    /// Whether somebody may be about to use it.
    pub(super) fn lease(&self, now: Timestamp) -> Leased {
        if self.is_older(limits::UPLOAD_LEASE, now) { Leased::Over } else { Leased::Until }
    }

    /// One from the future, of a clock that was wrong, is old.
    pub(super) fn is_older(&self, age: Duration, now: Timestamp) -> bool {
        now.since(self.touched) >= age || self.touched.since(now) >= limits::UPLOAD_LEASE
    }

    /// Takes it away; says how many bytes that freed.
    pub(super) fn remove(&self) -> u64 {
        disk::remove(&self.path).map_or(0, |()| self.bytes)
    }
}

/// What is in an app's folder.
pub(super) fn list(folder: &Path) -> Vec<Found> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let found = entries.filter_map(|entry| {
        let facts = entry.metadata().ok().filter(std::fs::Metadata::is_file)?;
        let since = facts.modified().ok()?.duration_since(UNIX_EPOCH).unwrap_or_default();
        let digest = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let touched = Timestamp(u64::try_from(since.as_millis()).unwrap_or(u64::MAX));
        Some(Found { path: entry.path(), digest, bytes: facts.len(), touched })
    });
    found.collect()
}

pub(super) fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).is_ok_and(|mut entries| entries.next().is_none())
}

/// Somebody counts on this chunk from now on.
///
/// # Errors
/// When it is not there.
pub(super) fn renew(path: &Path, now: Timestamp) -> io::Result<()> {
    set(path, UNIX_EPOCH + Duration::from_millis(now.0))
}

/// It is in a release.
pub(super) fn end(path: &Path) {
    // One that stays leased is only kept longer.
    let _ = set(path, UNIX_EPOCH);
}

fn set(path: &Path, time: SystemTime) -> io::Result<()> {
    let file = File::open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::ErrorKind::NotFound.into());
    }
    file.set_times(FileTimes::new().set_modified(time))
}
