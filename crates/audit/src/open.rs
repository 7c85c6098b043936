//! Opening a record: what is on the disk, what a crash left unfinished, and what somebody took away. An unfinished tail
//! that nothing acknowledged lies in is set aside; anything else stays as it is, and the record carries on in a new
//! segment that begins by saying so.

use crate::{
    batch::{Kind, Pending},
    disk::Disk,
    entry::{CUT, DAMAGED, Ending, Entry, Outcome, TORN},
    error::RecordError,
    found::{Found, What},
    head::{
        HEAD_FILE, HEADS_FILE, HeadKeeper, HeadRecord, heads_from_bytes, is_signed_by, segment_name,
        segments_among, sign,
    },
    kept,
    line::{Line, Link, tail},
    lines::Lines,
    pen::{Bounds, Pen, new_segment},
    record::Opened,
    scan::{Bad, Scan, scan},
};
use allod_proto::{
    Timestamp,
    record::{Head, SignedHead},
};
use allod_signing::Signer;
use std::{collections::BTreeSet, io, sync::Arc};

/// Opens the record on `disk` and leaves it durable, with its signed head written down.
pub(crate) fn open(
    disk: &Arc<dyn Disk>,
    signer: &Arc<dyn Signer>,
    bounds: Bounds,
    now: (Timestamp, u64),
) -> Result<(Pen, Opened), RecordError> {
    let mut found = Findings::read(disk.as_ref(), signer.as_ref())?;
    found.look_at_the_end(disk.as_ref())?;
    let unfinished = found.unfinished(disk.as_ref())?;
    // What is no longer on disk can't be finished.
    found.open = unfinished.iter().map(|line| line.seq).collect();
    let mut pen = found.pen(disk, signer, bounds, now.0)?;
    let entries = found.notes.drain(..).chain(unfinished.iter().map(unknown_outcome));
    let batch = entries.map(|entry| pending(&entry, now)).collect::<Result<Vec<_>, _>>()?;
    for result in pen.write(&batch) {
        result?;
    }
    let signed = sign(signer.as_ref(), pen.head, now.0)?;
    pen.keeper.save(&pen.head_record(signed))?;
    let opened = Opened {
        lines: found.lines,
        torn_tail_bytes_cut: found.torn,
        unfinished,
        cut_after: found.cut.map(|signed| signed.head),
        damage: found.damage,
    };
    Ok((pen, opened))
}

fn unknown_outcome(intent: &Line) -> Entry {
    Entry::Outcome(Box::new(Outcome {
        intent: intent.seq,
        result: Ending::Unknown,
        code: None,
        message: Some("the program ended before it could tell".to_owned()),
        reply: None,
        took_ms: 0,
    }))
}

fn pending(entry: &Entry, (at, boot): (Timestamp, u64)) -> Result<Pending, RecordError> {
    Ok(Pending { tail: tail(entry)?, at, boot, kind: Kind::of(entry), slot: None })
}

/// What is on the disk, as it becomes clear.
struct Findings {
    segments: Vec<u64>,
    closed: Vec<SignedHead>,
    /// The newest head that this record's key signed.
    signed: Option<SignedHead>,
    /// Intents that were open at it.
    open: BTreeSet<u64>,
    /// The newest line, and where its segment ends.
    head: Head,
    length: u64,
    lines: u64,
    torn: u64,
    cut: Option<SignedHead>,
    damage: Option<Found>,
    /// The last segment must not be written on.
    is_last_left_alone: bool,
    notes: Vec<Entry>,
}

impl Findings {
    fn read(disk: &dyn Disk, signer: &dyn Signer) -> Result<Self, RecordError> {
        let names = disk.names().map_err(|error| RecordError::io(".", "list", error))?;
        let mut found = Self {
            segments: segments_among(&names),
            closed: Vec::new(),
            signed: None,
            open: BTreeSet::new(),
            head: Head::EMPTY,
            length: 0,
            lines: 0,
            torn: 0,
            cut: None,
            damage: None,
            is_last_left_alone: false,
            notes: Vec::new(),
        };
        found.read_head(disk, signer)?;
        found.read_closed(disk, signer)?;
        Ok(found)
    }

    fn read_head(&mut self, disk: &dyn Disk, signer: &dyn Signer) -> Result<(), RecordError> {
        let Some(bytes) = read_file(disk, HEAD_FILE)? else {
            if !self.segments.is_empty() {
                self.damaged(HEAD_FILE, "the signed head is missing");
            }
            return Ok(());
        };
        match HeadRecord::from_bytes(&bytes) {
            Err(error @ allod_store::StoreError::NewerFormat { .. }) => {
                return Err(RecordError::store(error));
            }
            Err(error) => {
                set_aside(disk, HEAD_FILE, &bytes)?;
                self.damaged(HEAD_FILE, &error.to_string());
            }
            // Unsigned, it could send the numbers anywhere.
            Ok(record) if !is_signed_by(&record.signed, signer.public_key()) => {
                set_aside(disk, HEAD_FILE, &bytes)?;
                self.damaged(HEAD_FILE, "the head is not signed by the record key");
            }
            Ok(record) => {
                self.open = record.open.into_iter().collect();
                self.signed = Some(record.signed);
            }
        }
        Ok(())
    }

