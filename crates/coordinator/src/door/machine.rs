//! What a machine asks inside Noise: to register, and for the map. The machine is the one that the handshake proved, whatever a
//! request says. Until it has a node here it sits among the guests, for a while.

use super::{Guest, Member};
use crate::{map::session::body, server::Server};
use allod_meshnode::NoiseStream;
use allod_meshproto::{
    ChallengeKey, MachineKey,
    control::{MapRequest, Message, RegisterRequest},
    limits,
    map_frame::{self, Compression},
    noise::{Accepted, early::EarlyPayload},
};
use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited, combinators::UnsyncBoxBody};
use hyper::{Request, Response, body::Incoming, service::service_fn, upgrade::OnUpgrade};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::{convert::Infallible, net::IpAddr, pin::pin, sync::Arc, time::Duration};
use tokio::{
    io::AsyncWriteExt as _,
    time::{Instant, sleep_until, timeout},
};

/// How long the answer to the handshake may take to be fetched.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long the body of a request may take.
const BODY: Duration = Duration::from_secs(10);
/// How long a machine without a node may stay: as long as it may wait for a person.
const STRANGER: Duration = crate::state::APPROVAL_WAIT;
/// Requests of one machine at once.
const STREAMS: u32 = 16;
/// Bytes of a request's head.
const HEAD: u32 = 16 * 1024;
/// Bytes that one request, and all of one machine, may send ahead.
const WINDOW: u32 = 64 * 1024;
/// Bytes that wait for one reader.
const SEND: usize = 64 * 1024;
/// Asks whether a silent machine is still there.
const ASK: Duration = Duration::from_secs(45);
const ASK_FOR: Duration = Duration::from_secs(30);

type Reply = Response<UnsyncBoxBody<Bytes, Infallible>>;

enum Standing {
    Guest(Guest),
    Member(Member),
}

pub(super) async fn serve(
    server: Arc<Server>,
    upgrade: OnUpgrade,
    accepted: Accepted,
    from: IpAddr,
    guest: Guest,
) {
    let mut standing = Standing::Guest(guest);
    let machine = accepted.peer;
    let begun = tokio::select! {
        begun = timeout(HANDSHAKE, begin(upgrade, accepted)) => begun.ok().flatten(),
        () = lost(&mut standing) => None,
    };
    let Some(stream) = begun else { return };
    let asked = Arc::clone(&server);
    let service = service_fn(move |request| {
        let server = Arc::clone(&asked);
        async move { Ok::<_, Infallible>(answer(server, machine, from, request).await) }
    });
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS)
        .max_header_list_size(HEAD)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_send_buf_size(SEND)
        .keep_alive_interval(ASK)
        .keep_alive_timeout(ASK_FOR)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut views = server.viewer.follow();
    let until = Instant::now().checked_add(STRANGER);
    loop {
        let is_known = views.borrow_and_update().state.node_of_machine(machine).is_some();
        standing = match standing {
            Standing::Guest(_) if is_known => Standing::Member(server.members.take(machine)),
            Standing::Member(_) if !is_known => Standing::Guest(server.lobby.take(super::source(from))),
            same => same,
        };
        let is_guest = matches!(standing, Standing::Guest(_));
        tokio::select! {
            _ = &mut connection => return,
            () = lost(&mut standing) => return,
            () = sleep_until(until.unwrap_or_else(Instant::now)), if is_guest => return,
            changed = views.changed() => if changed.is_err() { return },
        }
    }
}

async fn lost(standing: &mut Standing) {
    match standing {
        Standing::Guest(guest) => guest.lost().await,
        Standing::Member(member) => member.lost().await,
    }
}

/// Answers the handshake, and gives the session with its early payload sent.
async fn begin(
    upgrade: OnUpgrade,
    accepted: Accepted,
) -> Option<NoiseStream<TokioIo<hyper::upgrade::Upgraded>>> {
    let mut io = TokioIo::new(upgrade.await.ok()?);
    io.write_all(&accepted.reply).await.ok()?;
    let mut stream = NoiseStream::of_coordinator(io, accepted.session);
    let mut challenge = [0; 32];
    SystemRandom::new().fill(&mut challenge).ok()?;
    let early = EarlyPayload { node_key_challenge: ChallengeKey::new(challenge) };
    stream.write_all(&early.to_bytes()).await.ok()?;
    stream.flush().await.ok()?;
    Some(stream)
}

async fn answer(server: Arc<Server>, machine: MachineKey, from: IpAddr, request: Request<Incoming>) -> Reply {
    let is_post = request.method() == Method::POST;
    match request.uri().path() {
        "/machine/register" if is_post => match read::<RegisterRequest>(request).await {
            Ok(asked) => register(&server, machine, from, asked).await,
            Err(refusal) => refusal,
        },
        "/machine/map" if is_post => match read::<MapRequest>(request).await {
            Ok(asked) => map(server, machine, asked).await,
            Err(refusal) => refusal,
        },
        _ => reply(StatusCode::NOT_IMPLEMENTED, Bytes::new()),
    }
}

async fn read<M: Message>(request: Request<Incoming>) -> Result<M, Reply> {
    let body = Limited::new(request.into_body(), limits::SMALL_BODY).collect();
    let body = timeout(BODY, body).await.map_err(|_| words(StatusCode::REQUEST_TIMEOUT, "too slow"))?;
    let body = body.map_err(|_| words(StatusCode::PAYLOAD_TOO_LARGE, "too long, or cut"))?.to_bytes();
    M::read(&body).map_err(|error| reply(StatusCode::BAD_REQUEST, Bytes::from(error.to_string())))
}

async fn register(server: &Server, machine: MachineKey, from: IpAddr, asked: RegisterRequest) -> Reply {
    match server.register(machine, from, asked).await {
        Ok(answer) => match answer.write() {
            Ok(text) => reply(StatusCode::OK, text.into()),
            Err(_) => words(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written"),
        },
        Err(_) => words(StatusCode::SERVICE_UNAVAILABLE, "the coordinator can't store anything now"),
    }
}

async fn map(server: Arc<Server>, machine: MachineKey, asked: MapRequest) -> Reply {
    let id = match server.hear(machine, &asked).await {
        Ok(Ok(id)) => id,
        Ok(Err(_)) => return words(StatusCode::NOT_FOUND, "node not found"),
        Err(_) => return words(StatusCode::SERVICE_UNAVAILABLE, "the coordinator can't store anything now"),
    };
    let compression = if asked.wants_zstd() { Compression::Zstd } else { Compression::None };
    if asked.stream {
        let (frames, body) = body();
        server.stream(id, compression, frames);
        return Response::new(body);
    }
    if asked.omit_peers {
        return reply(StatusCode::OK, Bytes::new());
    }
    let full = server.mapper.full(&server.viewer.now(), id, (server.now)());
    match full.map(|full| map_frame::write(&full, compression)) {
        Some(Ok(frame)) => reply(StatusCode::OK, frame.into()),
        Some(Err(_)) => words(StatusCode::INTERNAL_SERVER_ERROR, "the map could not be written"),
        None => words(StatusCode::NOT_FOUND, "node not found"),
    }
}

fn words(status: StatusCode, text: &'static str) -> Reply {
    reply(status, Bytes::from_static(text.as_bytes()))
}

fn reply(status: StatusCode, body: Bytes) -> Reply {
    let mut response = Response::new(UnsyncBoxBody::new(Full::new(body)));
    *response.status_mut() = status;
    response
}
