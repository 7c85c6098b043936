//! Operations: listing, following, cancelling.

use crate::{AppRef, OperationId, operation::OperationSummary};
use serde::{Deserialize, Serialize};

/// `ops.list`: what runs, and what ran lately.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpsList {
    /// Only this app.
    #[serde(default)]
    pub app: Option<AppRef>,
}

/// Answer to `ops.list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpsListReply {
    /// Newest first.
    pub operations: Vec<OperationSummary>,
}

/// `ops.attach`: an operation's events, as a stream, to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpsAttach {
    /// Which.
    pub operation: OperationId,
    /// Begin after this event; from the first if not given.
    #[serde(default)]
    pub after: Option<u64>,
}

/// `ops.cancel`: end it; what served before still serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OpsCancel {
    /// Which.
    pub operation: OperationId,
}

/// Answer to `ops.cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpsCancelReply {
    /// How it stood when it was asked to end.
    pub operation: OperationSummary,
}
