//! Named commands: what root has declared may be run on a server, by whom, and with which parameters. What is written in
//! `commands.d` becomes a [`Definition`]; whoever may run it sees the same on the wire.

use crate::{Digest, Fault, Fingerprint, NamedCommandName, ParamName, Role, RunId, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest request line that the ssh door takes, in bytes.
pub const REQUEST_LINE: usize = 4096;
/// The longest value of a parameter, in bytes.
pub const VALUE: usize = 256;
/// The most parameters of one command.
pub const PARAMS: usize = 32;
/// The most commands of one registry.
pub const COMMANDS: usize = 1000;
/// The largest file of the registry, in bytes.
pub const DEFINITION: usize = 64 * 1024;
/// The most bytes of standard input that a command may take.
pub const STDIN: u64 = 512 * 1024;
/// The most bytes of output that are kept of one run.
pub const OUTPUT: u64 = 16 * 1024 * 1024;
/// The most bytes of output in one event.
pub const OUTPUT_PART: usize = 32 * 1024;

/// The bytes of memory that all processes of one run may use together, where its file says nothing.
pub const MEMORY: u64 = 1 << 30;
/// The processes and threads of one run, where its file says nothing.
pub const PROCESSES: u32 = 512;
/// How a run or an instance ended begins with this, where it was killed for its memory; the bound follows.
pub const OVER_MEMORY: &str = "killed: over its memory of ";

/// A named command, as meant: every value was checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// What it is called.
    pub name: NamedCommandName,
    /// What it does, in one line.
    pub summary: String,
    /// The absolute program and its arguments; `{param}` stands for a parameter's value.
    pub exec: Vec<String>,
    /// The absolute interpreter and its options, where the program is a script.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interpreter: Vec<String>,
    /// The user it runs as; a uid of its own where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_as: Option<String>,
    /// Where it runs: absolute.
    pub directory: String,
    /// Its parameters.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub params: BTreeMap<ParamName, Param>,
    /// The parameter that may be the end of the name: `pip_install_requests` is `pip_install package=requests`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub slot: Option<ParamName>,
    /// Milliseconds until its whole tree is killed.
    pub timeout_ms: u64,
    /// How many may run at once.
    pub concurrency: u32,
    /// How many may wait for their turn.
    pub queue: u32,
    /// How many calls of one caller within a minute.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_minute: Option<u32>,
    /// How many bytes of its output are kept.
    pub output_limit: u64,
    /// How many bytes of standard input it takes; none where it is 0.
    #[serde(default)]
    pub stdin_limit: u64,
    /// The bytes of memory that all its processes may use together; [`MEMORY`] where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    /// How many processes and threads it may have; [`PROCESSES`] where it says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub processes: Option<u32>,
    /// Its environment, besides `PATH`, `LANG`, `ALLOD_CALLER` and `ALLOD_RUN`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// What the program's file must be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
    /// Names or fingerprints of the keys that may run it, besides operators and owners.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub callers: Vec<String>,
    /// Whether it goes on when its client is gone.
    pub survives_client: bool,
    /// Who else must have said yes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<ApprovalRule>,
}

impl Definition {
    /// Bytes of memory for one run.
    #[must_use]
    pub fn memory(&self) -> u64 {
        self.memory_bytes.unwrap_or(MEMORY)
    }

    /// Processes and threads for one run.
    #[must_use]
    pub fn process_bound(&self) -> u32 {
        self.processes.unwrap_or(PROCESSES)
    }
}

/// What a parameter may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Param {
    /// Its values.
    #[serde(flatten)]
    pub kind: ParamKind,
    /// What it is if not given; it must be given where there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Whether the record has a keyed hash of it instead of its value.
    #[serde(default)]
    pub secret: bool,
}

/// The kinds of parameters. Each value is also in the alphabet that all values share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ParamKind {
    /// One of these.
    Choice {
        /// Them.
        values: Vec<String>,
    },
    /// A line of a root-owned file, as it is when the command is called.
    List {
        /// Its absolute path.
        file: String,
    },
    /// A whole number.
    Integer {
        /// At least.
        min: i64,
        /// At most.
        max: i64,
    },
    /// A text that this regular expression matches as a whole.
    Pattern {
        /// The pattern.
        pattern: String,
        /// The most bytes.
        max_length: u32,
    },
}

