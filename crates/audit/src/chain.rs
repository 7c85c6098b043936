//! The chain, line by line: as a client checks what comes from the network, and as `verify` checks a file.

use crate::{
    entry::{CUT, DAMAGED, Entry, Note},
    found::{Found, What},
    line::{Line, Link},
};
use allod_proto::{Digest, record::Head};

/// Lines that are gone, and of which the record itself says so: the program found its record cut and carried on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The last line before the gap.
    pub after: Head,
    /// The first line behind it, which says what is missing.
    pub next: u64,
}

/// Checks lines one after the other, as a client does that gets them from the network.
#[derive(Debug, Clone)]
pub struct Chain {
    head: Option<Head>,
    gaps: Vec<Gap>,
    incidents: Vec<u64>,
    pushed: u64,
}

impl Chain {
    /// Begins behind `head`; with `None`, at whatever line comes first.
    #[must_use]
    pub fn start(head: Option<Head>) -> Self {
        Self { head, gaps: Vec::new(), incidents: Vec::new(), pushed: 0 }
    }

    /// The newest line pushed, or what the chain began with.
    #[must_use]
    pub fn head(&self) -> Option<Head> {
        self.head
    }

    /// Lines in which the record itself says that it was cut or damaged. Tell the person.
    #[must_use]
    pub fn incidents(&self) -> &[u64] {
        &self.incidents
    }

    /// Cuts that the record admits.
    #[must_use]
    pub fn gaps(&self) -> &[Gap] {
        &self.gaps
    }

    /// Checks that `line` (with or without its newline) follows, and gives its head. That the head is the server's is
    /// for the caller to check, against a signed one.
    ///
    /// # Errors
    /// [`Found`]; the chain stays where it was.
    pub fn push(&mut self, line: &str) -> Result<Head, Found> {
        let mut bytes = line.strip_suffix('\n').unwrap_or(line).as_bytes().to_vec();
        bytes.push(b'\n');
        self.push_bytes(&bytes).map_err(|what| {
            let seq = self.head.map_or(1, |head| head.seq.saturating_add(1));
            Found { file: "stream".to_owned(), seq, line: self.pushed.saturating_add(1), what }
        })
    }

    /// The same for a line's exact bytes with its newline.
    pub(crate) fn push_bytes(&mut self, bytes: &[u8]) -> Result<Head, What> {
        let newlines = bytes.iter().filter(|byte| **byte == b'\n').count();
        let link = Link::of_whole_line(bytes).filter(|_| newlines == 1).ok_or(What::Malformed)?;
        let found = link.seq;
        let note = note_of(bytes);
        let admits_cut = note.as_ref().is_some_and(|note| note.what == CUT);
        let mut gap = None;
        if let Some(before) = self.head {
            let expected = before.seq.saturating_add(1);
            if found < expected {
                return Err(What::Reordered { expected, found });
            }
            if found == expected && link.prev != before.hash {
                return Err(What::Edited);
            }
            if found > expected {
                if !admits_cut {
                    return Err(What::Missing { expected, found });
                }
                gap = Some(Gap { after: before, next: found });
            }
        } else if found == 1 && link.prev != Digest::ZERO {
            return Err(What::Edited);
        }
        let head = Head { seq: found, hash: Digest::of(bytes) };
        self.head = Some(head);
        self.gaps.extend(gap);
        if note.is_some_and(|note| note.what == CUT || note.what == DAMAGED) {
            self.incidents.push(found);
        }
        self.pushed = self.pushed.saturating_add(1);
        Ok(head)
    }
}

/// The note in a line, if it is one. That a note admits a cut proves something because only the record's owner writes
/// lines: to forge one is to break the chain.
pub(crate) fn note_of(bytes: &[u8]) -> Option<Note> {
    let text = std::str::from_utf8(bytes).ok()?;
    // Most lines are none; they need not be read whole.
    if !text.contains("\"entry\":\"note\"") {
        return None;
    }
    match Line::parse(text).ok()?.entry {
        Entry::Note(note) => Some(note),
        _ => None,
    }
}
