use super::*;
use crate::{
    key::{NodeKey, NodePrivate},
    limits,
};
use proptest::prelude::*;
use ring::rand::SystemRandom;
use std::time::Duration;

fn one(bytes: &[u8]) -> Result<Option<Frame>, DerpError> {
    FrameReader::default().push(&mut &bytes[..])
}

fn wire(frame: &Frame) -> Vec<u8> {
    let mut wire = Vec::new();
    frame.write(&mut wire).unwrap();
    wire
}

fn every_frame() -> Vec<Frame> {
    let key = NodeKey::new([7; 32]);
    vec![
        Frame::ServerKey(key),
        Frame::ClientInfo { key, sealed: vec![1; 60] },
        Frame::ServerInfo(vec![2; 50]),
        Frame::SendPacket { to: key, packet: vec![3; limits::DERP_PACKET] },
        Frame::RecvPacket { from: key, packet: Vec::new() },
        Frame::KeepAlive,
        Frame::NotePreferred(true),
        Frame::NotePreferred(false),
        Frame::PeerGone { peer: key, reason: GoneReason::Left },
        Frame::PeerGone { peer: key, reason: GoneReason::NotHere },
        Frame::PeerGone { peer: key, reason: GoneReason::Other(9) },
        Frame::Ping([4; 8]),
        Frame::Pong([5; 8]),
        Frame::Health("duplicate".to_owned()),
        Frame::Restarting { reconnect_in: Duration::from_millis(258), try_for: Duration::from_secs(9) },
    ]
}

#[test]
fn a_length_that_the_type_can_not_have_is_refused_at_the_head() {
    let refused = [
        (0x01, 39),
        (0x02, 71),
        (0x02, 32 + 24 + 16 + limits::DERP_INFO + 1),
        (0x03, 39),
        (0x04, 31),
        (0x04, 32 + limits::DERP_PACKET + 1),
        (0x05, 32 + limits::DERP_PACKET + 1),
        (0x06, 1025),
        (0x07, 0),
        (0x07, 2),
        (0x08, 31),
        (0x12, 7),
        (0x12, 1001),
        (0x14, limits::DERP_INFO + 1),
        (0x15, 7),
        (0x99, (1 << 20) + 1),
        (0x99, 0xffff_ffff),
    ];
    for (kind, length) in refused {
        let head = [&[kind][..], &u32::try_from(length).unwrap().to_be_bytes()].concat();
        assert_eq!(one(&head), Err(DerpError::Length { kind, length }));
    }
}

#[test]
fn who_does_not_begin_with_the_magic_is_no_relay() {
    let mut bytes = wire(&Frame::ServerKey(NodeKey::new([7; 32])));
    bytes[5] = b'X';
    assert_eq!(one(&bytes), Err(DerpError::NotARelay));
}

#[test]
fn a_packet_that_is_too_long_is_not_written() {
    let (mut out, key) = (Vec::new(), NodeKey::new([7; 32]));
    let long = vec![0; limits::DERP_PACKET + 1];
    assert!(put_sent(key, &long, &mut out).is_err());
    assert!(put_received(key, &long, &mut out).is_err());
    assert!(Frame::Health("x".repeat(limits::DERP_INFO + 1)).write(&mut out).is_err());
    assert!(Frame::Unknown(0x44).write(&mut out).is_err());
    assert!(out.is_empty());
}

#[test]
fn each_frame_has_the_bytes_of_the_protocol() {
    let key = NodeKey::new([7; 32]);
    let server_key = [&[1, 0, 0, 0, 40][..], "DERP🔑".as_bytes(), &[7; 32]].concat();
    assert_eq!(wire(&Frame::ServerKey(key)), server_key);
    assert_eq!(wire(&Frame::NotePreferred(true)), [7, 0, 0, 0, 1, 1]);
    assert_eq!(wire(&Frame::KeepAlive), [6, 0, 0, 0, 0]);
    let sent = Frame::SendPacket { to: key, packet: b"abc".to_vec() };
    assert_eq!(wire(&sent), [&[4, 0, 0, 0, 35][..], &[7; 32], b"abc"].concat());
    let gone = Frame::PeerGone { peer: key, reason: GoneReason::NotHere };
    assert_eq!(wire(&gone), [&[8, 0, 0, 0, 33][..], &[7; 32], &[1]].concat());
    assert_eq!(wire(&Frame::Ping([1; 8])), [0x12, 0, 0, 0, 8, 1, 1, 1, 1, 1, 1, 1, 1]);
    let restarting = Frame::Restarting { reconnect_in: Duration::from_millis(258), try_for: Duration::MAX };
    assert_eq!(wire(&restarting), [0x15, 0, 0, 0, 8, 0, 0, 1, 2, 0xff, 0xff, 0xff, 0xff]);
}

