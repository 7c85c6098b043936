use super::*;
use crate::netstack::Netstack;
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{Ipv4Repr, TcpControl, TcpRepr},
};
use std::{cell::Cell, net::SocketAddr, sync::Arc};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

const HERE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(100, 64, 0, 1);
const THERE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(100, 64, 0, 2);
const NOW: Timestamp = Timestamp(1_000);
const LENGTH: usize = 1_000;

/// A packet of a connection between the two, as it comes from one of them.
fn packet(is_ours: bool, seq: i32, ack: i32, sacks: [Option<(u32, u32)>; 3], payload: &[u8]) -> Vec<u8> {
    let (source, target, ports) = if is_ours { (HERE, THERE, (1, 2)) } else { (THERE, HERE, (2, 1)) };
    let tcp = TcpRepr {
        src_port: ports.0,
        dst_port: ports.1,
        control: TcpControl::None,
        seq_number: TcpSeqNumber(seq),
        ack_number: Some(TcpSeqNumber(ack)),
        window_len: 1_000,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: sacks,
        timestamp: None,
        payload,
    };
    let ip = Ipv4Repr {
        src_addr: source,
        dst_addr: target,
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    let mut bytes = vec![0; ip.buffer_len() + tcp.buffer_len()];
    let sums = ChecksumCapabilities::default();
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut bytes), &sums);
    let mut segment = TcpPacket::new_unchecked(&mut bytes[ip.buffer_len()..]);
    tcp.emit(&mut segment, &source.into(), &target.into(), &sums);
    bytes
}

/// Segment number `n` of an upload that begins just before the sequence numbers turn over.
fn at(n: usize) -> i32 {
    (i32::MAX - 2_500).wrapping_add(i32::try_from(n * LENGTH).unwrap())
}

fn data(n: usize) -> Vec<u8> {
    packet(true, at(n), 7, [None; 3], &[u8::try_from(n % 256).unwrap(); LENGTH])
}

fn ack(n: usize, there: &[(usize, usize)]) -> Vec<u8> {
    let mut sacks = [None; 3];
    for (sack, (from, to)) in sacks.iter_mut().zip(there) {
        *sack = Some((at(*from).cast_unsigned(), at(*to).cast_unsigned()));
    }
    packet(false, 7, at(n), sacks, b"")
}

/// Which segments are sent again.
fn again(recovery: &mut Recovery) -> Vec<usize> {
    let numbers = recovery.take();
    numbers.iter().map(|packet| usize::from(*packet.last().unwrap())).collect()
}

fn sent(count: usize) -> Recovery {
    let mut recovery = Recovery::default();
    for n in 0..count {
        assert!(recovery.sent(NOW, &data(n)));
    }
    recovery
}

#[test]
fn what_was_not_overtaken_by_three_is_not_sent_again() {
    let mut recovery = sent(10);
    for there in [&[][..], &[(1, 2)], &[(1, 3)], &[(1, 3)]] {
        recovery.heard(NOW, &ack(0, there));
        assert_eq!(again(&mut recovery), [0; 0], "{there:?}");
    }
    recovery.heard(NOW, &ack(0, &[(1, 4)]));
    assert_eq!(again(&mut recovery), [0]);
}

#[test]
fn every_hole_is_sent_again_at_once_and_once() {
    let mut recovery = sent(10);
    recovery.heard(NOW, &ack(1, &[(2, 3), (4, 6), (7, 10)]));
    assert_eq!(again(&mut recovery), [1, 3, 6]);
    recovery.heard(NOW, &ack(1, &[(2, 3), (4, 6), (7, 10)]));
    assert_eq!(again(&mut recovery), [0; 0]);
    // smoltcp noticed the first of them by itself.
    assert!(!recovery.sent(NOW, &data(1)));
    assert!(recovery.sent(NOW.plus(TWICE), &data(1)), "later it has its own reasons");
}

#[test]
fn one_that_is_lost_again_is_sent_again_when_what_was_sent_after_it_arrives() {
    let mut recovery = sent(6);
    recovery.heard(NOW, &ack(0, &[(1, 6)]));
    assert_eq!(again(&mut recovery), [0]);
    for n in 6..10 {
        assert!(recovery.sent(NOW, &data(n)));
    }
    recovery.heard(NOW, &ack(0, &[(1, 8)]));
    assert_eq!(again(&mut recovery), [0; 0], "two after it are not enough");
    recovery.heard(NOW, &ack(0, &[(1, 9)]));
    assert_eq!(again(&mut recovery), [0]);
}

#[test]
fn whoever_claims_to_miss_the_same_for_ever_gets_it_a_few_times() {
    let mut recovery = sent(4);
    let mut count = 0;
    for n in 4..200 {
        assert!(recovery.sent(NOW, &data(n)));
        recovery.heard(NOW, &ack(0, &[(1, n + 1)]));
        count += again(&mut recovery).len();
    }
    assert_eq!(count, usize::from(TRIES));
}

