//! The lines of one file, one after the other, without holding the file in memory. What can't be a line (no newline, or
//! longer than any line) comes as a piece that is not whole.

use crate::{disk::Disk, line::LONGEST};
use std::io;

const CHUNK: usize = 256 * 1024;

/// Some bytes of a file: a line with its newline if it is whole, else what is left.
pub(crate) struct Piece<'a> {
    pub(crate) offset: u64,
    pub(crate) bytes: &'a [u8],
    pub(crate) whole: bool,
}

/// Reads a file from an offset on.
pub(crate) struct Lines<'a> {
    disk: &'a dyn Disk,
    name: &'a str,
    buffer: Vec<u8>,
    /// Where in `buffer` the next piece begins, and its offset in the file.
    start: usize,
    offset: u64,
    ended: bool,
}

impl<'a> Lines<'a> {
    pub(crate) fn new(disk: &'a dyn Disk, name: &'a str, offset: u64) -> Self {
        Self { disk, name, buffer: Vec::new(), start: 0, offset, ended: false }
    }

    /// The next piece; `None` at the end.
    pub(crate) fn next(&mut self) -> io::Result<Option<Piece<'_>>> {
        let mut searched = self.start;
        let (length, whole) = loop {
            let rest = self.buffer.get(searched..).unwrap_or_default();
            if let Some(at) = rest.iter().position(|byte| *byte == b'\n') {
                break (searched + at + 1 - self.start, true);
            }
            searched = self.buffer.len();
            if self.ended || searched - self.start > LONGEST {
                break (searched - self.start, false);
            }
            searched -= self.fill()?;
        };
        if length == 0 {
            return Ok(None);
        }
        let (start, offset) = (self.start, self.offset);
        self.start += length;
        self.offset = self.offset.saturating_add(u64::try_from(length).unwrap_or(u64::MAX));
        let bytes = self.buffer.get(start..self.start).unwrap_or_default();
        Ok(Some(Piece { offset, bytes, whole: whole && length <= LONGEST }))
    }

    /// Reads on, and says by how much the buffer's content moved to the front.
    fn fill(&mut self) -> io::Result<usize> {
        let moved = std::mem::take(&mut self.start);
        self.buffer.drain(..moved);
        let end = self.offset.saturating_add(u64::try_from(self.buffer.len()).unwrap_or(u64::MAX));
        let more = self.disk.read(self.name, end, CHUNK)?;
        self.ended = more.is_empty();
        self.buffer.extend_from_slice(&more);
        Ok(moved)
    }
}
