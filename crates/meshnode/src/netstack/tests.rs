use super::{
    stack::{BACKLOG, BACKLOG_OF_ONE},
    *,
};
use crate::{
    node::awake::Awake,
    packet::tests::{echo, segment},
};
use proptest::prelude::*;
use std::future::Future;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const A: [&str; 2] = ["100.64.0.1", "fd7a:115c:a1e0::1"];
const B: [&str; 2] = ["100.64.0.2", "fd7a:115c:a1e0::2"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Two stacks with a cable between them. It carries what they send whenever the test waits for something.
struct Cable {
    a: Arc<Netstack>,
    b: Arc<Netstack>,
    now: std::cell::Cell<u64>,
}

impl Cable {
    fn new() -> Self {
        let (a, b) = (Netstack::new(1), Netstack::new(77));
        a.set_addresses(&A.map(ip));
        b.set_addresses(&B.map(ip));
        Self { a, b, now: std::cell::Cell::new(1_000) }
    }

    /// One round, a millisecond long. Whether anything was carried.
    fn carry(&self) -> bool {
        self.now.set(self.now.get() + 1);
        let now = Timestamp(self.now.get());
        let (to_b, to_a) = (self.a.poll(now).0, self.b.poll(now).0);
        let carried = !to_a.is_empty() || !to_b.is_empty();
        to_b.into_iter().for_each(|packet| self.b.inject(packet));
        to_a.into_iter().for_each(|packet| self.a.inject(packet));
        carried
    }

    fn settle(&self) {
        for _ in 0..100 {
            self.carry();
        }
    }

    async fn until<T>(&self, wanted: impl Future<Output = T>) -> T {
        let carrying = async {
            for _ in 0..1_000_000 {
                self.carry();
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            biased;
            value = wanted => value,
            () = carrying => panic!("it never comes about"),
        }
    }

    async fn pair(&self) -> (MeshStream, MeshStream) {
        let listener = self.b.listen(80).unwrap();
        let to = SocketAddr::new(ip(B[0]), 80);
        let (client, server) =
            self.until(async { tokio::join!(self.a.connect(to), listener.accept()) }).await;
        (client.unwrap(), server.unwrap())
    }
}

#[tokio::test]
async fn a_port_that_nobody_listens_on_refuses() {
    let cable = Cable::new();
    let refused = cable.until(cable.a.connect(SocketAddr::new(ip(B[0]), 81))).await;
    assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::ConnectionRefused);
    assert_eq!(cable.b.listen(0).unwrap_err().kind(), io::ErrorKind::InvalidInput);
    let _first = cable.b.listen(80).unwrap();
    assert_eq!(cable.b.listen(80).unwrap_err().kind(), io::ErrorKind::AddrInUse);
    let empty = Netstack::new(3);
    let nowhere = empty.connect(SocketAddr::new(ip(B[0]), 81)).await;
    assert_eq!(nowhere.unwrap_err().kind(), io::ErrorKind::AddrNotAvailable);
}

#[tokio::test]
async fn what_this_side_slept_through_is_no_silence_of_the_other() {
    let after_ten_minutes = async |is_lived: bool| {
        let cable = Cable::new();
        let (mut client, mut server) = cable.pair().await;
        cable.settle();
        client.write_all(b"before").await.unwrap();
        let mut awake = Awake::since(Timestamp(cable.now.get()));
        assert!(!cable.a.poll(Timestamp(cable.now.get())).0.is_empty(), "it is sent, and lost");
        let woken = Timestamp(cable.now.get()).plus(std::time::Duration::from_secs(600));
        awake.look(woken).unwrap();
        drop(cable.a.poll(if is_lived { awake.lived() } else { woken }));
        if !is_lived {
            return client.read_u8().await.is_err();
        }
        let mut heard = [0; 6];
        cable.until(server.read_exact(&mut heard)).await.unwrap();
        assert_eq!(&heard, b"before");
        false
    };
    assert!(
        after_ten_minutes(false).await,
        "by the clock alone the other side has said nothing for too long"
    );
    assert!(!after_ten_minutes(true).await);
}

#[tokio::test]
async fn over_ipv4_and_ipv6_each_side_says_something_and_ends() {
    let cable = Cable::new();
    for (from, to) in A.into_iter().zip(B) {
        let listener = cable.b.listen(80).unwrap();
        let serve = async {
            let mut stream = listener.accept().await.unwrap();
            assert_eq!(stream.peer_addr().ip(), ip(from));
            let mut said = Vec::new();
            stream.read_to_end(&mut said).await.unwrap();
            stream.write_all(b"and goodbye").await.unwrap();
            stream.shutdown().await.unwrap();
            said
        };
        let ask = async {
            let mut stream = cable.a.connect(SocketAddr::new(ip(to), 80)).await.unwrap();
            stream.write_all(b"hello").await.unwrap();
            stream.shutdown().await.unwrap();
            assert_eq!(stream.write(b"more").await.unwrap_err().kind(), io::ErrorKind::BrokenPipe);
            let mut said = Vec::new();
            stream.read_to_end(&mut said).await.unwrap();
            said
        };
        let (heard, answered) = cable.until(async { tokio::join!(serve, ask) }).await;
        assert_eq!((heard.as_slice(), answered.as_slice()), (&b"hello"[..], &b"and goodbye"[..]));
    }
}

#[tokio::test]
async fn four_megabytes_arrive_as_they_were_sent() {
    let cable = Cable::new();
    let (mut client, mut server) = cable.pair().await;
    let sent: Vec<u8> =
        (0..4_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 24).to_le_bytes()[0]).collect();
    let send = async {
        client.write_all(&sent).await.unwrap();
        client.shutdown().await.unwrap();
    };
    let mut received = Vec::new();
    cable.until(async { tokio::join!(send, server.read_to_end(&mut received)) }).await.1.unwrap();
    assert!(received == sent);
}

