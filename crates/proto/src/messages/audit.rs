//! Reading the record.

use crate::record::SignedHead;
use serde::{Deserialize, Serialize};

/// `audit.show`: lines of the record, exactly as they are on disk.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditShow {
    /// The first sequence number wanted; counted from the end if negative.
    pub from: i64,
    /// At most this many, and never more than fit a reply.
    pub limit: u32,
}

/// Answer to `audit.show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditShowReply {
    /// Exact lines without their newline.
    pub lines: Vec<String>,
    /// The oldest sequence number still kept.
    pub oldest: u64,
    /// The newest head, signed.
    pub head: SignedHead,
}

/// `audit.follow`: lines as they come, as a stream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditFollow {
    /// Begin after this sequence number; at the end if not given.
    #[serde(default)]
    pub after: Option<u64>,
}

/// `audit.verify`: the server checks its own chain; a client that wants to be sure reads the lines and checks itself.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditVerify {}

/// Answer to `audit.verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditVerifyReply {
    /// Lines checked.
    pub lines: u64,
    /// What is wrong, naming the exact line; `None` when the record is whole.
    #[serde(default)]
    pub found: Option<String>,
    /// The newest head, signed.
    pub head: SignedHead,
}

/// `audit.stats`: counts per command and caller.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditStats {}

/// Answer to `audit.stats`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditStatsReply {
    /// Lines in the record.
    pub lines: u64,
    /// One row for each command and caller.
    pub rows: Vec<StatRow>,
    /// Refused requests of strangers.
    pub refusals: u64,
    /// Commands never called.
    pub never: Vec<String>,
}

/// How often somebody called something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatRow {
    /// The command.
    pub command: String,
    /// The caller.
    pub caller: String,
    /// How often it went well.
    pub ok: u64,
    /// How often it did not.
    pub failed: u64,
    /// When last.
    pub last: crate::Timestamp,
}
