//! Checking a whole record on disk. Without a key this proves only that the
//! record agrees with itself and with the heads the caller knows; with the record key, that its owner wrote it.

use crate::{
    chain::{Chain, Gap},
    disk::{Disk, Folder},
    found::{Found, What},
    head::{HEAD_FILE, HEADS_FILE, HeadRecord, heads_from_bytes, is_signed_by, segment_name, segments_among},
    kept::{self, Claim},
    line::Link,
    lines::Lines,
};
use allod_proto::{
    Digest,
    record::{Head, SignedHead},
};
use allod_signing::PublicKey;
use std::{collections::BTreeMap, io, path::Path};

/// What a whole record looks like.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The number of the oldest line on disk; 0 when there is none.
    pub oldest: u64,
    /// The newest line.
    pub head: Head,
    /// Lines on disk.
    pub lines: u64,
    /// Segments on disk.
    pub segments: usize,
    /// Bytes of an unfinished write at the end. Nothing signed or known was in them.
    pub torn_tail_bytes: u64,
    /// Cuts that the record admits.
    pub gaps: Vec<Gap>,
    /// Lines in which the record itself says that it was cut or damaged. Each is an incident, whatever else is fine.
    pub incidents: Vec<u64>,
    /// Signed or known heads whose line was compared, and heads whose line is no longer on disk.
    pub heads_compared: usize,
    /// Heads whose line was dropped by retention, or is in a gap.
    pub heads_out_of_reach: usize,
    /// Files with the changes of finished segments, and lines in them: each was led to by a line of the record.
    pub kept_files: usize,
    /// Lines in those files.
    pub kept_lines: u64,
    /// Whether signatures were checked, which takes the record key.
    pub signatures_checked: bool,
}

/// Checks the record in `folder`, which may be in use. `trust` is the record key; `known` are heads that somebody saw,
/// such as a client in signed replies.
///
/// # Errors
/// The first thing that is wrong.
pub fn verify(folder: &Path, trust: Option<&PublicKey>, known: &[Head]) -> Result<Report, Found> {
    verify_on(&Folder::to_read(folder), trust, known)
}

pub(crate) fn verify_on(disk: &dyn Disk, trust: Option<&PublicKey>, known: &[Head]) -> Result<Report, Found> {
    // The heads are read before the lines, so that lines which are written meanwhile don't look like a contradiction.
    let mut claims = Claims::default();
    for head in known {
        claims.add(*head, "a head seen before");
    }
    let has_head = claims.read_files(disk, trust)?;
    let names = match disk.names() {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unreadable(".", &error)),
        names => names.unwrap_or_default(),
    };
    let segments = segments_among(&names);
    if !has_head && !segments.is_empty() {
        return Err(whole_file(HEAD_FILE, What::BadHead("the signed head is missing".to_owned())));
    }
    let mut walk = Walk {
        disk,
        claims: &claims,
        chain: Chain::start(None),
        lines: 0,
        torn: 0,
        compared: 0,
        kept: BTreeMap::new(),
    };
    for first in &segments {
        walk.segment(*first, Some(first) == segments.last())?;
    }
    let head = walk.chain.head().unwrap_or(Head::EMPTY);
    claims.none_beyond(
        head,
        segments.last().map_or_else(|| HEAD_FILE.to_owned(), |first| segment_name(*first)),
        walk.lines,
    )?;
    let kept = kept::verify(disk, &names, std::mem::take(&mut walk.kept), &segments)?;
    Ok(Report {
        kept_files: kept.files,
        kept_lines: kept.lines,
        oldest: segments.first().copied().filter(|_| walk.lines > 0).unwrap_or(0),
        head,
        lines: walk.lines,
        segments: segments.len(),
        torn_tail_bytes: walk.torn,
        heads_compared: walk.compared,
        heads_out_of_reach: claims.count().saturating_sub(walk.compared),
        gaps: walk.chain.gaps().to_vec(),
        incidents: walk.chain.incidents().to_vec(),
        signatures_checked: trust.is_some(),
    })
}

/// What must be true of the lines: under this number there was a line with this hash.
#[derive(Default)]
struct Claims(BTreeMap<u64, Vec<(Digest, String)>>);

impl Claims {
    fn add(&mut self, head: Head, source: &str) {
        if head.seq > 0 {
            self.0.entry(head.seq).or_default().push((head.hash, source.to_owned()));
        }
    }

    fn count(&self) -> usize {
        self.0.values().map(Vec::len).sum()
    }

