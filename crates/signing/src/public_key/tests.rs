use super::*;
use crate::{
    Signer as _,
    fixtures::{Token, key},
    wire::{put_positive, put_string},
};
use proptest::prelude::{any, proptest};

fn blob(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    parts.iter().for_each(|part| put_string(&mut out, part));
    out
}

fn rsa(bits: usize, e: &[u8]) -> Vec<u8> {
    let mut n = vec![0xff; bits.div_ceil(8)];
    n[0] = u8::try_from(0xff_u32 >> ((8 - bits % 8) % 8)).unwrap();
    let mut out = blob(&[b"ssh-rsa"]);
    put_positive(&mut out, e);
    put_positive(&mut out, &n);
    out
}

#[test]
fn dsa_and_unknown_kinds_are_refused() {
    for kind in ["ssh-dss", "ssh-ed448", "x", "", "ssh-ed25519-cert-v01@openssh.com"] {
        let read = PublicKey::from_blob(&blob(&[kind.as_bytes(), &[1; 32]]));
        assert_eq!(read, Err(PublicKeyError::Kind(kind.to_owned())));
    }
}

#[test]
fn rsa_outside_its_bounds_is_refused() {
    assert!(matches!(PublicKey::from_blob(&rsa(2047, &[1, 0, 1])), Err(PublicKeyError::Weak(_))));
    assert!(matches!(PublicKey::from_blob(&rsa(1024, &[1, 0, 1])), Err(PublicKeyError::Weak(_))));
    assert!(matches!(PublicKey::from_blob(&rsa(8193, &[1, 0, 1])), Err(PublicKeyError::Malformed(_))));
    for e in [&[1][..], &[2], &[1, 0, 0], &[1, 0, 0, 0, 1]] {
        assert!(matches!(PublicKey::from_blob(&rsa(2048, e)), Err(PublicKeyError::Weak(_))), "{e:?}");
    }
    for bits in [2048, 3072, 8192] {
        assert_eq!(PublicKey::from_blob(&rsa(bits, &[1, 0, 1])).unwrap().algorithm(), "ssh-rsa");
    }
}

#[test]
fn a_point_of_small_order_is_refused() {
    let mut identity = [0; 32];
    identity[0] = 1;
    for point in [identity, [0; 32]] {
        let read = PublicKey::from_blob(&blob(&[b"ssh-ed25519", &point]));
        assert_eq!(read, Err(PublicKeyError::Weak("its point has small order")));
    }
}

#[test]
fn points_of_another_form_or_curve_are_refused() {
    let long = |first: u8, size: usize| [vec![first], vec![1; size - 1]].concat();
    let bad = [
        blob(&[b"ssh-ed25519", &[1; 31]]),
        blob(&[b"ssh-ed25519", &[1; 33]]),
        blob(&[b"ecdsa-sha2-nistp256", b"nistp384", &long(4, 65)]),
        blob(&[b"ecdsa-sha2-nistp256", b"nistp256", &long(4, 64)]),
        blob(&[b"ecdsa-sha2-nistp256", b"nistp256", &long(2, 33)]),
        blob(&[b"ecdsa-sha2-nistp384", b"nistp384", &long(5, 97)]),
        blob(&[b"ecdsa-sha2-nistp521", b"nistp521", &long(4, 133)]),
        blob(&[b"ecdsa-sha2-nistp256", b"nistp256", &[]]),
    ];
    for bytes in bad {
        assert!(matches!(PublicKey::from_blob(&bytes), Err(PublicKeyError::Malformed(_))), "{bytes:?}");
    }
}

#[test]
fn a_hardware_key_needs_a_sane_application() {
    let long = "a".repeat(257);
    for application in ["", "ssh:\n", long.as_str()] {
        let point = key(1).public_key().blob()[19..].to_vec();
        let mut bytes = blob(&[b"sk-ssh-ed25519@openssh.com", &point]);
        put_string(&mut bytes, application.as_bytes());
        assert!(matches!(PublicKey::from_blob(&bytes), Err(PublicKeyError::Malformed(_))));
    }
    for token in [Token::ed25519(), Token::p256()] {
        assert_eq!(PublicKey::from_blob(&token.public).unwrap().algorithm(), token.algorithm);
    }
}

#[test]
fn text_and_content_must_agree() {
    let text = key(1).public_key().to_openssh();
    let encoded = text.split_once(' ').unwrap().1;
    for bad in [
        String::new(),
        "ssh-ed25519".to_owned(),
        format!("ssh-rsa {encoded}"),
        format!("ssh-ed25519 {encoded}="),
        format!("ssh-ed25519 {}", &encoded[..encoded.len() - 4]),
        format!("ssh-ed25519 {encoded}AAAA"),
        format!("ssh-ed25519 {}", "A".repeat(20_000)),
    ] {
        assert!(PublicKey::from_openssh(&bad).is_err(), "{bad:.80}");
    }
    assert_eq!(&PublicKey::from_openssh(&format!("{text} ann")).unwrap(), key(1).public_key());
}

#[test]
fn a_key_reads_back_from_what_it_writes() {
    let public = key(7).public_key().clone();
    assert_eq!(PublicKey::from_openssh(&public.to_openssh()).unwrap(), public);
    assert_eq!(PublicKey::from_blob(public.blob()).unwrap(), public);
    assert_ne!(&public, key(6).public_key());
}

proptest! {
    #[test]
    fn reading_a_key_never_panics(bytes: Vec<u8>, text in any::<String>(), kind in 0..7_usize) {
        let _ = PublicKey::from_blob(&bytes);
        let _ = PublicKey::from_openssh(&text);
        let _ = PublicKey::from_blob(&[blob(&[ACCEPTED[kind].as_bytes()]), bytes].concat());
    }
}
