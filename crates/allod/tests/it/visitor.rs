//! Visitors of an app, on bare sockets: one request, a WebSocket, a stream of events.

use crate::processes::PATIENCE;
use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::TcpStream,
    task::JoinHandle,
};

/// What came back.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// A header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find_map(|(key, value)| key.eq_ignore_ascii_case(name).then_some(value.trim()))
    }
}

/// GETs a path on a connection of its own.
pub(crate) async fn get(at: SocketAddr, host: &str, path: &str) -> io::Result<Answer> {
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    exchange(at, request.as_bytes()).await
}

/// Sends these bytes and reads to the end.
pub(crate) async fn exchange(at: SocketAddr, request: &[u8]) -> io::Result<Answer> {
    let whole = async {
        let mut stream = TcpStream::connect(at).await?;
        // Somebody who refuses the head may hang up before the body is sent; the answer counts.
        let _ = stream.write_all(request).await;
        let mut bytes = Vec::new();
        match stream.read_to_end(&mut bytes).await {
            Err(error) if bytes.is_empty() => return Err(error),
            _ => {}
        }
        parse(&bytes)
            .ok_or_else(|| io::Error::other(format!("no answer: {:?}", String::from_utf8_lossy(&bytes))))
    };
    tokio::time::timeout(PATIENCE, whole).await.map_err(io::Error::from)?
}

fn parse(bytes: &[u8]) -> Option<Answer> {
    let text = String::from_utf8_lossy(bytes);
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split_ascii_whitespace().nth(1)?.parse().ok()?;
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    let body = if chunked { unchunk(body) } else { body.to_owned() };
    Some(Answer { status, head: head.to_owned(), body })
}

fn unchunk(mut body: &str) -> String {
    let mut text = String::new();
    while let Some((size, rest)) = body.split_once("\r\n") {
        let Ok(size) = usize::from_str_radix(size.trim(), 16) else { break };
        let Some(part) = rest.get(..size).filter(|_| size > 0) else { break };
        text.push_str(part);
        body = rest.get(size + 2..).unwrap_or_default();
    }
    text
}

/// A WebSocket that is held open and used.
pub(crate) struct WebSocket {
    stream: BufReader<TcpStream>,
}

impl WebSocket {
    pub(crate) async fn open(at: SocketAddr) -> Self {
        let mut stream = BufReader::new(TcpStream::connect(at).await.unwrap());
        let request = format!(
            "GET /ws HTTP/1.1\r\nhost: {at}\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
             sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert!(stream.read_line(&mut head).await.unwrap() > 0, "no handshake: {head}");
        }
        // The answer to RFC 6455's own example.
        assert!(head.starts_with("HTTP/1.1 101"), "{head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{head}");
        Self { stream }
    }

    /// Sends a short text and reads it back.
    pub(crate) async fn echo(&mut self, text: &str) -> io::Result<String> {
        let mask = [1, 2, 3, 4];
        let length = u8::try_from(text.len()).unwrap();
        let mut frame = vec![0x81, 0x80 | length];
        frame.extend(mask);
        frame.extend(text.bytes().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        let echoed = async {
            self.stream.write_all(&frame).await?;
            let mut head = [0; 2];
            self.stream.read_exact(&mut head).await?;
            let mut payload = vec![0; usize::from(head[1] & 0x7f)];
            self.stream.read_exact(&mut payload).await?;
            Ok(String::from_utf8_lossy(&payload).into_owned())
        };
        tokio::time::timeout(PATIENCE, echoed).await.map_err(io::Error::from)?
    }
}

/// A stream of events that is held open and counted.
pub(crate) struct Events {
    count: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Events {
    pub(crate) async fn open(at: SocketAddr) -> Self {
        let mut stream = BufReader::new(TcpStream::connect(at).await.unwrap());
        let request = format!("GET /events?ms=50 HTTP/1.1\r\nhost: {at}\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let count = Arc::new(AtomicU64::new(0));
        let counting = Arc::clone(&count);
        let task = tokio::spawn(async move {
            let mut line = String::new();
            while matches!(stream.read_line(&mut line).await, Ok(1..)) {
                if line.starts_with("id: ") {
                    counting.fetch_add(1, Ordering::Relaxed);
                }
                line.clear();
            }
        });
        let events = Self { count, task };
        events.next().await;
        events
    }

    /// How many have come.
    pub(crate) fn count(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }

    /// Whether the stream still stands.
    pub(crate) fn is_open(&self) -> bool {
        !self.task.is_finished()
    }

    /// Waits for one more.
    pub(crate) async fn next(&self) {
        let before = self.count();
        crate::processes::eventually("another event", async || (self.count() > before).then_some(())).await;
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// How long a client keeps a connection's answer waiting before it counts as lost.
pub(crate) const ANSWER: Duration = Duration::from_secs(15);
