//! The PROXY header. However the bytes arrive, in one piece or many, the same client must come out.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/proxy/src/proxy_header.rs"]
#[allow(unreachable_pub, reason = "it is another crate's private module")]
mod proxy_header;
use proxy_header::{Parsed, parse};

fuzz_target!(|bytes: &[u8]| {
    let whole = parse(bytes);
    let first = (0..=bytes.len()).map(|end| parse(&bytes[..end])).find(|parsed| *parsed != Parsed::More);
    match first {
        None => assert_eq!(whole, Parsed::More),
        Some(first) => {
            assert_eq!(whole, first, "more bytes changed what was decided");
            if let Parsed::Header { length, .. } = whole {
                assert!(length <= bytes.len());
                assert_eq!(parse(&bytes[..length]), whole, "a header that needs what follows it");
            }
        }
    }
});
