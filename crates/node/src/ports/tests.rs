//! Listeners without a mesh: connections of this machine to itself.

use super::*;
use std::io;
use tokio::io::AsyncReadExt as _;

const ME: u32 = 1000;

fn at(port: u16) -> SocketAddr {
    SocketAddr::from(([100, 64, 0, 1], port))
}

async fn is_reset(stream: &mut Stream) -> bool {
    stream.read(&mut [0]).await.is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset)
}

#[tokio::test]
async fn a_port_that_is_taken_is_refused_until_it_is_let_go() {
    let ports = Arc::new(Ports::default());
    let held = ports.take(80, ME, 1).unwrap();
    assert_eq!(ports.take(80, ME, 2).unwrap_err().code, FaultCode::Conflict);
    drop(held);
    ports.take(80, ME, 2).unwrap();
}

#[tokio::test]
async fn another_user_and_another_number_accept_nothing() {
    let ports = Arc::new(Ports::default());
    let _held = ports.take(80, ME, 7).unwrap();
    let _near = ports.connect(at(80), at(50_000)).unwrap();
    for (id, user) in [(7, ME + 1), (8, ME)] {
        assert_eq!(ports.accept(id, user).await.unwrap_err().code, FaultCode::NotFound);
    }
    assert_eq!(ports.accept(7, ME).await.unwrap().1.peer, at(50_000));
}

#[tokio::test]
async fn nobody_is_there_where_nobody_listens() {
    assert!(Arc::new(Ports::default()).connect(at(80), at(50_000)).is_none());
}

#[tokio::test]
async fn more_than_the_backlog_is_refused_and_keeps_nothing() {
    let ports = Arc::new(Ports::default());
    let _held = ports.take(80, ME, 7).unwrap();
    let kept: Vec<_> = (0..BACKLOG).map(|_| ports.connect(at(80), at(50_000)).unwrap()).collect();
    assert!(ports.connect(at(80), at(50_000)).is_none());
    drop(ports.accept(7, ME).await.unwrap());
    assert!(ports.connect(at(80), at(50_000)).is_some());
    drop(kept);
}

#[tokio::test]
async fn what_waits_is_reset_with_its_listener_and_who_waits_is_told() {
    let ports = Arc::new(Ports::default());
    let held = ports.take(80, ME, 7).unwrap();
    let accepting = {
        let ports = Arc::clone(&ports);
        tokio::spawn(async move { ports.accept(7, ME).await.map(drop) })
    };
    tokio::task::yield_now().await;
    drop(held);
    assert_eq!(accepting.await.unwrap().unwrap_err().code, FaultCode::NotFound);

    let held = ports.take(80, ME, 8).unwrap();
    let mut waiting = ports.connect(at(80), at(50_000)).unwrap();
    drop(held);
    assert!(is_reset(&mut waiting).await);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_accepts_for_a_moment_is_reset() {
    let ports = Arc::new(Ports::default());
    let held = ports.take(80, ME, 7).unwrap();
    let mut near = ports.connect(at(80), at(50_000)).unwrap();
    held.port.tidy(Instant::now() + MOMENT - Duration::from_secs(1));
    assert_eq!(lock(&held.port.queue).len(), 1);
    held.port.tidy(Instant::now() + MOMENT);
    assert!(is_reset(&mut near).await);
}

#[tokio::test]
async fn one_listener_leaves_room_for_others_to_wait() {
    let ports = Arc::new(Ports::default());
    let _held = [ports.take(80, ME, 80).unwrap(), ports.take(81, ME, 81).unwrap()];
    let wait = |id| {
        let ports = Arc::clone(&ports);
        tokio::spawn(async move { ports.accept(id, ME).await.map(drop) })
    };
    let waiting: Vec<_> = (0..WAITING.1).map(|_| wait(80)).collect();
    tokio::task::yield_now().await;
    assert_eq!(wait(80).await.unwrap().unwrap_err().code, FaultCode::TooMany);
    let other = wait(81);
    let _near = ports.connect(at(81), at(50_000)).unwrap();
    other.await.unwrap().unwrap();
    for one in waiting {
        one.abort();
        let _ = one.await;
    }
    assert_eq!(ports.waiting.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn what_could_not_be_handed_over_is_the_next_ones() {
    let ports = Arc::new(Ports::default());
    let _held = ports.take(80, ME, 7).unwrap();
    let _near = [50_000, 50_001].map(|from| ports.connect(at(80), at(from)).unwrap());
    let (port, first) = ports.accept(7, ME).await.unwrap();
    port.put_back(first);
    assert_eq!(ports.accept(7, ME).await.unwrap().1.peer, at(50_000));
}
