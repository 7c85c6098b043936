//! Exactly the bytes that are signed: lines that each end in a newline, the namespace first. No field can hold a
//! newline, so different fields are different bytes.

use crate::delegation::Delegation;
use allod_proto::{
    Digest, Epoch, Fingerprint, Nonce, Timestamp,
    headers::{FRAME_NAMESPACE, MANAGEMENT_NAMESPACE, REPLY_NAMESPACE},
    record::Head,
};

const METHOD_LIMIT: usize = 16;
const PATH_LIMIT: usize = 4096;

/// A method and a path are such that a signature can cover them without ambiguity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route<'a> {
    method: &'a str,
    path: &'a str,
}

/// A method or path that no request of ours has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "the method must be upper-case letters and the path begin with / and be printable ASCII without spaces"
)]
pub struct RouteError;

impl<'a> Route<'a> {
    /// `method` is 1 to 16 upper-case ASCII letters; `path`, with its query, begins with `/` and is at most 4096
    /// printable ASCII characters without spaces.
    ///
    /// # Errors
    /// [`RouteError`] when they are not.
    pub fn new(method: &'a str, path: &'a str) -> Result<Self, RouteError> {
        let method_holds =
            (1..=METHOD_LIMIT).contains(&method.len()) && method.bytes().all(|b| b.is_ascii_uppercase());
        let path_holds =
            path.starts_with('/') && path.len() <= PATH_LIMIT && path.bytes().all(|b| b.is_ascii_graphic());
        if method_holds && path_holds { Ok(Self { method, path }) } else { Err(RouteError) }
    }

    /// Such as `POST`.
    #[must_use]
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// With its query, such as `/rpc`.
    #[must_use]
    pub fn path(&self) -> &'a str {
        self.path
    }
}

/// What the signature of a request covers.
#[derive(Debug, Clone, Copy)]
pub struct RequestFields<'a> {
    /// The identity of the server that the request is for.
    pub audience: &'a Fingerprint,
    /// The life of its agent that the request is for.
    pub epoch: &'a Epoch,
    /// Method and path with query.
    pub route: Route<'a>,
    /// When the request was signed.
    pub timestamp: Timestamp,
    /// The request's nonce.
    pub nonce: &'a Nonce,
    /// The digest of the body.
    pub body: &'a Digest,
}

impl RequestFields<'_> {
    /// The bytes to sign, in the namespace `allod-management-v1`.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let Self { audience, epoch, route: Route { method, path }, timestamp, nonce, body } = self;
        format!(
            "{MANAGEMENT_NAMESPACE}\n{audience}\n{epoch}\n{method}\n{path}\n{timestamp}\n{nonce}\n{body}\n"
        )
        .into_bytes()
    }

    /// The bytes to sign under a delegation: a ninth line has the digest of the delegation's header.
    #[must_use]
    pub fn delegated_bytes(&self, delegation: &Digest) -> Vec<u8> {
        let mut bytes = self.bytes();
        bytes.extend_from_slice(format!("{delegation}\n").as_bytes());
        bytes
    }

    /// Whichever of the two it is.
    #[must_use]
    pub fn bytes_under(&self, delegation: Option<&Delegation>) -> Vec<u8> {
        match delegation {
            None => self.bytes(),
            Some(delegation) => self.delegated_bytes(&delegation.digest()),
        }
    }
}

/// What the signature of a reply covers.
#[derive(Debug, Clone, Copy)]
pub struct ReplyFields<'a> {
    /// The nonce of the request that is answered.
    pub nonce: &'a Nonce,
    /// The HTTP status.
    pub status: u16,
    /// The digest of the reply's body; of the empty string when a stream of signed frames follows.
    pub body: &'a Digest,
    /// The head of the server's record.
    pub head: &'a Head,
    /// The epoch of the server's agent.
    pub epoch: &'a Epoch,
}

impl ReplyFields<'_> {
    /// The bytes to sign, in the namespace `allod-reply-v1`.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let Self { nonce, status, body, head: Head { seq, hash }, epoch } = self;
        format!("{REPLY_NAMESPACE}\n{nonce}\n{status}\n{body}\n{seq}\n{hash}\n{epoch}\n").into_bytes()
    }
}

/// What the signature of one frame of a stream covers.
#[derive(Debug, Clone, Copy)]
pub struct FrameFields<'a> {
    /// The nonce of the request that the stream answers.
    pub nonce: &'a Nonce,
    /// 0 for the first frame.
    pub sequence: u64,
    /// The digest of the bytes signed for the frame before; [`Digest::ZERO`] for the first.
    pub before: &'a Digest,
    /// The digest of the frame's payload.
    pub payload: &'a Digest,
    /// Whether no frame follows. A stream that ends without such a frame was cut.
    pub last: bool,
}

impl FrameFields<'_> {
    /// The bytes to sign, in the namespace `allod-frame-v1`. Their SHA-256 is what the next frame calls `before`.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let Self { nonce, sequence, before, payload, last } = self;
        let end = if *last { "last" } else { "more" };
        format!("{FRAME_NAMESPACE}\n{nonce}\n{sequence}\n{before}\n{payload}\n{end}\n").into_bytes()
    }
}

#[cfg(test)]
mod tests;
