use super::{early::*, records::*, *};
use crate::{
    CAPABILITY_VERSION,
    key::{ChallengeKey, MachineKey, MachinePrivate},
};
use proptest::prelude::*;

fn node() -> MachinePrivate {
    MachinePrivate::import(&[1; 32])
}

fn server() -> MachinePrivate {
    MachinePrivate::import(&[2; 32])
}

fn start() -> (Initiator, Initiation) {
    Initiator::start(&node(), server().public(), CAPABILITY_VERSION).unwrap()
}

fn sessions() -> (Session, Session) {
    let (mut initiator, initiation) = start();
    let accepted = respond(&server(), &initiation).unwrap();
    match initiator.receive(&accepted.reply).unwrap() {
        Received::Done { session, consumed: RESPONSE_LENGTH } => (session, accepted.session),
        other => panic!("{other:?}"),
    }
}

#[test]
fn an_initiation_to_another_server_is_refused() {
    let (_, initiation) = start();
    let stranger = MachinePrivate::import(&[3; 32]);
    assert_eq!(respond(&stranger, &initiation).unwrap_err(), NoiseError::Handshake);
}

#[test]
fn a_key_that_anybody_could_be_the_holder_of_is_no_server() {
    let low_order = [
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0100000000000000000000000000000000000000000000000000000000000000",
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
    ];
    for digits in low_order {
        let key: MachineKey = format!("mkey:{digits}").parse().unwrap();
        let started = Initiator::start(&node(), key, CAPABILITY_VERSION);
        assert_eq!(started.map(|_| ()).unwrap_err(), NoiseError::Handshake, "{digits}");
    }
}

#[test]
fn every_byte_of_an_initiation_counts() {
    let (_, initiation) = start();
    for at in 0..INITIATION_LENGTH {
        let mut bytes = *initiation.as_bytes();
        bytes[at] ^= 1;
        let changed = Initiation::from_bytes(&bytes).and_then(|changed| respond(&server(), &changed));
        assert!(changed.is_err(), "byte {at}");
    }
}

#[test]
fn every_byte_of_a_response_counts() {
    for at in 0..RESPONSE_LENGTH {
        let (mut initiator, initiation) = start();
        let mut reply = respond(&server(), &initiation).unwrap().reply;
        reply[at] ^= 1;
        let received = initiator.receive(&reply);
        assert!(!matches!(received, Ok(Received::Done { .. })), "byte {at}");
        if received.is_err() {
            assert!(initiator.receive(&[0; 64]).is_err(), "nothing after a failure");
        }
    }
}

#[test]
fn a_text_that_is_no_initiation_is_refused() {
    let (_, initiation) = start();
    let header = initiation.to_header();
    let cut = header.get(..header.len() - 4).unwrap();
    for bad in ["", "AAAA", cut, &format!("{header}AAAA"), &header.replace('A', "!"), &"A".repeat(100_000)] {
        assert_eq!(Initiation::from_header(bad), Err(NoiseError::NotAnInitiation));
    }
}

#[test]
fn a_refusal_in_words_is_shown_without_its_control_characters() {
    let (mut initiator, _) = start();
    let frame = error_frame("no\x1b[2Jmore");
    let (first, second) = frame.split_at(5);
    assert!(matches!(initiator.receive(first), Ok(Received::More)));
    assert_eq!(initiator.receive(second).unwrap_err(), NoiseError::Refused("no?[2Jmore".to_owned()));
}

#[test]
fn an_endless_refusal_is_not_kept() {
    let (mut initiator, _) = start();
    let mut frame = vec![3, 0xff, 0xff];
    frame.extend([b'x'; 65_535]);
    match initiator.receive(&frame).unwrap_err() {
        NoiseError::Refused(text) => assert_eq!(text.len(), 256),
        other => panic!("{other}"),
    }
}

#[test]
fn the_handshake_proves_who_asks() {
    let (_, initiation) = start();
    assert_eq!(initiation.as_bytes().first_chunk(), Some(&[0, 130, 1, 0, 96]));
    let initiation = Initiation::from_header(&initiation.to_header()).unwrap();
    let accepted = respond(&server(), &initiation).unwrap();
    assert_eq!(accepted.peer, node().public());
    assert_eq!(accepted.version, CAPABILITY_VERSION);
    assert_eq!(accepted.reply.first_chunk(), Some(&[2, 0, 48]));
}

#[test]
fn a_response_may_come_byte_by_byte_and_records_with_it() {
    let (mut initiator, initiation) = start();
    let reply = respond(&server(), &initiation).unwrap().reply;
    for byte in reply.iter().take(RESPONSE_LENGTH - 1) {
        assert!(matches!(initiator.receive(&[*byte]).unwrap(), Received::More));
    }
    let last = [reply[RESPONSE_LENGTH - 1], 4, 0, 17];
    assert!(matches!(initiator.receive(&last).unwrap(), Received::Done { consumed: 1, .. }));
}

