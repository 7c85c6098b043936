//! What the gate may ask of the executor: one line in, lines back, on a socket that root, the executor's own user and the
//! gate's may open. The gate passes on what sshd told it and decides nothing.

use crate::{CommandId, Fault, named::RunEnd, recovery::Login};
use serde::{Deserialize, Serialize};

/// The longest line either way, in bytes: the largest standard input in base64.
pub const LINE: usize = 1024 * 1024;

/// The longest first line, in bytes: the longest request that sshd can pass on, in base64.
pub const ASK: usize = 256 * 1024;

/// The one line that opens a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateAsk {
    /// Made by the gate.
    pub id: CommandId,
    /// The request's bytes as they came (`SSH_ORIGINAL_COMMAND`, or the words of whoever is on the machine), in standard
    /// base64; `None` where the login asked for no command.
    pub request: Option<String>,
    /// The caller that the key's line names, where it names one. The key that logged in must be theirs.
    pub caller: Option<String>,
    /// Who logged in, as sshd told. Both are `None` for a local peer.
    pub login: Login,
    /// Whether a certificate logged in, of which `login` has the key then.
    #[serde(default)]
    pub certificate: bool,
    /// The port of the other end, so that what sshd logs can be told apart.
    pub port: Option<u16>,
}

/// A line back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GateReply {
    /// It is refused, or it could not be done.
    Fault(Fault),
    /// `help`: what this caller may run, as text for people.
    Help {
        /// Lines.
        text: String,
        /// The same for programs.
        commands: Vec<crate::messages::named::Runnable>,
    },
    /// Lines that answer it; nothing follows.
    Text(String),
    /// The command takes standard input: send one [`GateInput`] line.
    Stdin {
        /// At most this many bytes.
        limit: u64,
    },
    /// It printed something.
    Output {
        /// Where.
        stream: crate::named::Stream,
        /// Standard base64.
        bytes: String,
    },
    /// It ended; nothing follows.
    Ended(RunEnd),
}

/// The second line, where one was asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GateInput {
    /// Standard base64.
    pub stdin: String,
}
