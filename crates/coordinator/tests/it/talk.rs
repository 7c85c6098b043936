//! Streams that go on through whatever happens to the network: each sends numbered records, and each must come back, in order.

use allod_meshnode::Member;
use allod_testkit::stock::{PORT, Stock};
use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// For a loaded machine; nothing here is measured by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);
const PAUSE: Duration = Duration::from_millis(50);
const LENGTH: usize = 256;
const LAST: u64 = u64::MAX;

#[derive(Default)]
struct Counts {
    sent: AtomicU64,
    heard: AtomicU64,
    stop: AtomicBool,
}

/// One stream that is in use.
pub(crate) struct Talk {
    pub(crate) name: String,
    counts: Arc<Counts>,
    done: JoinHandle<Duration>,
}

impl Talk {
    /// Begins to talk over a stream whose other end says everything back.
    pub(crate) fn begin(
        name: String,
        reading: impl AsyncRead + Send + Unpin + 'static,
        writing: impl AsyncWrite + Send + Unpin + 'static,
    ) -> Self {
        let counts = Arc::<Counts>::default();
        let (speaker, listener) = (Arc::clone(&counts), Arc::clone(&counts));
        let done = tokio::spawn(async move {
            let (writing, worst) = tokio::join!(speak(writing, &speaker), listen(reading, &listener));
            drop(writing);
            worst
        });
        Self { name, counts, done }
    }

    /// A stock client to somebody.
    pub(crate) fn stock(name: String, client: &Stock, to: IpAddr) -> Self {
        let mut running = client.dial(to);
        let (writing, reading) = (running.stdin.take().unwrap(), running.stdout.take().unwrap());
        tokio::spawn(async move { running.wait().await });
        Self::begin(name, reading, writing)
    }

    /// One of ours to somebody.
    pub(crate) async fn ours(name: String, member: &Member, to: IpAddr) -> Self {
        let connecting = member.node().connect(SocketAddr::new(to, PORT));
        let stream =
            timeout(PATIENCE, connecting).await.unwrap().unwrap_or_else(|error| panic!("{name}: {error}"));
        let (reading, writing) = tokio::io::split(stream);
        Self::begin(name, reading, writing)
    }

    pub(crate) fn sent(&self) -> u64 {
        self.counts.sent.load(SeqCst)
    }

    /// Waits until a record is back that was sent after this many.
    pub(crate) async fn past(&self, mark: u64) {
        let waiting = async {
            while self.counts.heard.load(SeqCst) <= mark {
                assert!(!self.done.is_finished(), "{} ended", self.name);
                sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("{} stands still", self.name));
    }

    /// Ends it when all that was sent is back. How many records, and the longest time without one.
    pub(crate) async fn end(self) -> (u64, Duration) {
        self.counts.stop.store(true, SeqCst);
        let worst = timeout(PATIENCE, self.done).await;
        let worst = worst.unwrap_or_else(|_| panic!("{} never had all back", self.name)).unwrap();
        assert_eq!(self.counts.sent.load(SeqCst), self.counts.heard.load(SeqCst), "{}", self.name);
        (self.counts.heard.load(SeqCst), worst)
    }
}

async fn speak<W: AsyncWrite + Unpin>(mut writing: W, counts: &Counts) -> W {
    while !counts.stop.load(SeqCst) {
        let number = counts.sent.fetch_add(1, SeqCst);
        writing.write_all(&record(number)).await.unwrap();
        writing.flush().await.unwrap();
        sleep(PAUSE).await;
    }
    writing.write_all(&record(LAST)).await.unwrap();
    writing.flush().await.unwrap();
    // It is kept: some end with what they are given, whether an answer is on its way or not.
    writing
}

async fn listen(mut reading: impl AsyncRead + Unpin, counts: &Counts) -> Duration {
    let (mut worst, mut last) = (Duration::ZERO, Instant::now());
    let mut buffer = [0; LENGTH];
    loop {
        reading.read_exact(&mut buffer).await.expect("a stream broke");
        worst = worst.max(last.elapsed());
        last = Instant::now();
        if buffer == record(LAST) {
            return worst;
        }
        assert!(buffer == record(counts.heard.load(SeqCst)), "another record than the next came back");
        counts.heard.fetch_add(1, SeqCst);
    }
}

fn record(number: u64) -> [u8; LENGTH] {
    let mut record = [0; LENGTH];
    record.chunks_exact_mut(8).for_each(|chunk| chunk.copy_from_slice(&number.to_be_bytes()));
    record
}
