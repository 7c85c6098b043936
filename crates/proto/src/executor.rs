//! What the agent may ask of the executor: a closed list, one JSON line each way on a local socket.
//!
//! The executor trusts no decision of the agent. [`Action::Perform`] carries the caller's own signed request, verified
//! again; the other actions only carry out what such a request allowed, or look.

use crate::{
    AppRef, Digest, Epoch, Fault, Fingerprint, InstanceId, NamedCommandName, OperationId, ReleaseId, RunId,
    SecretName, Timestamp, UnitName,
    messages::{
        app::ReleaseSummary,
        named::CommandHistoryReply,
        server::{IsolationFact, Succession},
    },
    named::{Definition, RegistryState, RunEvent, RunSummary},
    operation::OperationState,
    record::SignedHead,
    spec::AppSpec,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

/// One line to the executor.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ask {
    /// Chosen by the asker; the answer has the same.
    pub id: u64,
    /// What is asked.
    pub action: Action,
}

/// One line back.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Answer {
    /// The ask's.
    pub id: u64,
    /// What came of it.
    pub outcome: Result<Done, Fault>,
    /// The head of the record afterwards.
    #[serde(default)]
    pub head: Option<SignedHead>,
}

/// A caller's request as it came, so that it can be verified again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SignedCall {
    /// `POST`.
    pub method: String,
    /// `/rpc`.
    pub path: String,
    /// The `x-allod-` headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The exact body.
    pub body: String,
    /// Where it came from, for the record and for `from=`.
    pub source: Option<std::net::IpAddr>,
    /// `rpc` or `socket`, for the record.
    pub door: String,
}

/// The closed list.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// The agent begins a life: a new epoch, the old one ends. First on each connection.
    Attach {
        /// The agent's version.
        version: String,
    },
    /// Verify, authorise, record and do a changing command. Long ones come back as [`Done::Begun`].
    Perform(SignedCall),
    /// Start one instance of a release that is current, or that an open operation brings.
    InstanceStart {
        /// The operation that brings the release; `None` to repeat desired state.
        operation: Option<OperationId>,
        /// The app.
        app: AppRef,
        /// The unit.
        unit: UnitName,
        /// The release.
        release: ReleaseId,
        /// Where it is to listen: loopback.
        address: Option<SocketAddr>,
    },
    /// Stop an instance: SIGTERM, grace, SIGKILL of its whole tree. Answers when it is gone.
    InstanceStop {
        /// Which.
        instance: InstanceId,
        /// Milliseconds between the two signals.
        grace_ms: u64,
    },
    /// Run the health command of an instance, as the instance.
    InstanceCheck {
        /// Which.
        instance: InstanceId,
        /// Milliseconds.
        timeout_ms: u64,
    },
    /// Forget an instance that has exited.
    InstanceForget {
        /// Which.
        instance: InstanceId,
    },
    /// Run the release command of the release an open operation brings, to its end.
    ReleaseCommand {
        /// Which operation.
        operation: OperationId,
    },
    /// The release of an open operation serves from now on.
    Promote {
        /// Which operation.
        operation: OperationId,
    },
    /// An operation ends: its outcome goes to the record. A failed one leaves what was current.
    Finish {
        /// Which operation.
        operation: OperationId,
        /// How it ended.
        state: OperationState,
        /// Why it did not end well.
        fault: Option<Fault>,
    },
    /// All apps as they are wanted, and the instances there are.
    Look {},
    /// Secrets of an app, without values.
    Secrets {
        /// The app.
        app: AppRef,
    },
    /// Releases of an app.
    Releases {
        /// The app.
        app: AppRef,
    },
    /// Reads and refusals to be recorded; durable within a second.
    Observe(Vec<Observation>),
    /// Lines of the record.
    RecordRead {
        /// First sequence number; from the end if negative.
        from: i64,
        /// At most.
        limit: u32,
    },
    /// Check the whole record.
    RecordVerify {},
    /// Counts per command and caller.
    RecordStats {},
    /// How often the gate told of a request by this login.
    GateAsked {
        /// The other end's address.
        from: IpAddr,
        /// The other end's port.
        port: u16,
        /// Not before then.
        since: Timestamp,
    },
    /// The enrolled keys as the executor reads them.
    Keys {},
    /// Every named command, and where they came from.
    Commands {},
    /// How a named command came to be what it is.
    CommandHistory {
        /// Which.
        name: NamedCommandName,
    },
    /// All runs of named commands.
    Runs {},
    /// What happened in a run after so many events; waits a little for more.
    RunRead {
        /// Which.
        run: RunId,
        /// So many were seen.
        after: u64,
    },
    /// Whoever followed a run is gone.
    RunLeft {
        /// Which.
        run: RunId,
    },
    /// Bytes of an instance's log.
    LogRead {
        /// The app.
        app: AppRef,
        /// Which file, from [`Done::Logs`].
        file: String,
        /// From this byte.
        offset: u64,
        /// At most this many bytes, and never more than [`crate::limits::LOG_PART`].
        limit: u64,
    },
    /// Log files of an app.
    LogList {
        /// The app.
        app: AppRef,
    },
}

