//! Bounds on bodies, heads, waits and connections.

use crate::support::{Instance, LONG, Proxy, read_all, read_until, route, status, to};
use allod_proto::routes::{RouteLimits, RouteTarget, Upstream};
use std::{net::SocketAddr, sync::atomic::Ordering, time::Duration};
use tokio::{io::AsyncWriteExt, net::TcpStream};

fn bounded(address: SocketAddr, limits: RouteLimits) -> Vec<allod_proto::routes::Route> {
    let target = RouteTarget::Instances(vec![Upstream { address, uid: None }]);
    vec![allod_proto::routes::Route { limits, ..route("/", target) }]
}

#[tokio::test]
async fn a_body_without_length_is_refused_when_it_grows_too_large() {
    let instance = Instance::start("one").await;
    let limits = RouteLimits { body_bytes: 10, ..RouteLimits::default() };
    let proxy = Proxy::start(bounded(instance.address, limits)).await;
    let head = "POST /echo HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let answer = proxy.exchange(format!("{head}6\r\nabcdef\r\n5\r\nghijk\r\n0\r\n\r\n")).await;
    assert_eq!(status(&answer), 413, "{answer}");
    let answer = proxy.exchange(format!("{head}6\r\nabcdef\r\n4\r\nghij\r\n0\r\n\r\n")).await;
    assert!(answer.ends_with("abcdefghij"), "{answer}");
}

#[tokio::test]
async fn a_body_whose_length_is_too_large_never_reaches_the_instance() {
    let instance = Instance::start("one").await;
    let limits = RouteLimits { body_bytes: 10, ..RouteLimits::default() };
    let proxy = Proxy::start(bounded(instance.address, limits)).await;
    let answer =
        proxy.exchange("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nabcdefghijk").await;
    assert_eq!(status(&answer), 413, "{answer}");
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n").await.unwrap();
    stream.write_all(&vec![b'x'; 3_000_000]).await.expect("the proxy reads on while the client sends");
    stream.shutdown().await.unwrap();
    assert_eq!(status(&read_all(&mut stream).await), 413);
    assert_eq!(instance.requests.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_head_that_is_too_large_is_refused() {
    let instance = Instance::start("one").await;
    let proxy =
        Proxy::start_with(to(&[instance.address]), |settings| settings.limits.head_bytes = 8 * 1024).await;
    let answer =
        proxy.exchange(format!("GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n", "x".repeat(20_000))).await;
    assert_eq!(status(&answer), 431, "{answer}");
}

#[tokio::test]
async fn a_slow_head_is_cut_off_and_so_is_an_idle_connection() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start_with(to(&[instance.address]), |settings| {
        settings.limits.head_timeout = Duration::from_millis(150);
        settings.limits.keep_alive = Duration::from_millis(300);
    })
    .await;
    let mut silent = TcpStream::connect(proxy.address).await.unwrap();
    assert_eq!(read_all(&mut silent).await, "");
    let mut slow = TcpStream::connect(proxy.address).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost").await.unwrap();
    assert_eq!(read_all(&mut slow).await, "");
    let mut idle = TcpStream::connect(proxy.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut idle, "one").await;
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\nGET /").await.unwrap();
    read_until(&mut idle, "one").await;
    assert_eq!(read_all(&mut idle).await, "", "the third head does not end");
}

#[tokio::test]
async fn a_long_answer_is_not_taken_for_an_idle_connection() {
    let instance = Instance::start("one").await;
    let (events, receiver) = tokio::sync::mpsc::channel(1);
    *instance.events.lock().await = Some(receiver);
    let proxy = Proxy::start_with(to(&[instance.address]), |settings| {
        settings.limits.head_timeout = Duration::from_millis(20);
        settings.limits.keep_alive = Duration::from_millis(20);
    })
    .await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    // Another connection's death tells that the time is over.
    assert_eq!(read_all(&mut TcpStream::connect(proxy.address).await.unwrap()).await, "");
    assert_eq!(read_all(&mut TcpStream::connect(proxy.address).await.unwrap()).await, "");
    events.send("data: late\n\n").await.unwrap();
    read_until(&mut stream, "data: late\n\n").await;
}

#[tokio::test]
async fn an_instance_that_does_not_answer_in_time_is_a_504() {
    let instance = Instance::start("one").await;
    let limits = RouteLimits { response_timeout_ms: 30, ..RouteLimits::default() };
    let proxy = Proxy::start(bounded(instance.address, limits)).await;
    let answer = proxy.get("/slow").await;
    assert_eq!(status(&answer), 504, "{answer}");
    assert!(answer.contains("x-allod-error: timeout\r\n"), "{answer}");
}

#[tokio::test]
async fn silence_in_the_middle_of_a_body_ends_it_on_either_side() {
    let instance = Instance::start("one").await;
    let (_events, receiver) = tokio::sync::mpsc::channel(1);
    *instance.events.lock().await = Some(receiver);
    let limits = RouteLimits { idle_timeout_ms: 30, ..RouteLimits::default() };
    let proxy = Proxy::start(bounded(instance.address, limits)).await;
    let answer = proxy.exchange("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nab").await;
    assert_eq!(status(&answer), 408, "{answer}");
    let answer = proxy.get("/events").await;
    assert!(
        answer.starts_with("HTTP/1.1 200") && !answer.ends_with("0\r\n\r\n"),
        "a cut must show: {answer}"
    );
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_answer_is_cut_and_its_instance_is_free_again() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start_with(to(&[instance.address]), |settings| {
        settings.limits.send_timeout = Duration::from_millis(50);
    })
    .await;
    let mut greedy = TcpStream::connect(proxy.address).await.unwrap();
    greedy.write_all(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    tokio::time::timeout(LONG, instance.ended.notified()).await.expect("the endless answer is given up");
    assert_eq!(status(&proxy.get("/").await), 200);
}

#[tokio::test]
async fn clients_that_say_nothing_or_little_hold_their_places_for_a_while_only() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start_with(to(&[instance.address]), |settings| {
        settings.limits.connections = 200;
        settings.limits.head_timeout = Duration::from_millis(200);
    })
    .await;
    let mut crowd = Vec::new();
    for number in 0..400 {
        let mut stream = TcpStream::connect(proxy.address).await.unwrap();
        // A head that has begun is no excuse.
        if number % 2 == 0 {
            stream.write_all(b"GET / HT").await.unwrap();
        }
        crowd.push(stream);
    }
    let answer = proxy.get("/").await;
    assert_eq!(status(&answer), 200, "{answer}");
    assert_eq!(instance.connections.load(Ordering::SeqCst), 1, "none of them reached an instance");
    for mut stream in crowd {
        assert_eq!(read_all(&mut stream).await, "");
    }
}

#[tokio::test]
async fn a_connection_over_the_bound_waits_for_its_turn() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start_with(to(&[instance.address]), |settings| settings.limits.connections = 1).await;
    let mut first = TcpStream::connect(proxy.address).await.unwrap();
    first.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    instance.arrived.notified().await;
    let mut second = TcpStream::connect(proxy.address).await.unwrap();
    second.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n").await.unwrap();
    assert_eq!(instance.requests.load(Ordering::SeqCst), 1);
    instance.go_on.notify_one();
    assert_eq!(status(&read_all(&mut first).await), 200);
    assert_eq!(status(&read_all(&mut second).await), 200);
}
