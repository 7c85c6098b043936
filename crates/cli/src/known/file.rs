//! The two files of a server: the newest, which a power cut may tear, and a synced copy that is at most an hour of the record
//! older.

use super::{FORMAT, KnownError, KnownServer};
use allod_proto::Fingerprint;
use allod_store::{StoreError, disk, is_temporary, write_atomic, write_unsynced};
use serde::Deserialize;
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::File,
    io,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// How far apart the heads in synced copies are.
const SYNCED_EVERY: Duration = Duration::from_secs(3600);

pub(super) fn lock(path: &Path) -> Result<File, KnownError> {
    let open = File::options().create(true).truncate(false).write(true).open(path);
    open.and_then(|file| file.lock().map(|()| file))
        .map_err(|error| KnownError::Io { path: path.to_owned(), error })
}

/// Whole or not at all, but not synced, because a sync each command would cost more than the command: after a power cut
/// it may be torn. So once for an hour of the record a copy is, and that is what is remembered then: an older head, which
/// only notices less.
pub(super) fn write(path: &Path, mut known: KnownServer) -> Result<(), KnownError> {
    if is_due(path, &known) {
        let copy = synced_copy(path);
        known.synced = known.head_at;
        // Not at the first time, which is the time of many servers. What a program that was killed then has left goes an hour later.
        if copy.exists() {
            sweep(path.parent().unwrap_or(path), &[path])?;
        }
        write_atomic(&copy, &to_bytes(path, &known)?, 0o600).map_err(of_store)?;
    }
    write_unsynced(path, &to_bytes(path, &known)?, 0o600).map_err(of_store)
}

/// Whether there is no synced copy, or one that is too old.
pub(super) fn is_due(path: &Path, known: &KnownServer) -> bool {
    let is_old = match (known.head_at, known.synced) {
        (Some(head), Some(synced)) => head.since(synced).max(synced.since(head)) >= SYNCED_EVERY,
        (Some(_), None) => true,
        (None, _) => false,
    };
    is_old || !synced_copy(path).exists()
}

pub(super) fn to_bytes(path: &Path, known: &KnownServer) -> Result<Vec<u8>, KnownError> {
    serde_json::to_vec(known).map_err(|error| KnownError::Io { path: path.to_owned(), error: error.into() })
}

pub(super) fn synced_copy(path: &Path) -> PathBuf {
    path.with_extension("synced.json")
}

/// Removes what programs that were killed left of these servers' files; whoever writes them holds their locks.
pub(super) fn sweep(folder: &Path, of: &[&Path]) -> Result<(), KnownError> {
    let of: BTreeSet<&OsStr> = of.iter().filter_map(|path| path.file_stem()).collect();
    let sweep = || -> io::Result<()> {
        for entry in std::fs::read_dir(folder)? {
            let entry = entry?;
            let name = entry.file_name();
            // A dot, whose it is, a dot, and the rest.
            let whose = name.as_encoded_bytes().split(|byte| *byte == b'.').nth(1).unwrap_or_default();
            if is_temporary(&name) && of.contains(OsStr::from_bytes(whose)) {
                disk::remove(&entry.path())?;
            }
        }
        Ok(())
    };
    sweep().map_err(|error| KnownError::Io { path: folder.to_owned(), error })
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