/// A read or refusal, as the agent says it was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Observation {
    /// Somebody looked.
    Read {
        /// The request's id.
        request: String,
        /// The key.
        key: Option<Fingerprint>,
        /// The fresh key that signed in that key's name.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        delegate: Option<Fingerprint>,
        /// Whose it is.
        name: String,
        /// Their role.
        role: crate::Role,
        /// `rpc` or `socket`.
        door: String,
        /// Where from.
        source: Option<String>,
        /// The command.
        command: String,
        /// The app.
        app: Option<AppRef>,
        /// The fault's code, when it failed.
        code: Option<crate::FaultCode>,
        /// Milliseconds.
        took_ms: u64,
    },
    /// Strangers were refused, counted per source and minute.
    Refusals {
        /// Minute, as Unix time in milliseconds.
        minute: Timestamp,
        /// Where from.
        source: String,
        /// Why.
        reason: String,
        /// How often.
        count: u64,
    },
}

/// What came of an action.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Done {
    /// Nothing more to say.
    Done {},
    /// A life begins.
    Attached(Box<Attached>),
    /// A short command is done: its reply.
    Replied {
        /// The command's reply.
        reply: Value,
    },
    /// A long command is recorded and allowed: the agent carries it out and ends with [`Action::Finish`].
    Begun(Box<Begun>),
    /// An instance runs.
    Started {
        /// It.
        instance: Box<Instance>,
    },
    /// A command ran to its end.
    Ran {
        /// `exit status 0`, `signal 9`, `timeout`.
        exit: String,
        /// Whether it ended well.
        ok: bool,
        /// The end of what it printed.
        tail: Vec<String>,
    },
    /// How things stand.
    Looked(Box<Looked>),
    /// Secrets without values.
    Secrets {
        /// Them.
        secrets: Vec<crate::messages::secrets::SecretEntry>,
    },
    /// Releases.
    Releases {
        /// Newest first.
        releases: Vec<ReleaseSummary>,
    },
    /// Lines of the record.
    Lines(crate::messages::audit::AuditShowReply),
    /// The record was checked.
    Verified(crate::messages::audit::AuditVerifyReply),
    /// Counts.
    Stats(crate::messages::audit::AuditStatsReply),
    /// How often.
    Count {
        /// So often.
        count: u64,
    },
    /// Keys.
    Keys(KeyFiles),
    /// Named commands.
    Commands {
        /// Where they came from.
        registry: RegistryState,
        /// All of them.
        definitions: Vec<Definition>,
    },
    /// The history of one.
    CommandHistory(CommandHistoryReply),
    /// Runs, newest first.
    Runs {
        /// Them.
        runs: Vec<RunSummary>,
    },
    /// What happened in a run.
    Run {
        /// How it stands.
        run: Box<RunSummary>,
        /// The next events.
        events: Vec<RunEvent>,
    },
    /// Log files.
    Logs {
        /// Oldest first.
        files: Vec<LogFile>,
    },
    /// Bytes of a log, base64.
    LogPart {
        /// Standard base64.
        bytes: String,
        /// Size of the file now.
        size: u64,
    },
}

/// A life of the agent begins.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Attached {
    /// The epoch that requests must carry from now on.
    pub epoch: Epoch,
    /// The record key, in OpenSSH form.
    pub record_key: String,
    /// The `age` recipient.
    pub recipient: String,
    /// The head of the record.
    pub head: SignedHead,
    /// What is kept apart, and what is not.
    pub isolation: Vec<IsolationFact>,
    /// Operations that an earlier life of the agent left open.
    pub open: Vec<OpenOperation>,
    /// Where releases lie, for the disk figures.
    pub releases: PathBuf,
    /// The keys as they stand.
    pub keys: KeyFiles,
    /// The identity key, where it is not the one in the agent's own folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub identity_key: Option<IdentityKey>,
    /// How the identity came from the ones before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub succession: Vec<Succession>,
}

/// A private key in OpenSSH form. It is not shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct IdentityKey(String);

impl IdentityKey {
    /// This text.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(text)
    }

    /// The text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for IdentityKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("IdentityKey(…)")
    }
}

