//! One request and its answer: signed, sent, verified; and when it is sent again. A stale epoch and a clock are set
//! right once, the next key is tried while none was accepted, a lost reply is asked for again because ids are
//! deduplicated.

use super::{
    Client, ClientError, Notice, Stream,
    connection::Connection,
    probe, random,
    trust::{self, Believed, ReplyHead},
};
use allod_proto::{
    DELEGATION_VERSION, Digest, Epoch, Fault, FaultCode, Kind, Nonce, OLDEST_VERSION, Request, Timestamp,
    VERSION,
    command::ReplyBody,
    messages::server::{Hello, HelloReply},
};
use allod_signing::{RequestFields, RequestHead, Route, Signer, follow, sign_request};
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Response, StatusCode, body::Incoming};
use std::{sync::Arc, time::Duration};

/// The body of an answer.
pub(super) type Body = ReplyBody;

/// How long the head of an answer may take.
const ANSWER: Duration = Duration::from_secs(30);
/// The same for commands that begin long work, and for chunks over thin lines.
const LONG_ANSWER: Duration = Duration::from_secs(120);
/// The waits before a request is sent again after a lost reply.
const BACK_OFF: [Duration; 3] = [Duration::ZERO, Duration::from_millis(250), Duration::from_secs(1)];

/// A request before it is signed.
pub(super) struct Outgoing {
    method: &'static str,
    path: String,
    content_type: &'static str,
    content: Content,
    deadline: Duration,
    streams: bool,
}

enum Content {
    Command(Request),
    Chunk(Bytes, Digest),
}

/// The bytes that are sent, and their digest.
struct Sent {
    body: Bytes,
    digest: Digest,
}

impl Outgoing {
    pub(super) fn command(path: String, request: Request) -> Self {
        let (deadline, streams) = match request.command.name().kind() {
            Kind::Probe | Kind::Read => (ANSWER, false),
            Kind::Stream => (ANSWER, true),
            Kind::Change => (LONG_ANSWER, false),
        };
        let content = Content::Command(request);
        Self { method: "POST", path, content_type: "application/json", content, deadline, streams }
    }

    pub(super) fn chunk(path: String, body: Bytes, digest: Digest) -> Self {
        let (method, content_type) = ("PUT", "application/octet-stream");
        let content = Content::Chunk(body, digest);
        Self { method, path, content_type, content, deadline: LONG_ANSWER, streams: false }
    }

    /// In this version of the protocol.
    fn in_version(&self, v: u32) -> Sent {
        match &self.content {
            Content::Chunk(body, digest) => Sent { body: body.clone(), digest: *digest },
            Content::Command(request) => {
                let body = Bytes::from(Request { v, ..request.clone() }.to_body());
                Sent { digest: Digest::of(&body), body }
            }
        }
    }
}

/// A verified answer.
pub(super) enum Answer {
    Body(Body),
    Stream(Box<Stream>),
}

impl Answer {
    pub(super) fn into_body(self) -> Result<Body, ClientError> {
        match self {
            Self::Body(body) => Ok(body),
            Self::Stream(_) => Err(ClientError::BadReply("it is a stream".to_owned())),
        }
    }

    pub(super) fn into_stream(self) -> Result<Stream, ClientError> {
        match self {
            Self::Stream(stream) => Ok(*stream),
            Self::Body(_) => Err(ClientError::BadReply("it is not a stream".to_owned())),
        }
    }
}

/// What has been set right for one request, so that nothing is set right twice.
#[derive(Default)]
struct Amends {
    epoch: bool,
    clock: bool,
    version: bool,
    lost: usize,
}

impl Client {
    /// Sends a request until there is an answer to give to the caller.
    pub(super) async fn exchange(&mut self, outgoing: &Outgoing) -> Result<Answer, ClientError> {
        let mut amends = Amends::default();
        loop {
            match self.attempt(outgoing).await {
                Ok(Answer::Body(Body { fault: Some(fault), .. })) => {
                    self.answer_refusal(fault, &mut amends)?
                }
                Ok(answer) => {
                    self.prove();
                    return Ok(answer);
                }
                Err(ClientError::Unsigned { status: 401, .. }) if self.may_try_others() => {
                    // Another server at the address refuses every key: say that rather than try them all.
                    self.greet().await?;
                    // One that was this server before refuses what was signed for that.
                    if !std::mem::take(&mut self.succeeded) {
                        self.next_key(false)?;
                    }
                }
                Err(error @ ClientError::Sign { .. }) if !self.proven => self.pass_over(error)?,
                Err(error) => self.wait_to_try_again(error, &mut amends).await?,
            }
        }
    }

