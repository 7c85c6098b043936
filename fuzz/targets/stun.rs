//! STUN: requests to a relay, answers to a node.
#![no_main]

use allod_meshproto::stun::{answer, is_stun, read_answer, read_request, request};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(transaction) = read_request(bytes) {
        assert!(is_stun(bytes));
        assert_eq!(read_request(&request(transaction)), Ok(transaction));
    }
    if let Ok(read) = read_answer(bytes) {
        assert!(is_stun(bytes));
        assert_eq!(
            read_answer(&answer(read.transaction, read.source)),
            Ok(read),
            "it does not say itself again"
        );
    }
});
