//! The head of a signed request, as `name: value` lines, or one delegation. What parses must say itself again, and nothing that a fuzzer
//! makes may be taken for signed.
#![no_main]

use allod_proto::Timestamp;
use allod_signing::{Delegation, EnrolledKeys, RequestHead, Revoked, Route, Trust, verify};
use libfuzzer_sys::fuzz_target;

const ENROLLED: &str = include_str!("../keys/enrolled");

fuzz_target!(|text: &str| {
    if let Ok(delegation) = Delegation::parse(text.trim_end()) {
        assert_eq!(delegation.to_header(), text.trim_end(), "a second form of the same delegation");
    }
    let pairs: Vec<(String, String)> = text
        .lines()
        .filter_map(|line| line.split_once(": "))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    let Ok(head) = RequestHead::from_pairs(&pairs) else { return };
    let again: Vec<(String, String)> =
        head.headers().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(RequestHead::from_pairs(&again).as_ref(), Ok(&head), "a head that does not say itself");

    let enrolled = EnrolledKeys::parse(ENROLLED);
    assert!(enrolled.complaints().is_empty());
    // Each key of the file in turn is the server's identity: whoever sends this chose none of them.
    for server in enrolled.entries() {
        let trust =
            Trust { audience: server.fingerprint(), enrolled: &enrolled, revoked: &Revoked::default() };
        let route = Route::new("POST", "/rpc").expect("a route");
        let now = Timestamp(1_780_000_000_000);
        assert!(verify(&head, route, trust, Some([100, 64, 0, 7].into()), now).is_err(), "forged");
    }
});