    /// A delegation may end while it is in use; the keys behind it may not.
    fn may_try_others(&self) -> bool {
        !self.proven || self.signer.as_ref().is_some_and(|signer| signer.delegation().is_some())
    }

    /// Sets right what a signed refusal names, or gives it to the caller.
    fn answer_refusal(&mut self, fault: Fault, amends: &mut Amends) -> Result<(), ClientError> {
        match (fault.code, fault.server_time) {
            // The reply's own epoch, already taken, is covered by its signature.
            (FaultCode::StaleEpoch, _) if !amends.epoch => amends.epoch = true,
            (FaultCode::Clock, Some(server)) if !amends.clock => {
                amends.clock = true;
                self.set_clock(server);
            }
            (FaultCode::Version, _) if !amends.version => {
                amends.version = true;
                (self.version, self.version_unsure, self.greeted) = (None, true, false);
            }
            (FaultCode::Refused, _) if self.may_try_others() => self.next_key(true)?,
            (FaultCode::Refused, _) => return Err(ClientError::Fault(fault)),
            _ => {
                self.prove();
                return Err(ClientError::Fault(fault));
            }
        }
        Ok(())
    }

    async fn wait_to_try_again(
        &mut self,
        error: ClientError,
        amends: &mut Amends,
    ) -> Result<(), ClientError> {
        // A server that was there a moment ago and refuses connections is being restarted.
        let may = match &error {
            ClientError::Lost { .. } => true,
            ClientError::Unreachable { .. } => amends.lost > 0,
            _ => false,
        };
        let Some(wait) = BACK_OFF.get(amends.lost).filter(|_| may) else { return Err(error) };
        amends.lost += 1;
        // After a restart there is a new epoch, and there may be a new identity.
        amends.epoch = false;
        self.greeted = false;
        if !wait.is_zero() {
            self.memory
                .notice(Notice::TryingAgain { server: self.peer.name.clone(), why: error.to_string() });
            tokio::time::sleep(*wait).await;
        }
        Ok(())
    }

    /// A key that can't sign, or that a person keeps back, makes room for the next.
    fn pass_over(&mut self, error: ClientError) -> Result<(), ClientError> {
        self.signer = None;
        match self.next_key(true) {
            Err(ClientError::NoKey(_)) => Err(error),
            Err(other) => Err(other),
            Ok(()) => {
                self.memory.notice(Notice::KeyPassedOver { why: error.to_string() });
                Ok(())
            }
        }
    }

    fn prove(&mut self) {
        if self.proven {
            return;
        }
        self.proven = true;
        // What is remembered is for another day; a delegation is not.
        if let Some(signer) = self.signer.as_ref().filter(|signer| signer.delegation().is_none()) {
            self.keys.accepted(&signer.fingerprint());
        }
    }

    fn next_key(&mut self, signed: bool) -> Result<(), ClientError> {
        if let Some(refused) = self.signer.take() {
            self.tried.push(refused.fingerprint());
        }
        self.proven = false;
        self.signer = match self.usable_key() {
            Err(ClientError::NoKey(_)) if !self.tried.is_empty() => None,
            next => next?,
        };
        match (&self.signer, self.tried.is_empty()) {
            (Some(_), _) => Ok(()),
            (None, true) => Err(ClientError::NoKey(self.unusable.clone().unwrap_or_default())),
            (None, false) => {
                let (what, tried) = (self.peer.name.clone(), self.tried.clone());
                Err(ClientError::NoKeyAccepted { what, tried, signed })
            }
        }
    }

