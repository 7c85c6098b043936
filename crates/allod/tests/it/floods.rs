//! Floods against the signed door. In each, memory stays flat, an honest caller is answered meanwhile, and the listener is
//! there afterwards. `ALLOD_LONG=1` makes them larger and longer.

use crate::{
    crowd::{
        Crowd, Watch, an_honest_caller_is_answered, connect_from, is_long, limit_descriptors,
        raise_own_limit, short_or_long,
    },
    processes::{PATIENCE, eventually, within},
    visitor::exchange,
    wire::{Draft, body_of, now},
    world::World,
};
use allod_proto::{
    Digest, headers,
    limits::CHUNK,
    messages::{
        audit::{AuditFollow, AuditShow},
        keys::KeysCan,
        server::{Hello, ServerStatus},
    },
};
use allod_rpc::client::hello;
use allod_signing::KeySigner;
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// How much more memory a flood may cost the agent, a debug build, in MiB.
const MEMORY: u64 = 128;

async fn drip(mut stream: TcpStream, begin: String) {
    if stream.write_all(begin.as_bytes()).await.is_err() {
        return;
    }
    while stream.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_millis(700)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_heads_and_slow_bodies_by_the_thousand_leave_room_for_an_honest_caller() {
    raise_own_limit();
    let world = World::up().await;
    let watch = Watch::begin(&world);
    let count = short_or_long(1500, 9000);
    let crowd = Crowd::gather(world.management, count, 12, async |stream, number| {
        let begin = match number % 3 {
            0 => "POST /rpc HTTP/1.1\r\nhost: a\r\nx-slow: ".to_owned(),
            1 => "POST /rpc HTTP/1.1\r\nhost: a\r\ncontent-length: 4000\r\n\r\n{".to_owned(),
            // As many as there can be before the head is complete.
            _ => String::new(),
        };
        drip(stream, begin).await;
    });
    crowd.has_come(count).await;
    an_honest_caller_is_answered(&world, short_or_long(2, 20)).await;
    // Who was shown out comes back, and is shown out again.
    crowd.has_come(count + 100).await;
    watch.stayed_below("slow heads and bodies", MEMORY);
    drop(crowd);
    an_honest_caller_is_answered(&world, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_by_the_thousand_are_bounded_and_an_honest_caller_gets_in() {
    let own = raise_own_limit();
    let world = World::up().await;
    let watch = Watch::begin(&world);
    let count = short_or_long(3000, 10_000).min(own.saturating_sub(1000));
    let crowd = Crowd::gather(world.management, count, 100, async |mut stream, _| {
        // Until it is shown out.
        let _ = stream.read_u8().await;
    });
    crowd.has_come(count).await;
    assert!(watch.descriptors() < 1024 + 128, "{} descriptors", watch.descriptors());
    an_honest_caller_is_answered(&world, short_or_long(2, 10)).await;
    watch.stayed_below(&format!("{count} connections"), MEMORY);
    drop(crowd);
    an_honest_caller_is_answered(&world, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn callers_behind_one_address_are_not_shut_out_by_one_of_them_that_floods() {
    raise_own_limit();
    let world = World::up().await;
    let watch = Watch::begin(&world);
    // The very address that the honest caller comes from: source 1 is 127.0.0.1.
    let to = world.management;
    let flood = tokio::spawn(async move {
        let mut held = std::collections::VecDeque::new();
        loop {
            if let Ok(mut stream) = connect_from(1, to).await {
                let _ = stream.write_all(b"POST /rpc HTTP/1.1\r\n").await;
                held.push_back(stream);
            }
            if held.len() > 2000 {
                held.pop_front();
            }
            tokio::time::sleep(Duration::from_millis(3)).await;
        }
    });
    let hellos = Crowd::gather(to, 40, 1, async |mut stream, _| {
        let body = body_of(Hello {});
        let head = format!("POST /rpc HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len());
        let request = [head.as_bytes(), &body].concat();
        let mut answer = [0; 4096];
        while stream.write_all(&request).await.is_ok() && matches!(stream.read(&mut answer).await, Ok(1..)) {}
    });
    hellos.has_come(40).await;
    an_honest_caller_is_answered(&world, short_or_long(2, 20)).await;
    watch.stayed_below("a flood from the caller's own address", MEMORY);
    flood.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn out_of_descriptors_the_listener_rests_and_comes_back() {
    raise_own_limit();
    let world = World::up().await;
    let agent = world.pid("agent");
    let watch = Watch::begin(&world);
    let has = u64::try_from(watch.descriptors()).unwrap();
    // Another user's descriptors can't be counted.
    limit_descriptors(agent, has.max(24) + 3, 4096);
    let mut held = Vec::new();
    for _ in 0..40 {
        held.push(connect_from(2, world.management).await.unwrap());
    }
    within(PATIENCE, "an accept has failed", async || world.logs().contains("accept failed").then_some(()))
        .await;
    // Those who hold the descriptors leave; the limit stays.
    drop(held);
    within(PATIENCE, "it answers again", async || hello(world.management).await.ok()).await;
    limit_descriptors(agent, 4096, 4096);
    let found = world.allod(&["doctor"]).await;
    assert!(found.stdout.contains("no open files were left"), "{found:?}");
    an_honest_caller_is_answered(&world, 1).await;
    assert_eq!(world.pid("agent"), agent, "it is the same process");
    let failures = world.logs().matches("accept failed").count();
    assert!(failures < 40, "it does not fill the disk with that: {failures} lines");
    watch.stayed_below("out of descriptors", MEMORY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_few_descriptors_holds_fewer_connections_and_goes_on() {
    raise_own_limit();
    let world = World::up().await;
    limit_descriptors(world.up_pid(), 128, 128);
    let before = world.kill("agent");
    world.is_back("agent", before).await;
    within(PATIENCE, "it answers", async || hello(world.management).await.ok()).await;
    let watch = Watch::begin(&world);
    let crowd = Crowd::gather(world.management, 400, 20, async |mut stream, _| {
        let _ = stream.read_u8().await;
    });
    crowd.has_come(400).await;
    assert!(watch.descriptors() < 100, "{} descriptors", watch.descriptors());
    an_honest_caller_is_answered(&world, 2).await;
    assert!(!world.logs().contains("accept failed"), "it never came to that");
    let found = world.allod(&["doctor"]).await;
    assert!(found.stdout.contains("open files for 32 connections only"), "{found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_too_large_or_too_much_at_once_costs_its_sender() {
    let world = World::up().await;
    let (at, owner) = (world.management, world.owner());
    let watch = Watch::begin(&world);
    let epoch = hello(at).await.unwrap().epoch;
    let status = async |request: Vec<u8>| exchange(at, &request).await.unwrap().status;
    for size in [64 * 1024, 4 * 1024 * 1024] {
        let one = format!("POST /rpc HTTP/1.1\r\nhost: a\r\nx-long: {}\r\n\r\n", "a".repeat(size));
        assert_eq!(status(one.into_bytes()).await, 431, "a header of {size} bytes");
        let many = "x: y\r\n".repeat(size / 6);
        let many = format!("POST /rpc HTTP/1.1\r\nhost: a\r\n{many}\r\n");
        assert_eq!(status(many.into_bytes()).await, 431, "{size} bytes of headers");
        let line = format!("POST /{} HTTP/1.1\r\nhost: a\r\n\r\n", "a".repeat(size));
        let answered = status(line.into_bytes()).await;
        assert!([414, 431].contains(&answered), "a path of {size} bytes: {answered}");
    }
    // Bodies that are too large, told so beforehand or coming in pieces, of strangers and of the owner.
    for (signed, expected) in [(false, 401), (true, 413)] {
        let declared = format!("content-length: {}\r\n", u64::MAX / 2);
        let pieces = "transfer-encoding: chunked\r\n".to_owned();
        let piece = format!("10000\r\n{}\r\n", " ".repeat(0x10000)).repeat(40);
        for (length, body) in [(declared, " ".repeat(1 << 16)), (pieces, piece)] {
            let draft = Draft::new(&world.identity, &epoch, ServerStatus {});
            let head = if signed { draft.sign(&owner).head.headers() } else { Vec::new() };
            let headers: String = head.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
            let request = format!(
                "POST /rpc HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n{headers}{length}\r\n{body}"
            );
            assert_eq!(status(request.into_bytes()).await, expected, "{length}");
        }
    }
    pipelined(&world).await;
    an_honest_caller_is_answered(&world, 1).await;
    watch.stayed_below("too large, too much at once", MEMORY);
}

/// A thousand requests on one connection before the first answer is read: each is answered, one after the other.
async fn pipelined(world: &World) {
    let mut stream = connect_from(2, world.management).await.unwrap();
    let body = String::from_utf8(body_of(Hello {})).unwrap();
    let one = |more: &str| {
        format!("POST /rpc HTTP/1.1\r\nhost: a\r\n{more}content-length: {}\r\n\r\n{body}", body.len())
    };
    let all = one("").repeat(999) + &one("connection: close\r\n");
    let (mut read, mut write) = stream.split();
    let writing = async {
        let _ = write.write_all(all.as_bytes()).await;
    };
    let reading = async {
        let mut answers = Vec::new();
        let _ = tokio::time::timeout(PATIENCE, read.read_to_end(&mut answers)).await;
        String::from_utf8_lossy(&answers).matches("HTTP/1.1 200").count()
    };
    let ((), answered) = tokio::join!(writing, reading);
    assert_eq!(answered, 1000);
}

/// Sends good requests of this key on kept connections, as fast as they are answered.
fn flood_of(world: &World, key: &Arc<KeySigner>, count: usize, answered: &Arc<[AtomicUsize; 2]>) -> Crowd {
    let (identity, at) = (world.identity.clone(), world.management);
    let (key, answered) = (Arc::clone(key), Arc::clone(answered));
    Crowd::gather(at, count, 1, move |mut stream, _| {
        let (identity, key, answered) = (identity.clone(), Arc::clone(&key), Arc::clone(&answered));
        async move {
            let Ok(hello) = hello(at).await else { return };
            let mut answer = vec![0; 64 * 1024];
            loop {
                let draft = Draft::new(&identity, &hello.epoch, KeysCan::default());
                let request = bytes_of(draft, &key);
                if stream.write_all(&request).await.is_err() {
                    return;
                }
                let Ok(size @ 1..) = stream.read(&mut answer).await else { return };
                let text = String::from_utf8_lossy(&answer[..size]);
                let kind = usize::from(!text.starts_with("HTTP/1.1 200"));
                answered[kind].fetch_add(1, Ordering::Relaxed);
            }
        }
    })
}

fn bytes_of(draft: Draft, key: &KeySigner) -> Vec<u8> {
    let (method, path) = (draft.method, draft.path.clone());
    let signed = draft.sign(key);
    let headers: String =
        signed.head.headers().iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = signed.draft.body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n{headers}\r\n");
    [head.as_bytes(), &signed.draft.body].concat()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_floods_with_good_requests_and_reads_no_answers_leaves_room_for_others() {
    raise_own_limit();
    let world = World::up().await;
    let loud = Arc::new(world.enrol("loud", 21, &["--role", "operator"]).await);
    let watch = Watch::begin(&world);
    let answered = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let crowd = flood_of(&world, &loud, 100, &answered);
    crowd.has_come(100).await;
    an_honest_caller_is_answered(&world, short_or_long(2, 30)).await;
    let counted = || answered.each_ref().map(|count| count.load(Ordering::Relaxed));
    eventually("it is a flood", async || (counted()[0] > 100).then_some(())).await;
    let count = counted();
    drop(crowd);
    watch.stayed_below(&format!("a flood of good requests, answered and refused {count:?}"), MEMORY);

    // The record is long now. Slow readers of it: large replies, then streams.
    let watch = Watch::begin(&world);
    let (identity, at) = (world.identity.clone(), world.management);
    let readers = Crowd::gather(at, short_or_long(200, 600), 4, move |mut stream, number| {
        let (identity, loud) = (identity.clone(), Arc::clone(&loud));
        async move {
            let Ok(hello) = hello(at).await else { return };
            let draft = if number % 2 == 0 {
                Draft::new(&identity, &hello.epoch, AuditShow { from: 1, limit: 10_000 })
            } else {
                Draft::new(&identity, &hello.epoch, AuditFollow { after: Some(0) })
            };
            if stream.write_all(&bytes_of(draft, &loud)).await.is_ok() {
                // It never reads. When the server gives up, a write says so.
                while stream.writable().await.is_ok() && stream.try_write(b"\r\n").is_ok() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            }
        }
    });
    readers.has_come(short_or_long(200, 600)).await;
    an_honest_caller_is_answered(&world, short_or_long(2, 30)).await;
    watch.stayed_below("slow readers", MEMORY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chunks_that_never_end_leave_room_for_an_honest_deploy() {
    raise_own_limit();
    let world = World::up().await;
    let dee = Arc::new(world.enrol("dee", 22, &["--role", "deployer"]).await);
    let watch = Watch::begin(&world);
    let (identity, at) = (world.identity.clone(), world.management);
    let crowd = Crowd::gather(at, short_or_long(100, 400), 4, move |mut stream, number| {
        let (identity, dee) = (identity.clone(), Arc::clone(&dee));
        async move {
            let Ok(hello) = hello(at).await else { return };
            let mut bytes = vec![b'x'; CHUNK];
            bytes[..8].copy_from_slice(&u64::try_from(number).unwrap().to_le_bytes());
            let digest = Digest::of(&bytes);
            let draft = Draft {
                method: "PUT",
                path: format!("{}blog/production/{digest}", headers::CHUNKS_PATH),
                body: bytes,
                timestamp: now(),
                ..Draft::new(&identity, &hello.epoch, ServerStatus {})
            };
            let whole = bytes_of(draft, &dee);
            // All but the last byte, at once; then silence.
            if stream.write_all(whole.split_last().unwrap().1).await.is_ok() {
                let _ = stream.read_u8().await;
            }
        }
    });
    crowd.has_come(50).await;
    // Its own chunks come through meanwhile, under another key.
    world.app("shop").deploy(&world, "v1").await.ok();
    an_honest_caller_is_answered(&world, 1).await;
    watch.stayed_below("chunks without an end", MEMORY);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_a_stream_loses_it() {
    if !is_long() {
        return;
    }
    let world = World::up().await;
    let key = Arc::new(world.enrol("loud", 23, &["--role", "operator"]).await);
    let answered = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
    let crowd = flood_of(&world, &key, 20, &answered);
    within(PATIENCE * 5, "a record of megabytes", async || {
        (answered[0].load(Ordering::Relaxed) > 20_000).then_some(())
    })
    .await;
    drop(crowd);
    let epoch = hello(world.management).await.unwrap().epoch;
    let mut stream = connect_from(3, world.management).await.unwrap();
    let draft = Draft::new(&world.identity, &epoch, AuditFollow { after: Some(0) });
    stream.write_all(&bytes_of(draft, &key)).await.unwrap();
    within(Duration::from_secs(90), "the server gives up", async || {
        tokio::time::sleep(Duration::from_secs(1)).await;
        stream.try_write(b"\r\n").err().filter(|error| error.kind() != std::io::ErrorKind::WouldBlock)
    })
    .await;
}
