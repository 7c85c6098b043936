//! The one port: HTTP/1.1, over TLS when there is a certificate. It tells the coordinator's key, shows the page of a machine that
//! waits, and hands connections on to the coordinator proper (Noise, then HTTP/2) or to the relay.

mod machine;
mod page;
mod seats;

pub(crate) use seats::{Seats, source};

use crate::server::Server;
use allod_meshproto::{
    MachineKey,
    control::{KeyReply, Message as _},
    derp,
    noise::{self, Accepted, Initiation},
};
use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header};
use http_body_util::Full;
use hyper::{Request, Response, body::Incoming, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    convert::Infallible,
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};

/// How long TLS, and then the head of a request, may take.
const HEAD: Duration = Duration::from_secs(10);
/// How long a request and its answer may take that is no upgrade.
const REQUEST: Duration = Duration::from_secs(20);
/// Bytes of a request's head at most.
const HEAD_BYTES: usize = 16 * 1024;
const HEADERS: usize = 64;

/// What a connection becomes.
enum Upgrade {
    Noise(OnUpgrade, Box<Accepted>),
    Relay(OnUpgrade),
}

type Then = Arc<Mutex<Option<Upgrade>>>;

/// A stranger's seat.
pub(crate) type Guest = seats::Seat<IpAddr>;
/// A machine's seat.
pub(crate) type Member = seats::Seat<MachineKey>;

/// Serves one connection to its end.
pub(crate) async fn connection(server: Arc<Server>, stream: TcpStream, from: IpAddr) {
    let mut guest = server.lobby.take(source(from));
    let _ = stream.set_nodelay(true);
    let then = Then::default();
    let first = async {
        match &server.tls {
            Some(tls) => {
                let stream = timeout(HEAD, tls.accept(stream)).await.ok()?.ok()?;
                http1(&server, stream, from, &then).await
            }
            None => http1(&server, stream, from, &then).await,
        }
    };
    tokio::select! {
        done = first => if done.is_none() { return },
        () = guest.lost() => return,
    }
    let upgrade = then.lock().unwrap_or_else(PoisonError::into_inner).take();
    match upgrade {
        None => {}
        Some(Upgrade::Noise(upgrade, accepted)) => {
            machine::serve(server, upgrade, *accepted, from, guest).await;
        }
        Some(Upgrade::Relay(upgrade)) => relay(&server, upgrade, guest).await,
    }
}