#[test]
fn a_frame_of_a_newer_relay_is_skipped_without_being_kept() {
    let mut reader = FrameReader::default();
    let head = [0x99, 0, 0x10, 0, 0];
    assert_eq!(reader.push(&mut &head[..]), Ok(None));
    for _ in 0..15 {
        assert_eq!(reader.push(&mut &[0; 0x1_0000][..]), Ok(None));
    }
    let last = [&[0; 0x1_0000][..], &wire(&Frame::KeepAlive)].concat();
    let mut last = &last[..];
    assert_eq!(reader.push(&mut last), Ok(Some(Frame::Unknown(0x99))));
    assert_eq!(reader.push(&mut last), Ok(Some(Frame::KeepAlive)));
    assert_eq!(one(&[0x99, 0, 0, 0, 0]), Ok(Some(Frame::Unknown(0x99))));
}

#[test]
fn frames_are_read_however_they_are_cut() {
    let all = every_frame();
    let stream: Vec<u8> = all.iter().flat_map(wire).collect();
    for size in [1, 4, 5, 6, 1000, stream.len()] {
        let (mut reader, mut seen) = (FrameReader::default(), Vec::new());
        for mut piece in stream.chunks(size) {
            while let Some(frame) = reader.push(&mut piece).unwrap() {
                seen.push(frame);
            }
            assert!(piece.is_empty());
        }
        assert!(seen == all, "in pieces of {size}");
    }
}

#[test]
fn a_client_can_not_name_a_key_that_it_does_not_hold() {
    let (relay, node, other) =
        (NodePrivate::import(&[1; 32]), NodePrivate::import(&[2; 32]), NodePrivate::import(&[3; 32]));
    let own = DerpBox::new(&node, relay.public());
    let Frame::ClientInfo { key, sealed } =
        own.client_info(&ClientInfo::default(), &SystemRandom::new()).unwrap()
    else {
        panic!("no client info")
    };
    assert_eq!(key, node.public());
    let claimed = DerpBox::new(&relay, other.public());
    assert_eq!(claimed.open_client_info(&sealed), Err(DerpError::Box));
    let right = DerpBox::new(&relay, key);
    assert_eq!(right.open_client_info(&sealed), Ok(ClientInfo::default()));
    for at in 0..sealed.len() {
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        assert_eq!(right.open_client_info(&changed), Err(DerpError::Box), "byte {at}");
        assert_eq!(right.open_client_info(&sealed[..at]), Err(DerpError::Box), "cut at {at}");
    }
}

#[test]
fn the_ends_say_of_themselves_what_stock_ones_say() {
    let client = crate::json::write(&ClientInfo::default()).unwrap();
    assert_eq!(client, br#"{"version":2,"CanAckPings":true}"#);
    assert_eq!(crate::json::write(&ServerInfo::default()).unwrap(), br#"{"version":2}"#);
    let (relay, node) = (NodePrivate::import(&[1; 32]), NodePrivate::import(&[2; 32]));
    let to_node = DerpBox::new(&relay, node.public());
    let stock = br#"{"version":2,"TokenBucketBytesPerSecond":1000,"TokenBucketBytesBurst":5,"New":1}"#;
    let sealed = to_node.inner_seal(stock);
    let opened = DerpBox::new(&node, relay.public()).open_server_info(&sealed).unwrap();
    assert_eq!(opened, ServerInfo { version: 2, bytes_per_second: 1000, bytes_at_once: 5 });
    assert_eq!(
        DerpBox::new(&node, relay.public()).open_server_info(&to_node.inner_seal(b"[]")),
        Err(DerpError::Info)
    );
}

proptest! {
    #[test]
    fn no_bytes_are_a_panic_and_little_is_kept(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let (mut reader, mut rest) = (FrameReader::default(), &bytes[..]);
        while let Ok(Some(_)) = reader.push(&mut rest) {}
    }

    #[test]
    fn a_cut_frame_is_no_frame(which in 0..15_usize, cut in 1..200_usize) {
        let frame = every_frame().swap_remove(which);
        let bytes = wire(&frame);
        prop_assert_eq!(one(&bytes[..bytes.len().saturating_sub(cut)]), Ok(None));
        prop_assert_eq!(one(&bytes), Ok(Some(frame)));
    }
}