#[test]
fn both_directions_carry_what_was_sent_in_records_of_at_most_4096_bytes() {
    let (ours, theirs) = sessions();
    let ((mut seal_a, mut open_a), (mut seal_b, mut open_b)) = (ours.split(), theirs.split());
    let text: Vec<u8> = (0..10_000_u32).map(|i| i.to_be_bytes()[3]).collect();
    for (seal, open) in [(&mut seal_a, &mut open_b), (&mut seal_b, &mut open_a)] {
        let (mut wire, mut plain) = (Vec::new(), Vec::new());
        seal.seal(&text, &mut wire).unwrap();
        assert_eq!(wire.len(), text.len() + 3 * (3 + 16));
        assert_eq!(wire.first_chunk(), Some(&[4, 0x0f, 0xfd]));
        for piece in wire.chunks(7) {
            open.push(piece, &mut plain).unwrap();
        }
        assert_eq!(plain, text);
        assert!(open.is_between_records());
    }
}

#[test]
fn a_record_can_be_neither_repeated_nor_left_out_nor_reflected() {
    let (ours, theirs) = sessions();
    let ((mut seal, mut own), (_, mut open)) = (ours.split(), theirs.split());
    let (mut first, mut second, mut plain) = (Vec::new(), Vec::new(), Vec::new());
    seal.seal(b"one", &mut first).unwrap();
    seal.seal(b"two", &mut second).unwrap();
    assert_eq!(own.push(&first, &mut plain), Err(NoiseError::Record), "reflected");
    open.push(&first, &mut plain).unwrap();
    assert_eq!(open.push(&first, &mut plain), Err(NoiseError::Record));
    assert_eq!(open.push(&second, &mut plain), Err(NoiseError::Failed));
    assert_eq!(plain, b"one");
}

#[test]
fn the_first_record_has_the_bytes_of_its_construction() {
    // Keys of zeros and ones; nonce: four zero bytes and a big-endian count. Checked against the cipher alone.
    use chacha20poly1305::{ChaCha20Poly1305, KeyInit as _, aead::Aead as _};
    let (mut seal, _) = Session::new([0; 32], [1; 32]).split();
    let mut wire = Vec::new();
    for _ in 0..258 {
        wire.clear();
        seal.seal(b"abc", &mut wire).unwrap();
    }
    let nonce = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 1];
    let sealed = ChaCha20Poly1305::new(&[0; 32].into()).encrypt(&nonce.into(), &b"abc"[..]).unwrap();
    assert_eq!(wire, [&[4, 0, 19][..], &sealed].concat());
}

#[test]
fn an_impossible_frame_is_refused_at_its_head() {
    for (head, error) in [
        ([4, 0, 15], NoiseError::FrameLength(15)),
        ([4, 0x0f, 0xfe], NoiseError::FrameLength(4094)),
        ([4, 0xff, 0xff], NoiseError::FrameLength(65_535)),
        ([3, 0, 20], NoiseError::FrameType(3)),
    ] {
        let (_, mut open) = sessions().0.split();
        assert_eq!(open.push(&head, &mut Vec::new()), Err(error));
    }
}

#[test]
fn an_early_payload_is_read_however_it_is_cut() {
    let payload = EarlyPayload { node_key_challenge: ChallengeKey::new([9; 32]) };
    let mut wire = payload.to_bytes();
    assert_eq!(wire.first_chunk(), Some(b"\xff\xff\xffTS\x00\x00\x00\x5f"));
    wire.extend(b"PRI");
    for size in [1, 2, 9, 10, 50, 200] {
        let (mut reader, mut http, mut seen) = (EarlyReader::default(), Vec::new(), Vec::new());
        for piece in wire.chunks(size) {
            seen.extend(reader.push(piece, &mut http).unwrap());
        }
        assert_eq!(seen, vec![payload.clone()]);
        assert_eq!(http, b"PRI");
    }
}

#[test]
fn without_an_early_payload_nothing_is_lost() {
    let frame = [0, 0, 18, 4, 0, 0, 0, 0, 0, 7, 7];
    for size in 1..frame.len() {
        let (mut reader, mut http) = (EarlyReader::default(), Vec::new());
        for piece in frame.chunks(size) {
            assert_eq!(reader.push(piece, &mut http).unwrap(), None);
        }
        assert_eq!(http, frame);
        assert!(reader.is_done());
    }
}

#[test]
fn an_early_payload_without_end_is_refused_at_its_head() {
    let mut reader = EarlyReader::default();
    let error = reader.push(b"\xff\xff\xffTS\x7f\xff\xff\xff", &mut Vec::new()).unwrap_err();
    assert_eq!(error, NoiseError::EarlyPayload);
}

proptest! {
    #[test]
    fn no_bytes_are_taken_for_a_handshake(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let (mut initiator, _) = start();
        let is_done = matches!(initiator.receive(&bytes), Ok(Received::Done { .. }));
        prop_assert!(!is_done);
        if let Ok(initiation) = Initiation::from_bytes(&bytes) {
            prop_assert!(respond(&server(), &initiation).is_err());
        }
    }

    #[test]
    fn no_bytes_are_taken_for_a_record(bytes in proptest::collection::vec(any::<u8>(), 0..9000)) {
        let (_, mut open) = sessions().0.split();
        let mut plain = Vec::new();
        for piece in bytes.chunks(1000) {
            let _ = open.push(piece, &mut plain);
        }
        prop_assert!(plain.is_empty());
    }
}
