//! The pen: puts lines behind one another, durably, in segments. One thread holds it at a time. A failed write is taken
//! back whole; after a failed sync the pen writes nothing more, because nobody knows what is on the disk.

use crate::{
    batch::{Kind, Pending},
    disk::{Disk, Segment},
    error::RecordError,
    head::{HEADS_FILE, HeadKeeper, HeadRecord, heads_to_bytes, segment_name, sign},
    kept::{self, Claim, kept_name},
    line::{Place, tail, write_line},
};
use allod_proto::{
    Timestamp,
    record::{Head, SignedHead},
};
use allod_signing::Signer;
use std::{collections::BTreeSet, io, sync::Arc};

/// Room is set aside in steps of this many bytes, so that an append is one write and one flush and the file system need
/// not find blocks in between.
const STEP: u64 = 4 * 1024 * 1024;

/// Bounds of the record on disk.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds {
    pub(crate) segment_bytes: u64,
    pub(crate) retain_segments: usize,
    pub(crate) retain_changes_bytes: u64,
}

pub(crate) struct Pen {
    pub(crate) disk: Arc<dyn Disk>,
    pub(crate) signer: Arc<dyn Signer>,
    pub(crate) keeper: Arc<HeadKeeper>,
    pub(crate) bounds: Bounds,
    pub(crate) segment: Box<dyn Segment>,
    /// The name of the segment being written, its length, and up to where room is set aside.
    pub(crate) name: String,
    pub(crate) length: u64,
    pub(crate) allocated: u64,
    /// The newest durable line.
    pub(crate) head: Head,
    /// Intents without outcome.
    pub(crate) open: BTreeSet<u64>,
    /// The first lines of the segments on disk, oldest first.
    pub(crate) segments: Vec<u64>,
    /// The heads of finished segments.
    pub(crate) closed: Vec<SignedHead>,
    /// Lines that come before the next one: what is kept of finished segments. They go to the disk with it, so no line
    /// of a segment is there without the one that leads to the changes before it.
    pub(crate) first_of_all: Vec<Vec<u8>>,
    /// Why nothing more is written.
    pub(crate) refusing: Option<String>,
    /// Why something that can wait was not done; tried again later.
    pub(crate) trouble: Option<String>,
}

impl Pen {
    /// Writes a batch; one result for each of its entries, in order. After the first failure all others fail too.
    pub(crate) fn write(&mut self, batch: &[Pending]) -> Vec<Result<Head, RecordError>> {
        let mut results = Vec::with_capacity(batch.len());
        while let Some(rest) = batch.get(results.len()..).filter(|rest| !rest.is_empty()) {
            match self.write_part(rest) {
                Ok(heads) => results.extend(heads.into_iter().map(Ok)),
                Err(error) => results.extend(rest.iter().map(|_| Err(error.clone()))),
            }
        }
        results
    }

    /// Writes as many entries as fit into one segment, at least one, with one sync.
    fn write_part(&mut self, batch: &[Pending]) -> Result<Vec<Head>, RecordError> {
        if let Some(why) = &self.refusing {
            return Err(RecordError::Refusing(why.clone()));
        }
        if let Some(first) = batch.first()
            && self.length > 0
            && self.length.saturating_add(first.length()) > self.bounds.segment_bytes
        {
            self.rotate(first.at)?;
        }
        let mut bytes = Vec::new();
        let mut heads = Vec::new();
        let mut head = self.head;
        if let Some(Pending { at, boot, .. }) = batch.first() {
            for tail in &self.first_of_all {
                let seq = head.seq.checked_add(1).ok_or(RecordError::Exhausted)?;
                head = write_line(&mut bytes, &Place { prev: head.hash, seq, at: *at, boot: *boot }, tail);
            }
        }
        for pending in batch {
            let end = self.length.saturating_add(length_of(&bytes)).saturating_add(pending.length());
            if !heads.is_empty() && end > self.bounds.segment_bytes {
                break;
            }
            let seq = head.seq.checked_add(1).ok_or(RecordError::Exhausted)?;
            let place = Place { prev: head.hash, seq, at: pending.at, boot: pending.boot };
            head = write_line(&mut bytes, &place, &pending.tail);
            heads.push(head);
        }
        self.put(&bytes)?;
        self.first_of_all.clear();
        self.head = head;
        for (pending, head) in batch.iter().zip(&heads) {
            match pending.kind {
                Kind::Intent => drop(self.open.insert(head.seq)),
                Kind::Outcome(intent) => drop(self.open.remove(&intent)),
                Kind::Other => {}
            }
        }
        Ok(heads)
    }

    /// Puts bytes at the end, durably, or not at all.
    fn put(&mut self, bytes: &[u8]) -> Result<(), RecordError> {
        self.make_room(length_of(bytes));
        if let Err(error) = self.segment.write_at(self.length, bytes) {
            self.take_back();
            return Err(RecordError::io(&self.name, "write", error));
        }
        if let Err(error) = self.segment.sync() {
            // The kernel may have dropped the pages and marked them clean: a second sync would lie.
            self.refusing = Some(format!("{} could not be synced: {error}", self.name));
            return Err(RecordError::io(&self.name, "sync", error));
        }
        self.length = self.length.saturating_add(length_of(bytes));
        Ok(())
    }