#[tokio::test]
async fn segments_that_come_together_have_several_acknowledgements() {
    let cable = Cable::new();
    let (mut client, _server) = cable.pair().await;
    // Until its window is large.
    cable.until(client.write_all(&[1; 200_000])).await.unwrap();
    cable.settle();
    cable.until(client.write_all(&[2; 40_000])).await.unwrap();
    let now = Timestamp(cable.now.get() + 1);
    let together = cable.a.poll(now).0;
    let count = together.len();
    assert!(count >= 16, "{count}");
    together.into_iter().for_each(|packet| cable.b.inject(packet));
    let answers = cable.b.poll(now).0.len();
    assert!(answers >= 8, "{answers} answers to {count} segments");
}

#[tokio::test]
async fn a_stream_dropped_with_something_unread_is_reset() {
    let cable = Cable::new();
    let (mut client, server) = cable.pair().await;
    cable.until(client.write_all(b"unread")).await.unwrap();
    cable.settle();
    drop(server);
    let error = cable.until(client.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test]
async fn what_was_written_before_a_stream_was_dropped_still_goes() {
    let cable = Cable::new();
    let (mut client, mut server) = cable.pair().await;
    cable.until(server.write_all(b"last words")).await.unwrap();
    drop(server);
    let mut said = Vec::new();
    cable.until(client.read_to_end(&mut said)).await.unwrap();
    assert_eq!(said, b"last words");
    drop(client);
    cable.settle();
    assert_eq!((cable.a.lock().count(), cable.b.lock().count()), (0, 0), "and nothing is left of it");
}

#[tokio::test]
async fn two_hundred_connections_at_once_are_all_accepted() {
    let cable = Cable::new();
    let listener = cable.b.listen(80).unwrap();
    let to = SocketAddr::new(ip(B[0]), 80);
    let mut connects = tokio::task::JoinSet::new();
    for _ in 0..200 {
        let net = Arc::clone(&cable.a);
        connects.spawn(async move { net.connect(to).await });
    }
    let accept = async {
        let mut accepted = Vec::new();
        while accepted.len() < 200 {
            accepted.push(listener.accept().await.unwrap());
        }
        accepted
    };
    let all = async {
        let mut connected = Vec::new();
        while let Some(stream) = connects.join_next().await {
            connected.push(stream.unwrap().unwrap());
        }
        connected
    };
    let (accepted, connected) = cable.until(async { tokio::join!(accept, all) }).await;
    assert_eq!((accepted.len(), connected.len()), (200, 200));
}

#[test]
fn requests_without_end_take_no_more_than_the_backlog() {
    let cable = Cable::new();
    let _listener = cable.b.listen(80).unwrap();
    for round in 0..4 {
        for port in 1..2_000 {
            cable.b.inject(segment([100, 64, 1, round].into(), port, ip(B[0]), 80, 2));
        }
        cable.b.poll(Timestamp(2_000));
    }
    assert_eq!(cable.b.lock().count(), BACKLOG);
}

#[tokio::test]
async fn one_peer_that_only_asks_leaves_room_for_another() {
    let cable = Cable::new();
    let listener = cable.b.listen(80).unwrap();
    for port in 1..2_000 {
        cable.b.inject(segment([100, 64, 1, 1].into(), port, ip(B[0]), 80, 2));
    }
    cable.b.poll(Timestamp(2_000));
    assert_eq!(cable.b.lock().count(), BACKLOG_OF_ONE);
    let to = SocketAddr::new(ip(B[0]), 80);
    let (client, server) = cable.until(async { tokio::join!(cable.a.connect(to), listener.accept()) }).await;
    assert_eq!(client.unwrap().local_addr(), server.unwrap().peer_addr());
}

#[tokio::test]
async fn a_listener_that_is_dropped_resets_who_was_not_accepted() {
    let cable = Cable::new();
    let listener = cable.b.listen(80).unwrap();
    let mut stream = cable.until(cable.a.connect(SocketAddr::new(ip(B[0]), 80))).await.unwrap();
    cable.settle();
    drop(listener);
    let error = cable.until(stream.read_u8()).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
}

#[test]
fn an_echo_is_answered() {
    let cable = Cable::new();
    for (from, to) in A.into_iter().zip(B) {
        cable.b.inject(echo(ip(from), ip(to), 9, false));
        let replies = cable.b.poll(Timestamp(2_000)).0;
        assert!(
            replies.iter().any(|packet| {
                let kind = crate::packet::Packet::parse(packet).unwrap().kind;
                kind == crate::packet::Kind::Echo { id: 9, is_reply: true }
            }),
            "{to}"
        );
    }
}

#[tokio::test]
async fn when_the_node_ends_whoever_waits_is_told() {
    let cable = Cable::new();
    let (mut client, _server) = cable.pair().await;
    let listener = cable.a.listen(81).unwrap();
    let end = async {
        tokio::task::yield_now().await;
        cable.a.end();
    };
    let (read, accepted, ()) = tokio::join!(client.read_u8(), listener.accept(), end);
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert_eq!(accepted.unwrap_err().kind(), io::ErrorKind::NotConnected);
    let to = SocketAddr::new(ip(B[0]), 80);
    assert_eq!(cable.a.connect(to).await.unwrap_err().kind(), io::ErrorKind::NotConnected);
    assert_eq!(cable.a.listen(82).unwrap_err().kind(), io::ErrorKind::NotConnected);
}

/// A segment from a peer that means no good: any flags, numbers near enough to matter, options of any kind, some bytes.
fn any_segment() -> impl Strategy<Value = Vec<u8>> {
    let numbers = (1..4_u16, prop_oneof![Just(80_u16), Just(81)], 0..70_000_u32, 0..70_000_u32, any::<u16>());
    let flags = prop_oneof![Just(2_u8), Just(16), Just(18), Just(17), Just(4), Just(24), Just(25), Just(56)];
    let rest =
        (flags, proptest::collection::vec(any::<u8>(), 0..10), proptest::collection::vec(any::<u8>(), 0..20));
    (numbers, rest).prop_map(|((from, to, seq, ack, window), (flags, mut options, payload))| {
        options.resize(options.len().next_multiple_of(4), 1);
        let mut body = [from.to_be_bytes(), to.to_be_bytes()].concat();
        body.extend(seq.to_be_bytes());
        body.extend(ack.to_be_bytes());
        body.push(u8::try_from((20 + options.len()) / 4).unwrap() << 4);
        body.push(flags);
        body.extend(window.to_be_bytes());
        body.extend([0, 0, 0, 0]);
        body.extend(options);
        body.extend(payload);
        crate::packet::tests::ip(ip(A[0]), ip(B[0]), 6, &body)
    })
}

proptest! {
    #[test]
    fn no_segments_are_a_panic(packets in proptest::collection::vec((any_segment(), 0..3_000_u64), 1..60)) {
        let net = Netstack::new(5);
        net.set_addresses(&B.map(ip));
        let _listener = net.listen(80).unwrap();
        let mut now = 1_000;
        for (packet, wait) in packets {
            net.inject(packet);
            now += wait;
            net.poll(Timestamp(now));
        }
    }

    #[test]
    fn no_bytes_are_a_panic(packets in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 1..20)) {
        let net = Netstack::new(5);
        net.set_addresses(&B.map(ip));
        for mut packet in packets {
            net.inject(packet.clone());
            if let Some(first) = packet.first_mut() {
                *first = 0x45;
            }
            net.inject(packet);
            net.poll(Timestamp(1_000));
        }
    }
}
