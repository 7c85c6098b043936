//! What an instance gets and what the client gets back.

use crate::support::{Instance, LONG, Proxy, read_all, read_until, route, status, to};
use allod_proto::routes::{RouteTarget, Upstream};
use bytes::Bytes;
use http::Request;
use http_body_util::{BodyExt, Empty, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::mpsc,
};

#[tokio::test]
async fn an_unknown_host_a_stopped_app_and_one_without_instances_are_told_apart() {
    let proxy = Proxy::start(vec![
        route("stopped.example", RouteTarget::Stopped { message: "Back at <noon>".to_owned() }),
        route("empty.example", RouteTarget::Instances(Vec::new())),
        route("dead.example", RouteTarget::Instances(vec![Upstream { address: unused().await, uid: None }])),
    ])
    .await;
    for (host, expected, word) in [
        ("other.example", 404, "no_route"),
        ("stopped.example", 503, "stopped"),
        ("empty.example", 503, "no_instance"),
        ("dead.example", 502, "connect"),
    ] {
        let answer =
            proxy.exchange(format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")).await;
        assert_eq!(status(&answer), expected, "{answer}");
        assert!(answer.contains(&format!("x-allod-error: {word}\r\n")), "{answer}");
    }
}

async fn unused() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap()
}

#[tokio::test]
async fn a_listener_of_another_uid_gets_no_request() {
    let instance = Instance::start("stranger").await;
    let ours = rustix::process::getuid().as_raw();
    let guarded =
        |uid| vec![route("/", RouteTarget::Instances(vec![Upstream { address: instance.address, uid }]))];
    let proxy = Proxy::start(guarded(Some(ours + 1))).await;
    let answer = proxy.get("/").await;
    assert_eq!(status(&answer), 503, "{answer}");
    assert!(answer.contains("x-allod-error: foreign_listener\r\n"), "{answer}");
    assert_eq!(instance.connections.load(Ordering::SeqCst), 0);
    proxy.load(guarded(Some(ours))).await;
    assert_eq!(status(&proxy.get("/").await), 200);
}

#[tokio::test]
async fn a_dead_instance_is_passed_over_while_another_lives() {
    let alive = Instance::start("alive").await;
    let proxy = Proxy::start(to(&[unused().await, alive.address, unused().await])).await;
    for _ in 0..6 {
        let answer = proxy
            .exchange("POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi")
            .await;
        assert!(answer.starts_with("HTTP/1.1 200") && answer.ends_with("hi"), "{answer}");
    }
}

#[tokio::test]
async fn instances_take_turns() {
    let (one, two) = (Instance::start("one").await, Instance::start("two").await);
    let proxy = Proxy::start(to(&[one.address, two.address])).await;
    for _ in 0..10 {
        proxy.get("/").await;
    }
    assert_eq!((one.requests.load(Ordering::SeqCst), two.requests.load(Ordering::SeqCst)), (5, 5));
}

#[tokio::test]
async fn the_instance_sees_the_client_as_the_proxy_does() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start(to(&[instance.address])).await;
    let answer = proxy
        .exchange(
            "GET /head?a=%zz&b=[] HTTP/1.1\r\nHost: A.example:80\r\nX-Forwarded-For: 10.0.0.1\r\nX_Real_IP: 10.0.0.1\r\n\
             Connection: close, x-hop\r\nX-Hop: 1\r\nForwarded: for=10.0.0.1\r\n\r\n",
        )
        .await;
    assert!(answer.contains("GET /head?a=%zz&b=[]\n"), "{answer}");
    assert!(answer.contains("\nhost: A.example:80\n") || answer.contains("host: A.example:80\n"), "{answer}");
    assert!(
        answer.contains("x-forwarded-for: 127.0.0.1\n") && answer.contains("x-forwarded-proto: http\n"),
        "{answer}"
    );
    assert!(answer.contains("x-request-id: "), "{answer}");
    assert!(
        !answer.contains("10.0.0.1") && !answer.contains("x-hop") && !answer.contains("\nvia"),
        "{answer}"
    );
}

#[tokio::test]
async fn an_instance_cant_speak_for_the_proxy_or_leak_its_hop_headers() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start(to(&[instance.address])).await;
    let answer = proxy.get("/liar").await;
    assert_eq!(status(&answer), 200);
    assert!(!answer.contains("x-allod-error") && !answer.contains("x-hop"), "{answer}");
}

#[tokio::test]
async fn a_proxy_header_names_the_client_and_is_refused_from_strangers() {
    let instance = Instance::start("one").await;
    let trusting = |hops: Vec<allod_proxy::Cidr>| {
        move |settings: &mut allod_proxy::Settings| {
            settings.proxy_protocol = true;
            settings.trusted_hops = hops;
        }
    };
    let request = "PROXY TCP4 192.0.2.1 192.0.2.9 5555 80\r\nGET /head HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let proxy =
        Proxy::start_with(to(&[instance.address]), trusting(vec!["10.0.0.0/8".parse().unwrap()])).await;
    assert_eq!(proxy.exchange(request).await, "");
    let proxy =
        Proxy::start_with(to(&[instance.address]), trusting(vec!["127.0.0.1".parse().unwrap()])).await;
    assert_eq!(proxy.get("/head").await, "", "a header is expected");
    assert!(proxy.exchange(request).await.contains("x-forwarded-for: 192.0.2.1\n"));
}

