use super::*;
use crate::fixtures::{NOW, delegated, head, key, terms};
use allod_proto::Role;

fn pairs() -> Vec<(String, String)> {
    head(&key(7)).headers().into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

fn with(name: &str, value: &str) -> Result<RequestHead, HeadError> {
    let mut pairs = pairs();
    pairs.iter_mut().filter(|pair| pair.0 == name).for_each(|pair| value.clone_into(&mut pair.1));
    RequestHead::from_pairs(&pairs)
}

#[test]
fn a_missing_header_is_named() {
    for (name, _) in head(&key(7)).headers() {
        let rest: Vec<_> = pairs().into_iter().filter(|pair| pair.0 != name).collect();
        assert_eq!(RequestHead::from_pairs(&rest), Err(HeadError::Missing(name)));
    }
}

#[test]
fn a_header_that_stands_there_twice_is_refused() {
    for (name, value) in head(&key(7)).headers() {
        let mut twice = pairs();
        twice.push((name.to_owned(), value));
        assert_eq!(RequestHead::from_pairs(&twice), Err(HeadError::Twice(name)));
    }
}

#[test]
fn a_malformed_header_is_named() {
    let long = "A".repeat(100_000);
    let bad = [
        (headers::KEY_FINGERPRINT, "MD5:00"),
        (headers::TIMESTAMP, ""),
        (headers::TIMESTAMP, "-1"),
        (headers::TIMESTAMP, "+1780000000123"),
        (headers::TIMESTAMP, "01780000000123"),
        (headers::TIMESTAMP, "1780000000123 "),
        (headers::TIMESTAMP, "1.5"),
        (headers::TIMESTAMP, "18446744073709551616"),
        (headers::NONCE, "short"),
        (headers::EPOCH, "ABABABABABABABABABABABABABABABAB"),
        (headers::CONTENT_SHA256, "00"),
        (headers::SIGNATURE, "U1NIU0lH\n"),
        (headers::SIGNATURE, "U1NIU0l"),
        (headers::SIGNATURE, "U1NIU0lHA=="),
        (headers::SIGNATURE, "_-__"),
        (headers::SIGNATURE, long.as_str()),
    ];
    for (name, value) in bad {
        assert_eq!(with(name, value), Err(HeadError::Malformed(name)), "{value:.40}");
    }
}

#[test]
fn a_delegation_that_is_none_is_refused_rather_than_passed_over() {
    for value in ["", ".", "YWxsb2Q=.U1NIU0lH"] {
        let mut pairs = pairs();
        pairs.push((headers::DELEGATION.to_owned(), value.to_owned()));
        assert_eq!(RequestHead::from_pairs(&pairs), Err(HeadError::Malformed(headers::DELEGATION)));
    }
}

#[test]
fn a_delegated_head_reads_back_from_its_headers_and_from_json() {
    let head = delegated(&key(1), &terms(9, Role::Viewer, NOW));
    let pairs: Vec<_> = head.headers().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
    assert_eq!(pairs.last().unwrap().0, headers::DELEGATION);
    assert_eq!(RequestHead::from_pairs(&pairs).unwrap(), head);
    let json = serde_json::to_string(&head).unwrap();
    assert_eq!(serde_json::from_str::<RequestHead>(&json).unwrap(), head);
    let twice: Vec<_> = pairs.iter().chain(pairs.last()).cloned().collect();
    assert_eq!(RequestHead::from_pairs(&twice), Err(HeadError::Twice(headers::DELEGATION)));
}

#[test]
fn a_head_reads_back_from_its_headers_and_from_json() {
    let head = head(&key(7));
    assert_eq!(RequestHead::from_pairs(&pairs()).unwrap(), head);
    let json = serde_json::to_string(&head).unwrap();
    assert_eq!(serde_json::from_str::<RequestHead>(&json).unwrap(), head);
    assert!(json.contains(&sshsig::to_base64(&head.signature)));
    let extra = json.replace("{\"fingerprint\"", "{\"role\":\"owner\",\"fingerprint\"");
    assert!(serde_json::from_str::<RequestHead>(&extra).is_err());
    let broken = json.replace("U1NIU0lH", "U1NIU0l*");
    assert!(serde_json::from_str::<RequestHead>(&broken).is_err());
}
