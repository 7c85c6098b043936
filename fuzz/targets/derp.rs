//! A relay's frames. However the bytes arrive, the same frames must come out, and each says itself again.
#![no_main]

use allod_meshproto::{
    NodePrivate,
    derp::{DerpBox, Frame, FrameReader},
};
use libfuzzer_sys::fuzz_target;

fn read(bytes: &[u8], size: usize) -> (Vec<Frame>, bool) {
    let (mut reader, mut all) = (FrameReader::default(), Vec::new());
    for mut piece in bytes.chunks(size) {
        loop {
            match reader.push(&mut piece) {
                Ok(Some(frame)) => all.push(frame),
                Ok(None) => break,
                Err(_) => return (all, false),
            }
        }
    }
    (all, true)
}

fuzz_target!(|bytes: &[u8]| {
    let (all, whole) = read(bytes, 7);
    assert_eq!((&all, whole), (&read(bytes, usize::MAX).0, read(bytes, usize::MAX).1));
    let own = NodePrivate::import(&[1; 32]);
    for frame in all {
        match &frame {
            Frame::ClientInfo { key, sealed } => {
                let _ = DerpBox::new(&own, *key).open_client_info(sealed);
            }
            Frame::ServerInfo(sealed) => {
                let _ = DerpBox::new(&own, own.public()).open_server_info(sealed);
            }
            Frame::Unknown(_) => continue,
            _ => {}
        }
        let mut wire = Vec::new();
        // A text that is not UTF-8 grows when it is made so.
        if frame.write(&mut wire).is_ok() {
            assert_eq!(read(&wire, usize::MAX), (vec![frame], true), "it does not say itself again");
        }
    }
});
