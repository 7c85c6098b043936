//! What goes wrong, as it travels: one code, one sentence, one hint. Programs match the code, never the message.

use serde::{Deserialize, Serialize};
use std::fmt;

/// A failure as the other side may see it. What only the log may see stays in the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Fault {
    /// What kind of failure; decides HTTP status, exit code and whether a retry is safe.
    pub code: FaultCode,
    /// One sentence for the person.
    pub message: String,
    /// What the person can do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The request this belongs to, for looking it up in the server's log and record.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<String>,
    /// The server's clock, told with [`FaultCode::Clock`] to a caller whose signature is otherwise good.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_time: Option<crate::Timestamp>,
}

impl Fault {
    /// A fault without hint and request.
    pub fn new(code: FaultCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, request: None, server_time: None }
    }

    /// The same with a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same for a request.
    #[must_use]
    pub fn request(mut self, request: impl Into<String>) -> Self {
        self.request = Some(request.into());
        self
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $exit:literal, $retry:literal;)*) => {
        /// The kinds of failure. One table fixes each one's HTTP status, exit code and whether a retry is safe.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        pub enum FaultCode {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
            /// A code that a newer server knows and this program does not.
            #[serde(other, rename = "unknown")]
            Unknown,
        }

        impl FaultCode {
            /// Every code this program knows.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// The code as written on the wire.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text,)* Self::Unknown => "unknown" }
            }

            /// The HTTP status of a reply with this code.
            #[must_use]
            pub fn status(self) -> u16 {
                match self { $(Self::$name => $status,)* Self::Unknown => 500 }
            }

            /// The exit code of a client that ends with this code.
            #[must_use]
            pub fn exit_code(self) -> u8 {
                match self { $(Self::$name => $exit,)* Self::Unknown => 1 }
            }

            /// Whether the same request may be sent again, unchanged, with hope of another answer.
            #[must_use]
            pub fn retry_is_safe(self) -> bool {
                match self { $(Self::$name => $retry,)* Self::Unknown => false }
            }
        }
    };
}

// Exit codes: 1 internal, 2 usage, 3 refused, 4 not allowed, 5 not found, 6 conflict or busy, 7 unreachable,
// 8 unhealthy, 9 a confirmation is needed, 10 the server is not who it was, 13 nobody knows how it ended.
codes! {
    /// A defect or a failure of the machine; the log has the cause.
    Internal = "internal", 500, 1, false;
    /// The message is not one of the protocol.
    Malformed = "malformed", 400, 2, false;
    /// A value is out of its bounds or makes no sense.
    Invalid = "invalid", 422, 2, false;
    /// The body or chunk is larger than allowed.
    TooLarge = "too_large", 413, 2, false;
    /// No protocol version in common.
    Version = "version", 426, 2, false;
    /// Not signed, not signed by an enrolled key, or not fresh. Says no more to someone who proved nothing.
    Refused = "refused", 401, 3, false;
    /// The signature is good but from another life of the agent; sign again with the epoch of this reply.
    StaleEpoch = "stale_epoch", 401, 3, false;
    /// The signature is good but the two clocks disagree; the message has the server's time.
    Clock = "clock", 401, 3, false;
    /// The same nonce was used before.
    Replay = "replay", 401, 3, false;
    /// The caller is known and may not do this.
    NotAllowed = "not_allowed", 403, 4, false;
    /// There is no such thing.
    NotFound = "not_found", 404, 5, false;
    /// What the command depends on has changed, or belongs to another.
    Conflict = "conflict", 409, 6, false;
    /// Something else is in progress; later may do.
    Busy = "busy", 409, 6, true;
    /// Too many requests or connections.
    TooMany = "too_many", 429, 6, true;
    /// The server, or a part of it, does not answer.
    Unreachable = "unreachable", 503, 7, true;
    /// It took longer than it may.
    Timeout = "timeout", 504, 7, true;
    /// The app did not become healthy; what served before still serves.
    Unhealthy = "unhealthy", 424, 8, false;
    /// The disk is full, or so full that only what frees it is allowed.
    DiskFull = "disk_full", 507, 1, true;
    /// The record can't be written, so nothing was done.
    RecordUnavailable = "record_unavailable", 503, 1, true;
    /// The operation was cancelled.
    Cancelled = "cancelled", 409, 6, false;
    /// A confirmation is needed and nobody can be asked.
    Confirmation = "confirmation", 400, 9, false;
    /// The server's identity or record is not what it was.
    Untrusted = "untrusted", 502, 10, false;
    /// It was begun, and nobody knows how it ended; it is not begun again under the same id.
    UnknownOutcome = "unknown_outcome", 500, 13, false;
}

impl fmt::Display for FaultCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back_as_itself() {
        for code in FaultCode::ALL {
            let text = serde_json::to_string(code).unwrap();
            assert_eq!(text, format!("\"{code}\""));
            assert_eq!(serde_json::from_str::<FaultCode>(&text).unwrap(), *code);
        }
    }

    #[test]
    fn a_code_of_a_newer_server_is_unknown_and_not_an_error() {
        assert_eq!(serde_json::from_str::<FaultCode>("\"from_the_future\"").unwrap(), FaultCode::Unknown);
    }
}
