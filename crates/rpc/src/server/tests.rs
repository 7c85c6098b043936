//! The door on a pipe, with a clock that is set by hand: when a request is good, and what one key may take up.

use super::*;
use allod_proto::{
    AppRef, Command, CommandId, Digest, Epoch, Fault, Nonce, Request, Role, Timestamp, VERSION,
    command::{Call, ReplyBody, StreamItem},
    headers,
    messages::{
        audit::{AuditFollow, AuditShow},
        keys::KeysCan,
        server::Hello,
    },
    record::{Head, SignedHead},
};
use allod_signing::{
    EnrolledKeys, KeySigner, RequestFields, Revoked, Route, Signer, Verified, Window, sign_request,
};
use serde_json::{Value, json};
use std::{
    fmt::Write as _,
    net::IpAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    task::JoinHandle,
};

const NOW: Timestamp = Timestamp(1_780_000_000_000);
const PEER: [u8; 4] = [100, 64, 0, 7];

/// A service whose clock stands still until it is set.
struct Fixed {
    identity: KeySigner,
    keys: Arc<Keys>,
    window: Mutex<Window>,
    now: AtomicU64,
    refused: AtomicUsize,
}

fn key(seed: u8) -> KeySigner {
    KeySigner::generate([seed; 32], "somebody")
}

impl Service for Fixed {
    fn identity(&self) -> &dyn Signer {
        &self.identity
    }
    fn keys(&self) -> Arc<Keys> {
        Arc::clone(&self.keys)
    }
    fn window(&self) -> &Mutex<Window> {
        &self.window
    }
    fn now(&self) -> Timestamp {
        Timestamp(self.now.load(Ordering::Relaxed))
    }
    fn head(&self) -> SignedHead {
        SignedHead { head: Head { seq: 1, hash: Digest::ZERO }, at: NOW, signature: String::new() }
    }
    fn probe(&self, _: &Command) -> Result<Value, Fault> {
        Ok(json!({}))
    }
    async fn call(&self, incoming: Incoming) -> Answer {
        match incoming.request.command {
            Command::AuditShow(show) => {
                Answer::Reply(json!("x".repeat(usize::try_from(show.limit).unwrap())))
            }
            Command::AuditFollow(_) => {
                let (send, receive) = tokio::sync::mpsc::channel(1);
                tokio::spawn(async move {
                    while send.send(StreamItem::Record(vec!["x".repeat(1000)])).await.is_ok() {}
                });
                Answer::Stream(receive)
            }
            _ => Answer::Reply(json!({})),
        }
    }
    fn may(&self, _: &Verified, _: &Command) -> Result<(), Fault> {
        Ok(())
    }
    async fn chunk(&self, _: Chunk) -> Result<Value, Fault> {
        Ok(json!({}))
    }
    fn refused(&self, _: &str, _: &'static str) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }
}

struct Door {
    service: Arc<Fixed>,
    doorway: Arc<Doorway<Fixed>>,
}

struct Reply {
    status: u16,
    signed: bool,
    closed: bool,
    body: ReplyBody,
}

impl Reply {
    fn code(&self) -> &'static str {
        self.body.fault.as_ref().map_or("none", |fault| fault.code.as_str())
    }
}

impl Door {
    /// A server; keys 1 and 2 are enrolled.
    fn of(seed: u8, epoch: u8, limits: ListenerLimits) -> Self {
        let identity = key(seed);
        let lines = [1, 2].map(|seed| format!("role={} {}\n", Role::Owner, key(seed).public_openssh()));
        let keys = Keys {
            audience: identity.fingerprint(),
            enrolled: EnrolledKeys::parse(&lines.concat()),
            revoked: Revoked::default(),
        };
        let service = Arc::new(Fixed {
            identity,
            keys: Arc::new(keys),
            window: Mutex::new(Window::new(Epoch::from_random([epoch; 16]), 1000, 2000)),
            now: AtomicU64::new(NOW.0),
            refused: AtomicUsize::new(0),
        });
        Self { doorway: Arc::new(Doorway::new(Arc::clone(&service), limits)), service }
    }

    fn new() -> Self {
        Self::of(8, 1, ListenerLimits::default())
    }

    fn set_clock(&self, to: Timestamp) {
        self.service.now.store(to.0, Ordering::Relaxed);
    }

