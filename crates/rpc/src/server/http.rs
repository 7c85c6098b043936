//! `POST /rpc` and `PUT /chunks/…`: the life of one HTTP request.

use crate::server::{
    Answer, Authenticated, Chunk, Incoming, ListenerLimits, Presented, Rejected, Service, authenticate,
    listener::Shared,
    stream::{self, still_enrolled},
};
use allod_proto::{
    AppRef, Command, DELEGATION_VERSION, Digest, Fault, FaultCode, Nonce, Request,
    command::{Kind, ReplyBody},
    executor::SignedCall,
    headers, limits,
    messages::app::AppChunk,
    record::SignedHead,
};
use allod_signing::{ReplyFields, sshsig};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited, combinators::BoxBody};
use hyper::{
    HeaderMap, Method, Response, StatusCode,
    body::Incoming as Body,
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue},
    http::request::Parts,
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::IpAddr, sync::Arc, time::Duration};
use tokio::io::{AsyncRead, AsyncWrite};

pub(super) type ReplyBytes = BoxBody<Bytes, Infallible>;

pub(super) async fn connection<S: Service>(
    shared: Arc<Shared<S>>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    peer: IpAddr,
) {
    let head = shared.limits.head;
    let service = service_fn(move |request: hyper::Request<Body>| {
        let shared = Arc::clone(&shared);
        async move { Ok::<_, Infallible>(respond(&shared, request, peer).await) }
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
) -> Response<ReplyBytes> {
    let (parts, body) = request.into_parts();
    match answer(shared, &parts, body, peer).await {
        Ok(reply) => reply,
        Err(rejected) => {
            if rejected.nonce.is_none() {
                shared.strangers.count(peer, shared.service.now());
                shared.service.refused(&peer.to_string(), rejected.reason);
            }
            let body = ReplyBody::of(None, Err(*rejected.fault));
            reply(&*shared.service, rejected.nonce.as_ref(), &body)
        }
    }
}

async fn answer<S: Service>(
    shared: &Shared<S>,
    parts: &Parts,
    body: Body,
    peer: IpAddr,
) -> Result<Response<ReplyBytes>, Rejected> {
    if shared.strangers.is_tiresome(peer, shared.service.now())
        && !parts.headers.contains_key(headers::SIGNATURE)
    {
        let fault = Fault::new(FaultCode::TooMany, "too many refused requests from your address")
            .hint("wait a minute");
        return Err(Rejected { fault: Box::new(fault), reason: "too many refusals", nonce: None });
    }
    let path = path_and_query(parts);
    match (&parts.method, path) {
        (&Method::POST, headers::RPC_PATH) => rpc(shared, parts, body, peer).await,
        (&Method::PUT, _) if path.starts_with(headers::CHUNKS_PATH) => chunk(shared, parts, body, peer).await,
        _ => {
            let fault = Fault::new(FaultCode::NotFound, "there is no such route: POST /rpc or PUT /chunks/…");
            Err(Rejected { fault: Box::new(fault), reason: "unknown route", nonce: None })
        }
    }
}

async fn rpc<S: Service>(
    shared: &Shared<S>,
    parts: &Parts,
    body: Body,
    peer: IpAddr,
) -> Result<Response<ReplyBytes>, Rejected> {
    let service = &*shared.service;
    if !parts.headers.contains_key(headers::SIGNATURE) {
        return probe(service, shared.limits, body).await;
    }
    let route = (parts.method.as_str(), path_and_query(parts));
    let authenticated = authenticate(service, route, |name| single(&parts.headers, name), Some(peer))?;
    let nonce = authenticated.head.nonce.clone();
    let bytes = match read(body, limits::BODY, shared.limits.body).await {
        Ok(bytes) => bytes,
        Err(fault) => return Ok(reply(service, Some(&nonce), &ReplyBody::of(None, Err(fault)))),
    };
    let checked =
        check_body(&authenticated, &bytes).and_then(|()| still_enrolled(service, &authenticated.verified));
    let request = match checked.and_then(|()| parse(&bytes, &authenticated)) {
        Ok(request) => request,
        Err(fault) => return Ok(reply(service, Some(&nonce), &ReplyBody::of(None, Err(fault)))),
    };
    let call = SignedCall {
        method: route.0.to_owned(),
        path: route.1.to_owned(),
        headers: authenticated
            .head
            .headers()
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value))
            .collect(),
        body: String::from_utf8_lossy(&bytes).into_owned(),
        source: Some(peer),
        door: "rpc".to_owned(),
    };
    let (id, v) = (request.id.clone(), request.v);
    let verified = Arc::clone(&authenticated.verified);
    let incoming = Incoming {
        presented: Presented::Signed(authenticated.verified),
        request,
        call: Some(call),
        source: Some(peer),
        door: "rpc",
    };
    Ok(match service.call(incoming).await {
        Answer::Reply(value) => {
            reply(service, Some(&nonce), &ReplyBody::of(Some(id), Ok(value)).in_version(v))
        }
        Answer::Fault(fault) => {
            reply(service, Some(&nonce), &ReplyBody::of(Some(id), Err(fault)).in_version(v))
        }
        Answer::Stream(items) => {
            let body = stream::frames(Arc::clone(&shared.service), nonce.clone(), verified, items);
            opening(service, &nonce, body)
        }
    })
}

