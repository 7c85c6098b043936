//! The record as its owner holds it. A line is acknowledged only when it is durable. Nothing here edits or removes a
//! line; retention drops whole segments and keeps their signed heads, and their changes apart.

use crate::{
    batch::Slot,
    commit::{Shared, lock},
    disk::{Disk, Folder},
    entry::Entry,
    error::RecordError,
    found::Found,
    line::Line,
    open,
    pen::Bounds,
};
use allod_proto::{
    Timestamp,
    record::{Head, SignedHead},
};
use allod_signing::Signer;
use std::{
    borrow::Borrow,
    path::PathBuf,
    sync::{Arc, Mutex},
    thread::JoinHandle,
};

/// Tells the time: of the world, and milliseconds since the machine booted.
pub type Clock = Arc<dyn Fn() -> (Timestamp, u64) + Send + Sync>;

/// Where the record is and how much of it is kept.
#[derive(Clone)]
pub struct Settings {
    /// The folder, made 0700 if it is not there. One process at a time writes in it.
    pub folder: PathBuf,
    /// How long a segment grows, in bytes.
    pub segment_bytes: u64,
    /// How many segments are kept, the one being written included. The changes of those that are dropped are kept apart.
    pub retain_segments: usize,
    /// How many bytes of changes are kept of segments that are finished.
    pub retain_changes_bytes: u64,
    /// The clock. It must not call the record.
    pub clock: Clock,
}

impl Settings {
    /// Segments of 64 MiB, 64 of them, and 4 GiB of changes.
    #[must_use]
    pub fn new(folder: PathBuf, clock: Clock) -> Self {
        Self {
            folder,
            segment_bytes: 64 * 1024 * 1024,
            retain_segments: 64,
            retain_changes_bytes: 4 * 1024 * 1024 * 1024,
            clock,
        }
    }
}

/// What was found when the record was opened. All of it is in the record too, as notes and outcomes.
#[derive(Debug, Clone, PartialEq)]
pub struct Opened {
    /// Lines in the segments on disk, before those that opening wrote.
    pub lines: u64,
    /// Bytes of an unfinished write that were set aside in a `.torn` file. Nothing acknowledged was in them.
    pub torn_tail_bytes_cut: u64,
    /// Changes that had begun and have no outcome; each has got the outcome "unknown".
    pub unfinished: Vec<Line>,
    /// The signed head whose line is gone: somebody cut the record, or the disk lost what it had confirmed.
    pub cut_after: Option<Head>,
    /// What contradicts itself on the disk. The record carries on in a new segment; the old one is left as it is.
    pub damage: Option<Found>,
}

/// A handle on the record; clones share it.
#[derive(Clone)]
pub struct Record {
    held: Arc<Held>,
}

struct Held {
    shared: Arc<Shared>,
    keeper: Mutex<Option<JoinHandle<()>>>,
}

impl Record {
    /// Opens the record in its folder for writing, makes it if there is none, and repairs what a crash left. See
    /// [`Opened`] for what the owner must be told.
    ///
    /// # Errors
    /// [`RecordError::Store`] when another process has it or its format is newer; [`RecordError::Io`] when the disk
    /// refuses. When [`RecordError::is_disk_full`], give up the reserve and open again.
    pub fn open(settings: Settings, signer: Arc<dyn Signer>) -> Result<(Self, Opened), RecordError> {
        let disk = Folder::to_write(&settings.folder).map_err(RecordError::store)?;
        let (record, opened) = Self::open_on(Arc::new(disk), &settings, signer)?;
        record.start_keeper()?;
        Ok((record, opened))
    }

    pub(crate) fn open_on(
        disk: Arc<dyn Disk>,
        settings: &Settings,
        signer: Arc<dyn Signer>,
    ) -> Result<(Self, Opened), RecordError> {
        let bounds = Bounds {
            segment_bytes: settings.segment_bytes,
            retain_segments: settings.retain_segments,
            retain_changes_bytes: settings.retain_changes_bytes,
        };
        let (pen, opened) = open::open(&disk, &signer, bounds, (settings.clock)())?;
        let shared = Shared::new(pen, Arc::clone(&settings.clock));
        Ok((Self { held: Arc::new(Held { shared: Arc::new(shared), keeper: Mutex::new(None) }) }, opened))
    }

