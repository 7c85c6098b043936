//! Named commands: running them, what there is, and changing what there is.

use crate::{
    Fingerprint, NamedCommandName, ParamName, Role, RunId, Timestamp,
    named::{Approval, Definition, RegistryState, RunEvent, RunSummary},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `command.run`: run a named command. Also what the ssh door makes of a request line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandRun {
    /// Its name, with the slot at its end where it has one. Checked where it is decided, so that whatever was asked is recorded.
    pub name: String,
    /// Its parameters.
    #[serde(default)]
    pub params: BTreeMap<String, String>,
    /// Standard input, in standard base64, for a command that takes any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stdin: Option<String>,
    /// Whether it goes on when nobody listens; the reply does not wait then.
    #[serde(default)]
    pub detach: bool,
}

impl CommandRun {
    /// As it stands in the record: standard input by its length, names and values cut to what can be meant by them.
    #[must_use]
    pub fn recorded(&self) -> serde_json::Value {
        let cut = |text: &str| text.chars().take(crate::named::VALUE).collect::<String>();
        let params: BTreeMap<String, String> = self
            .params
            .iter()
            .take(crate::named::PARAMS)
            .map(|(name, value)| (cut(name), cut(value)))
            .collect();
        serde_json::json!({
            "name": cut(&self.name),
            "params": params,
            "detach": self.detach,
            "stdin": self.stdin.as_ref().map(String::len),
        })
    }
}

/// Answer to `command.run`: short runs are complete in it, others are followed by `command.output`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRunReply {
    /// How it stands.
    pub run: RunSummary,
    /// What has happened so far, in order.
    pub events: Vec<RunEvent>,
}

/// `command.output`: a run's events, as a stream, to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandOutput {
    /// Which.
    pub run: RunId,
    /// Begin after this many events.
    #[serde(default)]
    pub after: u64,
}

/// `command.cancel`: end a run and its whole tree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandCancel {
    /// Which.
    pub run: RunId,
}

/// Answer to `command.cancel`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandCancelReply {
    /// How it stood when it was asked to end.
    pub run: RunSummary,
}

/// `command.runs`: what runs, and what ran lately.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandRuns {}

/// Answer to `command.runs`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandRunsReply {
    /// Newest first; those that the caller may see.
    pub runs: Vec<RunSummary>,
}

/// `command.list`: the registry, as far as the caller may run it; operators see all of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandList {}

/// Answer to `command.list`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandListReply {
    /// Where it came from.
    pub registry: RegistryState,
    /// What the caller may run.
    pub runnable: Vec<Runnable>,
    /// Every definition; empty for those who are no operators.
    #[serde(default)]
    pub definitions: Vec<Definition>,
}

/// One named command, as somebody who may run it sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Runnable {
    /// Its name.
    pub name: NamedCommandName,
    /// What it does.
    pub summary: String,
    /// Each parameter, with what it may be, in words.
    pub params: BTreeMap<ParamName, String>,
    /// The parameter that may be the end of the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<ParamName>,
    /// Whether somebody else must approve first.
    #[serde(default)]
    pub approval: bool,
}

/// `command.add`: a new definition, or another text for one that there is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandAdd {
    /// Its name: the file's, without `.toml`.
    pub name: NamedCommandName,
    /// The file.
    pub text: String,
}

/// `command.remove`: nobody may run it from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandRemove {
    /// Its name.
    pub name: NamedCommandName,
}

/// Answer to `command.add` and `command.remove`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandChanged {
    /// The registry now.
    pub registry: RegistryState,
    /// What the change means, a line each.
    pub changes: Vec<String>,
}

/// `command.history`: how a definition came to be what it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandHistory {
    /// Its name.
    pub name: NamedCommandName,
}

/// Answer to `command.history`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandHistoryReply {
    /// Oldest first.
    pub changes: Vec<RegistryChange>,
}

/// One change of one definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegistryChange {
    /// The counter it brought.
    pub counter: u64,
    /// When it was taken in.
    pub at: Timestamp,
    /// Who: a key's name, or `root on the machine` for a file that was put there.
    pub by: String,
    /// Their key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Fingerprint>,
    /// What it means, a line each.
    pub changes: Vec<String>,
    /// The file's text from then on; `None` where it was removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text: Option<String>,
}

/// `command.approve`: a second person's yes to one run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CommandApprove {
    /// To what.
    pub approval: Approval,
    /// The approver's SSHSIG over its bytes, namespace `allod-approval-v1`, in standard base64.
    pub signature: String,
}

/// Answer to `command.approve`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommandApproveReply {
    /// Who said yes.
    pub by: Fingerprint,
    /// The role they have.
    pub role: Role,
    /// Until when it may be used, once.
    pub expires: Timestamp,
}

/// `gate.panic`: stop all callers, or let them in again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GatePanic {
    /// Whether they are stopped from now on.
    pub held: bool,
}

/// Answer to `gate.panic`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GatePanicReply {
    /// The registry now.
    pub registry: RegistryState,
    /// Runs of callers that were ended.
    pub ended: Vec<RunSummary>,
}
