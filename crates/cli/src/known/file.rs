//! The two files of a server: the newest, which a power cut may tear, and a synced copy that is at most an hour of the record
//! older.

use super::{FORMAT, KnownError, KnownServer};
use allod_proto::Fingerprint;
use allod_store::{StoreError, disk, is_temporary, write_atomic, write_unsynced};
use serde::Deserialize;
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
    time::Duration,
};

/// How far apart the heads in synced copies are.
const SYNCED_EVERY: Duration = Duration::from_secs(3600);

/// When a synced copy that is due is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Syncing {
    Now,
    Later,
}

pub(super) fn lock(path: &Path) -> Result<File, KnownError> {
    let open = File::options().create(true).truncate(false).write(true).open(path);
    open.and_then(|file| file.lock().map(|()| file))
        .map_err(|error| KnownError::Io { path: path.to_owned(), error })
}

/// Whole or not at all, but not synced, because a sync each command would cost more than the command: after a power cut
/// it may be torn. So once for an hour of the record a copy is, and that is what is remembered then: an older head, which
/// only notices less. Whether a copy is due that was put off.
pub(super) fn write(path: &Path, mut known: KnownServer, sync: Syncing) -> Result<bool, KnownError> {
    let copy = synced_copy(path);
    let is_old = match (known.head_at, known.synced) {
        (Some(head), Some(synced)) => head.since(synced).max(synced.since(head)) >= SYNCED_EVERY,
        (Some(_), None) => true,
        (None, _) => false,
    };
    let is_due = is_old || !copy.exists();
    if is_due && sync == Syncing::Now {
        known.synced = known.head_at;
        // Not at the first time: for a thousand new servers that would be a look at all for each. What a program that was killed
        // then has left goes an hour later.
        if copy.exists() {
            sweep(path).map_err(|error| KnownError::Io { path: path.to_owned(), error })?;
        }
        write_atomic(&copy, &to_bytes(path, &known)?, 0o600).map_err(of_store)?;
    }
    write_unsynced(path, &to_bytes(path, &known)?, 0o600).map_err(of_store)?;
    Ok(is_due && sync == Syncing::Later)
}

fn to_bytes(path: &Path, known: &KnownServer) -> Result<Vec<u8>, KnownError> {
    serde_json::to_vec(known).map_err(|error| KnownError::Io { path: path.to_owned(), error: error.into() })
}

pub(super) fn synced_copy(path: &Path) -> PathBuf {
    path.with_extension("synced.json")
}

/// Removes what programs that were killed left of this server's files; whoever writes them holds the lock.
fn sweep(path: &Path) -> io::Result<()> {
    let (Some(folder), Some(stem)) = (path.parent(), path.file_stem()) else { return Ok(()) };
    let of_this = [b".", stem.as_encoded_bytes(), b"."].concat();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if is_temporary(&name) && name.as_encoded_bytes().starts_with(&of_this) {
            disk::remove(&entry.path())?;
        }
    }
    Ok(())
}

pub(super) fn of_store(error: StoreError) -> KnownError {
    match error {
        StoreError::Io { path, source, .. } => KnownError::Io { path, error: source },
        other => KnownError::Io { path: PathBuf::new(), error: io::Error::other(other) },
    }
}

pub(super) enum Unread {
    Io(io::Error),
    /// No JSON of ours: as a power cut leaves it.
    Torn(String),
    /// Whole, and not for this program or not about this server.
    Foreign(String),
}

pub(super) fn read(path: &Path, identity: &Fingerprint) -> Result<Option<KnownServer>, Unread> {
    #[derive(Deserialize)]
    struct Numbered {
        format: u32,
    }
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Unread::Io(error)),
    };
    let torn = |error: serde_json::Error| Unread::Torn(error.to_string());
    let Numbered { format } = serde_json::from_slice(&bytes).map_err(torn)?;
    if format > FORMAT {
        let message = format!(
            "it has format {format}, this program reads up to {FORMAT}: use a version that reads {format}"
        );
        return Err(Unread::Foreign(message));
    }
    let known: KnownServer = serde_json::from_slice(&bytes).map_err(torn)?;
    if known.identity == *identity {
        Ok(Some(known))
    } else {
        Err(Unread::Foreign(format!("it is about {}", known.identity)))
    }
}
