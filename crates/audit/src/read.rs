//! Reading the record while it is written: exact lines by number, up to the newest durable one. Marks remember where
//! every 256th line of a segment begins, so that following the end does not read the segment each time.

use crate::{disk::Disk, error::RecordError, head::segment_name, line::Link, lines::Lines};
use allod_proto::record::Head;
use std::{
    collections::BTreeMap,
    io,
    sync::{Arc, Mutex, PoisonError},
};

const MARK_EVERY: u64 = 256;
/// One answer ends after the line that reaches this many bytes.
const MOST_BYTES: usize = 4 * 1024 * 1024;

pub(crate) struct Reader {
    disk: Arc<dyn Disk>,
    /// For each segment, by its first line: the place of a line by its number.
    marks: Mutex<BTreeMap<u64, BTreeMap<u64, u64>>>,
}

impl Reader {
    pub(crate) fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk, marks: Mutex::new(BTreeMap::new()) }
    }

    /// Lines from `from` up to `head`, without their newlines.
    pub(crate) fn read(
        &self,
        segments: &[u64],
        head: Head,
        from: u64,
        limit: usize,
    ) -> Result<Vec<String>, RecordError> {
        let mut answer = Answer { from, upto: head.seq, limit, lines: Vec::new(), bytes: 0 };
        self.forget_all_but(segments);
        // The segment that holds `from` begins at or before it.
        let begin = segments.partition_point(|first| *first <= from).saturating_sub(1);
        for first in segments.get(begin..).unwrap_or_default() {
            if answer.is_full() || *first > head.seq {
                break;
            }
            match self.read_segment(*first, &mut answer) {
                Ok(()) => {}
                // Retention was faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(RecordError::io(&segment_name(*first), "read", error)),
            }
        }
        Ok(answer.lines)
    }

    fn read_segment(&self, first: u64, answer: &mut Answer) -> io::Result<()> {
        let name = segment_name(first);
        let mut lines = Lines::new(self.disk.as_ref(), &name, self.mark_before(first, answer.from));
        while !answer.is_full()
            && let Some(piece) = lines.next()?
        {
            // What is no line can't be shown as one; `verify` tells.
            let Some(link) = Link::parse(piece.bytes).filter(|_| piece.whole) else { continue };
            if link.seq > answer.upto {
                break;
            }
            if link.seq % MARK_EVERY == 0 {
                self.mark(first, link.seq, piece.offset);
            }
            if link.seq >= answer.from {
                answer.push(piece.bytes);
            }
        }
        Ok(())
    }

    fn mark_before(&self, first: u64, seq: u64) -> u64 {
        let marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        let mark = marks.get(&first).and_then(|marks| marks.range(..=seq).next_back());
        mark.map_or(0, |(_, offset)| *offset)
    }

    fn mark(&self, first: u64, seq: u64, offset: u64) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.entry(first).or_default().insert(seq, offset);
    }

    fn forget_all_but(&self, segments: &[u64]) {
        let mut marks = self.marks.lock().unwrap_or_else(PoisonError::into_inner);
        marks.retain(|first, _| segments.binary_search(first).is_ok());
    }
}

struct Answer {
    from: u64,
    upto: u64,
    limit: usize,
    lines: Vec<String>,
    bytes: usize,
}

impl Answer {
    fn is_full(&self) -> bool {
        self.lines.len() >= self.limit || self.bytes >= MOST_BYTES
    }

    fn push(&mut self, line: &[u8]) {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        self.bytes = self.bytes.saturating_add(line.len());
        self.lines.push(String::from_utf8_lossy(line).into_owned());
    }
}