    /// A connection that holds so much before it is read.
    fn connect(&self, buffer: usize) -> (DuplexStream, JoinHandle<()>) {
        let (ours, theirs) = duplex(buffer);
        let doorway = Arc::clone(&self.doorway);
        let serving = tokio::spawn(async move {
            doorway.serve(doorway.room().await, theirs, IpAddr::from(PEER)).await;
        });
        (ours, serving)
    }

    async fn send(&self, request: &[u8]) -> Reply {
        let (mut stream, _) = self.connect(1 << 20);
        stream.write_all(request).await.unwrap();
        read_reply(&mut stream).await
    }
}

/// One reply with a body of a length that is told.
async fn read_reply(stream: &mut DuplexStream) -> Reply {
    let mut text = Vec::new();
    loop {
        let head = text.windows(4).position(|end| end == b"\r\n\r\n");
        if let Some(at) = head {
            let head = String::from_utf8_lossy(&text[..at]).to_lowercase();
            let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
            let length: usize = length.parse().unwrap();
            if text.len() >= at + 4 + length {
                return Reply {
                    status: head.split(' ').nth(1).unwrap().parse().unwrap(),
                    signed: head.contains(headers::REPLY_SIGNATURE),
                    closed: head.contains("connection: close"),
                    body: serde_json::from_slice(&text[at + 4..]).unwrap(),
                };
            }
        }
        assert!(stream.read_buf(&mut text).await.unwrap() > 0, "{}", String::from_utf8_lossy(&text));
    }
}

/// A request before it is signed.
#[derive(Clone)]
struct Draft {
    server: u8,
    epoch: u8,
    method: &'static str,
    path: &'static str,
    timestamp: Timestamp,
    nonce: u64,
    body: Vec<u8>,
}

fn draft<C: Call>(nonce: u64, params: C) -> Draft {
    let id = CommandId::new(format!("{nonce:024}")).unwrap();
    let body = Request { v: VERSION, id, command: params.into_command() }.to_body();
    Draft { server: 8, epoch: 1, method: "POST", path: headers::RPC_PATH, timestamp: NOW, nonce, body }
}

fn look(nonce: u64) -> Draft {
    draft(nonce, KeysCan::default())
}

impl Draft {
    fn signed(&self, by: u8) -> Vec<u8> {
        self.signed_for(by, self.method, self.path)
    }

    /// Signed as what it is, sent as something else.
    fn signed_for(&self, by: u8, method: &str, path: &str) -> Vec<u8> {
        let nonce = Nonce::new(format!("{:030}", self.nonce)).unwrap();
        let fields = RequestFields {
            audience: &key(self.server).fingerprint(),
            epoch: &Epoch::from_random([self.epoch; 16]),
            route: Route::new(self.method, self.path).unwrap(),
            timestamp: self.timestamp,
            nonce: &nonce,
            body: &Digest::of(&self.body),
        };
        let head = sign_request(&key(by), &fields).unwrap();
        let mut text =
            format!("{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n", self.body.len());
        for (name, value) in head.headers() {
            write!(text, "{name}: {value}\r\n").unwrap();
        }
        [text.as_bytes(), b"\r\n", &self.body].concat()
    }
}

#[tokio::test]
async fn a_clock_that_is_61_seconds_off_is_told_apart_from_a_bad_signature() {
    let door = Door::new();
    for (n, off) in [60_001, 61_000, 86_400_000].into_iter().enumerate() {
        let off = Duration::from_millis(off);
        for (m, timestamp) in [NOW.plus(off), NOW.minus(off)].into_iter().enumerate() {
            let draft = Draft { timestamp, ..look(u64::try_from(n * 2 + m).unwrap()) };
            let reply = door.send(&draft.signed(1)).await;
            assert_eq!((reply.status, reply.code(), reply.signed), (401, "clock", true), "{off:?}");
            assert_eq!(reply.body.fault.unwrap().server_time, Some(NOW));
            // Who proves nothing learns neither that nor the time.
            let stranger = door.send(&draft.signed(3)).await;
            assert_eq!((stranger.status, stranger.code(), stranger.signed), (401, "refused", false));
            assert_eq!(stranger.body.fault.unwrap().server_time, None);
        }
    }
    for (n, off) in [60_000, 59_000, 0].into_iter().enumerate() {
        let off = Duration::from_millis(off);
        for (m, timestamp) in [NOW.plus(off), NOW.minus(off)].into_iter().enumerate() {
            let draft = Draft { timestamp, ..look(u64::try_from(100 + n * 2 + m).unwrap()) };
            assert_eq!(door.send(&draft.signed(1)).await.code(), "none", "{off:?}");
        }
    }
}

