//! A thread that serves connections. Everything about a connection stays on its thread: no task moves, no lock is shared
//! but those of the table and of one instance's sockets.

use crate::{
    forward::{self, Client, Worker},
    front::{Activity, Front, Patience},
    headers::RequestIds,
    pool::Pool,
    proxy_header::{self, Parsed},
    shared::Shared,
};
use bytes::{Buf, BytesMut};
use hyper::{
    rt::Executor,
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{
    io,
    net::{SocketAddr, TcpStream},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::AsyncReadExt,
    sync::{OwnedSemaphorePermit, mpsc, watch},
    task::LocalSet,
    time::{Instant, MissedTickBehavior, interval, timeout, timeout_at},
};

const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const SWEEP: Duration = Duration::from_secs(1);
const FIRST_READ: usize = 4_096;
const SEND_PATIENCE: Duration = Duration::from_secs(60);

/// A connection just accepted.
#[derive(Debug)]
pub(crate) struct Accepted {
    pub(crate) stream: TcpStream,
    pub(crate) peer: SocketAddr,
    pub(crate) permit: OwnedSemaphorePermit,
    pub(crate) load: Load,
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
    stop: watch::Receiver<bool>,
    uses_proxy_protocol: bool,
) {
    let tasks = LocalSet::new();
    tasks.block_on(runtime, serve(shared, accepted, stop, uses_proxy_protocol));
}

async fn serve(
    shared: &Arc<Shared>,
    mut accepted: mpsc::UnboundedReceiver<Accepted>,
    mut stop: watch::Receiver<bool>,
    uses_proxy_protocol: bool,
) {
    let limits = &shared.limits;
    let pool = Rc::new(Pool::new(limits.upstream_idle, limits.upstream_keep_alive));
    let worker = Rc::new(Worker { shared: Arc::clone(shared), pool, ids: RequestIds::new() });
    let (alive, mut all_done) = mpsc::channel::<()>(1);
    let mut sweep = interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let until_stop = stop.clone();
    loop {
        tokio::select! {
            next = accepted.recv() => {
                let Some(next) = next else { break };
                let (worker, stop, alive) = (Rc::clone(&worker), until_stop.clone(), alive.clone());
                tokio::task::spawn_local(async move {
                    if let Err(error) = connection(next, worker, stop, alive, uses_proxy_protocol).await {
                        tracing::debug!(%error, "a client's connection ended");
                    }
                });
            }
            _ = sweep.tick() => worker.pool.sweep(),
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    drop((accepted, alive));
    if timeout(limits.shutdown, all_done.recv()).await.is_err() {
        tracing::warn!("requests were cut at the end of the time for stopping");
    }
}

/// Why a connection was not served.
#[derive(Debug, thiserror::Error)]
enum ConnectionError {
    #[error("its socket failed")]
    Socket(#[from] io::Error),
    #[error("it sent no PROXY header, or is not trusted to")]
    ProxyHeader,
    #[error("HTTP failed")]
    Http(#[from] hyper::Error),
}

async fn connection(
    accepted: Accepted,
    worker: Rc<Worker>,
    stop: watch::Receiver<bool>,
    alive: mpsc::Sender<()>,
    uses_proxy_protocol: bool,
) -> Result<(), ConnectionError> {
    let Accepted { stream, peer, permit, load } = accepted;
    let _held = (permit, load, alive.clone());
    let mut stream = tokio::net::TcpStream::from_std(stream)?;
    stream.set_nodelay(true)?;
    let limits = &worker.shared.limits;
    let deadline = Instant::now() + limits.head_timeout;
    let is_trusted_hop = worker.shared.trusts(peer);
    let mut first = BytesMut::with_capacity(FIRST_READ);
    let mut address = peer;
    let begun = async {
        if uses_proxy_protocol {
            if !is_trusted_hop {
                return Err(ConnectionError::ProxyHeader);
            }
            address = read_proxy_header(&mut stream, &mut first).await?.unwrap_or(peer);
        }
        Ok(is_h2(&mut stream, &mut first).await?)
    };
    let is_h2 = tokio::select! {
        begun = timeout_at(deadline, begun) => begun.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??,
        () = stopped(stop.clone()) => return Ok(()),
    };
    let activity = Activity::new();
    let patience = Patience { head: limits.head_timeout, keep_alive: limits.keep_alive, send: SEND_PATIENCE };
    let front = Front::new(stream, first.freeze(), Arc::clone(&activity), patience, is_h2);
    // Behind a PROXY header the peer is the hop, so what the client itself says of its origin is not believed.
    let is_trusted = is_trusted_hop && !uses_proxy_protocol;
    let client = Rc::new(Client { worker, address, is_trusted, activity, alive });
    if is_h2 { serve_h2(front, client, stop).await } else { serve_h1(front, client, stop).await }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // An error means that the sender is gone, which is a stop too.
    let _ = stop.wait_for(|stop| *stop).await.is_ok();
}

async fn serve_h1(
    front: Front,
    client: Rc<Client>,
    stop: watch::Receiver<bool>,
) -> Result<(), ConnectionError> {
    let head = client.worker.shared.limits.head_bytes;
    let service = service_fn(move |request| forward::answer(Rc::clone(&client), request));
    let mut builder = http1::Builder::new();
    builder.max_buf_size(head.max(8 * 1024)).timer(TokioTimer::new());
    let mut serving = std::pin::pin!(builder.serve_connection(TokioIo::new(front), service).with_upgrades());
    tokio::select! {
        done = serving.as_mut() => return Ok(done?),
        () = stopped(stop) => serving.as_mut().graceful_shutdown(),
    }
    Ok(serving.await?)
}

async fn serve_h2(
    front: Front,
    client: Rc<Client>,
    stop: watch::Receiver<bool>,
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
        () = stopped(stop) => serving.as_mut().graceful_shutdown(),
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

async fn read_proxy_header(
    stream: &mut tokio::net::TcpStream,
    first: &mut BytesMut,
) -> Result<Option<SocketAddr>, ConnectionError> {
    loop {
        match proxy_header::parse(first) {
            Parsed::Header { length, client } => {
                first.advance(length);
                return Ok(client);
            }
            Parsed::Bad => return Err(ConnectionError::ProxyHeader),
            Parsed::More => {
                if stream.read_buf(first).await? == 0 {
                    return Err(ConnectionError::ProxyHeader);
                }
            }
        }
    }
}

/// Whether the client begins with HTTP/2's preface (RFC 9113, 3.4).
async fn is_h2(stream: &mut tokio::net::TcpStream, first: &mut BytesMut) -> io::Result<bool> {
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