    fn start_keeper(&self) -> Result<(), RecordError> {
        let shared = Arc::clone(&self.held.shared);
        let thread = std::thread::Builder::new()
            .name("record".to_owned())
            .spawn(move || shared.keep())
            .map_err(|error| RecordError::io("record", "start the keeper of", error))?;
        *lock(&self.held.keeper) = Some(thread);
        Ok(())
    }

    /// Writes an entry and returns when it is durable. Callers at the same time share one sync.
    ///
    /// # Errors
    /// [`RecordError`]; nothing of the entry is in the record then, unless a sync failed
    /// ([`RecordError::Refusing`] from then on), when it may be.
    pub fn append(&self, entry: impl Borrow<Entry>) -> Result<Head, RecordError> {
        let slot = Arc::new(Slot::new());
        self.held.shared.push(entry.borrow(), Some(Arc::clone(&slot)))?;
        self.held.shared.wait_for(&slot)
    }

    /// Writes an entry that is durable within a second. For reads and counts, which nobody needs to wait for.
    ///
    /// # Errors
    /// [`RecordError::Full`] when too many wait already: the disk does not keep up, or is full.
    pub fn append_later(&self, entry: impl Borrow<Entry>) -> Result<(), RecordError> {
        self.held.shared.push(entry.borrow(), None)
    }

    /// Returns when everything appended before is durable.
    ///
    /// # Errors
    /// [`RecordError`] when some of it is not.
    pub fn flush(&self) -> Result<(), RecordError> {
        self.held.shared.flush()
    }

    /// The newest durable line's head, signed. The signature is made once for each head that is asked for.
    ///
    /// # Errors
    /// [`RecordError::Sign`] when the signer refuses.
    pub fn head(&self) -> Result<SignedHead, RecordError> {
        self.held.shared.signed_head()
    }

    /// Durable lines from number `from` on, at most `limit` of them and at most about 4 MiB: the exact bytes without the
    /// newline. Begins with the oldest there is when `from` was dropped; empty at the end.
    ///
    /// # Errors
    /// [`RecordError::Io`] when the disk refuses.
    pub fn read(&self, from: u64, limit: usize) -> Result<Vec<String>, RecordError> {
        self.held.shared.read(from, limit)
    }

    /// The number of the first line of the oldest segment on disk.
    #[must_use]
    pub fn oldest(&self) -> u64 {
        self.held.shared.oldest()
    }

    /// A line from which reading shows everything written at `at` or later: the first of its segment. Only as exact as
    /// the clock was; for looking back a day, not for proving anything.
    ///
    /// # Errors
    /// [`RecordError::Io`] when the disk refuses.
    pub fn first_since(&self, at: Timestamp) -> Result<u64, RecordError> {
        self.held.shared.first_since(at)
    }

    /// What the record could not do and tries again later: write its signed head down, drop an old segment, or write
    /// entries that nobody waits for.
    #[must_use]
    pub fn trouble(&self) -> Option<String> {
        self.held.shared.trouble()
    }

    /// Makes everything durable, writes the signed head down and takes no more entries. Dropping the last handle does
    /// the same, without saying whether it worked.
    ///
    /// # Errors
    /// [`RecordError`] of the first step that failed; the record is closed all the same.
    pub fn close(&self) -> Result<(), RecordError> {
        self.held.close()
    }

    #[cfg(test)]
    pub(crate) fn write_head_down(&self) -> Result<(), RecordError> {
        self.held.shared.write_head_down()
    }
}

impl Held {
    fn close(&self) -> Result<(), RecordError> {
        let shared = &self.shared;
        if !shared.stop() {
            return Ok(());
        }
        if let Some(thread) = lock(&self.keeper).take() {
            // It panics only with the pen in its hand, and then flushing says so.
            let _ = thread.join();
        }
        let flushed = shared.flush();
        let kept = shared.write_head_down();
        shared.trim();
        flushed.and(kept)
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let _ = self.close();
    }
}

#[cfg(test)]
mod tests;