    /// The next key; one that signs under a delegation is for servers that know these.
    fn usable_key(&mut self) -> Result<Option<Arc<dyn Signer>>, ClientError> {
        loop {
            let next = self.keys.next()?;
            let delegated = next.as_ref().is_some_and(|signer| signer.delegation().is_some());
            if !delegated || self.version.is_none_or(|version| version >= DELEGATION_VERSION) {
                return Ok(next);
            }
            let server = self.peer.name.clone();
            self.unusable = Some(format!(
                "{server} speaks protocol version {OLDEST_VERSION}, which knows no delegations"
            ));
            self.memory.notice(Notice::NoDelegations { server });
        }
    }

    fn set_clock(&mut self, server: Timestamp) {
        let here = (self.clock)();
        let signed = |time: Timestamp| i64::try_from(time.0).unwrap_or(i64::MAX);
        self.clock_offset_ms = signed(server).saturating_sub(signed(here));
        let ahead_ms = self.clock_offset_ms;
        self.memory.notice(Notice::ClockDiffers { server: self.peer.name.clone(), ahead_ms });
    }

    fn now(&self) -> Timestamp {
        Timestamp((self.clock)().0.saturating_add_signed(self.clock_offset_ms))
    }

    async fn attempt(&mut self, outgoing: &Outgoing) -> Result<Answer, ClientError> {
        let outcome = self.try_once(outgoing).await;
        if outcome.is_err() {
            self.connection = None;
        }
        outcome
    }

    async fn try_once(&mut self, outgoing: &Outgoing) -> Result<Answer, ClientError> {
        let epoch = self.current_epoch().await?;
        let sent = outgoing.in_version(self.current_version().await?);
        let nonce = random::nonce()?;
        let known = self.memory.head(&self.peer.identity);
        let head = self.sign(outgoing, &sent, &epoch, &nonce).await?;
        let request = build(&self.peer.address.to_string(), outgoing, sent, &head)?;
        let mut connection = self.take_connection().await?;
        let response = connection.send(request, outgoing.deadline).await?;
        let (answer, believed) = self.read(&connection, response, outgoing, nonce).await?;
        trust::judge(&self.peer, known, believed.head.head)?;
        self.memory.learn(&self.peer.identity, &believed.epoch, &believed.head);
        self.epoch = Some(believed.epoch);
        self.head = Some(believed.head);
        if matches!(answer, Answer::Body(_)) {
            self.connection = Some(connection);
        }
        Ok(answer)
    }

    async fn read(
        &self,
        connection: &Connection,
        response: Response<Incoming>,
        outgoing: &Outgoing,
        nonce: Nonce,
    ) -> Result<(Answer, Believed), ClientError> {
        let (parts, body) = response.into_parts();
        let head = ReplyHead::parse(&self.peer, parts.status, &parts.headers)?;
        if outgoing.streams && parts.status == StatusCode::OK {
            let believed = head.verify(&self.peer, &nonce, &Digest::of(b""))?;
            let stream = Stream::new(self.peer.name.clone(), body, believed.key.clone(), nonce);
            return Ok((Answer::Stream(Box::new(stream)), believed));
        }
        let bytes = connection.body(body).await?;
        let believed = head.verify(&self.peer, &nonce, &Digest::of(&bytes))?;
        let body: Body = serde_json::from_slice(&bytes)
            .map_err(|error| ClientError::BadReply(format!("its body is not a reply: {error}")))?;
        if body.fault.is_none() && parts.status != StatusCode::OK {
            return Err(ClientError::BadReply(format!("status {} comes without a fault", parts.status)));
        }
        Ok((Answer::Body(body), believed))
    }

    /// The remembered epoch, or the one that the server claims. A false one costs the forger's victim nothing: a
    /// request signed for it is good for that server and that life only.
    async fn current_epoch(&mut self) -> Result<Epoch, ClientError> {
        if let Some(epoch) = self.epoch.clone().or_else(|| self.memory.epoch(&self.peer.identity)) {
            return Ok(epoch);
        }
        match self.greet().await? {
            Some(epoch) => Ok(epoch),
            None => Err(ClientError::BadReply("it told no epoch".to_owned())),
        }
    }

