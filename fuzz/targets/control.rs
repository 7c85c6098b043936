//! The control messages as JSON, the frames of the long poll around them, the map that they add up to, and its stored form. The
//! first byte says which.
#![no_main]

use allod_meshproto::{
    control::{KeyReply, MapRequest, MapResponse, Message, PingAnswer, RegisterReply, RegisterRequest},
    map_frame::{Compression, MapFrames, write},
    netmap::{NetMap, Outcome, Place, StoredMap},
};
use allod_proto::Timestamp;
use libfuzzer_sys::fuzz_target;
use std::fmt::Debug;

fuzz_target!(|bytes: &[u8]| {
    let Some((which, bytes)) = bytes.split_first() else { return };
    match which % 8 {
        0 => says_itself::<KeyReply>(bytes),
        1 => says_itself::<RegisterRequest>(bytes),
        2 => says_itself::<RegisterReply>(bytes),
        3 => says_itself::<MapRequest>(bytes),
        4 => says_itself::<PingAnswer>(bytes),
        5 => merged(bytes),
        6 => framed(bytes),
        _ => stored(bytes),
    }
});

fn says_itself<M: Message + PartialEq + Debug>(bytes: &[u8]) {
    if let Ok(message) = M::read(bytes)
        && let Ok(text) = message.write()
    {
        assert_eq!(M::read(&text).as_ref(), Ok(&message), "it does not say itself again");
    }
}

/// Lines, each a response; the first is the first of its stream.
fn merged(bytes: &[u8]) {
    let (now, mut map): (_, Option<NetMap>) = (Timestamp(1_795_348_800_000), None);
    for line in bytes.split(|byte| *byte == b'\n') {
        says_itself::<MapResponse>(line);
        let Ok(response) = MapResponse::read(line) else { continue };
        let place = if map.is_none() { Place::First } else { Place::Later };
        if let Ok(Outcome::Map(next)) = NetMap::merge(map.as_ref(), &response, place, now) {
            let _ = (next.filter(), next.next_expiry(now), next.live_peers(now).count());
            map = Some(*next);
        }
    }
    if let Some(map) = map {
        let stored = StoredMap { map, heard_at: now };
        if let Ok(text) = stored.write() {
            StoredMap::read(&text).expect("a map that was merged");
        }
    }
}

fn framed(bytes: &[u8]) {
    let read = |size: usize| {
        let (mut frames, mut all) = (MapFrames::default(), Vec::new());
        for mut piece in bytes.chunks(size) {
            loop {
                match frames.push(&mut piece) {
                    Ok(Some(response)) => all.push(response),
                    Ok(None) => break,
                    Err(_) => return (all, false),
                }
            }
        }
        (all, true)
    };
    let (all, whole) = read(3);
    assert_eq!(
        (&all, whole),
        (&read(usize::MAX).0, read(usize::MAX).1),
        "how it is cut changes what is read"
    );
    for response in all {
        for compression in [Compression::None, Compression::Zstd] {
            if let Ok(frame) = write(&response, compression) {
                let again = MapFrames::default().push(&mut &frame[..]);
                assert_eq!(again, Ok(Some(response.clone())));
            }
        }
    }
}

fn stored(bytes: &[u8]) {
    if let Ok(stored) = StoredMap::read(bytes)
        && let Ok(text) = stored.write()
    {
        assert_eq!(StoredMap::read(&text), Ok(stored));
    }
}
