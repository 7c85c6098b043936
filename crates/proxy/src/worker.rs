//! A thread that serves connections. Everything about a connection stays on its thread: no task moves, no lock is shared
//! but those of the table and of one instance's sockets.

use crate::{
    forward::{self, Client, Worker},
    front::{Activity, Front, Patience},
    headers::RequestIds,
    pool::Pool,
    proxy_header::{self, Parsed},
    shared::Shared,
    tls::{HandshakeError, Replay, Stream},
};
use bytes::{Buf, Bytes, BytesMut};
use hyper::{
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    io,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    net::TcpStream,
    sync::{OwnedSemaphorePermit, mpsc, watch},
    task::LocalSet,
    time::{Instant, MissedTickBehavior, interval, sleep_until, timeout, timeout_at},
};

const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SWEEP: Duration = Duration::from_secs(1);
const FIRST_READ: usize = 4_096;

/// A connection just accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: std::net::TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) is_tls: bool,
    pub(crate) permit: OwnedSemaphorePermit,
    pub(crate) load: Load,
}

/// How far the proxy is from its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    Serving,
    /// Another proxy accepts; what is here may end by itself.
    Retiring,
    /// Only what is in flight is awaited.
    Stopping,
}

/// Counts a worker's connections.
#[derive(Debug)]
pub(crate) struct Load(Arc<AtomicUsize>);

impl Load {
    pub(crate) fn add(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(count))
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Runs on a thread of its own until told to stop and its requests are done, or the time for them is over.
pub(crate) fn run(
    runtime: &tokio::runtime::Runtime,
    shared: &Arc<Shared>,
    accepted: mpsc::UnboundedReceiver<Accepted>,
    phase: watch::Receiver<Phase>,
    uses_proxy_protocol: bool,
) {
    let tasks = LocalSet::new();
    tasks.block_on(runtime, serve(shared, accepted, phase, uses_proxy_protocol));
}

async fn serve(
    shared: &Arc<Shared>,
    mut accepted: mpsc::UnboundedReceiver<Accepted>,
    phase: watch::Receiver<Phase>,
    uses_proxy_protocol: bool,
) {
    let limits = &shared.limits;
    let pool = Rc::new(Pool::new(limits.upstream_idle, limits.upstream_keep_alive));
    let worker = Rc::new(Worker { shared: Arc::clone(shared), pool, ids: RequestIds::new() });
    let (alive, mut all_done) = mpsc::channel::<()>(1);
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begin = |next: Accepted| {
        let (worker, phase, alive) = (Rc::clone(&worker), phase.clone(), alive.clone());
        tokio::task::spawn_local(async move {
            if let Err(error) = connection(next, worker, phase, alive, uses_proxy_protocol).await {
                tracing::debug!(%error, "a client's connection ended");
            }
        });
    };
    let mut stopping = std::pin::pin!(reached(phase.clone(), Phase::Stopping));
    let is_stopping = loop {
        tokio::select! {
            // None: what was accepted before another proxy took over is all here.
            next = accepted.recv() => match next {
                Some(next) => begin(next),
                None => break false,
            },
            _ = sweep.tick() => worker.pool.sweep(),
            () = stopping.as_mut() => break true,
        }
    };
    while let Ok(next) = accepted.try_recv() {
        begin(next);
    }
    drop((accepted, alive));
    let retiring = Instant::now() + limits.retire;
    if !is_stopping {
        loop {
            tokio::select! {
                _ = all_done.recv() => return,
                _ = sweep.tick() => worker.pool.sweep(),
                () = stopping.as_mut() => break,
                () = sleep_until(retiring) => break,
            }
        }
    }
    if timeout(limits.shutdown, all_done.recv()).await.is_err() {
        tracing::warn!("requests were cut at the end of the time for stopping");
    }
}

/// Ready when the proxy is at least this far.
async fn reached(mut phase: watch::Receiver<Phase>, wanted: Phase) {
    // An error means that the sender is gone, which is the end.
    let _ = phase.wait_for(|phase| *phase >= wanted).await.is_ok();
}

/// Why a connection was not served.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("its socket failed")]
    Socket(#[from] io::Error),
    #[error("it sent no PROXY header, or is not trusted to")]
    ProxyHeader,
    #[error("it got no TLS connection")]
    Handshake(#[from] HandshakeError),
    #[error("HTTP failed")]
    Http(#[from] hyper::Error),
}

async fn connection(
    accepted: Accepted,
    worker: Rc<Worker>,
    phase: watch::Receiver<Phase>,
    alive: mpsc::Sender<()>,
    uses_proxy_protocol: bool,
) -> Result<(), ConnectionError> {
    let Accepted { stream, peer, is_tls, permit, load } = accepted;
    let _held = (permit, load, alive.clone());
    let stream = TcpStream::from_std(stream)?;
    stream.set_nodelay(true)?;
    let limits = &worker.shared.limits;
    let is_trusted_hop = worker.shared.trusts(peer);
    let patience = if is_tls { limits.handshake_timeout } else { limits.head_timeout };
    let begun = async {
        let (stream, first, address) = if uses_proxy_protocol {
            introduced(stream, peer, is_trusted_hop).await?
        } else {
            (stream, BytesMut::new(), peer)
        };
        Ok::<_, ConnectionError>((begin(&worker.shared, stream, first, is_tls).await?, address))
    };
    let begun = tokio::select! {
        begun = timeout_at(Instant::now() + patience, begun) => begun,
        () = reached(phase.clone(), Phase::Stopping) => return Ok(()),
    };
    let (Begun { stream, first, is_h2 }, address) =
        begun.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let activity = Activity::new();
    let patience =
        Patience { head: limits.head_timeout, keep_alive: limits.keep_alive, send: limits.send_timeout };
    let front = Front::new(stream, first, Arc::clone(&activity), patience, is_h2);
    // Behind a PROXY header the peer is the hop, so what the client itself says of its origin is not believed.
    let is_trusted = is_trusted_hop && !uses_proxy_protocol;
    let scheme = if is_tls { "https" } else { "http" };
    let client = Rc::new(Client { worker, address, is_trusted, scheme, activity, alive });
    if is_h2 { serve_h2(front, client, phase).await } else { serve_h1(front, client, phase).await }
}

/// A connection whose version of HTTP is known.
struct Begun {
    stream: Stream,
    first: Bytes,
    is_h2: bool,
}

async fn begin(
    shared: &Shared,
    mut stream: TcpStream,
    mut first: BytesMut,
    is_tls: bool,
) -> Result<Begun, ConnectionError> {
    if let Some(tls) = shared.tls.as_ref().filter(|_| is_tls) {
        let (stream, is_h2) = tls.accept(Replay::new(first.freeze(), stream)).await?;
        return Ok(Begun { stream, first: Bytes::new(), is_h2 });
    }
    if first.is_empty() {
        // A client that is silent costs no buffer.
        stream.readable().await?;
        first.reserve(FIRST_READ);
    }
    let is_h2 = is_h2(&mut stream, &mut first).await?;
    Ok(Begun { stream: Stream::Plain(stream), first: first.freeze(), is_h2 })
}

async fn serve_h1(
    front: Front,
    client: Rc<Client>,
    phase: watch::Receiver<Phase>,
) -> Result<(), ConnectionError> {
    let limits = &client.worker.shared.limits;
    let (head, quiet) = (limits.head_bytes, limits.retire_quiet);
    let activity = Arc::clone(&client.activity);
    let service = service_fn(move |request| forward::answer(Rc::clone(&client), request));
    let mut builder = http1::Builder::new();
    builder.max_buf_size(head.max(8 * 1024)).timer(TokioTimer::new());
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(front), service).with_upgrades());
    tokio::select! {
        done = serving.as_mut() => return Ok(done?),
        // A request may be on its way: it is answered, and told to be the last.
        () = reached(phase.clone(), Phase::Retiring) => activity.bound_quiet(quiet),
    }
    tokio::select! {
        done = serving.as_mut() => return Ok(done?),
        () = reached(phase, Phase::Stopping) => serving.as_mut().graceful_shutdown(),
    }
    Ok(serving.await?)
}

async fn serve_h2(
    front: Front,
    client: Rc<Client>,
    phase: watch::Receiver<Phase>,
) -> Result<(), ConnectionError> {
    let limits = &client.worker.shared.limits;
    let mut builder = http2::Builder::new(LocalExecutor);
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(limits.h2_streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .keep_alive_interval(Some(limits.keep_alive))
        .adaptive_window(true);
    let service = service_fn(move |request| forward::answer(Rc::clone(&client), request));
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(front), service));
    tokio::select! {
        done = serving.as_mut() => return Ok(done?),
        // GOAWAY twice, with a round trip between: no stream that the client has begun is lost (RFC 9113, 6.8).
        () = reached(phase, Phase::Retiring) => serving.as_mut().graceful_shutdown(),
    }
    Ok(serving.await?)
}

