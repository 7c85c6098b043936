//! The head of a server's record, as it travels in replies and lies beside the segments.

use crate::{Digest, Timestamp};
use serde::{Deserialize, Serialize};

/// The newest line of a record: its sequence number and the SHA-256 of the whole line with its newline.
/// An empty record has sequence 0 and [`Digest::ZERO`]; the first line has sequence 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Sequence number of the line.
    pub seq: u64,
    /// SHA-256 of the line with its newline.
    pub hash: Digest,
}

impl Head {
    /// The head of a record without lines.
    pub const EMPTY: Self = Self { seq: 0, hash: Digest::ZERO };
}

/// A head with the executor's signature over it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHead {
    /// The head.
    #[serde(flatten)]
    pub head: Head,
    /// When it was signed.
    pub at: Timestamp,
    /// SSHSIG in the namespace `allod-record-head-v1` by the record key, standard base64 without armour, over
    /// [`SignedHead::signed_bytes`].
    pub signature: String,
}

impl SignedHead {
    /// The bytes that the signature covers: four lines, each ended by a newline: the namespace, the sequence number,
    /// the hash, the time in milliseconds.
    #[must_use]
    pub fn signed_bytes(head: &Head, at: Timestamp) -> Vec<u8> {
        format!("{}\n{}\n{}\n{}\n", crate::headers::HEAD_NAMESPACE, head.seq, head.hash, at.0).into_bytes()
    }
}
