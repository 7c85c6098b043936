//! Another proxy takes over the listener: kept connections, tunnels and streams of the old one go on, and the agent, who
//! talks to the new one only, is told the truth about both.

use crate::support::{Instance, LONG, Proxy, read_all, read_until, status, to};
use allod_proto::routes::{ProxyAnswer, ProxyAsk};
use allod_proxy::Order;
use std::{
    os::unix::fs::MetadataExt as _,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";

async fn kept(proxy: &Proxy) -> TcpStream {
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(GET).await.unwrap();
    read_until(&mut stream, "\r\n\r\n").await;
    let mut name = [0; 3];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut name).await.unwrap();
    stream
}

#[tokio::test]
async fn a_kept_connections_next_request_is_answered_and_told_to_be_the_last() {
    let instance = Instance::start("one").await;
    let mut old = Proxy::start(to(&[instance.address])).await;
    let mut stream = kept(&old).await;
    let _new = old.successor(|_| {}).await;
    old.order(Order::Retire);
    // A connection made now is the new one's, and is kept.
    let _fresh = kept(&old).await;
    stream.write_all(GET).await.unwrap();
    let answer = read_all(&mut stream).await;
    assert!(status(&answer) == 200 && answer.contains("connection: close\r\n"), "{answer}");
    tokio::time::timeout(LONG, &mut old.done).await.expect("nothing is left there").unwrap().unwrap();
}