    /// The newest version that both know.
    async fn current_version(&mut self) -> Result<u32, ClientError> {
        if let Some(version) = self.version {
            return Ok(version);
        }
        let remembered = self.memory.newest(&self.peer.identity).filter(|_| !self.version_unsure);
        match remembered {
            Some(newest) => self.version = Some(newest.min(VERSION)),
            None => drop(self.greet().await?),
        }
        Ok(self.version.unwrap_or(OLDEST_VERSION))
    }

    /// Asks who is there, once; another identity ends everything. What it says is a claim.
    async fn greet(&mut self) -> Result<Option<Epoch>, ClientError> {
        if self.greeted {
            return Ok(self.epoch.clone());
        }
        let mut connection = self.take_connection().await?;
        let hello = probe::probe(&mut connection, self.peer.address, Hello {}).await?;
        self.connection = Some(connection);
        probe::speak(&self.peer.name, &hello)?;
        if hello.identity != self.peer.identity {
            self.succeed(&hello)?;
        }
        self.greeted = true;
        self.version = Some(hello.newest.min(VERSION));
        self.memory.greeted(&self.peer.identity, &hello.epoch, hello.newest);
        let known = self.epoch.is_some() || self.memory.epoch(&self.peer.identity).is_some();
        if !known {
            self.epoch = Some(hello.epoch);
        }
        Ok(self.epoch.clone())
    }

    /// Follows a server to another identity if the pinned one has named it; else somebody is in its place.
    fn succeed(&mut self, hello: &HelloReply) -> Result<(), ClientError> {
        follow(&hello.succession, &self.peer.identity, &hello.identity).map_err(|_| {
            ClientError::Impostor {
                what: self.peer.name.clone(),
                expected: self.peer.identity.clone(),
                got: hello.identity.clone(),
            }
        })?;
        let old = std::mem::replace(&mut self.peer.identity, hello.identity.clone());
        (self.epoch, self.version, self.succeeded) = (None, None, true);
        self.memory.succeeded(&self.peer.name, &old, &hello.identity);
        Ok(())
    }

    async fn take_connection(&mut self) -> Result<Connection, ClientError> {
        match self.connection.take() {
            Some(connection) if connection.is_usable() => Ok(connection),
            _ => Connection::open(&*self.dialer, &self.peer.name, self.peer.address).await,
        }
    }

    async fn sign(
        &mut self,
        outgoing: &Outgoing,
        sent: &Sent,
        epoch: &Epoch,
        nonce: &Nonce,
    ) -> Result<RequestHead, ClientError> {
        if self.signer.is_none() {
            self.next_key(true)?;
        }
        let signer: Arc<dyn Signer> = self.signer.clone().ok_or_else(|| ClientError::NoKey(String::new()))?;
        let key = signer.fingerprint().to_string();
        let (audience, epoch, nonce) = (self.peer.identity.clone(), epoch.clone(), nonce.clone());
        let (method, path) = (outgoing.method, outgoing.path.clone());
        let (timestamp, body) = (self.now(), sent.digest);
        // An agent may wait for a finger on its key: nothing else on this thread is to wait with it.
        let signing = tokio::task::spawn_blocking(move || {
            let route = Route::new(method, &path).map_err(|why| why.to_string())?;
            let fields = RequestFields {
                audience: &audience,
                epoch: &epoch,
                route,
                timestamp,
                nonce: &nonce,
                body: &body,
            };
            sign_request(signer.as_ref(), &fields).map_err(|why| why.to_string())
        });
        let signed =
            signing.await.map_err(|why| ClientError::Sign { key: key.clone(), why: why.to_string() })?;
        signed.map_err(|why| ClientError::Sign { key, why })
    }
}

fn build(
    host: &str,
    outgoing: &Outgoing,
    sent: Sent,
    head: &RequestHead,
) -> Result<hyper::Request<Full<Bytes>>, ClientError> {
    let mut request = hyper::Request::builder()
        .method(outgoing.method)
        .uri(&outgoing.path)
        .header(hyper::header::HOST, host)
        .header(hyper::header::CONTENT_TYPE, outgoing.content_type);
    for (name, value) in head.headers() {
        request = request.header(name, value);
    }
    request
        .body(Full::new(sent.body))
        .map_err(|error| ClientError::Sign { key: head.fingerprint.to_string(), why: error.to_string() })
}