async fn http1<I>(server: &Arc<Server>, io: I, from: IpAddr, then: &Then) -> Option<()>
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let service = service_fn(|request| {
        let mut reply = answer(server, request, from, then);
        // Not by hyper's own switch: it would say so where protocols are switched too, and stock clients would not follow.
        if reply.status() != StatusCode::SWITCHING_PROTOCOLS {
            reply.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
        }
        async move { Ok::<_, Infallible>(reply) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(HEADERS)
        .max_buf_size(HEAD_BYTES)
        .serve_connection(TokioIo::new(io), service)
        .with_upgrades();
    timeout(REQUEST, connection).await.ok()?.ok()
}

fn answer(
    server: &Server,
    mut request: Request<Incoming>,
    from: IpAddr,
    then: &Then,
) -> Response<Full<Bytes>> {
    let path = request.uri().path().to_owned();
    let is_get = matches!(*request.method(), Method::GET | Method::HEAD);
    match path.as_str() {
        noise::PATH if request.method() == Method::POST => begin_noise(server, &mut request, then),
        derp::PATH if is_get => begin_relay(&mut request, then),
        noise::PATH => plain(StatusCode::METHOD_NOT_ALLOWED, "POST only"),
        _ if !is_get => plain(StatusCode::METHOD_NOT_ALLOWED, "GET only"),
        "/key" => key(server),
        "/health" if server.viewer.now().is_well => plain(StatusCode::OK, "{\"status\":\"pass\"}"),
        "/health" => plain(StatusCode::SERVICE_UNAVAILABLE, "{\"status\":\"fail\"}"),
        "/derp/probe" | "/derp/latency-check" => plain(StatusCode::OK, ""),
        "/generate_204" => captive(request.headers()),
        _ => match path.strip_prefix("/approve/") {
            Some(id) => page::show(&server.viewer.now(), id, from),
            None => plain(StatusCode::NOT_FOUND, "not found"),
        },
    }
}

fn key(server: &Server) -> Response<Full<Bytes>> {
    let view = server.viewer.now();
    let reply = KeyReply {
        public_key: view.keys.noise().public(),
        allod_keys: vec![view.keys.signed().clone()],
        ..KeyReply::default()
    };
    match reply.write() {
        Ok(text) => with_type(StatusCode::OK, "application/json", text.into()),
        Err(_) => plain(StatusCode::INTERNAL_SERVER_ERROR, ""),
    }
}

fn begin_noise(server: &Server, request: &mut Request<Incoming>, then: &Then) -> Response<Full<Bytes>> {
    if !upgrades_to(request.headers(), noise::UPGRADE) {
        return plain(StatusCode::BAD_REQUEST, "this is where a node upgrades to tailscale-control-protocol");
    }
    let initiation = request.headers().get(noise::HANDSHAKE_HEADER).and_then(|value| value.to_str().ok());
    let Some(initiation) = initiation.and_then(|text| Initiation::from_header(text).ok()) else {
        return plain(StatusCode::BAD_REQUEST, "not an initiation");
    };
    let view = server.viewer.now();
    let accepted = view.keys.answering((server.now)()).find_map(|key| noise::respond(key, &initiation).ok());
    let Some(accepted) = accepted else {
        return plain(StatusCode::BAD_REQUEST, "the handshake does not hold: ask /key again");
    };
    let upgrade = Upgrade::Noise(hyper::upgrade::on(request), Box::new(accepted));
    switch(upgrade, noise::UPGRADE, then)
}

fn begin_relay(request: &mut Request<Incoming>, then: &Then) -> Response<Full<Bytes>> {
    if !upgrades_to(request.headers(), derp::UPGRADE) {
        return plain(StatusCode::UPGRADE_REQUIRED, "this is a relay of a mesh");
    }
    switch(Upgrade::Relay(hyper::upgrade::on(request)), derp::UPGRADE, then)
}

fn switch(upgrade: Upgrade, to: &'static str, then: &Then) -> Response<Full<Bytes>> {
    *then.lock().unwrap_or_else(PoisonError::into_inner) = Some(upgrade);
    let mut response = plain(StatusCode::SWITCHING_PROTOCOLS, "");
    let headers = response.headers_mut();
    headers.clear();
    headers.insert(header::UPGRADE, header::HeaderValue::from_static(to));
    headers.insert(header::CONNECTION, header::HeaderValue::from_static("upgrade"));
    response
}

fn upgrades_to(headers: &HeaderMap, what: &str) -> bool {
    headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(what.as_bytes()))
}

/// A stock client finds out whether a captive portal is in the way: it must be given back what it says.
fn captive(headers: &HeaderMap) -> Response<Full<Bytes>> {
    let mut response = plain(StatusCode::NO_CONTENT, "");
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
    let challenge = headers.get("x-tailscale-challenge").map(header::HeaderValue::as_bytes);
    if let Some(challenge) = challenge.filter(|told| told.len() < 64 && told.iter().copied().all(is_plain))
        && let Ok(told) = header::HeaderValue::from_bytes(&[b"response ", challenge].concat())
    {
        response.headers_mut().insert("x-tailscale-response", told);
    }
    response
}

async fn relay(server: &Server, upgrade: OnUpgrade, mut guest: Guest) {
    let (entered, has_entered) = tokio::sync::oneshot::channel();
    let serve = async {
        let Ok(io) = upgrade.await else { return };
        let keys = Arc::clone(&server.viewer.now().keys);
        let is_member = |key| {
            let view = server.viewer.now();
            let node = view.state.node_by_key(key).map(|node| node.id);
            node.is_some_and(|id| view.compiled.members().contains_key(&id))
        };
        let entered = move |key| {
            let _ = entered.send(key);
        };
        let random = ring::rand::SystemRandom::new();
        let end =
            crate::relay::serve(&server.relay, keys.relay(), &random, is_member, TokioIo::new(io), entered);
        if let Err(end) = end.await {
            tracing::debug!(error = &end as &dyn std::error::Error, "a relay connection ended");
        }
    };
    let stays = async {
        let mut member = tokio::select! {
            Ok(key) = has_entered => server.relayed.take(key),
            () = guest.lost() => return,
        };
        drop(guest);
        member.lost().await;
    };
    tokio::select! {
        () = serve => {}
        () = stays => {}
    }
}

pub(crate) fn plain(status: StatusCode, text: &'static str) -> Response<Full<Bytes>> {
    with_type(status, "text/plain; charset=utf-8", Bytes::from_static(text.as_bytes()))
}

pub(crate) fn with_type(status: StatusCode, kind: &'static str, body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, kind),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ] {
        headers.insert(name, header::HeaderValue::from_static(value));
    }
    response
}
