use super::*;
use crate::{KeySigner, Signer as _, fixtures::Token, fixtures::key, signature::blob, verify_signature};
use proptest::prelude::proptest;

const SPACE: &str = "allod-test";

fn check(key: &KeySigner, sshsig: &[u8]) -> Result<(), Refusal> {
    verify_signature(key.public_key(), SPACE, b"message", sshsig)
}

fn touch(token: &Token, sshsig: &[u8]) -> Result<(), Refusal> {
    verify_signature(&PublicKey::from_blob(&token.public).unwrap(), SPACE, b"message", sshsig)
}

/// The container with each part as given.
fn container(magic: &[u8], version: u32, reserved: &[u8], hash: &[u8], tail: &[u8]) -> Vec<u8> {
    let signature = blob("ssh-ed25519", &[7; 64]);
    let mut out = magic.to_vec();
    out.extend_from_slice(&version.to_be_bytes());
    for part in [key(7).public_key().blob(), SPACE.as_bytes(), reserved, hash, &signature] {
        put_string(&mut out, part);
    }
    [out, tail.to_vec()].concat()
}

#[test]
fn what_is_not_an_sshsig_of_version_1_with_sha512_is_refused() {
    let malformed = |bytes: &[u8]| matches!(check(&key(7), bytes), Err(Refusal::Malformed(_)));
    assert!(malformed(b""));
    assert!(malformed(&container(b"SSHSIH", 1, b"", b"sha512", b"")));
    assert!(malformed(&container(b"SSHSIG", 2, b"", b"sha512", b"")));
    assert!(malformed(&container(b"SSHSIG", 1, b"x", b"sha512", b"")));
    assert!(malformed(&container(b"SSHSIG", 1, b"", b"sha256", b"")));
    assert!(malformed(&container(b"SSHSIG", 1, b"", b"sha512", b"\0")));
    assert!(malformed(&[container(b"SSHSIG", 1, b"", b"sha512", b""), vec![0; LIMIT]].concat()));
    assert!(malformed(b"-----BEGIN SSH SIGNATURE-----"));
    assert_eq!(check(&key(7), &container(b"SSHSIG", 1, b"", b"sha512", b"")), Err(Refusal::BadSignature));
}

#[test]
fn another_namespace_key_or_message_is_refused() {
    let sshsig = key(7).sign(SPACE, b"message").unwrap();
    let public = key(7).public_key().clone();
    assert_eq!(verify_signature(&public, "allod-other", b"message", &sshsig), Err(Refusal::Namespace));
    assert_eq!(verify_signature(&public, SPACE, b"massage", &sshsig), Err(Refusal::BadSignature));
    assert_eq!(check(&key(6), &sshsig), Err(Refusal::OtherKey));
    let relabelled =
        wrap(public.blob(), SPACE, &key(7).sign_raw(&to_be_signed("allod-other", b"message")).unwrap());
    assert_eq!(check(&key(7), &relabelled), Err(Refusal::BadSignature));
}

#[test]
fn no_changed_byte_and_no_cut_leaves_a_good_signature() {
    let sshsig = key(7).sign(SPACE, b"message").unwrap();
    for index in 0..sshsig.len() {
        for bit in 0..8 {
            let mut changed = sshsig.clone();
            changed[index] ^= 1 << bit;
            assert!(check(&key(7), &changed).is_err(), "bit {bit} of byte {index}");
        }
        assert!(check(&key(7), &sshsig[..index]).is_err(), "cut at {index}");
    }
    assert_eq!(check(&key(7), &sshsig), Ok(()));
}

#[test]
fn a_signature_labelled_with_another_algorithm_is_refused() {
    let raw = key(7).sign_raw(&to_be_signed(SPACE, b"message")).unwrap();
    let bytes = &raw[raw.len() - 64..];
    for label in ["ssh-rsa", "ssh-dss", "rsa-sha2-512", "sk-ssh-ed25519@openssh.com", "ssh-ed25519 ", ""] {
        let sshsig = wrap(key(7).public_key().blob(), SPACE, &blob(label, bytes));
        assert_eq!(check(&key(7), &sshsig), Err(Refusal::Algorithm), "{label}");
    }
}

#[test]
fn a_hardware_signature_without_a_touch_is_refused() {
    for token in [Token::ed25519(), Token::p256()] {
        for flags in [0x00, 0x04, 0xfe] {
            let sshsig = token.sshsig(SPACE, b"message", flags, token.application);
            assert_eq!(touch(&token, &sshsig), Err(Refusal::NoTouch), "{flags}");
        }
    }
}

#[test]
fn a_hardware_signature_for_another_application_is_refused() {
    for token in [Token::ed25519(), Token::p256()] {
        let sshsig = token.sshsig(SPACE, b"message", 1, "https://elsewhere.example");
        assert_eq!(touch(&token, &sshsig), Err(Refusal::BadSignature));
    }
}

#[test]
fn no_changed_byte_leaves_a_good_hardware_signature() {
    for token in [Token::ed25519(), Token::p256()] {
        let sshsig = token.sshsig(SPACE, b"message", 1, token.application);
        assert_eq!(touch(&token, &sshsig), Ok(()));
        assert_eq!(touch(&token, &token.sshsig(SPACE, b"message", 5, token.application)), Ok(()));
        for index in 0..sshsig.len() {
            for bit in [0x01, 0x02, 0x80] {
                let mut changed = sshsig.clone();
                changed[index] ^= bit;
                assert!(touch(&token, &changed).is_err(), "byte {index} of {}", token.algorithm);
            }
        }
    }
}

#[test]
fn the_key_of_a_signature_is_told_but_not_that_of_a_certificate() {
    let sshsig = key(7).sign(SPACE, b"message").unwrap();
    assert_eq!(&signer_key(&sshsig).unwrap(), key(7).public_key());
    let mut certificate = Vec::new();
    put_string(&mut certificate, b"ssh-ed25519-cert-v01@openssh.com");
    assert_eq!(signer_key(&wrap(&certificate, SPACE, b"")), Err(Refusal::Algorithm));
    assert!(signer_key(b"SSHSIG").is_err());
}

proptest! {
    #[test]
    fn reading_a_container_never_panics(bytes: Vec<u8>) {
        let _ = check(&key(7), &bytes);
        let _ = check(&key(7), &[b"SSHSIG\0\0\0\x01".to_vec(), bytes.clone()].concat());
        let _ = check(&key(7), &wrap(key(7).public_key().blob(), SPACE, &bytes));
        let _ = signer_key(&wrap(&bytes, SPACE, &bytes));
    }
}
