//! Visitors with streams that stay open: WebSockets that are talked over and streams of events that are read, each opened
//! again when it ends, with when it began and when it ended.

use crate::{
    steady::CLOCKS,
    visitor::{Events, WebSocket},
};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// What kind of stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    WebSocket,
    Events,
}

/// From its opening to its end. Milliseconds since 1970; no end if it stood when the load ended.
#[derive(Debug, Clone)]
pub(crate) struct Life {
    kind: Kind,
    began: u64,
    ended: Option<u64>,
}

impl Life {
    /// It ended after some drain that began in its life, and not before the grace was over; or it did not end.
    pub(crate) fn ended_only_as_the_grace_allows(&self, drains: &[u64], grace_ms: u64) {
        let Some(ended) = self.ended else { return };
        let tolerance = u64::try_from(CLOCKS.as_millis()).unwrap();
        let is_allowed =
            |drain: &u64| *drain + tolerance >= self.began && drain + grace_ms <= ended + tolerance;
        let newest = drains.iter().rfind(|drain| **drain <= ended);
        assert!(
            newest.is_some_and(is_allowed),
            "a {:?} from {} to {ended} was cut: the newest drain before its end began at {newest:?}",
            self.kind,
            self.began,
        );
    }
}

/// Streams at work.
pub(crate) struct Streams {
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<Vec<Life>>>,
}

impl Streams {
    /// Begins with this many, which stay as many.
    pub(crate) fn begin(at: SocketAddr, kind: Kind, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let work = |stop: Arc<AtomicBool>| move || alone(work(at, kind, stop));
        let workers = (0..count).map(|_| std::thread::spawn(work(Arc::clone(&stop)))).collect();
        Self { stop, workers }
    }

    /// Ends them all, and says how each lived.
    pub(crate) async fn stop(mut self) -> Vec<Life> {
        self.stop.store(true, Ordering::Relaxed);
        let mut lives = Vec::new();
        for worker in std::mem::take(&mut self.workers) {
            lives.extend(tokio::task::spawn_blocking(|| worker.join().unwrap()).await.unwrap());
        }
        lives
    }
}

impl Drop for Streams {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// Each stream has a thread of its own, so that none is late because another is at work.
fn alone<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work)
}

async fn work(at: SocketAddr, kind: Kind, stop: Arc<AtomicBool>) -> Vec<Life> {
    let mut lives = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let began = now();
        let ended = match kind {
            Kind::WebSocket => talk(at, Arc::clone(&stop)).await,
            Kind::Events => read(at, Arc::clone(&stop)).await,
        };
        lives.push(Life { kind, began, ended });
    }
    lives
}

/// Talks until it ends, or until nobody wants more.
async fn talk(at: SocketAddr, stop: Arc<AtomicBool>) -> Option<u64> {
    let mut socket = WebSocket::open(at).await;
    while !stop.load(Ordering::Relaxed) {
        match socket.echo("hello").await {
            Ok(echoed) => assert_eq!(echoed, "hello"),
            Err(_) => return Some(now()),
        }
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    None
}

async fn read(at: SocketAddr, stop: Arc<AtomicBool>) -> Option<u64> {
    let events = Events::open(at).await;
    while !stop.load(Ordering::Relaxed) {
        if !events.is_open() {
            return Some(now());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    None
}

fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}
