//! What is said through a tunnel: small questions with their answers, and uploads.

use allod_proto::node::{NodeAnswer, NodeAsk};
use anyhow::{Context as _, Result, bail};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, UnixStream},
    time::{sleep, timeout},
};

use allod_testkit::stock::PORT;

const ECHO: u8 = b'e';
const SINK: u8 = b's';
/// A small question, and its answer.
const SMALL: usize = 64;
/// What a program writes and reads at once.
const LARGE: usize = 64 * 1024;
/// How long an upload runs before it is measured: until its window is as large as it gets.
const WARM: Duration = Duration::from_millis(1_500);
/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long an attempt may take that is made again.
const ATTEMPT: Duration = Duration::from_secs(5);

/// How a program gets to a port of the mesh.
#[derive(Debug, Clone)]
pub(super) enum Dial {
    /// By the socket of a node of ours.
    Node { socket: PathBuf, to: SocketAddr },
    /// By SOCKS5 on loopback.
    Socks { port: u16, to: SocketAddr },
}

trait Both: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Both for T {}

impl Dial {
    async fn connect(&self) -> Result<Box<dyn Both>> {
        match self {
            Self::Node { socket, to } => {
                let mut stream = UnixStream::connect(socket).await?;
                let ask = serde_json::to_string(&NodeAsk::Connect { to: *to })?;
                stream.write_all(format!("{ask}\n").as_bytes()).await?;
                let mut line = Vec::new();
                while line.last() != Some(&b'\n') {
                    line.push(stream.read_u8().await?);
                }
                match serde_json::from_slice(&line)? {
                    NodeAnswer::Connected { .. } => Ok(Box::new(stream)),
                    other => bail!("the node answered {other:?}"),
                }
            }
            Self::Socks { port, to } => {
                let SocketAddr::V4(to) = to else { bail!("{to}: an address of IPv4 is wanted") };
                let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await?;
                stream.set_nodelay(true)?;
                stream.write_all(&[5, 1, 0]).await?;
                let mut method = [0; 2];
                stream.read_exact(&mut method).await?;
                let mut request = vec![5, 1, 0, 1];
                request.extend(to.ip().octets());
                request.extend(to.port().to_be_bytes());
                stream.write_all(&request).await?;
                let mut reply = [0; 10];
                stream.read_exact(&mut reply).await?;
                if method != [5, 0] || reply.get(1) != Some(&0) {
                    bail!("SOCKS5 says {reply:?}");
                }
                Ok(Box::new(stream))
            }
        }
    }
}

/// Answers on loopback from now on: what its node passes on. Uploads are counted.
pub(super) async fn serve(received: Arc<AtomicU64>) -> Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).await?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let received = Arc::clone(&received);
            // Who leaves in the middle of it ends it.
            tokio::spawn(async move { drop(answer(stream, &received).await) });
        }
    });
    Ok(())
}

async fn answer(mut stream: TcpStream, received: &AtomicU64) -> Result<()> {
    stream.set_nodelay(true)?;
    if stream.read_u8().await? == ECHO {
        let mut buffer = [0; SMALL];
        loop {
            stream.read_exact(&mut buffer).await?;
            stream.write_all(&buffer).await?;
        }
    }
    let mut buffer = vec![0; LARGE];
    loop {
        match stream.read(&mut buffer).await? {
            0 => return Ok(()),
            count => received.fetch_add(u64::try_from(count)?, Relaxed),
        };
    }
}

/// How long so many small questions took, each with its answer, in microseconds.
pub(super) async fn round_trips(dial: Dial, count: usize) -> Result<Vec<f64>> {
    let mut stream = timeout(PATIENCE, dial.connect()).await.context("no connection in time")??;
    stream.write_all(&[ECHO]).await?;
    let mut buffer = [7; SMALL];
    let mut took = Vec::with_capacity(count);
    // The first ones find the way.
    for number in 0..count.saturating_add(20) {
        let begun = Instant::now();
        let asked = async {
            stream.write_all(&buffer).await?;
            stream.read_exact(&mut buffer).await
        };
        timeout(PATIENCE, asked).await.context("no answer in time")??;
        if number >= 20 {
            took.push(begun.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(took)
}

/// Whether something comes back, once.
pub(super) async fn first_byte(dial: Dial) -> Result<()> {
    let asking = async {
        let mut stream = dial.connect().await?;
        stream.write_all(&[ECHO]).await?;
        let mut buffer = [7; SMALL];
        stream.write_all(&buffer).await?;
        stream.read_exact(&mut buffer).await?;
        Ok(())
    };
    timeout(ATTEMPT, asking).await.context("no answer in time")?
}

/// Bytes a second that come to the other program while this one writes.
pub(super) async fn upload(dial: Dial, received: Arc<AtomicU64>, lasts: Duration) -> Result<f64> {
    let mut stream = timeout(PATIENCE, dial.connect()).await.context("no connection in time")??;
    stream.write_all(&[SINK]).await?;
    let writing = tokio::spawn(async move {
        let chunk = vec![7; LARGE];
        while stream.write_all(&chunk).await.is_ok() {}
    });
    sleep(WARM).await;
    let (before, begun) = (received.load(Relaxed), Instant::now());
    sleep(lasts).await;
    let (bytes, took) = (received.load(Relaxed).saturating_sub(before), begun.elapsed());
    let broke_off = writing.is_finished();
    writing.abort();
    if broke_off {
        bail!("the stream broke off");
    }
    // What is on its way still is not counted for the next.
    let mut last = received.load(Relaxed);
    loop {
        sleep(Duration::from_millis(200)).await;
        let now = received.load(Relaxed);
        if now == last {
            return Ok(f64::from(u32::try_from(bytes / 1024)?) * 1024.0 / took.as_secs_f64());
        }
        last = now;
    }
}