    /// Only an advance: where it fails, the write itself finds out.
    fn make_room(&mut self, more: u64) {
        let end = self.length.saturating_add(more);
        if end <= self.allocated {
            return;
        }
        let upto = self.length.saturating_add(STEP).min(self.bounds.segment_bytes).max(end);
        let length = upto.saturating_sub(self.length);
        if length > 0 && self.segment.allocate(self.length, length).is_ok() {
            self.allocated = upto;
        }
    }

    fn take_back(&mut self) {
        self.allocated = self.length;
        let taken = self.segment.truncate(self.length).and_then(|()| self.segment.sync());
        if let Err(error) = taken {
            self.refusing =
                Some(format!("a failed write could not be taken back from {}: {error}", self.name));
        }
    }

    /// Ends the segment and begins the next. On an error the old one is still there and written on later.
    fn rotate(&mut self, now: Timestamp) -> Result<(), RecordError> {
        let signed = sign(self.signer.as_ref(), self.head, now)?;
        self.keep_closed(signed.clone())?;
        self.keeper.save(&self.head_record(signed))?;
        let finished = self.segments.last().copied();
        let claim = finished.map(|first| kept::keep(self.disk.as_ref(), first)).transpose()?.flatten();
        self.begin_segment()?;
        self.announce(claim)?;
        self.drop_oldest()
    }

    /// The next line says what is kept.
    fn announce(&mut self, claim: Option<Claim>) -> Result<(), RecordError> {
        if let Some(claim) = claim {
            self.first_of_all.push(tail(&claim.to_entry())?);
        }
        Ok(())
    }

    /// Keeps the head at the end of a segment for good.
    pub(crate) fn keep_closed(&mut self, signed: SignedHead) -> Result<(), RecordError> {
        if self.closed.last().is_none_or(|last| last.head.seq < signed.head.seq) {
            self.closed.push(signed);
        }
        let bytes = heads_to_bytes(&self.closed)?;
        self.disk.replace(HEADS_FILE, &bytes).map_err(|error| RecordError::io(HEADS_FILE, "replace", error))
    }

    fn begin_segment(&mut self) -> Result<(), RecordError> {
        let first = self.head.seq.checked_add(1).ok_or(RecordError::Exhausted)?;
        let (name, segment) = new_segment(self.disk.as_ref(), first)?;
        // Gives back the room that was set aside. It costs nothing if it does not work.
        let _ = self.segment.truncate(self.length);
        (self.name, self.segment, self.length, self.allocated) = (name, segment, 0, 0);
        if self.segments.last() != Some(&first) {
            self.segments.push(first);
        }
        Ok(())
    }

    /// Only an error of what must be kept is one: a segment that can't be removed is tried again.
    fn drop_oldest(&mut self) -> Result<(), RecordError> {
        if let Err(error) = kept::drop_oldest(self.disk.as_ref(), self.bounds.retain_changes_bytes) {
            self.trouble = Some(error.to_string());
        }
        while self.segments.len() > self.bounds.retain_segments.max(1) {
            let Some(first) = self.segments.first().copied() else { break };
            if self.keep_late(first)? {
                break;
            }
            let name = segment_name(first);
            match self.disk.remove(&name) {
                Ok(()) => drop(self.segments.remove(0)),
                Err(error) if error.kind() == io::ErrorKind::NotFound => drop(self.segments.remove(0)),
                Err(error) => {
                    self.trouble = Some(format!("can't remove {name}: {error}"));
                    break;
                }
            }
        }
        Ok(())
    }

    /// A segment of a program that kept nothing apart is not dropped before its changes are kept and the record says so.
    fn keep_late(&mut self, first: u64) -> Result<bool, RecordError> {
        if self.disk.size(&kept_name(first)).is_ok() {
            return Ok(false);
        }
        let claim = kept::keep(self.disk.as_ref(), first)?;
        self.announce(claim)?;
        Ok(claim.is_some())
    }

    /// A head of this pen as it is written down, with the intents that are open at it.
    pub(crate) fn head_record(&self, signed: SignedHead) -> HeadRecord {
        HeadRecord { signed, open: self.open.iter().copied().collect() }
    }

    /// Gives back the room that was set aside.
    pub(crate) fn trim(&mut self) {
        if self.refusing.is_none() && self.allocated > self.length {
            self.take_back();
        }
    }
}

/// Makes the segment that begins with line `first`, empty.
pub(crate) fn new_segment(disk: &dyn Disk, first: u64) -> Result<(String, Box<dyn Segment>), RecordError> {
    let name = segment_name(first);
    let mut segment = disk.segment(&name).map_err(|error| RecordError::io(&name, "create", error))?;
    // A crash or a failed write may have left unacknowledged bytes under this name.
    segment.truncate(0).map_err(|error| RecordError::io(&name, "truncate", error))?;
    Ok((name, segment))
}

pub(crate) fn length_of(bytes: &[u8]) -> u64 {
    u64::try_from(bytes.len()).unwrap_or(u64::MAX)
}