#[tokio::test]
async fn a_reused_connection_that_was_just_closed_is_tried_anew() {
    // An instance that answers once on each connection and then resets it, after it has read the next request.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let second = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&second);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut buffer = [0; 4096];
                let _ = stream.read(&mut buffer).await.unwrap();
                stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").await.unwrap();
                if stream.read(&mut buffer).await.unwrap_or(0) > 0 {
                    seen.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    let proxy = Proxy::start_with(to(&[address]), |settings| settings.limits.workers = 1).await;
    for _ in 0..5 {
        assert_eq!(status(&proxy.get("/").await), 200);
    }
    assert!(second.load(Ordering::SeqCst) > 0, "a connection was reused");
    let post = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 2\r\nConnection: close\r\n\r\nhi";
    let broken = proxy.exchange(post).await;
    assert_eq!(status(&broken), 502, "what the instance may have acted on is not repeated: {broken}");
}

#[tokio::test]
async fn each_event_comes_at_once() {
    let instance = Instance::start("one").await;
    let (events, receiver) = mpsc::channel(1);
    *instance.events.lock().await = Some(receiver);
    let proxy = Proxy::start(to(&[instance.address])).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream.write_all(b"GET /events HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    // The second event is made only when the client has the first.
    for event in ["data: 1\n\n", "data: 2\n\n", "data: 3\n\n"] {
        events.send(event).await.unwrap();
        read_until(&mut stream, event).await;
    }
    drop(events);
    read_until(&mut stream, "0\r\n\r\n").await;
}

#[tokio::test]
async fn trailers_pass_to_who_takes_them() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start(to(&[instance.address])).await;
    let answer = proxy
        .exchange("GET /trailers HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: close, TE\r\n\r\n")
        .await;
    assert!(answer.ends_with("4\r\nbody\r\n0\r\nx-sum: 42\r\n\r\n"), "{answer}");
}

#[tokio::test]
async fn an_old_client_gets_a_plain_body() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start(to(&[instance.address])).await;
    let answer = proxy.exchange("GET /trailers HTTP/1.0\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.0 200") && answer.ends_with("\r\n\r\nbody"), "{answer}");
}

#[tokio::test]
async fn http2_streams_share_a_connection_and_reach_the_instance() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start(to(&[instance.address])).await;
    let stream = TokioIo::new(TcpStream::connect(proxy.address).await.unwrap());
    let (sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), stream).await.unwrap();
    tokio::spawn(connection);
    let slow = Request::get(format!("http://{}/slow", proxy.address)).body(Full::new(Bytes::new())).unwrap();
    let slow = tokio::spawn(sender.clone().send_request(slow));
    instance.arrived.notified().await;
    let text = "x".repeat(300_000);
    let echo =
        Request::post(format!("http://{}/echo", proxy.address)).body(Full::new(Bytes::from(text.clone())));
    let answer = sender.clone().send_request(echo.unwrap()).await.unwrap();
    assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), text.as_bytes());
    let head = Request::get(format!("http://{}/head", proxy.address))
        .header("cookie", "a=1")
        .header("cookie", "b=2");
    let answer = sender.clone().send_request(head.body(Full::new(Bytes::new())).unwrap()).await.unwrap();
    let seen = answer.into_body().collect().await.unwrap().to_bytes();
    let seen = std::str::from_utf8(&seen).unwrap();
    assert!(
        seen.contains(&format!("host: {}\n", proxy.address)) && seen.contains("cookie: a=1; b=2\n"),
        "{seen}"
    );
    instance.go_on.notify_one();
    assert_eq!(slow.await.unwrap().unwrap().status(), 200);
}

#[tokio::test]
async fn a_switched_connection_carries_bytes_both_ways() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start(to(&[instance.address])).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream
        .write_all(b"GET /switch HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nearly")
        .await
        .unwrap();
    let head = read_until(&mut stream, "\r\n\r\n").await;
    assert!(head.starts_with("HTTP/1.1 101") && head.contains("upgrade: echo"), "{head}");
    read_until(&mut stream, "early").await;
    stream.write_all(b"late").await.unwrap();
    read_until(&mut stream, "late").await;
    stream.shutdown().await.unwrap();
    assert_eq!(read_all(&mut stream).await, "");
}

#[tokio::test]
async fn an_upgrade_that_the_instance_declines_is_a_plain_answer() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start(to(&[instance.address])).await;
    let mut stream = TcpStream::connect(proxy.address).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        .await
        .unwrap();
    let head = read_until(&mut stream, "\r\n\r\none").await;
    assert_eq!(status(&head), 200);
}

#[tokio::test]
async fn the_access_log_has_a_line_for_each_request() {
    let instance = Instance::start("one").await;
    let mut proxy = Proxy::start(to(&[instance.address])).await;
    proxy.get("/page?secret=1").await;
    proxy.stop();
    tokio::time::timeout(LONG, &mut proxy.done).await.unwrap().unwrap().unwrap();
    let log = std::fs::read_to_string(proxy.folder.path().join("access.log")).unwrap();
    let line: serde_json::Value = serde_json::from_str(log.lines().next().unwrap()).unwrap();
    for (key, expected) in
        [("host", "a.example"), ("method", "GET"), ("path", "/page"), ("app", "blog/production")]
    {
        assert_eq!(line[key], expected, "{line}");
    }
    assert_eq!((line["status"].as_u64(), line["bytes"].as_u64()), (Some(200), Some(3)), "{line}");
    assert_eq!(line["request"].as_str().map(str::len), Some(32), "{line}");
}

#[tokio::test]
async fn one_keep_alive_connection_serves_many_requests_over_one_to_the_instance() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start(to(&[instance.address])).await;
    let stream = TokioIo::new(TcpStream::connect(proxy.address).await.unwrap());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    for _ in 0..100 {
        sender.ready().await.unwrap();
        let request = Request::get("/").header("host", "a").body(Empty::<Bytes>::new()).unwrap();
        let answer = sender.send_request(request).await.unwrap();
        assert_eq!(answer.into_body().collect().await.unwrap().to_bytes(), "one");
    }
    assert_eq!(instance.connections.load(Ordering::SeqCst), 1);
}