#[tokio::test]
async fn a_request_is_good_once_here_now_and_for_what_it_says() {
    let door = Door::new();
    let first = look(1).signed(1);
    assert_eq!(door.send(&first).await.code(), "none");
    let again = door.send(&first).await;
    assert_eq!((again.code(), again.signed), ("replay", true));
    // On another path, by another method, at another server, in another life of this one.
    for (method, path) in
        [("POST", "/rpc?x"), ("PUT", "/rpc"), ("POST", "/chunks/a/b/c"), ("PUT", "/chunks/a/b/c")]
    {
        let elsewhere = door.send(&look(2).signed_for(1, method, path)).await;
        assert!(
            ["refused", "not_found"].contains(&elsewhere.code()),
            "{method} {path}: {}",
            elsewhere.code()
        );
        assert!(!elsewhere.signed);
    }
    let other = Door::of(9, 1, ListenerLimits::default());
    assert_eq!(other.send(&look(2).signed(1)).await.code(), "refused");
    let restarted = Door::of(8, 2, ListenerLimits::default());
    let stale = restarted.send(&look(2).signed(1)).await;
    assert_eq!((stale.code(), stale.signed), ("stale_epoch", true));
    assert_eq!(door.send(&look(2).signed(1)).await.code(), "none", "none of these spent it");
}

#[tokio::test]
async fn a_request_dated_ahead_is_not_good_again_when_others_of_its_time_are_forgotten() {
    let door = Door::new();
    let ahead = Draft { timestamp: NOW.plus(Duration::from_secs(60)), ..look(1) }.signed(1);
    assert_eq!(door.send(&ahead).await.code(), "none");
    for seconds in [1, 59, 60, 61, 62, 119, 120] {
        door.set_clock(NOW.plus(Duration::from_secs(seconds)));
        assert_eq!(door.send(&ahead).await.code(), "replay", "after {seconds} s");
    }
    for seconds in [121, 180, 100_000] {
        door.set_clock(NOW.plus(Duration::from_secs(seconds)));
        assert_eq!(door.send(&ahead).await.code(), "clock", "after {seconds} s");
    }
    // The clock is set back to when it was fresh.
    door.set_clock(NOW);
    assert_eq!(door.send(&ahead).await.code(), "clock");
}

#[tokio::test(start_paused = true)]
async fn who_does_not_read_a_large_reply_loses_the_connection() {
    let door = Door::new();
    let (mut stream, serving) = door.connect(4096);
    stream.write_all(&draft(1, AuditShow { from: 1, limit: 1_000_000 }).signed(1)).await.unwrap();
    let begin = tokio::time::Instant::now();
    serving.await.unwrap();
    assert!(begin.elapsed() <= Duration::from_secs(31), "{:?}", begin.elapsed());
    assert!(door.service.refused.load(Ordering::Relaxed) == 0);
}

#[tokio::test(start_paused = true)]
async fn streams_and_large_replies_of_one_key_are_bounded_and_others_have_their_own() {
    let limits =
        ListenerLimits { requests_per_key: 3, large: 4, large_per_key: 2, ..ListenerLimits::default() };
    let door = Door::of(8, 1, limits);
    let mut held = Vec::new();
    for n in 0..3 {
        let (mut stream, serving) = door.connect(4096);
        stream.write_all(&draft(n, AuditFollow { after: None }).signed(1)).await.unwrap();
        // The head of its reply.
        assert!(stream.read(&mut [0; 16]).await.unwrap() > 0);
        held.push((stream, serving));
    }
    let more = door.send(&look(10).signed(1)).await;
    assert_eq!((more.code(), more.signed), ("too_many", true));
    assert_eq!(door.send(&look(11).signed(2)).await.code(), "none");
    // Whoever leaves gives the place back.
    for (stream, serving) in held.drain(..) {
        drop(stream);
        serving.await.unwrap();
    }
    assert_eq!(door.send(&look(12).signed(1)).await.code(), "none");

    let large = |n: u64| draft(n, AuditShow { from: 1, limit: 200_000 });
    for n in 20..22 {
        let (mut stream, serving) = door.connect(4096);
        stream.write_all(&large(n).signed(1)).await.unwrap();
        assert!(stream.read(&mut [0; 16]).await.unwrap() > 0);
        held.push((stream, serving));
    }
    assert_eq!(door.send(&large(30).signed(1)).await.code(), "too_many");
    assert_eq!(door.send(&large(31).signed(2)).await.code(), "none");
    assert_eq!(door.send(&look(32).signed(1)).await.code(), "none", "small ones are not counted");
}