async fn probe<S: Service>(
    service: &S,
    limits: ListenerLimits,
    body: Body,
) -> Result<Response<ReplyBytes>, Rejected> {
    // A stranger's body costs no more than this.
    let bytes = read(body, 4096, limits.body).await.map_err(|_| Rejected::unsigned())?;
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
    parts: &Parts,
    body: Body,
    peer: IpAddr,
) -> Result<Response<ReplyBytes>, Rejected> {
    let service = &*shared.service;
    let route = (parts.method.as_str(), path_and_query(parts));
    let authenticated = authenticate(service, route, |name| single(&parts.headers, name), Some(peer))?;
    let nonce = authenticated.head.nonce.clone();
    let outcome = async {
        let (app, digest) = chunk_path(parts.uri.path())?;
        if authenticated.head.body != digest {
            let message = "the path names another chunk than the one that is signed";
            return Err(Fault::new(FaultCode::Invalid, message));
        }
        // Who may not send it holds no place while sending it.
        service.may(&authenticated.verified, &chunk_command(&app, &digest))?;
        let busy =
            || Fault::new(FaultCode::Busy, "too many chunks are on their way").hint("try again in a moment");
        let place = tokio::time::timeout(shared.limits.chunk, shared.chunks.acquire()).await;
        let _place = place.map_err(|_| busy())?.map_err(|_| busy())?;
        let bytes = read(body, limits::CHUNK, shared.limits.chunk).await?;
        check_body(&authenticated, &bytes)?;
        still_enrolled(service, &authenticated.verified)?;
        let verified = authenticated.verified;
        service.chunk(Chunk { verified, app, digest, bytes, source: Some(peer) }).await
    }
    .await;
    Ok(reply(service, Some(&nonce), &ReplyBody::of(None, outcome)))
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

async fn read(body: Body, limit: usize, deadline: Duration) -> Result<Bytes, Fault> {
    let too_large = || Fault::new(FaultCode::TooLarge, format!("the body is larger than {limit} bytes"));
    let declared = hyper::body::Body::size_hint(&body).lower();
    if usize::try_from(declared).map_or(true, |declared| declared > limit) {
        return Err(too_large());
    }
    match tokio::time::timeout(deadline, Limited::new(body, limit).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
        Ok(Err(error)) => {
            Err(Fault::new(FaultCode::Malformed, format!("the body could not be read: {error}")))
        }
        Err(_) => Err(Fault::new(FaultCode::Timeout, "the body took too long to arrive")),
    }
}

/// The request in a body. What is signed under a delegation is of the version that brought these.
pub(super) fn parse(bytes: &[u8], authenticated: &Authenticated) -> Result<Request, Fault> {
    let request = Request::parse(bytes)?;
    if authenticated.verified.delegate().is_some() {
        request.require_version(DELEGATION_VERSION)?;
    }
    Ok(request)
}

fn check_body(authenticated: &Authenticated, bytes: &[u8]) -> Result<(), Fault> {
    if Digest::of(bytes) == authenticated.head.body {
        return Ok(());
    }
    Err(Fault::new(FaultCode::Refused, "the body is not the one that was signed"))
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

fn reply<S: Service>(service: &S, nonce: Option<&Nonce>, body: &ReplyBody) -> Response<ReplyBytes> {
    let status = body.fault.as_ref().map_or(200, |fault| fault.code.status());
    let bytes = Bytes::from(serde_json::to_vec(body).unwrap_or_default());
    let mut reply = Response::new(Full::new(bytes.clone()).boxed());
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    sign(service, nonce, status, &Digest::of(&bytes), reply.headers_mut());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// The head of a stream is signed over the empty body; each frame then signs itself.
fn opening<S: Service>(service: &S, nonce: &Nonce, body: ReplyBytes) -> Response<ReplyBytes> {
    let mut reply = Response::new(body);
    sign(service, Some(nonce), 200, &Digest::of(""), reply.headers_mut());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    reply
}

fn sign<S: Service>(service: &S, nonce: Option<&Nonce>, status: u16, body: &Digest, into: &mut HeaderMap) {
    into.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let epoch = match service.window().lock() {
        Ok(window) => window.epoch().clone(),
        Err(poisoned) => poisoned.into_inner().epoch().clone(),
    };
    set(into, headers::EPOCH, epoch.as_str());
    // Who proved nothing learns nothing of the record, and costs no signature.
    let Some(nonce) = nonce else { return };
    let head: SignedHead = service.head();
    set(into, headers::RECORD, &serde_json::to_string(&head).unwrap_or_default());
    let fields = ReplyFields { nonce, status, body, head: &head.head, epoch: &epoch };
    match service.identity().sign(headers::REPLY_NAMESPACE, &fields.bytes()) {
        Ok(signature) => set(into, headers::REPLY_SIGNATURE, &sshsig::to_base64(&signature)),
        Err(error) => tracing::error!(%error, "a reply could not be signed"),
    }
}

fn set(into: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        into.insert(HeaderName::from_static(name), value);
    }
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
