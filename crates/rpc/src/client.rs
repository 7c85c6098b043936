//! The client's end of the signed door. A reply is believed, and shown, only when the pinned identity signed it for
//! this very request; a record that went back is an error, never a note.

mod connection;
mod dial;
mod error;
mod exchange;
mod keys;
mod memory;
mod probe;
mod random;
mod stream;
mod trust;

pub use dial::{Dialer, Dialing, Tcp, Transport};
pub use error::ClientError;
pub use keys::{Keys, OneKey};
pub use memory::{Forgetful, Memory, Notice};
pub use probe::{hello, hello_over, server_info, witnessed};
pub use stream::Stream;
pub use trust::verify_head;

use allod_proto::{
    AppRef, CommandId, Digest, Epoch, Fingerprint, Request, Timestamp,
    command::Call,
    headers::{CHUNKS_PATH, RPC_PATH},
    messages::server::ChunkReply,
    record::SignedHead,
};
use allod_signing::Signer;
use bytes::Bytes;
use connection::Connection;
use exchange::Outgoing;
use serde::de::DeserializeOwned;
use std::{net::SocketAddr, sync::Arc};

/// A server as the client knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// What people call it; used in messages.
    pub name: String,
    /// Where its management API is: resolved once, so that what was checked is what is connected to.
    pub address: SocketAddr,
    /// Its pinned identity.
    pub identity: Fingerprint,
    /// Its pinned record key; `None` while it is being added.
    pub record_key: Option<Fingerprint>,
}

/// Reads the client's clock.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A connection to one server, kept alive between calls and opened again when it was lost. Not for concurrent use:
/// several may run side by side.
pub struct Client {
    peer: Peer,
    keys: Box<dyn Keys>,
    signer: Option<Arc<dyn Signer>>,
    /// Whether the server has accepted the signer's key before, so that a refusal is about something else.
    proven: bool,
    tried: Vec<Fingerprint>,
    memory: Box<dyn Memory>,
    dialer: Arc<dyn Dialer>,
    connection: Option<Connection>,
    epoch: Option<Epoch>,
    /// Whether the server has claimed the pinned identity by `hello`.
    greeted: bool,
    /// The newest protocol version that both know.
    version: Option<u32>,
    /// The server has just proved to be another identity's successor.
    succeeded: bool,
    /// What is remembered of the server's version has proved wrong.
    version_unsure: bool,
    /// Why the keys that were passed over could not be used.
    unusable: Option<String>,
    clock: Clock,
    /// The server's clock minus ours, once a signed reply told that they differ too much.
    clock_offset_ms: i64,
    head: Option<SignedHead>,
}

impl Client {
    /// Opens a connection, for requests signed by this key.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when there is none within 5 seconds.
    pub async fn connect(
        peer: Peer,
        signer: Arc<dyn Signer>,
        memory: Box<dyn Memory>,
    ) -> Result<Self, ClientError> {
        Self::connect_with_keys(peer, Box::new(OneKey::new(signer)), memory).await
    }

    /// Opens a connection, for requests signed by the first of these keys that the server accepts.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when there is none within 5 seconds.
    pub async fn connect_with_keys(
        peer: Peer,
        keys: Box<dyn Keys>,
        memory: Box<dyn Memory>,
    ) -> Result<Self, ClientError> {
        Self::connect_over(Arc::new(Tcp), peer, keys, memory).await
    }

    /// The same over connections that `dialer` opens.
    ///
    /// # Errors
    /// [`ClientError::Unreachable`] when there is none within 5 seconds.
    pub async fn connect_over(
        dialer: Arc<dyn Dialer>,
        peer: Peer,
        keys: Box<dyn Keys>,
        memory: Box<dyn Memory>,
    ) -> Result<Self, ClientError> {
        let connection = Connection::open(&*dialer, &peer.name, peer.address).await?;
        Ok(Self {
            peer,
            keys,
            signer: None,
            proven: false,
            tried: Vec::new(),
            memory,
            dialer,
            connection: Some(connection),
            epoch: None,
            greeted: false,
            version: None,
            succeeded: false,
            version_unsure: false,
            unusable: None,
            clock: Arc::new(random::system_clock),
            clock_offset_ms: 0,
            head: None,
        })
    }

    /// The same with another clock.
    #[must_use]
    pub fn with_clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// Which server this is.
    #[must_use]
    pub fn peer(&self) -> &Peer {
        &self.peer
    }

    /// The head of the server's record in the last verified reply.
    #[must_use]
    pub fn head(&self) -> Option<&SignedHead> {
        self.head.as_ref()
    }

    /// The key that the server accepted.
    #[must_use]
    pub fn accepted_key(&self) -> Option<Fingerprint> {
        self.signer.as_ref().filter(|_| self.proven).map(|signer| signer.fingerprint())
    }

    /// The server's clock minus ours in milliseconds, when they differ by so much that the server said so.
    #[must_use]
    pub fn clock_offset_ms(&self) -> i64 {
        self.clock_offset_ms
    }

    /// Calls a command. A changing one that loses its reply is sent again with the same id, which does it once.
    ///
    /// # Errors
    /// [`ClientError`]; a fault that the server signed is [`ClientError::Fault`].
    pub async fn call<C: Call>(&mut self, params: C) -> Result<C::Reply, ClientError> {
        let id = random::command_id()?;
        self.call_with_id(&id, params).await
    }

    /// The same with an id that the caller chose, or chose before.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn call_with_id<C: Call>(
        &mut self,
        id: &CommandId,
        params: C,
    ) -> Result<C::Reply, ClientError> {
        let body = self.exchange(&outgoing(id, params)).await?.into_body()?;
        result_of(&body)
    }

    /// Opens a stream. Each frame is verified before it is given out. The stream takes the connection with it; the
    /// client opens another for what comes next.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn stream<C: Call>(&mut self, params: C) -> Result<Stream, ClientError> {
        let id = random::command_id()?;
        self.exchange(&outgoing(&id, params)).await?.into_stream()
    }

    /// Sends one chunk of a release; sending it twice does no harm.
    ///
    /// # Errors
    /// As [`Client::call`].
    pub async fn put_chunk(
        &mut self,
        app: &AppRef,
        digest: &Digest,
        bytes: Bytes,
    ) -> Result<(), ClientError> {
        let outgoing = Outgoing::chunk(format!("{CHUNKS_PATH}{app}/{digest}"), bytes, *digest);
        let body = self.exchange(&outgoing).await?.into_body()?;
        let reply: ChunkReply = result_of(&body)?;
        if reply.chunk == *digest {
            Ok(())
        } else {
            Err(ClientError::BadReply(format!("it took the chunk {digest} for {}", reply.chunk)))
        }
    }
}

fn outgoing<C: Call>(id: &CommandId, params: C) -> Outgoing {
    // The version is put in when it is known which one the server speaks.
    let request = Request { v: allod_proto::OLDEST_VERSION, id: id.clone(), command: params.into_command() };
    Outgoing::command(RPC_PATH.to_owned(), request)
}

fn result_of<T: DeserializeOwned>(body: &exchange::Body) -> Result<T, ClientError> {
    let result = body.result.clone().unwrap_or_default();
    serde_json::from_value(result)
        .map_err(|error| ClientError::BadReply(format!("its answer is not one of this command: {error}")))
}

#[cfg(test)]
mod tests;
