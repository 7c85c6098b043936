//! The whole proxy: one task accepts and hands each connection to the worker that has the fewest; workers serve; the
//! control socket answers. The routes are loaded before the first connection is taken.

use crate::{
    access_log::AccessLog,
    control,
    settings::Settings,
    shared::Shared,
    table_file::TableError,
    worker::{self, Accepted, Load},
};
use std::{
    io,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, oneshot, watch},
    task::JoinSet,
};

/// How long to wait after accepting failed, as when file descriptors have run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Why the proxy could not start.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The routes can't be served.
    #[error(transparent)]
    Table(#[from] TableError),
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

/// Serves until `shutdown` is ready, then accepts no more and lets requests end for [`Limits::shutdown`](crate::Limits).
///
/// # Errors
/// [`RunError`] when it can't start; nothing was accepted then.
pub async fn run(settings: Settings, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
    let Settings { routes, control, listeners, access_log, trusted_hops, proxy_protocol, limits, clock } =
        settings;
    let log = match access_log {
        Some(path) => AccessLog::open(&path, limits.access_log_bytes)
            .map_err(|source| RunError::AccessLog { path, source })?,
        None => AccessLog::default(),
    };
    let shared = Arc::new(Shared::load(&routes, limits, trusted_hops, clock, log)?);
    let listeners =
        listeners.into_iter().map(prepare).collect::<io::Result<Vec<_>>>().map_err(RunError::Listener)?;
    let listen: Arc<[SocketAddr]> = listeners.iter().map(|(_, address)| *address).collect();
    let socket = control::bind(&control).map_err(|source| RunError::Control { path: control, source })?;
    let workers = Workers::start(&shared, proxy_protocol)?;
    let room = Arc::new(Semaphore::new(shared.limits.connections.min(Semaphore::MAX_PERMITS)));

    let mut tasks = JoinSet::new();
    tasks.spawn(control::serve(socket, Arc::clone(&shared), listen));
    let hands = Arc::clone(&workers.hands);
    let accepting: Vec<_> = listeners
        .into_iter()
        .map(|(listener, _)| tasks.spawn(accept_all(listener, Arc::clone(&hands), Arc::clone(&room))))
        .collect();
    tracing::info!(generation = shared.generation(), "the proxy serves");
    shutdown.await;
    // The control socket answers on, as a drain may be waiting.
    accepting.iter().for_each(tokio::task::AbortHandle::abort);
    workers.stop().await;
    Ok(())
}

fn prepare(listener: std::net::TcpListener) -> io::Result<(TcpListener, SocketAddr)> {
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    Ok((TcpListener::from_std(listener)?, address))
}

/// One worker as the accepting task sees it.
#[derive(Debug)]
struct Hand {
    queue: mpsc::UnboundedSender<Accepted>,
    connections: Arc<AtomicUsize>,
}

struct Workers {
    hands: Arc<Vec<Hand>>,
    stop: watch::Sender<bool>,
    ended: Vec<oneshot::Receiver<()>>,
}

impl Workers {
    fn start(shared: &Arc<Shared>, proxy_protocol: bool) -> Result<Self, RunError> {
        let count = match shared.limits.workers {
            0 => std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
            count => count,
        };
        let (stop, stopping) = watch::channel(false);
        let (mut hands, mut ended) = (Vec::new(), Vec::new());
        for number in 0..count {
            let (queue, accepted) = mpsc::unbounded_channel();
            let (end, has_ended) = oneshot::channel();
            let (shared, stopping) = (Arc::clone(shared), stopping.clone());
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .map_err(RunError::Worker)?;
            std::thread::Builder::new()
                .name(format!("proxy-{number}"))
                .spawn(move || {
                    worker::run(&runtime, &shared, accepted, stopping, proxy_protocol);
                    // A blocking read of a file must not hold up the end.
                    runtime.shutdown_background();
                    drop((shared, end));
                })
                .map_err(RunError::Worker)?;
            hands.push(Hand { queue, connections: Arc::default() });
            ended.push(has_ended);
        }
        Ok(Self { hands: Arc::new(hands), stop, ended })
    }

    async fn stop(self) {
        self.stop.send_replace(true);
        for end in self.ended {
            // The worker says that it has ended by dropping its sender.
            let _ = end.await.is_ok();
        }
    }
}

async fn accept_all(listener: TcpListener, hands: Arc<Vec<Hand>>, room: Arc<Semaphore>) {
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else { return };
        let (stream, peer) = accept(&listener).await;
        let Some(hand) = hands.iter().min_by_key(|hand| hand.connections.load(Ordering::Relaxed)) else {
            return;
        };
        let load = Load::add(&hand.connections);
        if hand.queue.send(Accepted { stream, peer, permit, load }).is_err() {
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
