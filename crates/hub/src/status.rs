//! What is shown of the servers, as JSON; the page shows the same.

use crate::{
    coordination::CoordinatorStatus,
    registry::{Answers, Watched},
};
use allod_proto::{Fingerprint, Timestamp, record::Head, witness::Verdict};
use serde::{Deserialize, Serialize};

/// The whole of `/status.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HubStatus {
    /// The hub's own identity.
    pub identity: Fingerprint,
    /// The program's version.
    pub version: String,
    /// The hub's clock.
    pub now: Timestamp,
    /// Whether no server is in trouble, all answer, and nothing is overdue with the coordinator.
    pub well: bool,
    /// Every server, those in trouble first, then by name.
    pub servers: Vec<ServerStatus>,
    /// The mesh's coordinator, where this hub runs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub coordinator: Option<CoordinatorStatus>,
}

/// One server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerStatus {
    /// Its own name.
    pub name: String,
    /// Who it is.
    pub identity: Fingerprint,
    /// Whether it answers; `None` until it was asked.
    pub answers: Option<bool>,
    /// Since when it does or doesn't.
    pub answers_since: Option<Timestamp>,
    /// Why it does not.
    pub why: Option<String>,
    /// When it last reported.
    pub heard_at: Timestamp,
    /// The highest head witnessed.
    pub head: Head,
    /// When that was.
    pub witnessed_at: Timestamp,
    /// The pinned record key.
    pub record_key: String,
    /// What is wrong with its record, until a person acknowledges.
    pub trouble: Option<TroubleStatus>,
    /// How often something was wrong before and was acknowledged.
    pub acknowledged_troubles: usize,
}

/// What is wrong with a record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TroubleStatus {
    /// Which kind.
    pub verdict: Verdict,
    /// In words.
    pub message: String,
    /// Since when.
    pub since: Timestamp,
    /// The head that was kept.
    pub kept: Head,
    /// What the server says now.
    pub reported: Head,
    /// What to do.
    pub fix: String,
}

impl HubStatus {
    /// How things stand.
    #[must_use]
    pub fn of(
        identity: &Fingerprint,
        servers: &[Watched],
        coordinator: Option<CoordinatorStatus>,
        now: Timestamp,
    ) -> Self {
        let mut servers: Vec<_> = servers.iter().map(ServerStatus::of).collect();
        servers.sort_by(|a, b| {
            (a.trouble.is_none(), &a.name, &a.identity).cmp(&(b.trouble.is_none(), &b.name, &b.identity))
        });
        let is_overdue = coordinator.as_ref().is_some_and(|coordinator| coordinator.root_key_is_overdue);
        let well = !is_overdue
            && servers.iter().all(|server| server.trouble.is_none() && server.answers != Some(false));
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { identity: identity.clone(), version, now, well, servers, coordinator }
    }
}

impl ServerStatus {
    fn of(watched: &Watched) -> Self {
        let record = &watched.record;
        let (answers, answers_since, why) = match &watched.answers {
            Answers::NotAsked => (None, None, None),
            Answers::Yes { since } => (Some(true), Some(*since), None),
            Answers::No { since, why } => (Some(false), Some(*since), Some(why.clone())),
        };
        Self {
            name: record.name.clone(),
            identity: record.identity.clone(),
            answers,
            answers_since,
            why,
            heard_at: watched.heard_at,
            head: record.head.head,
            witnessed_at: record.witnessed_at,
            record_key: record.record_key.clone(),
            trouble: record.trouble.as_ref().map(|trouble| TroubleStatus {
                verdict: trouble.verdict,
                message: trouble.verdict.in_words().to_owned(),
                since: trouble.since,
                kept: trouble.kept.head,
                reported: trouble.reported.head,
                fix: format!(
                    "find out why (`allod audit verify`), then on the hub: allod hub acknowledge {}",
                    record.identity
                ),
            }),
            acknowledged_troubles: record.past.len(),
        }
    }
}
