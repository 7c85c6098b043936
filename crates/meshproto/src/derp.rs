//! DERP, the protocol of the relays (tailscale.com/derp): frames of a type, a BE32 length and a body, inside TLS after
//! `Upgrade: DERP`. A relay forwards packets from node key to node key and can't read them.
//!
//! ```text
//! relay  ─▶ ServerKey            node ─▶ ClientInfo (boxed), NotePreferred
//! relay  ─▶ ServerInfo (boxed)   then both: packets, pings, signs of life
//! ```

mod boxes;
mod frames;

pub use boxes::{ClientInfo, DerpBox, ServerInfo, VERSION};
pub use frames::{Frame, FrameReader, GoneReason, put_received, put_sent};

/// Where the upgrade is asked for, with `GET`.
pub const PATH: &str = "/derp";
/// What the request upgrades to.
pub const UPGRADE: &str = "DERP";
/// How often a relay sends [`Frame::KeepAlive`] at least. Stock clients give a relay up that is silent for twice as long.
pub const KEEP_ALIVE: std::time::Duration = std::time::Duration::from_secs(60);

/// Why bytes are no frame or a box does not open. The connection is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DerpError {
    /// A frame of this type can't have this length.
    #[error("a relay frame of type {kind} with {length} bytes")]
    Length {
        /// Its type.
        kind: u8,
        /// Bytes of its body.
        length: usize,
    },
    /// A server key without the magic that begins it.
    #[error("not a relay")]
    NotARelay,
    /// What an end says of itself is not sealed by the key that it names.
    #[error("a box that does not open")]
    Box,
    /// What an end says of itself is not that.
    #[error("not what an end of a relay says of itself")]
    Info,
    /// The system has no random numbers.
    #[error("no random numbers")]
    Random,
}

#[cfg(test)]
mod tests;