#[test]
fn what_is_kept_is_bounded_and_gone_when_it_was_acknowledged() {
    let mut recovery = sent(SEGMENTS + 100);
    let kept: usize = recovery.flows.values().map(|flow| flow.segments.len()).sum();
    assert_eq!(kept, SEGMENTS);
    recovery.heard(NOW, &ack(SEGMENTS + 100, &[]));
    assert!(recovery.flows.is_empty());
    // A reset ends it too, in both directions.
    let mut reset = packet(false, 7, at(0), [None; 3], b"");
    reset[33] |= 4;
    let mut recovery = sent(3);
    recovery.heard(NOW, &reset);
    assert!(recovery.flows.is_empty());
}

#[test]
fn what_goes_again_acknowledges_what_the_newest_did() {
    let mut recovery = sent(5);
    recovery.sent(NOW, &packet(true, at(5), 4_242, [None; 3], b""));
    recovery.heard(NOW, &ack(0, &[(1, 5)]));
    let again = recovery.take();
    let tcp = TcpPacket::new_checked(&again[0][20..]).unwrap();
    assert_eq!((tcp.ack_number(), tcp.seq_number()), (TcpSeqNumber(4_242), TcpSeqNumber(at(0))));
    assert!(tcp.verify_checksum(&HERE.into(), &THERE.into()));
}

#[test]
fn where_the_stack_begins_anew_it_is_left_to_it() {
    let mut recovery = sent(10);
    recovery.heard(NOW, &ack(0, &[(5, 10)]));
    assert_eq!(again(&mut recovery), [0, 1, 2, 3, 4]);
    let later = NOW.plus(TWICE);
    for n in 0..10 {
        assert!(recovery.sent(later, &data(n)), "{n}");
    }
    // What the other side had may be gone: it says so again, or not.
    recovery.heard(later, &ack(1, &[]));
    assert_eq!(again(&mut recovery), [0; 0]);
}

/// Two stacks, with a line between them that takes a few milliseconds and loses some of what `a` says.
struct Line {
    a: Arc<Netstack>,
    b: Arc<Netstack>,
    now: Cell<u64>,
    seed: Cell<u64>,
    per_mille: u64,
}

impl Line {
    fn loses(&self) -> bool {
        // Of Knuth: the same each time.
        self.seed.set(self.seed.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        (self.seed.get() >> 33) % 1_000 < self.per_mille
    }

    fn carry(&self) {
        self.now.set(self.now.get() + 5);
        let now = Timestamp(self.now.get());
        let (to_b, to_a) = (self.a.poll(now).0, self.b.poll(now).0);
        to_b.into_iter().filter(|_| !self.loses()).for_each(|packet| self.b.inject(packet));
        to_a.into_iter().for_each(|packet| self.a.inject(packet));
    }
}

/// How many milliseconds an upload of this many bytes takes.
async fn upload(per_mille: u64, bytes: usize) -> u64 {
    let (a, b) = (Netstack::new(1), Netstack::new(2));
    a.set_addresses(&[HERE.into()]);
    b.set_addresses(&[THERE.into()]);
    let line = Line { a, b, now: Cell::new(1_000), seed: Cell::new(42), per_mille };
    let listener = line.b.listen(80).unwrap();
    let talking = async {
        let to = SocketAddr::new(THERE.into(), 80);
        let (near, far) = tokio::join!(line.a.connect(to), listener.accept());
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        let sending = async {
            for n in 0..bytes / 1_000 {
                near.write_all(&[u8::try_from(n % 251).unwrap(); 1_000]).await.unwrap();
            }
            near.shutdown().await.unwrap();
        };
        let mut heard = Vec::new();
        let (_, ended) = tokio::join!(sending, far.read_to_end(&mut heard));
        ended.unwrap();
        assert_eq!(heard.len(), bytes);
        let is_whole = heard
            .chunks(1_000)
            .enumerate()
            .all(|(n, part)| part.iter().all(|byte| usize::from(*byte) == n % 251));
        assert!(is_whole);
        line.now.get()
    };
    let carrying = async {
        for _ in 0..1_000_000 {
            line.carry();
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        now = talking => now - 1_000,
        () = carrying => panic!("it never comes about"),
    }
}

#[tokio::test]
async fn what_is_lost_costs_an_upload_round_trips_and_no_timeouts() {
    let whole = upload(0, 4_000_000).await;
    // Most of what it costs is smoltcp's smaller window; by timeouts alone it would be 5 280 and 8 560.
    for (per_mille, most) in [(5, 5_000), (10, 6_500)] {
        let lossy = upload(per_mille, 4_000_000).await;
        assert!(lossy < most, "{whole} ms without loss, {lossy} ms with {per_mille} of 1000");
    }
}
