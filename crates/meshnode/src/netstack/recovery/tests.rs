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
fn what_the_stack_cuts_in_another_way_is_not_sent_twice_and_nothing_is_forgotten() {
    let mut recovery = sent(10);
    recovery.heard(NOW, &ack(1, &[(2, 5)]));
    assert_eq!(again(&mut recovery), [1]);
    let longer = packet(true, at(1), 7, [None; 3], &[1; LENGTH + 200]);
    assert!(!recovery.sent(NOW, &longer));
    recovery.heard(NOW, &ack(1, &[(2, 5), (6, 10)]));
    assert_eq!(again(&mut recovery), [5]);
}

/// After a round trip of 20 ms was measured, `count` segments of which nothing was heard; they went at 20 ms.
fn silent(count: usize) -> Recovery {
    let mut recovery = sent(1);
    let later = NOW.plus(Duration::from_millis(20));
    for n in 1..=count {
        assert!(recovery.sent(later, &data(n)));
    }
    recovery.heard(later, &ack(1, &[]));
    recovery
}

fn probed(recovery: &mut Recovery, after: u64) -> Vec<usize> {
    recovery.probe(NOW.plus(Duration::from_millis(20 + after)));
    again(recovery)
}

#[test]
fn nothing_is_asked_before_two_round_trips_nor_where_none_was_measured() {
    let mut recovery = silent(4);
    assert_eq!(recovery.delay(NOW.plus(Duration::from_millis(30))), Some(Duration::from_millis(35)));
    assert_eq!(probed(&mut recovery, 44), [0; 0]);
    assert_eq!(probed(&mut sent(4), 1_000), [0; 0]);
    // Of one segment the acknowledgement may be held back.
    assert_eq!(probed(&mut silent(1), 89), [0; 0]);
}

#[test]
fn a_window_of_which_nothing_is_heard_is_asked_after_with_its_last_segment_and_twice_at_most() {
    let mut recovery = silent(4);
    assert_eq!(probed(&mut recovery, 45), [4]);
    assert_eq!(probed(&mut recovery, 89), [0; 0]);
    assert_eq!(probed(&mut recovery, 90), [4]);
    assert_eq!(probed(&mut recovery, 100_000), [0; 0], "then it is the timeout's");
    assert_eq!(recovery.delay(NOW), None);
    assert_eq!(probed(&mut silent(1), 90), [1]);
}

#[test]
fn when_what_was_asked_with_arrives_what_went_before_it_was_lost() {
    let mut recovery = silent(4);
    assert_eq!(probed(&mut recovery, 45), [4]);
    recovery.heard(NOW.plus(Duration::from_millis(85)), &ack(3, &[(4, 5)]));
    assert_eq!(again(&mut recovery), [3]);
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

/// Two stacks, with a line between them that loses some of what both say, and on which a millisecond has some rounds.
struct Line {
    a: Arc<Netstack>,
    b: Arc<Netstack>,
    rounds: Cell<u64>,
    /// Rounds of a millisecond.
    pace: u64,
    seed: Cell<u64>,
    per_mille: u64,
    /// Of what `b` says in one round, the last alone gets through: one acknowledgement of all that came together.
    is_sparing: bool,
}

impl Line {
    fn loses(&self) -> bool {
        // Of Knuth: the same each time.
        self.seed.set(self.seed.get().wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
        (self.seed.get() >> 33) % 1_000 < self.per_mille
    }

    fn carry(&self) {
        self.rounds.set(self.rounds.get() + 1);
        let now = Timestamp(1_000 + self.rounds.get() / self.pace);
        let (to_b, mut to_a) = (self.a.poll(now).0, self.b.poll(now).0);
        if self.is_sparing {
            to_a.drain(..to_a.len().saturating_sub(1));
        }
        to_b.into_iter().filter(|_| !self.loses()).for_each(|packet| self.b.inject(packet));
        to_a.into_iter().filter(|_| !self.loses()).for_each(|packet| self.a.inject(packet));
    }
}

/// How many rounds an upload of this many bytes takes.
async fn upload(per_mille: u64, is_sparing: bool, seed: u64, bytes: usize) -> u64 {
    let (a, b) = (Netstack::new(1), Netstack::new(2));
    a.set_addresses(&[HERE.into()]);
    b.set_addresses(&[THERE.into()]);
    let (rounds, seed) = (Cell::new(0), Cell::new(seed));
    let line = Line { a, b, rounds, pace: 4, seed, per_mille, is_sparing };
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
        let (mut heard, mut buffer, mut ended_at) = (Vec::new(), vec![0; 65_536], 0);
        let hearing = async {
            while heard.len() < bytes {
                let count = far.read(&mut buffer).await.unwrap();
                heard.extend_from_slice(&buffer[..count]);
                ended_at = line.rounds.get();
            }
            assert_eq!(far.read(&mut buffer).await.unwrap(), 0);
        };
        tokio::join!(sending, hearing);
        let is_whole = heard
            .chunks(1_000)
            .enumerate()
            .all(|(n, part)| part.iter().all(|byte| usize::from(*byte) == n % 251));
        assert!(is_whole);
        ended_at
    };
    let carrying = async {
        for _ in 0..1_000_000 {
            line.carry();
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        rounds = talking => rounds,
        () = carrying => panic!("it never comes about"),
    }
}

/// The middle of five.
async fn median(per_mille: u64, is_sparing: bool) -> u64 {
    let mut rounds = Vec::new();
    for seed in 1..=5 {
        rounds.push(upload(per_mille, is_sparing, seed, 4_000_000).await);
    }
    rounds.sort_unstable();
    rounds[2]
}

#[tokio::test]
async fn what_is_lost_costs_an_upload_round_trips_and_no_timeouts() {
    // A timeout is a thousand rounds, and there would be a dozen of them.
    for (per_mille, most) in [(5, 1_000), (10, 1_400)] {
        let rounds = median(per_mille, false).await;
        assert!(rounds < most, "{rounds} rounds with {per_mille} of 1000 lost");
    }
}

#[tokio::test]
async fn a_window_that_is_acknowledged_at_once_costs_no_timeout_when_that_is_lost() {
    for per_mille in [5, 10] {
        let rounds = median(per_mille, true).await;
        assert!(rounds < 1_000, "{rounds} rounds with {per_mille} of 1000 lost");
    }
}