    fn read_closed(&mut self, disk: &dyn Disk, signer: &dyn Signer) -> Result<(), RecordError> {
        let Some(bytes) = read_file(disk, HEADS_FILE)? else { return Ok(()) };
        match heads_from_bytes(&bytes) {
            Ok(heads) => {
                self.closed = heads;
                let last = self.closed.last().filter(|last| is_signed_by(last, signer.public_key()));
                if let Some(last) = last
                    && self.signed.as_ref().is_none_or(|signed| signed.head.seq < last.head.seq)
                {
                    self.signed = Some(last.clone());
                }
            }
            Err(problem) => {
                set_aside(disk, HEADS_FILE, &bytes)?;
                self.damaged(HEADS_FILE, &problem);
            }
        }
        Ok(())
    }

    /// Finds the newest line. Sets unfinished tails aside, drops segments in which no line was finished, and compares
    /// with the signed head.
    fn look_at_the_end(&mut self, disk: &dyn Disk) -> Result<(), RecordError> {
        while let Some(first) = self.segments.last().copied() {
            let name = segment_name(first);
            let want = self.signed.as_ref().map(|signed| signed.head.seq);
            let scan = scan(disk, first, want).map_err(|error| RecordError::io(&name, "read", error))?;
            let is_blank = scan.lines == 0 && !matches!(scan.bad, Some(Bad::Damaged { .. }));
            if is_blank {
                self.set_tail_aside(disk, &name, 0, scan.size)?;
                disk.remove(&name).map_err(|error| RecordError::io(&name, "remove", error))?;
                self.segments.pop();
                continue;
            }
            self.take(disk, &name, scan)?;
            break;
        }
        self.lines =
            self.segments.first().map_or(0, |first| self.head.seq.saturating_add(1).saturating_sub(*first));
        if let Some(signed) = self.signed.clone().filter(|signed| signed.head.seq > self.head.seq) {
            let detail = format!(
                "lines {} to {} were signed and are gone (head {})",
                self.head.seq.saturating_add(1),
                signed.head.seq,
                signed.head.hash
            );
            // First of all notes: the line behind the gap is the one that admits it.
            self.notes.insert(0, Entry::note(CUT, detail));
            self.head = signed.head;
            self.cut = Some(signed);
            self.is_last_left_alone = true;
        }
        Ok(())
    }

    fn take(&mut self, disk: &dyn Disk, name: &str, scan: Scan) -> Result<(), RecordError> {
        self.head = scan.head;
        self.length = scan.length;
        match scan.bad {
            Some(Bad::Torn) => self.set_tail_aside(disk, name, scan.length, scan.size)?,
            Some(Bad::Damaged { found, head }) => {
                self.notes.push(Entry::note(DAMAGED, found.to_string()));
                self.damage = Some(found);
                self.head = head;
                self.is_last_left_alone = true;
            }
            None => {}
        }
        if let Some((signed, there)) = self.signed.as_ref().zip(scan.wanted)
            && signed.head.hash != there
        {
            // The head that contradicts is evidence, and the next one takes its place.
            if let Some(bytes) = read_file(disk, HEAD_FILE)? {
                set_aside(disk, HEAD_FILE, &bytes)?;
            }
            let what = What::Replaced { head: signed.head, source_of: HEAD_FILE.to_owned() };
            let found = Found { file: name.to_owned(), seq: signed.head.seq, line: 0, what };
            self.notes.push(Entry::note(DAMAGED, found.to_string()));
            self.damage = Some(found);
        }
        self.open.extend(scan.intents);
        self.open.retain(|seq| !scan.outcomes.contains(seq));
        Ok(())
    }

    fn set_tail_aside(
        &mut self,
        disk: &dyn Disk,
        name: &str,
        from: u64,
        size: u64,
    ) -> Result<(), RecordError> {
        if size <= from {
            return Ok(());
        }
        let length = usize::try_from(size.saturating_sub(from)).unwrap_or(usize::MAX);
        let bytes = disk.read(name, from, length).map_err(|error| RecordError::io(name, "read", error))?;
        let kept = set_aside(disk, name, &bytes)?;
        let mut segment = disk.segment(name).map_err(|error| RecordError::io(name, "open", error))?;
        let cut = segment.truncate(from).and_then(|()| segment.sync());
        cut.map_err(|error| RecordError::io(name, "truncate", error))?;
        self.torn = self.torn.saturating_add(size.saturating_sub(from));
        self.notes.push(Entry::note(
            TORN,
            format!("{} bytes of an unfinished write were moved from {name} to {kept}", bytes.len()),
        ));
        Ok(())
    }

