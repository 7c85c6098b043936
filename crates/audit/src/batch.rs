//! What waits for the pen. Whoever waits for a line and finds nobody writing writes for all who wait: callers at the
//! same time share one sync, and a single caller changes no thread.

use crate::{entry::Entry, error::RecordError};
use allod_proto::{Timestamp, record::Head};
use std::{
    collections::VecDeque,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

/// How long an entry that nobody waits for may wait for others. It is durable well within a second.
pub(crate) const LATER: Duration = Duration::from_millis(500);
/// The most entries, and bytes of them, that may wait.
pub(crate) const MOST_ENTRIES: usize = 10_000;
pub(crate) const MOST_BYTES: u64 = 16 * 1024 * 1024;
/// The most bytes that one batch takes, beyond its first entry.
const BATCH_BYTES: u64 = 4 * 1024 * 1024;

/// What an entry does to the set of unfinished changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Intent,
    Outcome(u64),
    Other,
}

impl Kind {
    pub(crate) fn of(entry: &Entry) -> Self {
        match entry {
            Entry::Intent(_) => Self::Intent,
            Entry::Outcome(outcome) => Self::Outcome(outcome.intent),
            Entry::Start(_)
            | Entry::Read(_)
            | Entry::Denied(_)
            | Entry::Counted(_)
            | Entry::Refusals(_)
            | Entry::Note(_) => Self::Other,
        }
    }
}

/// Where the result of a line that somebody waits for appears.
pub(crate) type Slot = OnceLock<Result<Head, RecordError>>;

/// An entry on its way.
pub(crate) struct Pending {
    pub(crate) tail: Vec<u8>,
    pub(crate) at: Timestamp,
    pub(crate) boot: u64,
    pub(crate) kind: Kind,
    /// `None` when nobody waits.
    pub(crate) slot: Option<Arc<Slot>>,
}

impl Pending {
    /// Its length as a line, and a little more.
    pub(crate) fn length(&self) -> u64 {
        u64::try_from(self.tail.len()).unwrap_or(u64::MAX).saturating_add(160)
    }

    pub(crate) fn settle(&self, result: Result<Head, RecordError>) {
        if let Some(slot) = &self.slot {
            // Only set once: by the writer, or when the entry is dropped.
            let _ = slot.set(result);
        }
    }
}

impl Drop for Pending {
    /// Whoever waits for an entry that was lost (its writer panicked) must not wait for ever.
    fn drop(&mut self) {
        self.settle(Err(RecordError::Refusing("its writer failed".to_owned())));
    }
}

/// The queue before the pen.
#[derive(Default)]
pub(crate) struct Queue {
    entries: VecDeque<Pending>,
    bytes: u64,
    /// Somebody is writing.
    pub(crate) leading: bool,
    /// The last batch had more than one entry.
    pub(crate) is_shared: bool,
    /// No more entries are taken.
    pub(crate) closed: bool,
    /// When entries that nobody waits for are written at the latest.
    pub(crate) later_due: Option<Instant>,
    /// When the signed head is written down.
    pub(crate) head_due: Option<Instant>,
}

impl Queue {
    pub(crate) fn push(&mut self, pending: Pending) -> Result<(), RecordError> {
        if self.closed {
            return Err(RecordError::Closed);
        }
        let full =
            self.entries.len() >= MOST_ENTRIES || self.bytes.saturating_add(pending.length()) > MOST_BYTES;
        // Somebody who waits is a thread of ours, so they are few; they must get through on a full disk, when what
        // nobody waits for stays here.
        if full && pending.slot.is_none() {
            return Err(RecordError::Full);
        }
        self.bytes = self.bytes.saturating_add(pending.length());
        self.entries.push_back(pending);
        Ok(())
    }

    /// Takes the next batch.
    pub(crate) fn take(&mut self, now: Instant) -> Vec<Pending> {
        let mut batch = Vec::new();
        let mut bytes = 0_u64;
        while bytes < BATCH_BYTES
            && let Some(pending) = self.entries.pop_front()
        {
            bytes = bytes.saturating_add(pending.length());
            batch.push(pending);
        }
        self.bytes = self.bytes.saturating_sub(bytes);
        self.later_due = (!self.entries.is_empty()).then_some(now);
        batch
    }

    /// Puts entries that nobody waits for back to the front, to be tried again.
    pub(crate) fn put_back(&mut self, later: Vec<Pending>, now: Instant) {
        if later.is_empty() {
            return;
        }
        for pending in later.into_iter().rev() {
            self.bytes = self.bytes.saturating_add(pending.length());
            self.entries.push_front(pending);
        }
        self.later_due = Some(now + LATER);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}
