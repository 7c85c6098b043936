//! The Noise layer, both roles. Whatever a stranger sends, no handshake holds that its key's holder did not make, and nothing
//! opens that was not sealed; what was sealed opens however it is cut. The first byte says which role is played.
#![no_main]

use allod_meshproto::{
    CAPABILITY_VERSION, MachinePrivate,
    noise::{Initiation, Initiator, Opener, Received, Sealer, early::EarlyReader, respond},
};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static NODE: LazyLock<MachinePrivate> = LazyLock::new(|| MachinePrivate::import(&[1; 32]));
static SERVER: LazyLock<MachinePrivate> = LazyLock::new(|| MachinePrivate::import(&[2; 32]));

fuzz_target!(|bytes: &[u8]| {
    let Some((role, bytes)) = bytes.split_first() else { return };
    match role % 5 {
        0 => as_coordinator(bytes),
        1 => as_node(bytes),
        2 => as_opener(bytes),
        3 => as_both(bytes),
        _ => as_early_reader(bytes),
    }
});

fn as_coordinator(bytes: &[u8]) {
    if let Ok(text) = std::str::from_utf8(bytes)
        && let Ok(initiation) = Initiation::from_header(text)
    {
        assert_eq!(initiation.to_header(), text, "a second form of the same header");
        let _ = respond(&SERVER, &initiation);
    }
    if let Ok(initiation) = Initiation::from_bytes(bytes) {
        assert_eq!(initiation.as_bytes(), bytes);
        let _ = respond(&SERVER, &initiation);
    }
}

fn as_node(bytes: &[u8]) {
    let (mut initiator, _) =
        Initiator::start(&NODE, SERVER.public(), CAPABILITY_VERSION).expect("two good keys");
    for piece in bytes.chunks(17) {
        match initiator.receive(piece) {
            Ok(Received::More) => {}
            Ok(Received::Done { .. }) => panic!("a handshake with nobody"),
            Err(_) => return,
        }
    }
}

fn connected() -> (Sealer, Opener) {
    let (mut initiator, initiation) =
        Initiator::start(&NODE, SERVER.public(), CAPABILITY_VERSION).expect("two good keys");
    let accepted = respond(&SERVER, &initiation).expect("an initiation just made");
    assert_eq!(accepted.peer, NODE.public());
    match initiator.receive(&accepted.reply) {
        Ok(Received::Done { session, .. }) => (session.split().0, accepted.session.split().1),
        other => panic!("{other:?}"),
    }
}

fn as_opener(bytes: &[u8]) {
    let (_, mut opener) = connected();
    let mut plaintext = Vec::new();
    for piece in bytes.chunks(100) {
        let _ = opener.push(piece, &mut plaintext);
    }
    assert!(plaintext.is_empty(), "nobody sealed that");
}

fn as_both(bytes: &[u8]) {
    let Some((size, text)) = bytes.split_first() else { return };
    let (mut sealer, mut opener) = connected();
    let (mut wire, mut plaintext) = (Vec::new(), Vec::new());
    sealer.seal(text, &mut wire).expect("a fresh session");
    for piece in wire.chunks(usize::from(*size) + 1) {
        opener.push(piece, &mut plaintext).expect("what was sealed");
    }
    assert!(plaintext == text && opener.is_between_records());
}

fn as_early_reader(bytes: &[u8]) {
    let read = |size: usize| {
        let (mut reader, mut http, mut payloads) = (EarlyReader::default(), Vec::new(), Vec::new());
        for piece in bytes.chunks(size) {
            match reader.push(piece, &mut http) {
                Ok(payload) => payloads.extend(payload),
                Err(_) => return None,
            }
        }
        Some((payloads, http))
    };
    assert_eq!(read(1), read(usize::MAX), "how it is cut changes what is read");
}