/// Whose approval a command takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRule {
    /// The least role of the second key.
    pub role: Role,
    /// How long an approval may be good for, in seconds.
    pub within_seconds: u64,
}

/// Where the standing registry came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistryState {
    /// Counts up with every change.
    pub counter: u64,
    /// The digest of all definitions.
    pub digest: Digest,
    /// When it was taken in.
    pub since: Timestamp,
    /// What is wrong with the files as they are now; what stood before stands where there is any.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub complaints: Vec<String>,
    /// Whether all callers are stopped (`gate panic`).
    #[serde(default)]
    pub held: bool,
    /// What of a run has no bound on this server, and why; nothing where all that a definition bounds is bounded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unbounded: Option<String>,
}

/// How a run stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunSummary {
    /// Its id.
    pub id: RunId,
    /// Which command.
    pub name: NamedCommandName,
    /// Who asked.
    pub by: String,
    /// Their key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<Fingerprint>,
    /// When.
    pub at: Timestamp,
    /// Its state.
    pub state: RunState,
    /// Bytes that it printed.
    pub output_bytes: u64,
    /// Whether some of them are not kept.
    pub truncated: bool,
    /// Whether none of them are kept any more: it was long ago, or before the server began anew.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub output_gone: bool,
}

/// The states of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunState {
    /// It waits for its turn.
    Waiting {},
    /// It runs.
    Running {},
    /// It ended.
    Ended(RunEnd),
}

/// How a run ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunEnd {
    /// The exit code; `None` where a signal or nothing ended it.
    pub code: Option<i32>,
    /// `exit status 0`, `signal 9`, `timeout`, `cancelled`, `not started`, `killed: over its memory of 64 MB`.
    pub how: String,
    /// How long it ran, in milliseconds.
    pub took_ms: u64,
    /// Bytes that it printed.
    pub output_bytes: u64,
    /// Whether some of them were not kept.
    pub truncated: bool,
    /// The program's digest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub program: Option<Digest>,
    /// The counter of the registry that allowed it.
    pub registry: u64,
    /// Why it could not be started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

impl RunEnd {
    /// The exit code that whoever asked for the run ends with: the command's own, and as a shell tells a signal.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        let signal = || self.how.strip_prefix("signal ").and_then(|signal| signal.parse::<u8>().ok());
        match (self.code, &self.fault) {
            (Some(code), _) => u8::try_from(code).unwrap_or(255),
            (None, Some(fault)) => fault.code.exit_code(),
            (None, None) if self.how == "timeout" => 124,
            // As a shell tells SIGKILL.
            (None, None) if self.how.starts_with(OVER_MEMORY) => 137,
            (None, None) => signal().map_or(1, |signal| signal.saturating_add(128)),
        }
    }
}

/// Which of a run's two streams.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// What happens in a run, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RunEvent {
    /// It began; what comes before waited.
    Began {},
    /// It printed something.
    Output {
        /// Where.
        stream: Stream,
        /// The bytes, in standard base64; at most [`OUTPUT_PART`] of them.
        bytes: String,
    },
    /// It ended; nothing follows.
    Ended(RunEnd),
}

/// A second person's yes, as it is signed: SSHSIG in the namespace `allod-approval-v1`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Approval {
    /// For which command.
    pub name: NamedCommandName,
    /// With exactly these parameters.
    pub params: BTreeMap<ParamName, String>,
    /// By which caller: a name or a fingerprint.
    pub caller: String,
    /// Until when.
    pub expires: Timestamp,
    /// A random word, so that each is one approval.
    pub nonce: crate::Nonce,
}

/// The namespace of an approval's signature.
pub const APPROVAL_NAMESPACE: &str = "allod-approval-v1";

impl Approval {
    /// The signed bytes: every line ends with a newline, parameters in the order of their names.
    #[must_use]
    pub fn bytes(&self, server: &Fingerprint) -> Vec<u8> {
        let Self { name, params, caller, expires, nonce } = self;
        let mut text = format!("{APPROVAL_NAMESPACE}\n{server}\n{caller}\n{name}\n{}\n{nonce}\n", expires.0);
        for (param, value) in params {
            text.push_str(&format!("{param}={value}\n"));
        }
        text.into_bytes()
    }
}