#[tokio::test(start_paused = true)]
async fn a_key_that_asks_too_fast_waits_and_then_is_told_and_others_are_not_concerned() {
    let rate = Rate { burst: 2, per_second: 1, patience: Duration::from_secs(2) };
    let door = Door::of(8, 1, ListenerLimits { signed: rate, ..ListenerLimits::default() });
    let begin = tokio::time::Instant::now();
    for n in 0..4 {
        assert_eq!(door.send(&look(n).signed(1)).await.code(), "none");
    }
    assert_eq!(begin.elapsed().as_secs(), 3, "two at once, one after a second, one after two");
    let more = door.send(&look(9).signed(1)).await;
    assert_eq!((more.code(), more.signed), ("too_many", true));
    assert_eq!(door.send(&look(9).signed(1)).await.code(), "replay", "it is not to be sent by others later");
    assert_eq!(door.send(&look(9).signed(2)).await.code(), "none");
}

#[tokio::test(start_paused = true)]
async fn who_asks_unsigned_or_is_refused_too_often_waits_and_then_loses_the_connection() {
    let rate = Rate { burst: 2, per_second: 1, patience: Duration::from_secs(2) };
    let door = Door::of(8, 1, ListenerLimits { unsigned: rate, refused: rate, ..ListenerLimits::default() });
    let hello = draft(1, Hello {});
    let hello = [
        format!("POST /rpc HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", hello.body.len()).as_bytes(),
        &hello.body,
    ]
    .concat();
    for _ in 0..4 {
        assert_eq!(door.send(&hello).await.status, 200);
    }
    let more = door.send(&hello).await;
    assert_eq!((more.status, more.closed, more.signed), (429, true, false));
    let begin = tokio::time::Instant::now();
    for n in 0..4 {
        let refused = door.send(&look(n).signed(3)).await;
        assert_eq!((refused.status, refused.closed), (401, false));
    }
    assert_eq!(begin.elapsed().as_secs(), 3);
    let more = door.send(&look(5).signed(3)).await;
    assert_eq!((more.status, more.closed), (401, true));
    // Whoever has a key is not kept from that address.
    assert_eq!(door.send(&look(1).signed(1)).await.code(), "none");
}

#[tokio::test(start_paused = true)]
async fn a_body_that_never_comes_costs_its_key_no_more_than_its_share() {
    let limits = ListenerLimits { large_per_key: 1, ..ListenerLimits::default() };
    let door = Door::of(8, 1, limits);
    let app: AppRef = "blog".parse().unwrap();
    let path =
        Box::leak(format!("{}{app}/{}", headers::CHUNKS_PATH, Digest::of([7; 100_000])).into_boxed_str());
    let chunk = Draft { method: "PUT", path, body: vec![7; 100_000], ..look(1) };
    let (mut slow, _serving) = door.connect(1 << 20);
    let whole = chunk.signed(1);
    slow.write_all(&whole[..whole.len() - 1]).await.unwrap();
    tokio::task::yield_now().await;
    let second = Draft { nonce: 2, ..chunk.clone() };
    assert_eq!(door.send(&second.signed(2)).await.code(), "none", "another key's chunk is kept meanwhile");
    assert_eq!(door.send(&look(3).signed(1)).await.code(), "none", "and small requests of this one answered");
    // Its own next one waits until the slow one has run out of time.
    let begin = tokio::time::Instant::now();
    let third = Draft { nonce: 4, ..chunk.clone() };
    let waited = door.send(&third.signed(1)).await;
    assert!(begin.elapsed() >= Duration::from_secs(60), "{:?}", begin.elapsed());
    assert!(["none", "busy"].contains(&waited.code()), "{}", waited.code());
    assert_eq!(read_reply(&mut slow).await.code(), "timeout");
}
