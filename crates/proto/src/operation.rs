//! Long work: an operation with an id that belongs to the agent, streams events and survives the client.

use crate::{AppRef, Fault, InstanceId, OperationId, ReleaseId, Timestamp};
use serde::{Deserialize, Serialize};

/// An operation in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationSummary {
    /// Its id.
    pub id: OperationId,
    /// What it works on.
    pub app: AppRef,
    /// The command that began it: `app.deploy`.
    pub command: String,
    /// Who began it.
    pub by: String,
    /// When.
    pub started_at: Timestamp,
    /// When it ended.
    #[serde(default)]
    pub ended_at: Option<Timestamp>,
    /// How it stands.
    pub state: OperationState,
    /// The release it brings, if it brings one.
    #[serde(default)]
    pub release: Option<ReleaseId>,
    /// Why it failed.
    #[serde(default)]
    pub fault: Option<Fault>,
}

/// How an operation stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OperationState {
    /// At work.
    Running,
    /// Ended as asked.
    Done,
    /// Ended otherwise; what served before still serves.
    Failed,
    /// Ended because someone asked for it; what served before still serves.
    Cancelled,
}

/// Something that happened in an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperationEvent {
    /// Counts from 0 within the operation.
    pub seq: u64,
    /// When.
    pub at: Timestamp,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// A step began.
    Began {
        /// Which.
        step: Step,
        /// On what: `web 1 of 2`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// A step ended well.
    Ended {
        /// Which.
        step: Step,
        /// How long it took.
        took_ms: u64,
        /// What it found: `200 in 3 ms`.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        detail: Option<String>,
    },
    /// Something worth a line.
    Note {
        /// The line.
        text: String,
    },
    /// Why the operation fails, with what a person needs to see.
    Failure(Box<Failure>),
    /// The last event.
    Finished {
        /// How it ended.
        state: OperationState,
        /// The fault, where it did not end well.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        fault: Option<Fault>,
        /// The release that serves now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        serving: Option<ReleaseId>,
    },
}

/// A step of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Files put together from chunks, read-only.
    Assemble,
    /// The release command.
    ReleaseCommand,
    /// New instances started.
    Start,
    /// Waiting until they are healthy.
    Health,
    /// The route swapped and acknowledged by the proxy.
    Switch,
    /// Requests in flight to old instances end.
    Drain,
    /// Old instances stopped.
    Stop,
    /// Back to what was, after a failure.
    Undo,
    /// Releases beyond what is kept removed.
    Prune,
}

impl Step {
    /// The step as a word for people and JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Assemble => "assemble",
            Self::ReleaseCommand => "release_command",
            Self::Start => "start",
            Self::Health => "health",
            Self::Switch => "switch",
            Self::Drain => "drain",
            Self::Stop => "stop",
            Self::Undo => "undo",
            Self::Prune => "prune",
        }
    }
}

/// Why an operation fails.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The step that failed.
    pub step: Step,
    /// What it means.
    pub fault: Fault,
    /// The instance it is about.
    #[serde(default)]
    pub instance: Option<InstanceId>,
    /// The last probe.
    #[serde(default)]
    pub probe: Option<ProbeReport>,
    /// How the instance ended, if it did: `exit status 1`, `signal 9`.
    #[serde(default)]
    pub exit: Option<String>,
    /// The last lines of its log.
    #[serde(default)]
    pub log_tail: Vec<String>,
}

/// What a health probe found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeReport {
    /// What was asked: `GET http://127.0.0.1:20001/health` or `tcp 127.0.0.1:20001`.
    pub target: String,
    /// HTTP status, if one came.
    #[serde(default)]
    pub status: Option<u16>,
    /// The `Location` of a redirect.
    #[serde(default)]
    pub location: Option<String>,
    /// What went wrong: `connection refused`.
    #[serde(default)]
    pub error: Option<String>,
    /// Ports that the instance's processes really listen on.
    #[serde(default)]
    pub listens_on: Vec<String>,
    /// How many probes were made.
    pub tries: u32,
    /// How long this one took.
    pub took_ms: u64,
}