    fn damaged(&mut self, file: &str, problem: &str) {
        let found = Found { file: file.to_owned(), seq: 0, line: 0, what: What::BadHead(problem.to_owned()) };
        self.notes.push(Entry::note(DAMAGED, found.to_string()));
        self.damage.get_or_insert(found);
    }

    /// The intents without outcome that are still on disk.
    fn unfinished(&self, disk: &dyn Disk) -> Result<Vec<Line>, RecordError> {
        let mut unfinished = Vec::new();
        for (at, first) in self.segments.iter().enumerate() {
            let end = self.segments.get(at + 1).copied().unwrap_or(u64::MAX);
            let mut wanted: BTreeSet<u64> = self.open.range(*first..end).copied().collect();
            if wanted.is_empty() {
                continue;
            }
            let name = segment_name(*first);
            let mut lines = Lines::new(disk, &name, 0);
            while !wanted.is_empty()
                && let Some(piece) = lines.next().map_err(|error| RecordError::io(&name, "read", error))?
            {
                let Some(link) = Link::parse(piece.bytes) else { continue };
                let text = std::str::from_utf8(piece.bytes).unwrap_or_default();
                if wanted.remove(&link.seq)
                    && let Ok(line) = Line::parse(text)
                {
                    unfinished.push(line);
                }
            }
        }
        Ok(unfinished)
    }

    fn pen(
        &mut self,
        disk: &Arc<dyn Disk>,
        signer: &Arc<dyn Signer>,
        bounds: Bounds,
        now: Timestamp,
    ) -> Result<Pen, RecordError> {
        let keeper = Arc::new(HeadKeeper::new(Arc::clone(disk)));
        if self.signed.is_none() && self.segments.is_empty() {
            // A record without a signed head is a cut one, so there is one before the first line.
            let signed = sign(signer.as_ref(), Head::EMPTY, now)?;
            keeper.save(&HeadRecord { signed, open: Vec::new() })?;
        }
        let begins_anew = self.is_last_left_alone || self.segments.is_empty();
        if let Some(left) = self.segments.last().copied().filter(|_| begins_anew)
            && let Some(claim) = kept::keep(disk.as_ref(), left)?
        {
            // Behind the note that admits a cut, which must be the first line after it.
            self.notes.push(claim.to_entry());
        }
        let first = match self.segments.last().copied() {
            Some(first) if !begins_anew => first,
            _ => self.head.seq.checked_add(1).ok_or(RecordError::Exhausted)?,
        };
        let name = segment_name(first);
        let segment = if begins_anew {
            self.length = 0;
            self.segments.push(first);
            new_segment(disk.as_ref(), first)?.1
        } else {
            let mut segment = disk.segment(&name).map_err(|error| RecordError::io(&name, "open", error))?;
            // A program that was killed may have left lines that only the system's memory holds. They are about to be signed
            // for, and a signed line that a power cut takes away is a cut record.
            segment.sync().map_err(|error| RecordError::io(&name, "sync", error))?;
            segment
        };
        let mut pen = Pen {
            disk: Arc::clone(disk),
            signer: Arc::clone(signer),
            keeper,
            bounds,
            segment,
            name,
            length: self.length,
            allocated: self.length,
            head: self.head,
            open: self.open.clone(),
            segments: self.segments.clone(),
            closed: std::mem::take(&mut self.closed),
            first_of_all: Vec::new(),
            refusing: None,
            trouble: None,
        };
        if let Some(signed) = &self.cut {
            pen.keep_closed(signed.clone())?;
        }
        Ok(pen)
    }
}

/// Keeps bytes that are taken out of a file, under a name that is not in use, and says which.
fn set_aside(disk: &dyn Disk, name: &str, bytes: &[u8]) -> Result<String, RecordError> {
    let names = disk.names().map_err(|error| RecordError::io(".", "list", error))?;
    let kept = (1_u64..)
        .map(|count| format!("{name}.{count}.torn"))
        .find(|kept| !names.contains(kept))
        .unwrap_or_default();
    disk.replace(&kept, bytes).map_err(|error| RecordError::io(&kept, "write", error))?;
    Ok(kept)
}

fn read_file(disk: &dyn Disk, name: &str) -> Result<Option<Vec<u8>>, RecordError> {
    match disk.read(name, 0, allod_store::format::LARGEST) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(RecordError::io(name, "read", error)),
    }
}

#[cfg(test)]
mod tests;
