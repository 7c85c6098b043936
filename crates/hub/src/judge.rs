//! Pure: what a checked report means for what is known of its server. A head that is lower, other, or signed by another
//! key is marked, and from then on nothing moves until a person acknowledges.

use crate::{
    record::{ServerRecord, Trouble},
    report::CheckedReport,
};
use allod_proto::{Timestamp, witness::Verdict};
use std::net::IpAddr;

/// What follows from a report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judgement {
    /// What is answered.
    pub verdict: Verdict,
    /// What is known from now on.
    pub next: ServerRecord,
    /// Whether the difference must be on the disk before the answer.
    pub must_save: bool,
}

/// Why a report counts for nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OldNews {
    /// A later report of this server was here before: this one is a copy, or has overtaken nobody.
    #[error("a later report of this server was here before this one")]
    Overtaken,
}

/// What `report` from `source` means for the server known as `known`.
///
/// # Errors
/// [`OldNews`] when a report at least as late was here before: a recording of an old report must not look like a
/// record that went back.
pub fn judge(
    known: &ServerRecord,
    report: &CheckedReport,
    source: IpAddr,
    now: Timestamp,
) -> Result<Judgement, OldNews> {
    if report.at() <= known.reported_at {
        return Err(OldNews::Overtaken);
    }
    let verdict = known.trouble.as_ref().map_or_else(|| compare(known, report), |trouble| trouble.verdict);
    let mut next = known.clone();
    next.reported_at = report.at();
    report.name().clone_into(&mut next.name);
    next.source = source;
    next.port = report.port();
    match (&mut next.trouble, verdict) {
        (Some(trouble), _) => {
            trouble.reported = report.head().clone();
            trouble.record_key = report.record_key();
        }
        (None, Verdict::Witnessed) => {
            next.head = report.head().clone();
            next.witnessed_at = now;
        }
        (None, Verdict::Same) => {}
        (None, Verdict::GoneBack | Verdict::Forked | Verdict::RecordKeyChanged | Verdict::Unknown) => {
            next.trouble = Some(Trouble {
                verdict,
                since: now,
                kept: known.head.clone(),
                reported: report.head().clone(),
                record_key: report.record_key(),
                acknowledged_at: None,
            });
        }
    }
    let must_save = differs(known, &next);
    Ok(Judgement { verdict, next, must_save })
}

fn compare(known: &ServerRecord, report: &CheckedReport) -> Verdict {
    let (kept, said) = (&known.head.head, &report.head().head);
    if known.record_key != report.record_key() {
        Verdict::RecordKeyChanged
    } else if said.seq < kept.seq {
        Verdict::GoneBack
    } else if said.seq > kept.seq {
        Verdict::Witnessed
    } else if said.hash == kept.hash {
        Verdict::Same
    } else {
        Verdict::Forked
    }
}

/// That the server was heard again needs no disk; all else does. A new signature of the same head is nothing new.
fn differs(known: &ServerRecord, next: &ServerRecord) -> bool {
    let reported = |record: &ServerRecord| record.trouble.as_ref().map(|trouble| trouble.reported.head);
    known.head.head != next.head.head
        || reported(known) != reported(next)
        || (&known.name, known.source, known.port) != (&next.name, next.source, next.port)
}

#[cfg(test)]
mod tests;