    /// Takes the heads from the two files. Says whether the newest one is there.
    fn read_files(&mut self, disk: &dyn Disk, trust: Option<&PublicKey>) -> Result<bool, Found> {
        let newest = read_whole(disk, HEAD_FILE)?;
        if let Some(bytes) = &newest {
            let record = HeadRecord::from_bytes(bytes)
                .map_err(|error| whole_file(HEAD_FILE, What::BadHead(error.to_string())))?;
            self.add_signed(&record.signed, trust, HEAD_FILE, 0)?;
        }
        if let Some(bytes) = read_whole(disk, HEADS_FILE)? {
            let heads =
                heads_from_bytes(&bytes).map_err(|text| whole_file(HEADS_FILE, What::BadHead(text)))?;
            for (signed, line) in heads.iter().zip(2..) {
                self.add_signed(signed, trust, HEADS_FILE, line)?;
            }
        }
        Ok(newest.is_some())
    }

    fn add_signed(
        &mut self,
        signed: &SignedHead,
        trust: Option<&PublicKey>,
        file: &str,
        line: u64,
    ) -> Result<(), Found> {
        if trust.is_some_and(|key| !is_signed_by(signed, key)) {
            let what = What::BadHead("the head is not signed by the record key".to_owned());
            return Err(Found { file: file.to_owned(), seq: signed.head.seq, line, what });
        }
        self.add(signed.head, file);
        Ok(())
    }

    /// Compares a line with what is claimed about it, and says with how many claims.
    fn compare(&self, head: Head) -> Result<usize, What> {
        let Some(claims) = self.0.get(&head.seq) else { return Ok(0) };
        match claims.iter().find(|(hash, _)| *hash != head.hash) {
            None => Ok(claims.len()),
            Some((hash, source)) => {
                Err(What::Replaced { head: Head { seq: head.seq, hash: *hash }, source_of: source.clone() })
            }
        }
    }

    fn none_beyond(&self, head: Head, file: String, line: u64) -> Result<(), Found> {
        let Some((seq, claims)) = self.0.range(head.seq.saturating_add(1)..).next_back() else {
            return Ok(());
        };
        let Some((hash, source)) = claims.first().filter(|_| *seq > head.seq) else { return Ok(()) };
        let what = What::Cut { head: Head { seq: *seq, hash: *hash }, source_of: source.clone() };
        Err(Found { file, seq: head.seq.saturating_add(1), line, what })
    }
}

struct Walk<'a> {
    disk: &'a dyn Disk,
    claims: &'a Claims,
    chain: Chain,
    lines: u64,
    torn: u64,
    compared: usize,
    kept: BTreeMap<u64, Claim>,
}

impl Walk<'_> {
    fn segment(&mut self, first: u64, is_last: bool) -> Result<(), Found> {
        let name = segment_name(first);
        let mut lines = Lines::new(self.disk, &name, 0);
        let mut number = 0;
        let mut torn = 0_u64;
        while let Some(piece) = lines.next().map_err(|error| unreadable(&name, &error))? {
            number += 1;
            let seq = self.chain.head().map_or(first, |head| head.seq.saturating_add(1));
            let found = |what| Found { file: name.clone(), seq, line: number, what };
            if torn > 0 {
                return Err(found(What::Malformed));
            }
            if !piece.whole {
                torn = u64::try_from(piece.bytes.len()).unwrap_or(u64::MAX);
                if !is_last {
                    return Err(found(What::Malformed));
                }
                continue;
            }
            if number == 1 {
                self.first_line(first, piece.bytes).map_err(found)?;
            }
            let head = self.chain.push_bytes(piece.bytes).map_err(found)?;
            self.compared += self.claims.compare(head).map_err(found)?;
            self.lines = self.lines.saturating_add(1);
            self.kept.extend(Claim::of(piece.bytes).map(|claim| (claim.first, claim)));
        }
        self.torn = torn;
        Ok(())
    }

    /// The first line of a segment bears the segment's number, and the one before it must be known.
    fn first_line(&mut self, first: u64, bytes: &[u8]) -> Result<(), What> {
        let link = Link::parse(bytes).ok_or(What::Malformed)?;
        if link.seq != first {
            return Err(What::WrongSegment { expected: first, found: link.seq });
        }
        let before = Head { seq: first.saturating_sub(1), hash: link.prev };
        let follows = self.chain.head().is_some_and(|head| head.seq == before.seq);
        if first > 1 && !follows {
            // The oldest segment, or the one behind a gap: a kept head must lead to it.
            let compared = self.claims.compare(before)?;
            if compared == 0 && self.chain.head().is_none() {
                return Err(What::Unanchored);
            }
            self.compared += compared;
        }
        Ok(())
    }
}

fn read_whole(disk: &dyn Disk, name: &str) -> Result<Option<Vec<u8>>, Found> {
    match disk.read(name, 0, allod_store::format::LARGEST) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unreadable(name, &error)),
    }
}

fn whole_file(file: &str, what: What) -> Found {
    Found { file: file.to_owned(), seq: 0, line: 0, what }
}

fn unreadable(file: &str, error: &io::Error) -> Found {
    whole_file(file, What::Unreadable(error.to_string()))
}

#[cfg(test)]
mod tests;
