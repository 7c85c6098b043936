//! Reading a segment when the record is opened: where it ends, what is unfinished, what contradicts itself.

use crate::{
    disk::Disk,
    found::{Found, What},
    head::segment_name,
    line::Link,
    lines::{Lines, Piece},
};
use allod_proto::{Digest, record::Head};
use serde::Deserialize;
use std::{borrow::Cow, collections::BTreeSet, io};

/// A segment, read to its end.
pub(crate) struct Scan {
    /// Good lines, and the newest of them; before the first, what that one must name.
    pub(crate) lines: u64,
    pub(crate) head: Head,
    /// Bytes of the good lines, and of the file.
    pub(crate) length: u64,
    pub(crate) size: u64,
    /// The hash of the line that was asked for, or of the one before the first.
    pub(crate) wanted: Option<Digest>,
    pub(crate) intents: BTreeSet<u64>,
    pub(crate) outcomes: BTreeSet<u64>,
    /// What follows the good lines.
    pub(crate) bad: Option<Bad>,
}

/// What follows the good lines.
pub(crate) enum Bad {
    /// An unfinished write: no newline at the end, or a hole of zeros where the file grew before its content came.
    Torn,
    /// Whole lines that don't belong there. `head` is where the record can carry on behind them.
    Damaged { found: Found, head: Head },
}

/// Reads the segment that begins with line `first`. `want` is a line whose hash is asked for.
pub(crate) fn scan(disk: &dyn Disk, first: u64, want: Option<u64>) -> io::Result<Scan> {
    let name = segment_name(first);
    let mut lines = Lines::new(disk, &name, 0);
    let mut scan = Scan {
        lines: 0,
        head: Head { seq: first.saturating_sub(1), hash: Digest::ZERO },
        length: 0,
        size: 0,
        wanted: None,
        intents: BTreeSet::new(),
        outcomes: BTreeSet::new(),
        bad: None,
    };
    while let Some(piece) = lines.next()? {
        scan.size = piece.offset.saturating_add(length(&piece));
        scan.piece(&name, &piece, want);
    }
    Ok(scan)
}

impl Scan {
    fn piece(&mut self, name: &str, piece: &Piece<'_>, want: Option<u64>) {
        match &mut self.bad {
            Some(Bad::Torn) => {}
            // By their place, not by what they claim: a number in them could be anything.
            Some(Bad::Damaged { head, .. }) => *head = next(*head, piece),
            None => match self.follows(piece) {
                Ok(says) => self.good(piece, &says, want),
                Err(_) if !piece.whole || piece.bytes.contains(&0) => self.bad = Some(Bad::Torn),
                Err(what) => {
                    let seq = self.head.seq.saturating_add(1);
                    let line = self.lines.saturating_add(1);
                    let found = Found { file: name.to_owned(), seq, line, what };
                    self.bad = Some(Bad::Damaged { found, head: next(self.head, piece) });
                }
            },
        }
    }

    fn follows<'a>(&self, piece: &Piece<'a>) -> Result<(Link, Says<'a>), What> {
        let link = Link::parse(piece.bytes).filter(|_| piece.whole).ok_or(What::Malformed)?;
        let says = serde_json::from_slice(piece.bytes).map_err(|_| What::Malformed)?;
        let (expected, found) = (self.head.seq.saturating_add(1), link.seq);
        let is_first_ever = self.lines == 0 && found == 1;
        match found.cmp(&expected) {
            std::cmp::Ordering::Less => Err(What::Reordered { expected, found }),
            std::cmp::Ordering::Greater => Err(What::Missing { expected, found }),
            std::cmp::Ordering::Equal if self.lines == 0 && !is_first_ever => Ok((link, says)),
            std::cmp::Ordering::Equal if link.prev == self.head.hash => Ok((link, says)),
            std::cmp::Ordering::Equal => Err(What::Edited),
        }
    }

    fn good(&mut self, piece: &Piece<'_>, (link, says): &(Link, Says<'_>), want: Option<u64>) {
        if self.lines == 0 && want.is_some_and(|want| want.checked_add(1) == Some(link.seq)) {
            self.wanted = Some(link.prev);
        }
        self.head = Head { seq: link.seq, hash: Digest::of(piece.bytes) };
        if want == Some(link.seq) {
            self.wanted = Some(self.head.hash);
        }
        self.lines = self.lines.saturating_add(1);
        self.length = piece.offset.saturating_add(length(piece));
        match (says.entry.as_ref(), says.intent) {
            ("intent", _) => drop(self.intents.insert(link.seq)),
            ("outcome", Some(intent)) => drop(self.outcomes.insert(intent)),
            _ => {}
        }
    }
}

/// The two fields of an entry that matter here.
#[derive(Deserialize)]
struct Says<'a> {
    #[serde(borrow)]
    entry: Cow<'a, str>,
    intent: Option<u64>,
}

fn next(head: Head, piece: &Piece<'_>) -> Head {
    Head { seq: head.seq.saturating_add(1), hash: Digest::of(piece.bytes) }
}

fn length(piece: &Piece<'_>) -> u64 {
    u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX)
}
