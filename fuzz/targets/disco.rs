//! Disco: datagrams from anybody, and authentic ones from a hostile peer (the same bytes, sealed).
#![no_main]

use allod_meshproto::{
    DiscoPrivate,
    disco::{DiscoBox, Opened, claimed_sender},
};
use crypto_box::{SalsaBox, aead::Aead};
use libfuzzer_sys::fuzz_target;
use ring::rand::SystemRandom;

fuzz_target!(|bytes: &[u8]| {
    let (own, peer) = (DiscoPrivate::import(&[1; 32]), DiscoPrivate::import(&[2; 32]));
    let to_us = DiscoBox::new(&own, peer.public());
    let _ = claimed_sender(bytes);
    assert!(to_us.open(bytes).is_err(), "a message from nobody");

    let outer = SalsaBox::new(&(*own.public().as_bytes()).into(), &(*peer.export()).into());
    let sealed = outer.encrypt(&[5; 24].into(), bytes).expect("short enough");
    let datagram = [b"TS\xf0\x9f\x92\xac", &peer.public().as_bytes()[..], &[5; 24], &sealed].concat();
    if let Ok(Opened::Message(message)) = to_us.open(&datagram) {
        let from_us = DiscoBox::new(&own, peer.public());
        let to_peer = DiscoBox::new(&peer, own.public());
        let again = from_us.seal(&message, &SystemRandom::new()).expect("random numbers");
        assert_eq!(to_peer.open(&again), Ok(Opened::Message(message)), "it does not say itself again");
    }
});
