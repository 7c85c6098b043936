//! What is learnt while many servers are asked waits in memory, and is then written together.

use super::{
    KnownError, KnownServer, KnownServers,
    file::{is_due, lock, of_store, sweep, synced_copy, to_bytes, write},
    seq,
};
use crate::inventory::create_folders;
use allod_proto::Fingerprint;
use allod_store::{write_together, write_unsynced};
use std::{fs::File, path::PathBuf};

/// So many are written one by one: what else waits to be written on this machine is not waited for with them.
const FEW: usize = 8;
/// So many are written at a time otherwise: each is locked until it is on the disk, and a lock is an open file.
const TOGETHER: usize = 512;

/// What is to be remembered of a server, which nobody else changes meanwhile.
struct Held {
    path: PathBuf,
    known: KnownServer,
    _lock: File,
}

impl KnownServers {
    /// Changes what waits to be written, or what is written.
    pub(super) fn later(
        &self,
        identity: &Fingerprint,
        change: impl FnOnce(&mut KnownServer),
    ) -> Result<KnownServer, KnownError> {
        let mut known = self.load(identity)?;
        let before = known.clone();
        change(&mut known);
        if known != before {
            self.waiting().get_or_insert_default().insert(identity.clone(), known.clone());
        }
        Ok(known)
    }

    /// Writes what waits, many servers at a time, and puts no more off. To be called before anything is relied on, or shown, that a power
    /// cut must not undo.
    ///
    /// # Errors
    /// [`KnownError`] of one that could not be written; the others were.
    pub fn settle(&self) -> Result<(), KnownError> {
        let waiting: Vec<_> = self.waiting().take().into_iter().flatten().collect();
        if waiting.is_empty() {
            return Ok(());
        }
        create_folders(&self.folder).map_err(of_store)?;
        let mut failed = Vec::new();
        // In one order for everybody, as they are sorted: who waits for a lock holds none that comes later.
        for some in waiting.chunks(TOGETHER) {
            let held = some.iter().map(|(identity, known)| self.hold(identity, known));
            let held: Vec<Held> =
                held.filter_map(|held| held.map_err(|error| failed.push(error)).ok()).collect();
            if let Err(error) = self.write_held(held, &mut failed) {
                failed.push(error);
            }
        }
        failed.into_iter().next().map_or(Ok(()), Err)
    }

    fn hold(&self, identity: &Fingerprint, waits: &KnownServer) -> Result<Held, KnownError> {
        let path = self.path(identity);
        let lock = lock(&path.with_extension("lock"))?;
        let written = self.load_written(identity)?;
        let mut known = KnownServer { synced: written.synced, ..waits.clone() };
        // Another program may have seen more meanwhile.
        if written.head.is_some() && seq(known.head) <= seq(written.head) {
            (known.head, known.head_at) = (written.head, written.head_at);
        }
        Ok(Held { path, known, _lock: lock })
    }

    fn write_held(&self, held: Vec<Held>, failed: &mut Vec<KnownError>) -> Result<(), KnownError> {
        let (mut due, others): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|held| is_due(&held.path, &held.known));
        let few = if due.len() <= FEW { std::mem::take(&mut due) } else { Vec::new() };
        for Held { path, known, _lock } in few.into_iter().chain(others) {
            failed.extend(write(&path, known).err());
        }
        if due.is_empty() { Ok(()) } else { self.write_due(due, failed) }
    }

    fn write_due(&self, mut due: Vec<Held>, failed: &mut Vec<KnownError>) -> Result<(), KnownError> {
        let paths: Vec<_> = due.iter().map(|held| held.path.as_path()).collect();
        sweep(&self.folder, &paths)?;
        let mut files = Vec::new();
        for Held { path, known, .. } in &mut due {
            known.synced = known.head_at;
            let name = synced_copy(path).file_name().unwrap_or_default().to_owned();
            files.push((name, to_bytes(path, known)?));
        }
        let outcomes = write_together(&self.folder, &files, 0o600).map_err(of_store)?;
        // That a copy is there is said once it is.
        for ((held, (_, bytes)), outcome) in due.iter().zip(&files).zip(outcomes) {
            let said = outcome.and_then(|()| write_unsynced(&held.path, bytes, 0o600));
            failed.extend(said.map_err(of_store).err());
        }
        Ok(())
    }
}
