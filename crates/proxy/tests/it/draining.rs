//! Replacing an instance, pausing an app, stopping the proxy: no request is lost that needn't be.

use crate::support::{Instance, LONG, Proxy, read_all, read_until, status, to};
use allod_proto::routes::{ProxyAnswer, ProxyAsk};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};
use tokio::{io::AsyncWriteExt, net::TcpStream};

fn drain(upstream: SocketAddr, timeout_ms: u64) -> ProxyAsk {
    ProxyAsk::Drain { upstream, timeout_ms }
}

#[tokio::test]
async fn an_instance_that_is_still_in_the_table_is_not_drained() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start(to(&[instance.address])).await;
    assert!(matches!(proxy.ask(drain(instance.address, 0)).await, ProxyAnswer::Failed { .. }));
    assert_eq!(status(&proxy.get("/").await), 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replacing_an_instance_under_load_loses_no_request() {
    let mut current = Instance::start("0").await;
    let proxy = Arc::new(Proxy::start(to(&[current.address])).await);
    let (over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let clients: Vec<_> = (0..8)
        .map(|number| {
            let (proxy, over, served) = (Arc::clone(&proxy), Arc::clone(&over), Arc::clone(&served));
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(proxy.address).await.unwrap();
                while !over.load(Ordering::SeqCst) {
                    let request: &[u8] = if number % 2 == 0 {
                        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
                    } else {
                        b"POST /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n7"
                    };
                    stream.write_all(request).await.unwrap();
                    let head = read_until(&mut stream, "\r\n\r\n").await;
                    assert_eq!(status(&head), 200, "{head}");
                    tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap();
                    served.fetch_add(1, Ordering::SeqCst);
                }
            })
        })
        .collect();
    for name in ["1", "2", "3", "4", "5"] {
        let enough = served.load(Ordering::SeqCst) + 50;
        while served.load(Ordering::SeqCst) < enough
            && !clients.iter().any(tokio::task::JoinHandle::is_finished)
        {
            tokio::task::yield_now().await;
        }
        let next = Instance::start(name).await;
        proxy.load(to(&[next.address])).await;
        assert_eq!(proxy.ask(drain(current.address, 5_000)).await, ProxyAnswer::Drained { cut: 0 });
        let after = current.requests.load(Ordering::SeqCst);
        assert!(proxy.get("/").await.ends_with(name));
        assert_eq!(current.requests.load(Ordering::SeqCst), after, "nothing goes to a drained instance");
        current = next;
    }
    over.store(true, Ordering::SeqCst);
    for client in clients {
        client.await.unwrap();
    }
}

#[tokio::test]
async fn a_drain_waits_for_a_request_in_flight() {
    let (old, new) = (Instance::start("old").await, Instance::start("new").await);
    let proxy = Arc::new(Proxy::start(to(&[old.address])).await);
    let slow = tokio::spawn({
        let proxy = Arc::clone(&proxy);
        async move { proxy.get("/slow").await }
    });
    old.arrived.notified().await;
    proxy.load(to(&[new.address])).await;
    let released = Arc::new(AtomicBool::new(false));
    let draining = tokio::spawn({
        let (proxy, released, old) = (Arc::clone(&proxy), Arc::clone(&released), old.address);
        async move {
            let answer = proxy.ask(drain(old, 10_000)).await;
            (answer, released.load(Ordering::SeqCst))
        }
    });
    assert!(proxy.get("/").await.ends_with("new"), "new requests go on meanwhile");
    released.store(true, Ordering::SeqCst);
    old.go_on.notify_one();
    assert!(slow.await.unwrap().ends_with("old"));
    assert_eq!(draining.await.unwrap(), (ProxyAnswer::Drained { cut: 0 }, true));
}

#[tokio::test]
async fn a_drain_cuts_what_is_left_at_the_end_of_the_wait_and_counts_it() {
    let (old, new) = (Instance::start("old").await, Instance::start("new").await);
    let proxy = Arc::new(Proxy::start(to(&[old.address])).await);
    let get = {
        let proxy = Arc::clone(&proxy);
        tokio::spawn(async move { proxy.get("/slow").await })
    };
    old.arrived.notified().await;
    let mut socket = TcpStream::connect(proxy.address).await.unwrap();
    socket
        .write_all(b"GET /switch HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nx")
        .await
        .unwrap();
    read_until(&mut socket, "\r\n\r\nx").await;
    proxy.load(to(&[new.address])).await;
    assert_eq!(proxy.ask(drain(old.address, 20)).await, ProxyAnswer::Drained { cut: 2 });
    let answer = get.await.unwrap();
    assert_eq!(status(&answer), 504, "{answer}");
    assert!(answer.contains("x-allod-error: drained\r\n"), "{answer}");
    assert_eq!(read_all(&mut socket).await, "", "the tunnel ends");
    assert_eq!(proxy.ask(drain(old.address, 0)).await, ProxyAnswer::Drained { cut: 0 });
}

