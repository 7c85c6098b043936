//! What stands behind a door: who may be believed, and who answers.

use crate::server::PeerCredentials;
use allod_proto::{
    AppRef, Command, Digest, Fault, Fingerprint, Request, Timestamp, command::StreamItem,
    executor::SignedCall, record::SignedHead,
};
use allod_signing::{EnrolledKeys, Revoked, Signer, Verified, Window};
use serde_json::Value;
use std::{
    future::Future,
    net::IpAddr,
    sync::{Arc, Mutex},
};
use tokio::sync::mpsc;

/// The keys a server believes, as they stand now.
#[derive(Debug)]
pub struct Keys {
    /// The server's own identity: what a request must be signed for.
    pub audience: Fingerprint,
    /// Who may call.
    pub enrolled: EnrolledKeys,
    /// Who may no longer.
    pub revoked: Revoked,
}

/// The proof of who is calling.
#[derive(Debug)]
pub enum Presented {
    /// A signature that verified and is fresh.
    Signed(Arc<Verified>),
    /// A process on this machine, as the kernel names it.
    Local(PeerCredentials),
}

/// A request whose sender is known.
#[derive(Debug)]
pub struct Incoming {
    /// Who.
    pub presented: Presented,
    /// What.
    pub request: Request,
    /// A change that was signed, as it came, for the executor to verify again.
    pub call: Option<SignedCall>,
    /// Where from.
    pub source: Option<IpAddr>,
    /// `rpc` or `socket`.
    pub door: &'static str,
}

/// A chunk whose sender is known and whose bytes are what was signed.
#[derive(Debug)]
pub struct Chunk {
    /// Who.
    pub verified: Arc<Verified>,
    /// For which app.
    pub app: AppRef,
    /// What the bytes hash to.
    pub digest: Digest,
    /// The bytes.
    pub bytes: bytes::Bytes,
    /// Where from.
    pub source: Option<IpAddr>,
}

/// What a service answers.
#[derive(Debug)]
pub enum Answer {
    /// A reply.
    Reply(Value),
    /// A failure.
    Fault(Fault),
    /// Items as they come, to the end.
    Stream(mpsc::Receiver<StreamItem>),
}

impl From<Result<Value, Fault>> for Answer {
    fn from(outcome: Result<Value, Fault>) -> Self {
        match outcome {
            Ok(value) => Self::Reply(value),
            Err(fault) => Self::Fault(fault),
        }
    }
}

/// What stands behind both doors.
pub trait Service: Send + Sync + 'static {
    /// Signs replies and frames.
    fn identity(&self) -> &dyn Signer;
    /// The keys as they stand now.
    fn keys(&self) -> Arc<Keys>;
    /// The window of nonces, with the current epoch.
    fn window(&self) -> &Mutex<Window>;
    /// The time, on a clock that never goes back.
    fn now(&self) -> Timestamp;
    /// The head of the record.
    fn head(&self) -> SignedHead;
    /// Answers one of the two probes.
    ///
    /// # Errors
    /// A fault for any other command.
    fn probe(&self, command: &Command) -> Result<Value, Fault>;
    /// Answers somebody who is known.
    fn call(&self, incoming: Incoming) -> impl Future<Output = Answer> + Send;
    /// Whether the signer may do this at all, asked before their body is read.
    ///
    /// # Errors
    /// `NotAllowed`.
    fn may(&self, verified: &Verified, command: &Command) -> Result<(), Fault>;
    /// Keeps a chunk.
    fn chunk(&self, chunk: Chunk) -> impl Future<Output = Result<Value, Fault>> + Send;
    /// Counts a refusal of somebody who proved nothing. Must be cheap and bounded.
    fn refused(&self, source: &str, reason: &'static str);
}