/// The enrolled keys and the revoked ones, as their files stand.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFiles {
    /// In `authorized_keys` format.
    pub enrolled: String,
    /// Revoked keys and serials.
    pub revoked: String,
    /// Counts up with each change, so that the agent need not ask for the text again.
    pub generation: u64,
}

/// A long command is allowed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Begun {
    /// What it is now.
    pub operation: OpenOperation,
    /// Whether it was begun by an earlier request with the same id: nothing to do again.
    pub again: bool,
}

/// An operation that has begun and not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenOperation {
    /// Its id.
    pub id: OperationId,
    /// The app.
    pub app: AppRef,
    /// `app.deploy` and so on.
    pub command: String,
    /// Who asked.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// What is to be done.
    pub goal: Goal,
    /// Whether the release has been promoted.
    pub promoted: bool,
}

impl OpenOperation {
    /// The release it brings, if it brings one.
    #[must_use]
    pub fn release(&self) -> Option<&ReleaseId> {
        match &self.goal {
            Goal::Release { release, .. } => Some(&release.id),
            Goal::Scale { .. } | Goal::Stop {} | Goal::Remove {} => None,
        }
    }
}

/// What a long command wants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Goal {
    /// This release serves, by rolling (deploy, rollback, restart, start).
    Release {
        /// The release that is to serve.
        release: Box<Release>,
        /// The wanted copies of each unit.
        scale: BTreeMap<UnitName, u32>,
        /// What served before.
        from: Option<ReleaseId>,
    },
    /// This many copies of a unit of the current release.
    Scale {
        /// The unit.
        unit: UnitName,
        /// How many.
        instances: u32,
    },
    /// No copies.
    Stop {},
    /// No copies, and then nothing left.
    Remove {},
}

/// A release as the executor has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// Its id.
    pub id: ReleaseId,
    /// The digest of its manifest index.
    pub manifest: Digest,
    /// What the app is.
    pub spec: AppSpec,
    /// The word for people.
    pub version: Option<String>,
    /// Versions of the secrets it runs with.
    pub secrets: BTreeMap<SecretName, u64>,
    /// Where its files are, read-only.
    pub files: PathBuf,
    /// When it was made here.
    pub made_at: Timestamp,
    /// Who brought it.
    pub by: String,
}

/// How things stand.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Looked {
    /// Desired state of each app.
    pub apps: Vec<DesiredApp>,
    /// Every instance the executor knows.
    pub instances: Vec<Instance>,
    /// Key files' generation.
    pub keys: u64,
    /// The head of the record.
    pub head: SignedHead,
}

/// How an app is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredApp {
    /// The app.
    pub app: AppRef,
    /// The release that serves.
    pub current: Option<Release>,
    /// The one before, for rolling back.
    pub previous: Option<ReleaseId>,
    /// Copies of each unit; those not named have what the release says.
    pub scale: BTreeMap<UnitName, u32>,
    /// Stopped on purpose.
    pub stopped: bool,
    /// Operation in progress.
    pub operation: Option<OpenOperation>,
    /// Newest versions of the secrets.
    pub secrets: BTreeMap<SecretName, u64>,
    /// The uid its instances run as.
    pub uid: Option<u32>,
}

impl DesiredApp {
    /// How many copies of a unit are wanted, stopped or not.
    #[must_use]
    pub fn wanted(&self, unit: &UnitName) -> u32 {
        let spec = self.current.as_ref().and_then(|release| release.spec.process(unit));
        self.scale.get(unit).copied().or(spec.map(|process| process.instances)).unwrap_or(0)
    }
}

/// An instance as the executor sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// Its id.
    pub id: InstanceId,
    /// Its app.
    pub app: AppRef,
    /// Its unit.
    pub unit: UnitName,
    /// Its release.
    pub release: ReleaseId,
    /// Where it was told to listen.
    pub address: Option<SocketAddr>,
    /// Its main process, while it runs.
    pub pid: Option<u32>,
    /// The uid it runs as, where that tells it from others.
    pub uid: Option<u32>,
    /// When it started.
    pub started_at: Timestamp,
    /// How it ended: `exit status 1`, `signal 9`; `None` while it runs.
    pub exit: Option<String>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Whether it said `READY=1`.
    pub ready: bool,
    /// Ports its process tree listens on, where that can be told.
    pub listens_on: Vec<SocketAddr>,
}

/// One file of an app's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogFile {
    /// Its name: `<instance>.<release>.log` or with `.1` at the end for the older half.
    pub file: String,
    /// Whose lines it has.
    pub instance: InstanceId,
    /// Their release.
    pub release: ReleaseId,
    /// Bytes.
    pub size: u64,
    /// When it was last written.
    pub modified: Timestamp,
}