#[tokio::test]
async fn an_open_tunnel_holds_a_drain_until_it_ends() {
    let (old, new) = (Instance::start("old").await, Instance::start("new").await);
    let proxy = Arc::new(Proxy::start(to(&[old.address])).await);
    let mut socket = TcpStream::connect(proxy.address).await.unwrap();
    socket
        .write_all(b"GET /switch HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\nx")
        .await
        .unwrap();
    read_until(&mut socket, "\r\n\r\nx").await;
    proxy.load(to(&[new.address])).await;
    let draining = tokio::spawn({
        let (proxy, old) = (Arc::clone(&proxy), old.address);
        async move { proxy.ask(drain(old, 10_000)).await }
    });
    socket.write_all(b"still here").await.unwrap();
    read_until(&mut socket, "still here").await;
    drop(socket);
    assert_eq!(draining.await.unwrap(), ProxyAnswer::Drained { cut: 0 });
}

#[tokio::test]
async fn idle_connections_to_an_instance_that_left_the_table_are_closed() {
    let (old, new) = (Instance::start("old").await, Instance::start("new").await);
    let proxy = Proxy::start(to(&[old.address])).await;
    proxy.get("/").await;
    proxy.load(to(&[new.address])).await;
    assert_eq!(proxy.ask(drain(old.address, 0)).await, ProxyAnswer::Drained { cut: 0 });
    tokio::time::timeout(LONG, old.ended.notified()).await.expect("the kept connection ends");
}

#[tokio::test]
async fn an_address_that_comes_back_after_its_drain_is_served_again() {
    let (one, two) = (Instance::start("one").await, Instance::start("two").await);
    let proxy = Proxy::start(to(&[one.address])).await;
    proxy.get("/").await;
    proxy.load(to(&[two.address])).await;
    proxy.ask(drain(one.address, 1_000)).await;
    proxy.load(to(&[one.address])).await;
    assert!(proxy.get("/").await.ends_with("one"));
}

#[tokio::test]
async fn a_paused_app_queues_and_gives_up_and_a_resumed_one_goes_on() {
    let instance = Instance::start("one").await;
    let proxy =
        Arc::new(Proxy::start_with(to(&[instance.address]), |settings| settings.limits.queue = 1).await);
    let app: allod_proto::AppRef = "blog".parse().unwrap();
    assert_eq!(proxy.ask(ProxyAsk::Pause { app: app.clone(), timeout_ms: 20 }).await, ProxyAnswer::Done);
    let answer = proxy.get("/").await;
    assert_eq!(status(&answer), 504, "{answer}");
    proxy.ask(ProxyAsk::Pause { app: app.clone(), timeout_ms: 60_000 }).await;
    let waiting: Vec<_> = (0..2)
        .map(|_| {
            let proxy = Arc::clone(&proxy);
            tokio::spawn(async move { proxy.get("/").await })
        })
        .collect();
    while !waiting.iter().any(tokio::task::JoinHandle::is_finished) {
        tokio::task::yield_now().await;
    }
    assert_eq!(instance.requests.load(Ordering::SeqCst), 0);
    proxy.load(to(&[instance.address])).await;
    assert_eq!(proxy.ask(ProxyAsk::Resume { app }).await, ProxyAnswer::Done);
    let mut codes = Vec::new();
    for task in waiting {
        codes.push(status(&task.await.unwrap()));
    }
    codes.sort_unstable();
    assert_eq!(codes, [200, 503], "one waited, the other found the queue full; a load does not resume");
}

#[tokio::test]
async fn a_stopping_proxy_finishes_what_it_began_and_takes_nothing_new() {
    let instance = Instance::start("one").await;
    let mut proxy = Proxy::start(to(&[instance.address])).await;
    let mut busy = TcpStream::connect(proxy.address).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    instance.arrived.notified().await;
    let mut idle = TcpStream::connect(proxy.address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    read_until(&mut idle, "one").await;
    proxy.stop();
    assert_eq!(read_all(&mut idle).await, "", "an idle connection is closed");
    assert!(!proxy.done.is_finished());
    instance.go_on.notify_one();
    assert!(read_all(&mut busy).await.ends_with("one"));
    tokio::time::timeout(LONG, &mut proxy.done).await.unwrap().unwrap().unwrap();
    assert!(TcpStream::connect(proxy.address).await.is_err());
}

#[tokio::test]
async fn status_tells_what_goes_on() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start(to(&[instance.address])).await;
    let mut busy = TcpStream::connect(proxy.address).await.unwrap();
    busy.write_all(b"GET /slow HTTP/1.1\r\nHost: a\r\n\r\n").await.unwrap();
    instance.arrived.notified().await;
    proxy.get("/").await;
    proxy.load(Vec::new()).await;
    proxy.get("/").await;
    let ProxyAnswer::Status(status) = proxy.ask(ProxyAsk::Status).await else { panic!("no status") };
    assert_eq!((status.generation, status.requests, status.in_flight, status.own_errors), (2, 2, 1, 0));
    assert_eq!(status.listen, [proxy.address]);
}
