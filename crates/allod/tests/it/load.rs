//! Visitors who keep coming: some on connections they keep, some on a new one each time. Every request is written down.

use crate::{processes::eventually, visitor::ANSWER};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::{Request, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{net::TcpStream, task::JoinHandle};

/// A pause between two requests of one visitor, so that the machine has time for what is tested.
const PAUSE: Duration = Duration::from_millis(8);

/// So many requests that none of them failed says something.
const ENOUGH: usize = 50;

/// One request.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    /// When it was sent, since the load began.
    pub(crate) at: Duration,
    /// When its outcome was known.
    pub(crate) done: Duration,
    /// The version that answered, or what went wrong.
    pub(crate) outcome: Result<String, String>,
}

/// All of them.
#[derive(Debug, Clone)]
pub(crate) struct Report {
    pub(crate) requests: usize,
    pub(crate) failed: Vec<Seen>,
    /// How often each version answered.
    pub(crate) versions: BTreeMap<String, usize>,
}

impl Report {
    /// Nothing failed.
    pub(crate) fn all_answered(&self) {
        assert!(
            self.failed.is_empty(),
            "{} of {} failed: {:?}",
            self.failed.len(),
            self.requests,
            self.first()
        );
    }

    fn first(&self) -> Vec<&Seen> {
        self.failed.iter().take(5).collect()
    }
}

/// Visitors at work.
pub(crate) struct Load {
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    workers: Vec<JoinHandle<()>>,
    begin: Instant,
}

impl Load {
    /// Begins: half of the visitors keep their connections, half take new ones.
    pub(crate) fn begin(at: SocketAddr, path: &'static str) -> Self {
        Self::of(at, path, 6, PAUSE)
    }

    /// The same, by this many visitors who pause for so long after each request.
    pub(crate) fn of(at: SocketAddr, path: &'static str, visitors: usize, pause: Duration) -> Self {
        let (seen, stop, begin) =
            (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)), Instant::now());
        let workers = (0..visitors).map(|number| {
            let visitor = Visitor { at, path, keep: number % 2 == 0, pause, begin };
            tokio::spawn(visitor.work(Arc::clone(&seen), Arc::clone(&stop)))
        });
        let workers = workers.collect();
        Self { seen, stop, workers, begin }
    }

    /// Since it began.
    pub(crate) fn elapsed(&self) -> Duration {
        self.begin.elapsed()
    }

    /// How many requests have had their end.
    pub(crate) fn requests(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    /// When the first request after this moment was answered.
    pub(crate) fn first_answer_after(&self, moment: Duration) -> Option<Duration> {
        let seen = self.seen.lock().unwrap();
        seen.iter().filter(|seen| seen.at >= moment && seen.outcome.is_ok()).map(|seen| seen.done).min()
    }

    /// Ends, when there was enough that could have failed; requests in flight are awaited.
    pub(crate) async fn stop(mut self) -> Report {
        eventually("enough requests", async || (self.requests() > ENOUGH).then_some(())).await;
        self.stop.store(true, Ordering::Relaxed);
        for worker in std::mem::take(&mut self.workers) {
            worker.await.unwrap();
        }
        let seen = self.seen.lock().unwrap().clone();
        let mut versions = BTreeMap::new();
        for version in seen.iter().filter_map(|seen| seen.outcome.as_ref().ok()) {
            *versions.entry(version.clone()).or_default() += 1;
        }
        Report {
            requests: seen.len(),
            failed: seen.into_iter().filter(|seen| seen.outcome.is_err()).collect(),
            versions,
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.workers.iter().for_each(JoinHandle::abort);
    }
}

struct Visitor {
    at: SocketAddr,
    path: &'static str,
    keep: bool,
    pause: Duration,
    begin: Instant,
}

type Connection = SendRequest<Empty<Bytes>>;

impl Visitor {
    async fn work(self, seen: Arc<Mutex<Vec<Seen>>>, stop: Arc<AtomicBool>) {
        let mut kept: Option<Connection> = None;
        while !stop.load(Ordering::Relaxed) {
            let at = self.begin.elapsed();
            let outcome = tokio::time::timeout(ANSWER, self.ask(&mut kept)).await;
            let outcome = outcome.unwrap_or_else(|_| Err("no answer in time".to_owned()));
            if outcome.is_err() || !self.keep {
                kept = None;
            }
            seen.lock().unwrap().push(Seen { at, done: self.begin.elapsed(), outcome });
            tokio::time::sleep(self.pause).await;
        }
    }

    async fn ask(&self, kept: &mut Option<Connection>) -> Result<String, String> {
        // A connection that was closed between two requests is what every client replaces by itself.
        let ready = match kept {
            Some(connection) => connection.ready().await.is_ok(),
            None => false,
        };
        if !ready {
            *kept = Some(self.connect().await?);
        }
        let connection = kept.as_mut().ok_or("no connection")?;
        let request = Request::get(self.path).header("host", self.at.to_string()).body(Empty::new());
        let request = request.map_err(|error| error.to_string())?;
        let answer = connection.send_request(request).await.map_err(|error| format!("sending: {error:?}"))?;
        let (status, version) = (answer.status(), answer.headers().get("x-version").cloned());
        let body = answer.into_body().collect().await.map_err(|error| format!("reading: {error:?}"))?;
        if status != 200 {
            return Err(format!("status {status}: {:?}", String::from_utf8_lossy(&body.to_bytes())));
        }
        Ok(version.and_then(|version| version.to_str().ok().map(str::to_owned)).unwrap_or_default())
    }

    async fn connect(&self) -> Result<Connection, String> {
        let stream = TcpStream::connect(self.at).await.map_err(|error| format!("connecting: {error}"))?;
        let _ = stream.set_nodelay(true);
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(sender)
    }
}
