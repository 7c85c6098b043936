use super::*;
use crate::fixtures::{NOW, epoch, key, nonce, rpc, server};
use crate::{Signer as _, sign_request, sshsig};
use proptest::prelude::{Strategy, any, proptest};

#[test]
fn a_route_that_could_blur_the_lines_is_refused() {
    let long = format!("/{}", "a".repeat(4096));
    let bad = [
        ("POST\nX", "/rpc"),
        ("", "/rpc"),
        ("post", "/rpc"),
        ("PÖST", "/rpc"),
        ("AVERYLONGMETHODNAME", "/rpc"),
        ("POST", ""),
        ("POST", "rpc"),
        ("POST", "*"),
        ("POST", "/rpc\n1"),
        ("POST", "/r c"),
        ("POST", "/r\u{7f}"),
        ("POST", "/ü"),
        ("POST", long.as_str()),
    ];
    for (method, path) in bad {
        assert_eq!(Route::new(method, path), Err(RouteError), "{method:?} {path:?}");
    }
    let route = Route::new("PUT", "/chunks/blog/production/00?x=%0A").unwrap();
    assert_eq!((route.method(), route.path()), ("PUT", "/chunks/blog/production/00?x=%0A"));
}

#[test]
fn the_bytes_of_a_request_are_those_of_the_contract() {
    let (audience, epoch, nonce, body) = (server(), epoch(0xab), nonce("golden"), Digest::of("{}"));
    let fields = RequestFields {
        audience: &audience,
        epoch: &epoch,
        route: rpc(),
        timestamp: NOW,
        nonce: &nonce,
        body: &body,
    };
    let expected = "allod-management-v1\n\
        SHA256:AUDIENCE\n\
        abababababababababababababababab\n\
        POST\n\
        /rpc\n\
        1780000000123\n\
        golden________________\n\
        44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a\n";
    let expected = expected.replace("SHA256:AUDIENCE", server().as_str());
    assert_eq!(String::from_utf8(fields.bytes()).unwrap(), expected);
    // Ed25519 has one signature per key and message, so a client in another language can check against this one.
    let head = sign_request(&key(7), &fields).unwrap();
    assert_eq!(key(7).fingerprint().as_str(), "SHA256:z/fSv0Z0RZS+Lccbc6ZoOWwt/fbj1VFJGSBKQbo4icE");
    assert_eq!(server().as_str(), "SHA256:RFGPmv0HqTEFgFwzM49kDpWeoM4LSFeh+oNnj0R89WQ");
    assert_eq!(
        sshsig::to_base64(&head.signature),
        "U1NIU0lHAAAAAQAAADMAAAALc3NoLWVkMjU1MTkAAAAg6kpsY+KcUgq+9VB7Ey7F+ZVHdq6+vnuSQh7qaRRG0iwAAAATYWxsb2QtbWFuYWdlbWVudC12MQAAAAAAAAAGc2hhNTEyAAAAUwAAAAtzc2gtZWQyNTUxOQAAAEAUzrNhPUzeDQSd9bA8oekO6SSEgtM4gVmrtBNg1OM+u/32eze3NceGWlFO9lZgVX4VigrgsLN1BpxZKOXX5dAP"
    );
}

#[test]
fn the_bytes_of_a_reply_are_those_of_the_contract() {
    let (nonce, body, epoch) = (nonce("golden"), Digest::of(""), epoch(0xab));
    let head = Head { seq: 7, hash: Digest::ZERO };
    let fields = ReplyFields { nonce: &nonce, status: 404, body: &body, head: &head, epoch: &epoch };
    let zeros = "0".repeat(64);
    let expected = format!(
        "allod-reply-v1\ngolden________________\n404\n\
         e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n7\n{zeros}\n\
         abababababababababababababababab\n"
    );
    assert_eq!(String::from_utf8(fields.bytes()).unwrap(), expected);
}

#[test]
fn the_bytes_of_a_frame_are_those_of_the_contract() {
    let (nonce, payload) = (nonce("golden"), Digest::of(""));
    let zeros = "0".repeat(64);
    for (last, end) in [(false, "more"), (true, "last")] {
        let fields =
            FrameFields { nonce: &nonce, sequence: 0, before: &Digest::ZERO, payload: &payload, last };
        let expected = format!(
            "allod-frame-v1\ngolden________________\n0\n{zeros}\n\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855\n{end}\n"
        );
        assert_eq!(String::from_utf8(fields.bytes()).unwrap(), expected);
    }
}

type Parts = (u8, u8, String, String, u64, String, u8);

fn parts() -> impl Strategy<Value = Parts> {
    // Few values per field, so that neighbours that differ in one field only are common.
    (
        0..2_u8,
        0..2_u8,
        "[A-C]{1,2}",
        "/[a-b/?]{0,3}",
        0..12_u64,
        "[0-1]{22,23}",
        any::<bool>().prop_map(u8::from),
    )
}

fn bytes_of(parts: &Parts) -> Vec<u8> {
    let (audience, epoch_byte, method, path, timestamp, nonce, body) = parts;
    RequestFields {
        audience: &key(*audience).fingerprint(),
        epoch: &epoch(*epoch_byte),
        route: Route::new(method, path).unwrap(),
        timestamp: Timestamp(*timestamp),
        nonce: &Nonce::new(nonce.as_str()).unwrap(),
        body: &Digest::of([*body]),
    }
    .bytes()
}

proptest! {
    #[test]
    fn different_requests_are_different_bytes(one in parts(), other in parts()) {
        assert_eq!(one == other, bytes_of(&one) == bytes_of(&other));
    }

    #[test]
    fn a_request_can_be_read_back_from_its_bytes(parts in parts()) {
        let bytes = bytes_of(&parts);
        let text = std::str::from_utf8(&bytes).unwrap();
        let lines: Vec<_> = text.split_terminator('\n').collect();
        let [namespace, _, _, method, path, timestamp, nonce, _] = lines[..] else { panic!("{} lines", lines.len()) };
        assert_eq!(namespace, "allod-management-v1");
        assert_eq!((method, path, nonce), (parts.2.as_str(), parts.3.as_str(), parts.5.as_str()));
        assert_eq!(timestamp.parse::<u64>().unwrap(), parts.4);
    }
}
