//! The Noise layer of ts2021 (tailscale.com/control/controlbase): an IK handshake, then records. No I/O: bytes are pushed in,
//! bytes come out, and neither end keeps more than one record of what has not been opened.
//!
//! ```text
//! node:         Initiator::start ─▶ Initiation ─▶ X-Tailscale-Handshake … 101 … receive(bytes) ─▶ Session
//! coordinator:  Initiation::from_header ─▶ respond ─▶ Accepted { reply, peer, session }
//! both:         Session::split ─▶ Sealer::seal, Opener::push;   first plaintext: early::EarlyReader
//! ```

pub mod early;
mod handshake;
mod records;

pub use handshake::{
    Accepted, INITIATION_LENGTH, Initiation, Initiator, RESPONSE_LENGTH, Received, error_frame, respond,
};
pub use records::{Opener, RECORD_LENGTH, RECORD_PLAINTEXT, Sealer, Session};

/// The request header in which the initiation travels, in standard base64.
pub const HANDSHAKE_HEADER: &str = "x-tailscale-handshake";
/// What the request upgrades to.
pub const UPGRADE: &str = "tailscale-control-protocol";
/// Where the upgrade is asked for, with `POST`.
pub const PATH: &str = "/ts2021";

const INITIATION: u8 = 1;
const RESPONSE: u8 = 2;
const ERROR: u8 = 3;
const RECORD: u8 = 4;
/// Type and length, before each frame but the initiation.
const HEAD: usize = 3;

/// Why a handshake or a record came to nothing. After any of these the connection is of no more use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoiseError {
    /// It is not an initiation: its length, type or base64 is wrong.
    #[error("not an initiation")]
    NotAnInitiation,
    /// The handshake does not hold: another server key, another version, or changed on the way.
    #[error("the handshake does not hold")]
    Handshake,
    /// The other end refused, in words that nobody vouches for: at most 256 printable characters of them.
    #[error("refused, by somebody unproven: {0}")]
    Refused(String),
    /// A frame of this type has no place here.
    #[error("a frame of type {0} where there may be none")]
    FrameType(u8),
    /// A frame has a length that its type can't have.
    #[error("a frame of {0} bytes where there may be none")]
    FrameLength(usize),
    /// A record is not from the other end, or not the next one.
    #[error("a record that does not hold")]
    Record,
    /// An early payload that is too long or not one.
    #[error("an early payload that is none")]
    EarlyPayload,
    /// Something failed before: nothing more is read or written.
    #[error("the connection failed before")]
    Failed,
}

/// The bytes after a three-byte head of this type.
fn frame(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(body.len()).unwrap_or(u16::MAX);
    let mut frame = Vec::with_capacity(HEAD.saturating_add(body.len()));
    frame.push(kind);
    frame.extend_from_slice(&length.to_be_bytes());
    frame.extend(body.iter().take(usize::from(length)));
    frame
}

#[cfg(test)]
mod tests;