/// Runs HTTP/2's streams on the connection's own thread.
#[derive(Debug, Clone, Copy)]
struct LocalExecutor;

impl<F: Future + 'static> Executor<F> for LocalExecutor {
    fn execute(&self, future: F) {
        tokio::task::spawn_local(async move {
            future.await;
        });
    }
}

async fn introduced(
    mut stream: TcpStream,
    peer: SocketAddr,
    is_trusted_hop: bool,
) -> Result<(TcpStream, BytesMut, SocketAddr), ConnectionError> {
    if !is_trusted_hop {
        return Err(ConnectionError::ProxyHeader);
    }
    let mut first = BytesMut::with_capacity(FIRST_READ);
    loop {
        match proxy_header::parse(&first) {
            Parsed::Header { length, client } => {
                first.advance(length);
                return Ok((stream, first, client.unwrap_or(peer)));
            }
            Parsed::Bad => return Err(ConnectionError::ProxyHeader),
            Parsed::More => {
                if stream.read_buf(&mut first).await? == 0 {
                    return Err(ConnectionError::ProxyHeader);
                }
            }
        }
    }
}

/// Whether the client begins with HTTP/2's preface (RFC 9113, 3.4).
async fn is_h2(stream: &mut TcpStream, first: &mut BytesMut) -> io::Result<bool> {
    loop {
        let common = first.len().min(H2_PREFACE.len());
        if first.get(..common) != H2_PREFACE.get(..common) {
            return Ok(false);
        }
        if common == H2_PREFACE.len() {
            return Ok(true);
        }
        if stream.read_buf(first).await? == 0 {
            return Ok(false);
        }
    }
}
