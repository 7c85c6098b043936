//! The changes of a finished segment, in a file of their own, so that what was read never pushes out what was changed.
//! The next line of the record names that file's hash and is itself among the next segment's changes: each file of
//! changes is led to by the one after it, and the newest by the record.

use crate::{
    chain::note_of,
    disk::Disk,
    entry::{CUT, DAMAGED, Entry, KEPT, TORN},
    error::RecordError,
    found::{Found, What},
    head::{firsts_among, segment_name},
    lines::Lines,
};
use allod_proto::Digest;
use serde::Deserialize;
use std::{borrow::Cow, collections::BTreeMap, io};

const SUFFIX: &str = ".changes";

/// The name of the file with the changes of the segment whose first line is `first`.
pub(crate) fn kept_name(first: u64) -> String {
    format!("{first:020}{SUFFIX}")
}

/// The first lines of the segments whose changes are among these names, in order.
pub(crate) fn kept_among(names: &[String]) -> Vec<u64> {
    firsts_among(names, SUFFIX)
}

/// What the record says of a file of changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) first: u64,
    pub(crate) lines: u64,
    pub(crate) digest: Digest,
}

impl Claim {
    pub(crate) fn to_entry(self) -> Entry {
        Entry::note(KEPT, format!("{} {} {}", self.first, self.lines, self.digest))
    }

    /// The claim in a line, if there is one.
    pub(crate) fn of(line: &[u8]) -> Option<Self> {
        let note = note_of(line).filter(|note| note.what == KEPT)?;
        let mut words = note.detail.split(' ');
        let (first, lines, digest) = (words.next()?, words.next()?, words.next()?);
        Some(Self {
            first: first.parse().ok()?,
            lines: lines.parse().ok()?,
            digest: digest.parse().ok().filter(|_| words.next().is_none())?,
        })
    }
}

/// The fields that tell whether a line is kept.
#[derive(Deserialize)]
struct Says<'a> {
    #[serde(borrow)]
    entry: Cow<'a, str>,
    #[serde(borrow)]
    what: Option<Cow<'a, str>>,
}

/// Whether a line is worth more than retention gives a read: a change, how it ended, or what the record says of itself.
fn is_kept(line: &[u8]) -> bool {
    serde_json::from_slice::<Says<'_>>(line).is_ok_and(|says| match says.entry.as_ref() {
        "intent" | "outcome" => true,
        "note" => says.what.is_some_and(|what| [CUT, DAMAGED, TORN, KEPT].contains(&what.as_ref())),
        _ => false,
    })
}

/// Writes the changes of a segment down, durably, and says what the record must say of them; `None` when it has none.
pub(crate) fn keep(disk: &dyn Disk, first: u64) -> Result<Option<Claim>, RecordError> {
    let segment = segment_name(first);
    let mut lines = Lines::new(disk, &segment, 0);
    let (mut bytes, mut count) = (Vec::new(), 0_u64);
    while let Some(piece) = lines.next().map_err(|error| RecordError::io(&segment, "read", error))? {
        if piece.whole && is_kept(piece.bytes) {
            bytes.extend_from_slice(piece.bytes);
            count = count.saturating_add(1);
        }
    }
    if count == 0 {
        return Ok(None);
    }
    let name = kept_name(first);
    disk.replace(&name, &bytes).map_err(|error| RecordError::io(&name, "write", error))?;
    Ok(Some(Claim { first, lines: count, digest: Digest::of(&bytes) }))
}

/// Removes the oldest files of changes until all together have at most `most` bytes. The newest always stays.
pub(crate) fn drop_oldest(disk: &dyn Disk, most: u64) -> Result<(), RecordError> {
    let names = disk.names().map_err(|error| RecordError::io(".", "list", error))?;
    let mut total = 0_u64;
    let mut kept = kept_among(&names).into_iter().rev();
    let mut too_many = Vec::new();
    if let Some(newest) = kept.next() {
        total = size(disk, newest)?;
    }
    for first in kept {
        total = total.saturating_add(size(disk, first)?);
        if total > most {
            too_many.push(first);
        }
    }
    // The oldest first: what is left after a crash is still the newer end.
    for first in too_many.into_iter().rev() {
        let name = kept_name(first);
        disk.remove(&name).map_err(|error| RecordError::io(&name, "remove", error))?;
    }
    Ok(())
}

fn size(disk: &dyn Disk, first: u64) -> Result<u64, RecordError> {
    let name = kept_name(first);
    disk.size(&name).map_err(|error| RecordError::io(&name, "look at", error))
}

/// The changes that are kept, checked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) files: usize,
    pub(crate) lines: u64,
}

/// Checks every file of changes against what the record, or the file after it, says of it. `claims` are those of the
/// lines in the segments, `live` the segments.
pub(crate) fn verify(
    disk: &dyn Disk,
    names: &[String],
    mut claims: BTreeMap<u64, Claim>,
    live: &[u64],
) -> Result<Kept, Found> {
    let firsts = kept_among(names);
    let mut kept = Kept::default();
    for first in firsts.iter().rev() {
        let name = kept_name(*first);
        let found = |what| Found { file: name.clone(), seq: *first, line: 0, what };
        let bytes = match disk.read(&name, 0, usize::MAX) {
            Ok(bytes) => bytes,
            // It was there a moment ago: retention was faster.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(found(What::Unreadable(error.to_string()))),
        };
        match claims.get(first) {
            Some(claim) if claim.digest == Digest::of(&bytes) => {}
            Some(_) => return Err(found(What::KeptEdited)),
            // It was written, and the line that says so was not yet: its segment is still there.
            None if live.contains(first) => continue,
            None => return Err(found(What::Unanchored)),
        }
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        claims.extend(lines.clone().filter_map(Claim::of).map(|claim| (claim.first, claim)));
        kept.files = kept.files.saturating_add(1);
        kept.lines = kept.lines.saturating_add(u64::try_from(lines.count()).unwrap_or(u64::MAX));
    }
    // Retention takes the oldest, and never the newest.
    let oldest = firsts.first().copied().unwrap_or(u64::MAX);
    let newest = claims.keys().next_back().copied();
    let gone = claims
        .keys()
        .find(|first| firsts.binary_search(first).is_err() && (**first > oldest || Some(**first) == newest));
    match gone {
        None => Ok(kept),
        Some(first) => Err(Found { file: kept_name(*first), seq: *first, line: 0, what: What::KeptGone }),
    }
}

#[cfg(test)]
mod tests;
