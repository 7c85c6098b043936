use super::*;
use proptest::prelude::*;
use ring::rand::SystemRandom;

fn key(seed: u8) -> DiscoPrivate {
    DiscoPrivate::import(&[seed; 32])
}

/// What 1 says to 2, and what 2 opens it with.
fn boxes() -> (DiscoBox, DiscoBox) {
    (DiscoBox::new(&key(1), key(2).public()), DiscoBox::new(&key(2), key(1).public()))
}

fn sealed(bytes: &[u8]) -> Vec<u8> {
    let (from, _) = boxes();
    from.envelope(&from.inner.seal_with([5; 24], bytes).unwrap())
}

fn opened(bytes: &[u8]) -> Result<Opened, DiscoError> {
    boxes().1.open(&sealed(bytes))
}

fn source(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

#[test]
fn a_message_to_another_or_changed_on_the_way_is_refused() {
    let (from, to) = boxes();
    let pong = Message::Pong { transaction: [9; 12], source: source("192.0.2.1:9") };
    let datagram = from.seal(&pong, &SystemRandom::new()).unwrap();
    let other = DiscoBox::new(&key(3), key(1).public());
    assert_eq!(other.open(&datagram), Err(DiscoError::Box));
    for at in 0..datagram.len() {
        let mut changed = datagram.clone();
        changed[at] ^= 0x40;
        assert!(to.open(&changed).is_err(), "byte {at}");
    }
    for end in 0..datagram.len() {
        assert!(to.open(&datagram[..end]).is_err(), "cut at {end}");
    }
    assert_eq!(to.open(&datagram), Ok(Opened::Message(pong)));
}

#[test]
fn a_message_sent_back_to_its_sender_is_refused() {
    let (from, _) = boxes();
    let datagram = from.seal(&Message::CallMeMaybe(Vec::new()), &SystemRandom::new()).unwrap();
    assert_eq!(from.open(&datagram), Err(DiscoError::Box));
}

#[test]
fn an_authentic_message_that_is_none_is_refused() {
    for bytes in [
        &[][..],
        &[1],
        &[1, 0],
        &[&[1, 0][..], &[0; 11]].concat(),
        &[&[2, 0][..], &[0; 12 + 17]].concat(),
        &[&[3, 0][..], &[0; 17]].concat(),
        &[&[3, 0][..], &[0; 18 * 65]].concat(),
    ] {
        assert_eq!(opened(bytes), Err(DiscoError::Body), "{bytes:?}");
    }
}

#[test]
fn an_unknown_type_or_version_is_ignored_and_says_so() {
    assert_eq!(opened(&[4, 0, 1, 2, 3]), Ok(Opened::Ignored { kind: 4, version: 0 }));
    assert_eq!(opened(&[1, 1]), Ok(Opened::Ignored { kind: 1, version: 1 }));
}

#[test]
fn the_envelope_names_its_sender_and_nothing_else_does() {
    let datagram = sealed(&[4, 0]);
    assert_eq!(datagram.first_chunk(), Some(&[0x54, 0x53, 0xf0, 0x9f, 0x92, 0xac]));
    assert_eq!(claimed_sender(&datagram), Some(key(1).public()));
    assert_eq!(claimed_sender(&datagram[..38]), None);
    assert_eq!(claimed_sender(&[0; 100]), None);
    let long = [&datagram[..], &[0; limits::DISCO_MESSAGE]].concat();
    assert_eq!(claimed_sender(&long), None);
}

#[test]
fn each_message_has_the_bytes_of_the_protocol() {
    let ping = Message::Ping { transaction: [7; 12], node: Some(NodeKey::new([8; 32])), padding: 3 };
    assert_eq!(ping.to_bytes(), [&[1, 0][..], &[7; 12], &[8; 32], &[0; 3]].concat());
    let pong = Message::Pong { transaction: [7; 12], source: source("203.0.113.9:41641") };
    let mapped = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 203, 0, 113, 9, 0xa2, 0xa9];
    assert_eq!(pong.to_bytes(), [&[2, 0][..], &[7; 12], &mapped].concat());
    let call = Message::CallMeMaybe(vec![source("203.0.113.9:41641")]);
    assert_eq!(call.to_bytes(), [&[3, 0][..], &mapped].concat());
}

#[test]
fn a_ping_of_a_very_old_client_has_no_node_key() {
    let bare = [&[1, 0][..], &[7; 12]].concat();
    let ping = Message::Ping { transaction: [7; 12], node: None, padding: 0 };
    assert_eq!(opened(&bare), Ok(Opened::Message(ping)));
}

fn any_address() -> impl Strategy<Value = SocketAddr> {
    (any::<[u8; 16]>(), any::<u16>(), any::<bool>()).prop_map(|(ip, port, v4)| {
        let ip = Ipv6Addr::from(ip);
        let [_, _, _, _, _, _, high, low] = ip.segments();
        let v4_address = std::net::Ipv4Addr::from_bits((u32::from(high) << 16) | u32::from(low));
        SocketAddr::new(if v4 { v4_address.into() } else { ip.to_canonical() }, port)
    })
}

fn any_message() -> impl Strategy<Value = Message> {
    prop_oneof![
        (any::<[u8; 12]>(), any::<[u8; 32]>(), 0..1000_usize).prop_map(|(transaction, node, padding)| {
            Message::Ping { transaction, node: Some(NodeKey::new(node)), padding }
        }),
        (any::<[u8; 12]>(), any_address())
            .prop_map(|(transaction, source)| Message::Pong { transaction, source }),
        proptest::collection::vec(any_address(), 0..=limits::CANDIDATES).prop_map(Message::CallMeMaybe),
    ]
}

proptest! {
    #[test]
    fn what_is_sealed_is_what_is_opened(message in any_message()) {
        let (from, to) = boxes();
        let datagram = from.seal(&message, &SystemRandom::new()).unwrap();
        prop_assert_eq!(to.open(&datagram), Ok(Opened::Message(message)));
    }

    #[test]
    fn no_bytes_are_a_message(bytes in proptest::collection::vec(any::<u8>(), 0..300), begin in any::<bool>()) {
        let (_, to) = boxes();
        let envelope = [&MAGIC[..], key(1).public().as_bytes(), &bytes].concat();
        let datagram = if begin { envelope } else { bytes };
        prop_assert!(to.open(&datagram).is_err());
    }

    #[test]
    fn no_authentic_bytes_are_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = opened(&bytes);
    }
}
