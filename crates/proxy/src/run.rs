//! The whole proxy: one task accepts and hands each connection to the worker that has the fewest; workers serve; the
//! control socket answers. The routes are loaded before the first connection is taken.

use crate::{
    access_log::AccessLog,
    control::{self, Answering},
    predecessors::Predecessors,
    settings::{Limits, Settings},
    shared::{Fixed, Shared},
    table_file::TableError,
    tls::{Certificates, CertificatesError, Tls},
    worker::{self, Accepted, Load, Phase},
};
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, oneshot, watch},
    task::{AbortHandle, JoinSet},
};

/// How long to wait after accepting failed, as when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The routes can't be served.
    #[error(transparent)]
    Table(#[from] TableError),
    /// There are no certificates.
    #[error(transparent)]
    Certificates(#[from] CertificatesError),
    /// There are TLS listeners, but no folder of certificates.
    #[error("a listener with TLS needs a folder of certificates")]
    NoCertificates,
    /// TLS can't be had.
    #[error("TLS can't be set up")]
    Tls(#[source] rustls::Error),
    /// The control socket can't be bound.
    #[error("the control socket {} can't be bound", path.display())]
    Control {
        /// The socket.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The access log can't be opened.
    #[error("the access log {} can't be opened", path.display())]
    AccessLog {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// A listener that was handed over is of no use.
    #[error("a listener can't be used")]
    Listener(#[source] io::Error),
    /// A worker's thread can't be started.
    #[error("a worker can't be started")]
    Worker(#[source] io::Error),
}

/// What a running proxy can be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Read the certificates again.
    Certificates,
    /// Another proxy accepts now: serve what is here to its end, for [`Limits::retire`] at most, then end.
    Retire,
    /// Accept no more and end within [`Limits::shutdown`].
    Stop,
}

/// Serves until told to stop, or, told to retire, until nothing is left to serve. Orders that can come no more are a stop.
///
/// A proxy that has the control socket already is the predecessor: from now on it is asked through this one.
///
/// # Errors
/// [`RunError`] when it can't start; nothing was accepted then, and whoever had the control socket still has it.
pub async fn run(settings: Settings, mut orders: mpsc::UnboundedReceiver<Order>) -> Result<(), RunError> {
    let Prepared { shared, control, listeners, proxy_protocol } = Prepared::new(settings)?;
    let predecessors = Predecessors::find(&control).await;
    for paused in predecessors.pauses().await {
        shared.pauses.pause(paused.app, Duration::from_millis(paused.timeout_ms));
    }
    let socket =
        control::bind(&control).map_err(|source| RunError::Control { path: control.clone(), source })?;
    // Until here the other one answered the agent, so the routes may have changed once more.
    if let Err(error) = shared.reload() {
        tracing::error!(%error, "the routes changed while starting and can't be read; those of before are served");
    }
    let listen = listeners.iter().map(|listener| listener.address).collect();
    let workers = Workers::start(&shared, proxy_protocol)?;
    let mut tasks = JoinSet::new();
    let answering = Arc::new(Answering { shared: Arc::clone(&shared), listen, predecessors });
    tasks.spawn(control::serve(socket, control, answering));
    let room = Arc::new(Semaphore::new(shared.limits.connections.min(Semaphore::MAX_PERMITS)));
    let accepting: Vec<AbortHandle> = listeners
        .into_iter()
        .map(|listener| tasks.spawn(accept_all(listener, Arc::clone(&workers.hands), Arc::clone(&room))))
        .collect();
    tracing::info!(generation = shared.generation(), "the proxy serves");
    // The control socket answers to the end, as a drain may be waiting.
    obey(&mut orders, &shared, workers, &accepting).await;
    Ok(())
}

async fn obey(
    orders: &mut mpsc::UnboundedReceiver<Order>,
    shared: &Arc<Shared>,
    mut workers: Workers,
    accepting: &[AbortHandle],
) {
    let mut has_retired = false;
    loop {
        let order = tokio::select! {
            order = orders.recv() => order.unwrap_or(Order::Stop),
            () = workers.ended(), if has_retired => return,
        };
        match order {
            Order::Certificates => reload_certificates(shared).await,
            Order::Retire => {
                tracing::info!("another proxy accepts; what is here is served to its end");
                accepting.iter().for_each(AbortHandle::abort);
                shared.is_retiring.store(true, Ordering::Relaxed);
                workers.phase.send_replace(Phase::Retiring);
                // Without senders the workers know that nothing more comes.
                workers.hands = Arc::default();
                has_retired = true;
            }
            Order::Stop => {
                accepting.iter().for_each(AbortHandle::abort);
                workers.phase.send_replace(Phase::Stopping);
                return workers.ended().await;
            }
        }
    }
}

async fn reload_certificates(shared: &Arc<Shared>) {
    let shared = Arc::clone(shared);
    let read =
        tokio::task::spawn_blocking(move || shared.tls.as_ref().map(|tls| tls.certificates.reload())).await;
    if let Ok(Some(Err(error))) = read {
        tracing::error!(%error, "the certificates were not read; those of before are served on");
    }
}

/// What can be got ready without anybody noticing.
struct Prepared {
    shared: Arc<Shared>,
    control: PathBuf,
    listeners: Vec<Listener>,
    proxy_protocol: bool,
}

struct Listener {
    socket: TcpListener,
    address: SocketAddr,
    is_tls: bool,
}

impl Prepared {
    fn new(settings: Settings) -> Result<Self, RunError> {
        let needs_tls = !settings.tls_listeners.is_empty();
        let tls = tls(settings.certificates.as_deref(), needs_tls, &settings.limits)?;
        let log = match settings.access_log {
            Some(path) => AccessLog::open(&path, settings.limits.access_log_bytes)
                .map_err(|source| RunError::AccessLog { path, source })?,
            None => AccessLog::default(),
        };
        let fixed = Fixed {
            limits: settings.limits,
            trusted_hops: settings.trusted_hops,
            clock: settings.clock,
            log,
            tls,
            https_redirect: settings.https_redirect,
        };
        let shared = Arc::new(Shared::load(&settings.routes, fixed)?);
        let plain = settings.listeners.into_iter().map(|listener| Listener::new(listener, false));
        let with_tls = settings.tls_listeners.into_iter().map(|listener| Listener::new(listener, true));
        let listeners = plain.chain(with_tls).collect::<io::Result<_>>().map_err(RunError::Listener)?;
        Ok(Self { shared, control: settings.control, listeners, proxy_protocol: settings.proxy_protocol })
    }
}

fn tls(folder: Option<&Path>, is_needed: bool, limits: &Limits) -> Result<Option<Tls>, RunError> {
    let Some(folder) = folder else {
        return if is_needed { Err(RunError::NoCertificates) } else { Ok(None) };
    };
    Tls::new(Certificates::load(folder)?, limits.handshakes).map(Some).map_err(RunError::Tls)
}

impl Listener {
    fn new(listener: std::net::TcpListener, is_tls: bool) -> io::Result<Self> {
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        Ok(Self { socket: TcpListener::from_std(listener)?, address, is_tls })
    }
}

/// One worker as the accepting task sees it.
#[derive(Debug)]
struct Hand {
    queue: mpsc::UnboundedSender<Accepted>,
    connections: Arc<AtomicUsize>,
}

struct Workers {
    hands: Arc<Vec<Hand>>,
    phase: watch::Sender<Phase>,
    running: Vec<oneshot::Receiver<()>>,
}

impl Workers {
    fn start(shared: &Arc<Shared>, proxy_protocol: bool) -> Result<Self, RunError> {
        let count = match shared.limits.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            count => count,
        };
        let (phase, watching) = watch::channel(Phase::Serving);
        let (mut hands, mut running) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (queue, accepted) = mpsc::unbounded_channel();
            let (end, has_ended) = oneshot::channel();
            let (shared, watching) = (Arc::clone(shared), watching.clone());
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(RunError::Worker)?;
            std::thread::Builder::new()
                .name(format!("proxy-{number}"))
                .spawn(move || {
                    worker::run(&runtime, &shared, accepted, watching, proxy_protocol);
                    // A blocking read of a file must not hold up the end.
                    runtime.shutdown_background();
                    drop((shared, end));
                })
                .map_err(RunError::Worker)?;
            hands.push(Hand { queue, connections: Arc::default() });
            running.push(has_ended);
        }
        Ok(Self { hands: Arc::new(hands), phase, running })
    }

    /// Returns when all have ended. May be given up and begun again.
    async fn ended(&mut self) {
        while let Some(end) = self.running.last_mut() {
            // A worker says that it has ended by dropping its sender.
            let _ = end.await.is_ok();
            self.running.pop();
        }
    }
}

async fn accept_all(listener: Listener, hands: Arc<Vec<Hand>>, room: Arc<Semaphore>) {
    let Listener { socket, is_tls, .. } = listener;
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let (stream, peer) = accept(&socket).await;
        let Some(hand) = hands.iter().min_by_key(|hand| hand.connections.load(Ordering::Relaxed)) else {
            return;
        };
        let load = Load::add(&hand.connections);
        if hand.queue.send(Accepted { stream, peer, is_tls, permit, load }).is_err() {
            tracing::error!("a worker has ended");
            return;
        }
    }
}

/// The next connection. A failure to accept is waited out, whatever it is: the listener is all there is.
async fn accept(listener: &TcpListener) -> (std::net::TcpStream, SocketAddr) {
    loop {
        let accepted = match listener.accept().await {
            // The stream is for another thread's runtime, so this one lets go of it.
            Ok((stream, peer)) => stream.into_std().map(|stream| (stream, peer)),
            Err(error) => Err(error),
        };
        match accepted {
            Ok(accepted) => return accepted,
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                tracing::warn!(%error, "can't accept");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
