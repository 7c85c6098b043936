//! The files of enrolled and of revoked keys. A line that is understood must say itself again, and grant nothing more.
#![no_main]

use allod_signing::{EnrolledKey, EnrolledKeys, Revoked};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|text: &str| {
    let keys = EnrolledKeys::parse(text);
    assert!(keys.entries().len() + keys.complaints().len() <= text.lines().count());
    for key in keys.entries() {
        let line = key.to_line();
        assert!(!line.contains(['\n', '\r', '\0']), "a line that is two");
        let again = EnrolledKey::parse(&line).expect("its own line");
        assert_eq!(again.grant(), key.grant(), "a grant that grew");
        assert_eq!(again.authority(), key.authority());
        assert_eq!(again.fingerprint(), key.fingerprint());
        assert_eq!(again.comment(), key.comment());
    }
    if let Ok(revoked) = Revoked::parse(text) {
        let lines: Vec<String> = revoked.lines().collect();
        assert_eq!(Revoked::parse(&lines.join("\n")).as_ref(), Ok(&revoked), "a revocation that was lost");
    }
});
