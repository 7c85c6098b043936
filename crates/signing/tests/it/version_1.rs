//! A signed head as a client of protocol version 1 sent it.

use allod_proto::{Fingerprint, Timestamp};
use allod_signing::{EnrolledKeys, RequestHead, Revoked, Route, Trust, verify};

const HEAD: &str = include_str!("../golden/v1/head.txt");

#[test]
fn a_head_that_was_signed_in_version_1_is_accepted() {
    let pairs: Vec<(String, String)> = HEAD
        .lines()
        .map(|line| line.split_once(": ").map(|(name, value)| (name.to_owned(), value.to_owned())).unwrap())
        .collect();
    let head = RequestHead::from_pairs(&pairs).unwrap();
    assert_eq!(head.delegation, None);
    let line =
        "role=viewer ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs x";
    let (enrolled, revoked) = (EnrolledKeys::parse(line), Revoked::default());
    let audience: Fingerprint = head.fingerprint.clone();
    let trust = Trust { audience: &audience, enrolled: &enrolled, revoked: &revoked };
    let route = Route::new("POST", "/rpc").unwrap();
    let now = Timestamp(1_767_225_600_000);
    let verified = verify(&head, route, trust, None, now).unwrap();
    assert!(verified.delegate().is_none());
    let again: Vec<_> = head.headers().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(again, pairs);
}