#[tokio::test]
async fn a_quiet_connection_is_closed_only_after_a_while() {
    let instance = Instance::start("one").await;
    let mut old =
        Proxy::start_with(to(&[instance.address]), |s| s.limits.retire_quiet = Duration::from_millis(250))
            .await;
    // The proxy counts from its answer, which is after this and before the client has read it.
    let before = tokio::time::Instant::now();
    let mut stream = kept(&old).await;
    let _new = old.successor(|_| {}).await;
    old.order(Order::Retire);
    assert_eq!(read_all(&mut stream).await, "");
    assert!(before.elapsed() >= Duration::from_millis(250));
    tokio::time::timeout(LONG, &mut old.done).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn tunnels_and_streams_of_the_old_one_go_on_until_the_limit_and_no_longer() {
    let instance = Instance::start("one").await;
    let (events, receiver) = tokio::sync::mpsc::channel(4);
    *instance.events.lock().await = Some(receiver);
    let mut old = Proxy::start_with(to(&[instance.address]), |settings| {
        settings.limits.retire = Duration::from_millis(400);
        settings.limits.shutdown = Duration::ZERO;
    })
    .await;
    let mut tunnel = TcpStream::connect(old.address).await.unwrap();
    let switch = b"GET /switch HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nx";
    tunnel.write_all(switch).await.unwrap();
    read_until(&mut tunnel, "\r\n\r\nx").await;
    let mut stream = TcpStream::connect(old.address).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    events.send("data: 1\n\n").await.unwrap();
    read_until(&mut stream, "data: 1\n\n\r\n").await;
    let _new = old.successor(|_| {}).await;
    old.order(Order::Retire);
    tunnel.write_all(b"still here").await.unwrap();
    read_until(&mut tunnel, "still here").await;
    events.send("data: 2\n\n").await.unwrap();
    read_until(&mut stream, "data: 2\n\n\r\n").await;
    assert!(!old.done.is_finished());
    tokio::time::timeout(LONG, &mut old.done).await.expect("the limit").unwrap().unwrap();
    assert_eq!(read_all(&mut tunnel).await, "");
}

#[tokio::test]
async fn what_the_agent_asks_the_new_one_holds_for_the_old_one_too() {
    let (first, second) = (Instance::start("one").await, Instance::start("two").await);
    let old = Arc::new(Proxy::start(to(&[first.address])).await);
    let mut slow = TcpStream::connect(old.address).await.unwrap();
    slow.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    first.arrived.notified().await;
    let mut stream = kept(&old).await;
    let _new = old.successor(|_| {}).await;
    old.order(Order::Retire);
    old.load(to(&[second.address])).await;
    stream.write_all(GET).await.unwrap();
    assert!(read_all(&mut stream).await.ends_with("two"), "the kept connection follows the new routes");
    let drain = ProxyAsk::Drain { upstream: first.address, timeout_ms: 10_000 };
    let draining = tokio::spawn({
        let (old, drain) = (Arc::clone(&old), drain.clone());
        async move { old.ask(drain).await }
    });
    // Another ask is not held up by the one that waits.
    assert!(matches!(old.ask(ProxyAsk::Load).await, ProxyAnswer::Loaded { generation: 2 }));
    assert!(!draining.is_finished(), "a request is in flight at the old one");
    first.go_on.notify_one();
    assert!(read_all(&mut slow).await.ends_with("one"));
    assert_eq!(draining.await.unwrap(), ProxyAnswer::Drained { cut: 0 });
}

#[tokio::test]
async fn a_pause_outlives_the_proxy_that_was_asked_for_it() {
    let instance = Instance::start("one").await;
    let old = Arc::new(Proxy::start(to(&[instance.address])).await);
    let app: allod_proto::AppRef = "blog".parse().unwrap();
    old.ask(ProxyAsk::Pause { app: app.clone(), timeout_ms: 30 }).await;
    let _new = old.successor(|_| {}).await;
    old.order(Order::Retire);
    assert_eq!(status(&old.get("/").await), 504);
    old.ask(ProxyAsk::Resume { app }).await;
    assert_eq!(status(&old.get("/").await), 200);
}

#[tokio::test]
async fn a_successor_that_cannot_start_leaves_everything_as_it_was() {
    let instance = Instance::start("one").await;
    let old = Proxy::start(to(&[instance.address])).await;
    let socket = std::fs::metadata(old.control()).unwrap().ino();
    let torn = old.folder.path().join("torn.json");
    std::fs::write(&torn, "{\"format\":1,").unwrap();
    let mut settings = crate::support::settings(&old.folder, Vec::new());
    settings.routes = torn;
    let (_orders, given) = tokio::sync::mpsc::unbounded_channel();
    assert!(allod_proxy::run(settings, given).await.is_err());
    assert_eq!(std::fs::metadata(old.control()).unwrap().ino(), socket);
    assert_eq!(status(&old.get("/").await), 200);
}

#[tokio::test]
async fn a_successor_that_dies_gives_the_control_socket_back() {
    let instance = Instance::start("one").await;
    let old = Proxy::start(to(&[instance.address])).await;
    let new = old.successor(|_| {}).await;
    new.orders.send(Order::Stop).unwrap();
    tokio::time::timeout(LONG, new.done).await.unwrap().unwrap().unwrap();
    let back = async {
        while allod_proxy::Control::connect(&old.control()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(LONG, back).await.expect("the old one binds it again");
    assert!(matches!(old.ask(ProxyAsk::Load).await, ProxyAnswer::Loaded { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn taking_over_under_load_fails_no_request() {
    let instance = Instance::start("one").await;
    let old = Arc::new(Proxy::start(to(&[instance.address])).await);
    let over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let served = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let (old, over, served) = (Arc::clone(&old), Arc::clone(&over), Arc::clone(&served));
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(old.address).await.unwrap();
                while !over.load(Ordering::SeqCst) {
                    stream.write_all(GET).await.unwrap();
                    let head = read_until(&mut stream, "\r\n\r\n").await;
                    assert_eq!(status(&head), 200, "{head}");
                    let mut name = [0; 3];
                    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut name).await.unwrap();
                    served.fetch_add(1, Ordering::SeqCst);
                    if head.contains("connection: close") {
                        stream = TcpStream::connect(old.address).await.unwrap();
                    }
                }
            })
        })
        .collect();
    let enough = async |more: usize| {
        let wanted = served.load(Ordering::SeqCst) + more;
        while served.load(Ordering::SeqCst) < wanted
            && !clients.iter().any(tokio::task::JoinHandle::is_finished)
        {
            tokio::task::yield_now().await;
        }
    };
    enough(100).await;
    let _new = old.successor(|_| {}).await;
    enough(100).await;
    old.order(Order::Retire);
    enough(200).await;
    over.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
}
