use crate::peer::{Keygen, Request, judge, relabelled};
use allod_signing::{
    KeyError, KeySigner, PublicKey, PublicKeyError, Refusal, Signer as _, sign_request, sshsig,
    verify_signature,
};

const SPACE: &str = "allod-test";

/// The peer's signature is accepted here and ours by the peer; neither with one byte of the message changed.
fn both_ways(kind: &str, bits: &str) {
    let Some(keygen) = Keygen::find() else { return };
    keygen.make("id", kind, bits);
    let signer = keygen.signer("id");
    let line = keygen.read("id.pub");
    assert_eq!(signer.public_openssh(), line.trim());

    let enrolled = format!("role=owner {line}");
    let theirs = judge(&keygen.head("id", signer.public_key()), &enrolled).unwrap();
    assert_eq!((theirs.name(), theirs.fingerprint()), ("id@peer", &signer.fingerprint()));
    assert!(keygen.run(&["-l", "-f", "id.pub"]).contains(signer.fingerprint().as_str()));

    let request = Request::new();
    let ours = sign_request(&signer, &request.fields()).unwrap();
    judge(&ours, &enrolled).unwrap();
    let mut message = request.fields().bytes();
    assert!(keygen.verifies(&line, "allod-management-v1", &message, &ours.signature));
    assert!(!keygen.verifies(&line, "allod-reply-v1", &message, &ours.signature));
    message.pop();
    assert!(!keygen.verifies(&line, "allod-management-v1", &message, &ours.signature));
}

/// No changed byte of a signature that the peer made is accepted.
fn every_byte_counts(kind: &str, bits: &str) {
    let Some(keygen) = Keygen::find() else { return };
    keygen.make("id", kind, bits);
    let public = keygen.signer("id").public_key().clone();
    let good = keygen.sign("id", SPACE, b"message");
    verify_signature(&public, SPACE, b"message", &good).unwrap();
    for index in 0..good.len() {
        let mut changed = good.clone();
        changed[index] ^= 0x01;
        assert!(verify_signature(&public, SPACE, b"message", &changed).is_err(), "byte {index}");
        assert!(verify_signature(&public, SPACE, b"message", &good[..index]).is_err(), "cut at {index}");
    }
}

#[test]
fn ed25519_works_both_ways() {
    both_ways("ed25519", "");
}

#[test]
fn ecdsa_on_p256_works_both_ways() {
    both_ways("ecdsa", "256");
}

#[test]
fn ecdsa_on_p384_works_both_ways() {
    both_ways("ecdsa", "384");
}

#[test]
fn ecdsa_on_p521_works_both_ways() {
    both_ways("ecdsa", "521");
}

#[test]
fn rsa_2048_works_both_ways() {
    both_ways("rsa", "2048");
}

#[test]
fn rsa_3072_works_both_ways() {
    both_ways("rsa", "3072");
}

#[test]
fn rsa_4096_works_both_ways() {
    both_ways("rsa", "4096");
}

#[test]
fn every_byte_of_an_ed25519_signature_counts() {
    every_byte_counts("ed25519", "");
}

#[test]
fn every_byte_of_a_p256_signature_counts() {
    every_byte_counts("ecdsa", "256");
}

#[test]
fn every_byte_of_a_p384_signature_counts() {
    every_byte_counts("ecdsa", "384");
}

#[test]
fn every_byte_of_a_p521_signature_counts() {
    every_byte_counts("ecdsa", "521");
}

#[test]
fn every_byte_of_an_rsa_signature_counts() {
    every_byte_counts("rsa", "2048");
}

#[test]
fn an_rsa_signature_with_sha1_is_refused() {
    let Some(keygen) = Keygen::find() else { return };
    keygen.make("id", "rsa", "2048");
    let public = keygen.signer("id").public_key().clone();
    let good = keygen.sign("id", SPACE, b"message");
    for label in ["ssh-rsa", "rsa-sha2-256"] {
        let changed = relabelled(&public, SPACE, &good, "rsa-sha2-512", label);
        let expected = if label == "ssh-rsa" { Refusal::Algorithm } else { Refusal::BadSignature };
        assert_eq!(verify_signature(&public, SPACE, b"message", &changed), Err(expected));
    }
}

#[test]
fn dsa_and_short_rsa_keys_are_refused() {
    let Some(keygen) = Keygen::find() else { return };
    keygen.make("short", "rsa", "1024");
    let short = PublicKey::from_openssh(&keygen.read("short.pub"));
    assert!(matches!(short, Err(PublicKeyError::Weak(_))), "{short:?}");
    assert_eq!(KeySigner::from_openssh(&keygen.read("short"), None).unwrap_err(), KeyError::Inconsistent);
    // Newer peers can't make DSA keys any more: then there is none to refuse.
    if keygen
        .start(&["-q", "-t", "dsa", "-N", "", "-f", "old"], b"")
        .is_some_and(|made| made.status.success())
    {
        let old = PublicKey::from_openssh(&keygen.read("old.pub"));
        assert_eq!(old, Err(PublicKeyError::Kind("ssh-dss".to_owned())));
        assert!(matches!(KeySigner::from_openssh(&keygen.read("old"), None), Err(KeyError::Kind(_))));
        let signed = keygen.sign("old", SPACE, b"message");
        assert_eq!(sshsig::signer_key(&signed), Err(Refusal::Algorithm));
    }
}

#[test]
fn an_encrypted_key_opens_with_its_passphrase_only() {
    let Some(keygen) = Keygen::find() else { return };
    for (name, cipher) in
        [("a", "aes256-ctr"), ("b", "aes256-gcm@openssh.com"), ("c", "chacha20-poly1305@openssh.com")]
    {
        let arguments = ["-q", "-t", "ed25519", "-N", "correct horse", "-a", "2", "-Z", cipher, "-f", name];
        keygen.run(&arguments);
        let text = keygen.read(name);
        let read = |passphrase| KeySigner::from_openssh(&text, passphrase);
        assert_eq!(read(None).unwrap_err(), KeyError::PassphraseNeeded, "{cipher}");
        assert_eq!(read(Some(b"correct")).unwrap_err(), KeyError::WrongPassphrase, "{cipher}");
        let opened = read(Some(b"correct horse")).unwrap();
        assert_eq!(opened.public_key().to_openssh(), keygen.read(&format!("{name}.pub"))[..80]);
    }
}

#[test]
fn a_key_in_pem_form_is_refused_with_the_way_out() {
    let Some(keygen) = Keygen::find() else { return };
    keygen.run(&["-q", "-t", "ecdsa", "-m", "PEM", "-N", "", "-f", "id"]);
    let error = KeySigner::from_openssh(&keygen.read("id"), None).unwrap_err();
    assert_eq!(error, KeyError::Pem);
    assert!(error.to_string().contains("ssh-keygen -p"));
    keygen.run(&["-q", "-p", "-N", "", "-f", "id"]);
    keygen.signer("id");
}

#[test]
fn a_key_made_here_is_one_that_the_peer_reads_and_uses() {
    let Some(keygen) = Keygen::find() else { return };
    let made = KeySigner::generate([7; 32], "golden");
    keygen.write("id", made.to_openssh().as_bytes());
    keygen.keep_private("id");
    assert_eq!(keygen.run(&["-y", "-f", "id"]).trim(), made.public_openssh());
    // Ed25519 has one signature per message, and SSHSIG one form: the peer's is ours, byte for byte.
    assert_eq!(keygen.sign("id", SPACE, b"message"), made.sign(SPACE, b"message").unwrap());
}
