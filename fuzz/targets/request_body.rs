//! The body of a request. What parses must say itself again, and be recorded without a secret in a new place.
#![no_main]

use allod_proto::{Request, command::ReplyBody, manifest::ManifestIndex};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(request) = Request::parse(bytes) {
        let _ = request.command.recorded_params();
        assert_eq!(
            Request::parse(&request.to_body()).as_ref(),
            Ok(&request),
            "a request that does not say itself"
        );
    }
    // What a client reads of a server it does not believe yet.
    let _ = serde_json::from_slice::<ReplyBody>(bytes);
    let _ = serde_json::from_slice::<ManifestIndex>(bytes);
});
