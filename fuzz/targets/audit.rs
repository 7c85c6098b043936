//! The record: lines one by one, and a folder that somebody edited, opened by its owner and verified by a stranger.
#![no_main]

use allod_audit::{Chain, Line};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let mut chain = Chain::start(None);
    let mut last = 0;
    for line in text.split_inclusive('\n') {
        if let Ok(head) = chain.push(line) {
            assert!(head.seq > last || last == 0, "a chain that goes back");
            last = head.seq;
            assert_eq!(chain.head(), Some(head));
        }
        if let Ok(parsed) = Line::parse(line)
            && let Ok(written) = parsed.to_bytes()
        {
            assert_eq!(written.iter().filter(|byte| **byte == b'\n').count(), 1, "one entry is one line");
            let again = Line::parse(std::str::from_utf8(&written).expect("text")).expect("its own line");
            assert_eq!(again.to_bytes().ok().as_ref(), Some(&written), "a line that does not say itself");
        }
    }
});
