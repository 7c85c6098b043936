//! `POST /rpc` and `PUT /chunks/…`: the life of one HTTP request.

use crate::server::{
    Answer, Authenticated, Chunk, Rejected, Service, authenticate,
    body::{self, SMALL},
    listener::Shared,
    reply::{Held, ReplyBytes, holding, length, opening, reply},
    seats::Seat,
    stream::{self, still_enrolled},
};
use allod_proto::{
    AppRef, Command, Digest, Fault, FaultCode, Fingerprint, Nonce, Request,
    command::{Kind, ReplyBody},
    headers, limits,
    messages::app::AppChunk,
};
use bytes::Bytes;
use hyper::{
    HeaderMap, Method, Response,
    body::Incoming as Body,
    header::{CONNECTION, HeaderValue},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use serde_json::Value;
use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

/// The largest body that is read of somebody who proved nothing.
const STRANGERS_BODY: usize = 4096;
/// How long a large reply waits until its key may have one more on its way.
const LARGE_REPLY: Duration = Duration::from_secs(5);

pub(super) async fn connection<S: Service>(
    shared: Arc<Shared<S>>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: IpAddr,
    seat: Arc<Seat>,
) {
    let head = shared.limits.head;
    let service = service_fn(move |request: hyper::Request<Body>| {
        let (shared, seat) = (Arc::clone(&shared), Arc::clone(&seat));
        async move { Ok::<_, Infallible>(respond(&shared, request, peer, &seat).await) }
    });
    let served = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(head)
        .max_buf_size(limits::HEAD)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, %peer, "a connection ended early");
    }
}

async fn respond<S: Service>(
    shared: &Shared<S>,
    request: hyper::Request<Body>,
    peer: IpAddr,
    seat: &Arc<Seat>,
) -> Response<ReplyBytes> {
    let (parts, body) = request.into_parts();
    match answer(shared, &parts, body, peer, seat).await {
        Ok(reply) => reply,
        Err(rejected) => refuse(shared, rejected, peer).await,
    }
}

