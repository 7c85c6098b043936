use super::*;
use crate::fixtures::{key, nonce};

fn stream(payloads: &[&str]) -> Vec<SignedFrame> {
    let mut signer = FrameSigner::new(nonce("stream"));
    let sign = |(index, payload): (usize, &&str)| {
        signer.sign(&key(8), payload.as_bytes(), index + 1 == payloads.len()).unwrap()
    };
    payloads.iter().enumerate().map(sign).collect()
}

fn verifier() -> FrameVerifier {
    FrameVerifier::new(nonce("stream"))
}

fn server() -> PublicKey {
    key(8).public_key().clone()
}

#[test]
fn a_frame_of_another_server_is_refused_also_in_the_middle() {
    let frames = stream(&["a", "b"]);
    let mut impostor = FrameSigner::new(nonce("stream"));
    impostor.sign(&key(9), b"a", false).unwrap();
    let forged = impostor.sign(&key(9), b"b", true).unwrap();
    let mut verifier = verifier();
    verifier.check(&server(), &frames[0], b"a").unwrap();
    assert_eq!(verifier.check(&server(), &forged, b"b"), Err(FrameError::Signature(Refusal::OtherKey)));
    assert_eq!(verifier.finish(), Err(FrameError::Cut));
}

#[test]
fn a_frame_with_another_payload_ends_the_stream_for_good() {
    let frames = stream(&["a", "b"]);
    let mut verifier = verifier();
    assert_eq!(
        verifier.check(&server(), &frames[0], b"x"),
        Err(FrameError::Signature(Refusal::BadSignature))
    );
    assert_eq!(verifier.check(&server(), &frames[0], b"a"), Err(FrameError::Sequence));
    assert_eq!(verifier.finish(), Err(FrameError::Cut));
}

#[test]
fn a_frame_of_the_stream_of_another_request_is_refused() {
    let frames = stream(&["a"]);
    let mut verifier = FrameVerifier::new(nonce("another"));
    assert!(verifier.check(&server(), &frames[0], b"a").is_err());
}

#[test]
fn lost_repeated_and_reordered_frames_are_refused() {
    let frames = stream(&["a", "b", "c"]);
    for order in [&[1][..], &[0, 0], &[0, 2], &[0, 1, 1]] {
        let mut verifier = verifier();
        let (wrong, good) = order.split_last().unwrap();
        for index in good {
            verifier.check(&server(), &frames[*index], ["a", "b", "c"][*index].as_bytes()).unwrap();
        }
        let found = verifier.check(&server(), &frames[*wrong], ["a", "b", "c"][*wrong].as_bytes());
        assert_eq!(found, Err(FrameError::Sequence), "{order:?}");
    }
}

#[test]
fn a_middle_frame_passed_off_as_the_last_is_refused() {
    let mut frame = stream(&["a", "b"]).swap_remove(0);
    frame.last = true;
    assert_eq!(verifier().check(&server(), &frame, b"a"), Err(FrameError::Signature(Refusal::BadSignature)));
}

#[test]
fn a_stream_without_its_last_frame_was_cut() {
    let frames = stream(&["a", "b"]);
    assert_eq!(verifier().finish(), Err(FrameError::Cut));
    let mut verifier = verifier();
    verifier.check(&server(), &frames[0], b"a").unwrap();
    assert_eq!(verifier.finish(), Err(FrameError::Cut));
}

#[test]
fn a_whole_stream_holds_and_nothing_follows_it() {
    let frames = stream(&["a", "", "c"]);
    let mut verifier = verifier();
    for (frame, payload) in frames.iter().zip(["a", "", "c"]) {
        verifier.check(&server(), frame, payload.as_bytes()).unwrap();
    }
    verifier.finish().unwrap();
    let mut signer = FrameSigner::new(nonce("stream"));
    signer.sign(&key(8), b"a", true).unwrap();
    assert_eq!(signer.sign(&key(8), b"b", true), Err(SignError::StreamEnded));
}
