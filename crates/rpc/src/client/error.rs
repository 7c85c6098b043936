//! Why a call came to nothing, with a code, a sentence and a hint each.

use allod_proto::{Fault, FaultCode, Fingerprint, record::Head};

/// Why a call came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("{what} can't be reached: {why}")]
    Unreachable {
        /// The server.
        what: String,
        /// Why.
        why: String,
    },
    /// The connection ended before the answer, also after trying again.
    #[error("the connection to {what} was lost before its answer came: {why}")]
    Lost {
        /// The server.
        what: String,
        /// Why.
        why: String,
    },
    /// The answer did not come in time. Whether the command was done is not known.
    #[error("{what} did not answer within {seconds} s")]
    Timeout {
        /// The server.
        what: String,
        /// How long was waited.
        seconds: u64,
    },
    /// The server says no, and signed it.
    #[error("{}", .0.message)]
    Fault(Fault),
    /// Every key that could be tried was refused.
    #[error("{what} accepted none of the keys that were tried: {}", list(.tried))]
    NoKeyAccepted {
        /// The server.
        what: String,
        /// In the order tried.
        tried: Vec<Fingerprint>,
        /// Whether the server's identity signed the refusal.
        signed: bool,
    },
    /// There is no key to sign with.
    #[error("there is no key to sign with{}", if .0.is_empty() { String::new() } else { format!(": {}", .0) })]
    NoKey(String),
    /// The key could not sign.
    #[error("the key {key} could not sign: {why}")]
    Sign {
        /// Which key.
        key: String,
        /// Why.
        why: String,
    },
    /// The answer carries no signature; nothing of it but the status is told.
    #[error("{what} gave an answer (status {status}) that isn't signed by {expected}")]
    Unsigned {
        /// The server.
        what: String,
        /// The pinned identity.
        expected: Fingerprint,
        /// The HTTP status, which anybody may have written.
        status: u16,
    },
    /// Someone else answers at the server's address.
    #[error("{what} is not the server it was: its identity is {got}, expected {expected}")]
    Impostor {
        /// The server.
        what: String,
        /// The pinned identity.
        expected: Fingerprint,
        /// Who answered.
        got: Fingerprint,
    },
    /// The answer breaks the protocol or its signature does not hold.
    #[error("the answer is not to be trusted: {0}")]
    BadReply(String),
    /// The server's record is shorter than it was.
    #[error(
        "the record of {what} went back: it ended at line {}, a client has seen line {}",
        got.seq, known.seq
    )]
    RecordWentBack {
        /// The server.
        what: String,
        /// The highest head seen.
        known: Head,
        /// The head in the reply.
        got: Head,
    },
    /// The server's record has another line where one was seen.
    #[error("the record of {what} was rewritten: line {} is {}, a client has seen {}", got.seq, got.hash, known.hash)]
    RecordForked {
        /// The server.
        what: String,
        /// The head seen.
        known: Head,
        /// The head in the reply.
        got: Head,
    },
    /// The record's head is signed by another key than the pinned one.
    #[error("the record of {what} is signed by {got}, expected the record key {expected}")]
    RecordKey {
        /// The server.
        what: String,
        /// The pinned record key.
        expected: Fingerprint,
        /// Who signed.
        got: Fingerprint,
    },
    /// A stream ended without its last frame.
    #[error("the stream from {what} was cut off: {why}")]
    CutOff {
        /// The server.
        what: String,
        /// How.
        why: String,
    },
    /// The versions have nothing in common.
    #[error(
        "{what} speaks protocol versions {oldest} to {newest}, this program {} to {}",
        allod_proto::OLDEST_VERSION,
        allod_proto::VERSION
    )]
    Version {
        /// The server.
        what: String,
        /// Its oldest.
        oldest: u32,
        /// Its newest.
        newest: u32,
        /// The program it claims to run.
        version: String,
    },
}

fn list(keys: &[Fingerprint]) -> String {
    keys.iter().map(Fingerprint::as_str).collect::<Vec<_>>().join(", ")
}

impl ClientError {
    /// Decides the exit code and whether a retry has hope.
    #[must_use]
    pub fn code(&self) -> FaultCode {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::CutOff { .. } => FaultCode::Unreachable,
            Self::Timeout { .. } => FaultCode::Timeout,
            Self::Fault(fault) => fault.code,
            Self::NoKeyAccepted { .. } | Self::NoKey(_) | Self::Sign { .. } => FaultCode::Refused,
            // Agents don't sign for those who proved nothing, such as the holder of a key that was just revoked.
            Self::Unsigned { status: 401, .. } => FaultCode::Refused,
            Self::Unsigned { .. }
            | Self::Impostor { .. }
            | Self::BadReply(_)
            | Self::RecordWentBack { .. }
            | Self::RecordForked { .. }
            | Self::RecordKey { .. } => FaultCode::Untrusted,
            Self::Version { .. } => FaultCode::Version,
        }
    }

    /// The same as a fault, with a hint.
    #[must_use]
    pub fn to_fault(&self) -> Fault {
        if let Self::Fault(fault) = self {
            return fault.clone();
        }
        let fault = Fault::new(self.code(), self.to_string());
        if let Self::Version { oldest, version, .. } = self {
            return fault.hint(if *oldest > allod_proto::VERSION {
                format!("this program is too old for the server: install allod {version} or newer here")
            } else {
                format!("the server is too old for this program: upgrade it; it runs allod {version}")
            });
        }
        match self.advice() {
            Some(hint) => fault.hint(hint),
            None => fault,
        }
    }

    fn advice(&self) -> Option<&'static str> {
        match self {
            Self::Fault(_) | Self::Version { .. } => None,
            Self::Unreachable { .. } => Some(
                "is the mesh up on both machines, and the agent running there? `allod doctor` looks at each",
            ),
            Self::Lost { .. } => Some("it may have been done: look before doing it again"),
            Self::Timeout { .. } => Some("it may still be at work: `allod ops list` shows what runs"),
            Self::NoKeyAccepted { signed: true, .. } => {
                Some("an owner enrols a key by `allod keys add`; `--key FILE` names the key to sign with")
            }
            Self::NoKeyAccepted { signed: false, .. } => Some(
                "the refusal isn't signed, so it proves nothing about the server; `--key FILE` names a key",
            ),
            Self::NoKey(_) => {
                Some("name one by `--key FILE`, or add one to ssh-agent; `ssh-keygen -t ed25519` makes one")
            }
            Self::Sign { .. } => Some("`--key FILE` names another key"),
            Self::Unsigned { .. } => Some(
                "something else may answer at that address; `allod servers list` shows the address and identity",
            ),
            Self::Impostor { .. } => Some(
                "nothing was sent that could harm it. If the server was reinstalled, `allod servers trust NAME` \
                 shows both identities; otherwise someone is in its place",
            ),
            Self::BadReply(_) => {
                Some("something between here and the server changes answers, or the versions differ")
            }
            Self::RecordWentBack { .. } | Self::RecordForked { .. } => Some(
                "somebody removed or rewrote what happened there, or an old copy of the disk was put back. \
                 `allod audit verify` reads the whole record; `allod servers trust NAME` accepts it as it is now",
            ),
            Self::RecordKey { .. } => {
                Some("`allod servers trust NAME` shows both keys, if it was reinstalled")
            }
            Self::CutOff { .. } => Some("what was shown before is verified; the rest is missing"),
        }
    }
}