/// A stranger who is refused again and again waits for it, and then for a connection.
async fn refuse<S: Service>(shared: &Shared<S>, rejected: Rejected, peer: IpAddr) -> Response<ReplyBytes> {
    let service = &*shared.service;
    let mut goes_on = true;
    if rejected.nonce.is_none() {
        service.refused(&peer.to_string(), rejected.reason);
        goes_on = rejected.fault.code != FaultCode::TooMany && shared.may_be_refused(peer).await;
    }
    let mut reply = reply(service, rejected.nonce.as_ref(), &ReplyBody::of(None, Err(*rejected.fault)));
    if !goes_on {
        reply.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    reply
}

async fn answer<S: Service>(
    shared: &Shared<S>,
    parts: &Parts,
    body: Body,
    peer: IpAddr,
    seat: &Arc<Seat>,
) -> Result<Response<ReplyBytes>, Rejected> {
    let is_signed = parts.headers.contains_key(headers::SIGNATURE);
    if !is_signed && !shared.may_ask_unsigned(peer).await {
        let fault = Fault::new(FaultCode::TooMany, "too many unsigned requests from your address");
        let fault = fault.hint("wait a moment");
        return Err(Rejected { fault: Box::new(fault), reason: "too many unsigned requests", nonce: None });
    }
    let path = path_and_query(parts);
    match (&parts.method, path) {
        (&Method::POST, headers::RPC_PATH) if is_signed => signed(shared, parts, body, peer, seat).await,
        (&Method::POST, headers::RPC_PATH) => probe(shared, body).await,
        (&Method::PUT, _) if path.starts_with(headers::CHUNKS_PATH) => {
            signed(shared, parts, body, peer, seat).await
        }
        _ => {
            let fault = Fault::new(FaultCode::NotFound, "there is no such route: POST /rpc or PUT /chunks/…");
            Err(Rejected { fault: Box::new(fault), reason: "unknown route", nonce: None })
        }
    }
}

/// What a request takes up while it is answered, once it is this key's turn.
async fn enter<S: Service>(shared: &Shared<S>, key: &Fingerprint, seat: &Arc<Seat>) -> Result<Held, Fault> {
    let too_many = |message: &str| Fault::new(FaultCode::TooMany, message).hint("try again in a moment");
    let busy = seat.answer();
    let request = shared.requests.try_take(key);
    let request = request.ok_or_else(|| too_many("too many requests of this key are being answered"))?;
    if !shared.may_ask(key).await {
        return Err(too_many("too many requests of this key within a short time"));
    }
    Ok(Held { _busy: busy, _request: request, large: None })
}

/// A large reply counts as such until it is sent; without a place for it, it is not sent.
async fn finish<S: Service>(
    shared: &Shared<S>,
    key: &Fingerprint,
    nonce: &Nonce,
    answered: Response<ReplyBytes>,
    mut held: Held,
) -> Response<ReplyBytes> {
    if length(&answered) <= SMALL {
        return holding(answered, held);
    }
    held.large = shared.replies.take(key, LARGE_REPLY).await;
    if held.large.is_some() {
        return holding(answered, held);
    }
    let fault = Fault::new(FaultCode::TooMany, "too many large replies to this key are on their way");
    holding(of(&*shared.service, nonce, Err(fault.hint("read them, or try again in a moment"))), held)
}

/// A reply to somebody who proved who they are, without the id of a request.
fn of<S: Service>(service: &S, nonce: &Nonce, outcome: Result<Value, Fault>) -> Response<ReplyBytes> {
    reply(service, Some(nonce), &ReplyBody::of(None, outcome))
}

/// What somebody sent who proves who they are by the head alone.
async fn signed<S: Service>(
    shared: &Shared<S>,
    parts: &Parts,
    body: Body,
    peer: IpAddr,
    seat: &Arc<Seat>,
) -> Result<Response<ReplyBytes>, Rejected> {
    let service = &*shared.service;
    let route = (parts.method.as_str(), path_and_query(parts));
    let authenticated = authenticate(service, route, |name| single(&parts.headers, name), Some(peer))?;
    let (key, nonce) = (authenticated.verified.fingerprint().clone(), authenticated.head.nonce.clone());
    let held = match enter(shared, &key, seat).await {
        Ok(held) => held,
        Err(fault) => return Ok(of(service, &nonce, Err(fault))),
    };
    if parts.method == Method::PUT {
        let outcome = chunk(shared, parts.uri.path(), authenticated, body, peer).await;
        return Ok(holding(of(service, &nonce, outcome), held));
    }
    let answered = match body::read_large(shared, &key, body, limits::BODY, shared.limits.body).await {
        Ok(body) => call(shared, route, authenticated, &body.bytes, peer).await,
        Err(fault) => of(service, &nonce, Err(fault)),
    };
    Ok(finish(shared, &key, &nonce, answered, held).await)
}

/// The head is believed, the body is there: what the service answers.
async fn call<S: Service>(
    shared: &Shared<S>,
    route: (&str, &str),
    authenticated: Authenticated,
    bytes: &Bytes,
    peer: IpAddr,
) -> Response<ReplyBytes> {
    let service = &*shared.service;
    let (nonce, verified) = (authenticated.head.nonce.clone(), Arc::clone(&authenticated.verified));
    let incoming = authenticated
        .check_body(bytes)
        .and_then(|()| still_enrolled(service, &verified))
        .and_then(|()| authenticated.incoming(route, bytes, Some(peer), "rpc"));
    let incoming = match incoming {
        Ok(incoming) => incoming,
        Err(fault) => return of(service, &nonce, Err(fault)),
    };
    let (id, v) = (incoming.request.id.clone(), incoming.request.v);
    let answered = |outcome| reply(service, Some(&nonce), &ReplyBody::of(Some(id), outcome).in_version(v));
    match service.call(incoming).await {
        Answer::Reply(value) => answered(Ok(value)),
        Answer::Fault(fault) => answered(Err(fault)),
        Answer::Stream(items) => {
            let body = stream::frames(Arc::clone(&shared.service), nonce.clone(), verified, items);
            opening(service, &nonce, body)
        }
    }
}

async fn probe<S: Service>(shared: &Shared<S>, body: Body) -> Result<Response<ReplyBytes>, Rejected> {
    let service = &*shared.service;
    let read = body::read(body, STRANGERS_BODY, shared.limits.body).await;
    let bytes = read.map_err(|_| Rejected::unsigned())?;
    let request = Request::parse(&bytes).map_err(|fault| match fault.code {
        FaultCode::Version => Rejected { fault: Box::new(fault), reason: "protocol version", nonce: None },
        _ => Rejected::unsigned(),
    })?;
    if request.command.name().kind() != Kind::Probe {
        return Err(Rejected::unsigned());
    }
    let outcome = service.probe(&request.command);
    Ok(reply(service, None, &ReplyBody::of(Some(request.id), outcome).in_version(request.v)))
}

async fn chunk<S: Service>(
    shared: &Shared<S>,
    path: &str,
    authenticated: Authenticated,
    body: Body,
    peer: IpAddr,
) -> Result<Value, Fault> {
    let service = &*shared.service;
    let (app, digest) = chunk_path(path)?;
    if authenticated.head.body != digest {
        let message = "the path names another chunk than the one that is signed";
        return Err(Fault::new(FaultCode::Invalid, message));
    }
    // Who may not send it holds no place while sending it.
    service.may(&authenticated.verified, &chunk_command(&app, &digest))?;
    let key = authenticated.verified.fingerprint();
    let body = body::read_large(shared, key, body, limits::CHUNK, shared.limits.chunk).await?;
    authenticated.check_body(&body.bytes)?;
    still_enrolled(service, &authenticated.verified)?;
    let (verified, bytes) = (authenticated.verified, body.bytes.clone());
    service.chunk(Chunk { verified, app, digest, bytes, source: Some(peer) }).await
}

/// `/chunks/<app>/<env>/<sha256>`
fn chunk_path(path: &str) -> Result<(AppRef, Digest), Fault> {
    let malformed = |what: String| {
        Fault::new(FaultCode::Malformed, what)
            .hint("a chunk goes to /chunks/<app>/<environment>/<sha256 in hexadecimal>")
    };
    let rest = path.strip_prefix(headers::CHUNKS_PATH).unwrap_or_default();
    let (app, digest) =
        rest.rsplit_once('/').ok_or_else(|| malformed("the chunk's path is too short".to_owned()))?;
    if !app.contains('/') {
        return Err(malformed("the chunk's path lacks the environment".to_owned()));
    }
    let app = app.parse().map_err(|error: allod_proto::NameError| malformed(error.to_string()))?;
    let digest =
        digest.parse().map_err(|_| malformed("the chunk's name is not a SHA-256 digest".to_owned()))?;
    Ok((app, digest))
}

/// The one value of a header; a header that is given twice counts as absent, so that nobody can choose which is read.
fn single<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() {
        return None;
    }
    value.to_str().ok()
}

fn path_and_query(parts: &Parts) -> &str {
    parts.uri.path_and_query().map_or("/", |whole| whole.as_str())
}

fn chunk_command(app: &AppRef, chunk: &Digest) -> Command {
    Command::AppChunk(AppChunk { app: app.clone(), chunk: *chunk })
}

impl Chunk {
    /// The command that this upload is.
    #[must_use]
    pub fn command(&self) -> Command {
        chunk_command(&self.app, &self.digest)
    }
}
