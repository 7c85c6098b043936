//! What the hub knows of one server: the highest head, the pinned record key, and what is wrong with it until a person
//! acknowledges. One file a server.

use crate::report::CheckedReport;
use allod_proto::{Digest, Fingerprint, Timestamp, record::SignedHead, witness::Verdict};
use allod_store::Format;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// How many acknowledged troubles are remembered of a server.
const PAST: usize = 16;

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServerRecord {
    /// Who it is.
    pub identity: Fingerprint,
    /// Its own name.
    pub name: String,
    /// Where its reports come from.
    pub source: IpAddr,
    /// The port of its management API there.
    pub port: u16,
    /// The pinned record key, in OpenSSH form.
    pub record_key: String,
    /// The highest head.
    pub head: SignedHead,
    /// When that was witnessed, by the hub's clock.
    pub witnessed_at: Timestamp,
    /// When the server was first heard of, by the hub's clock.
    pub first_seen: Timestamp,
    /// The time in its latest report that counted, by its own clock; older reports are old news.
    pub reported_at: Timestamp,
    /// What is wrong.
    pub trouble: Option<Trouble>,
    /// What was wrong and has been acknowledged, oldest first.
    pub past: Vec<Trouble>,
}

/// A head that contradicts what was witnessed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trouble {
    /// What is wrong.
    pub verdict: Verdict,
    /// When it was first seen, by the hub's clock.
    pub since: Timestamp,
    /// The head that was kept when it was seen.
    pub kept: SignedHead,
    /// The newest head the server has reported since. An acknowledgement makes it the kept one.
    pub reported: SignedHead,
    /// The key that signed that.
    pub record_key: String,
    /// When a person acknowledged it.
    pub acknowledged_at: Option<Timestamp>,
}

impl ServerRecord {
    /// What is known after the first report.
    #[must_use]
    pub fn first(report: &CheckedReport, source: IpAddr, now: Timestamp) -> Self {
        Self {
            identity: report.identity().clone(),
            name: report.name().to_owned(),
            source,
            port: report.port(),
            record_key: report.record_key(),
            head: report.head().clone(),
            witnessed_at: now,
            first_seen: now,
            reported_at: report.at(),
            trouble: None,
            past: Vec::new(),
        }
    }

    /// A person has looked: what the server says now is what counts from now on. `None` when nothing was wrong.
    #[must_use]
    pub fn acknowledged(&self, now: Timestamp) -> Option<Self> {
        let mut trouble = self.trouble.clone()?;
        let mut next = self.clone();
        next.trouble = None;
        next.head = trouble.reported.clone();
        next.record_key.clone_from(&trouble.record_key);
        next.witnessed_at = now;
        trouble.acknowledged_at = Some(now);
        next.past.push(trouble);
        let surplus = next.past.len().saturating_sub(PAST);
        next.past.drain(..surplus);
        Some(next)
    }

    /// The name of its file: a fingerprint may contain `/`.
    #[must_use]
    pub fn file_name(identity: &Fingerprint) -> String {
        format!("{}.json", Digest::of(identity.as_str()))
    }
}

impl Format for ServerRecord {
    const NAME: &'static str = "witnessed server";
    const FORMAT: u32 = 1;
}
