use super::*;
use crate::{certificate::tests::Draft, fixtures::key, verify_signature};
use base64::{Engine as _, engine::general_purpose::STANDARD};

#[test]
fn what_is_no_openssh_private_key_is_refused() {
    let read = |text: &str| KeySigner::from_openssh(text, None).unwrap_err();
    assert_eq!(read(""), KeyError::NotAKey);
    assert_eq!(read("ssh-ed25519 AAAA"), KeyError::NotAKey);
    assert_eq!(read("-----BEGIN CERTIFICATE-----\n"), KeyError::NotAKey);
    for kind in ["RSA ", "EC ", "DSA ", "", "ENCRYPTED "] {
        assert_eq!(read(&format!("-----BEGIN {kind}PRIVATE KEY-----\nAAAA\n")), KeyError::Pem);
    }
    let good = key(7).to_openssh();
    for end in [40, good.len() / 2, good.len() - 40] {
        assert_eq!(read(&good[..end]), KeyError::NotAKey);
    }
}

#[test]
fn a_file_whose_halves_are_of_two_keys_is_refused() {
    let (mine, other) = (key(7).to_openssh(), key(6));
    let body: String = mine.lines().filter(|line| !line.starts_with('-')).collect();
    let mut bytes = STANDARD.decode(body).unwrap();
    let (mine, other) = (key(7).public.blob()[19..].to_vec(), other.public.blob()[19..].to_vec());
    let places: Vec<_> = (0..bytes.len() - 32).filter(|at| bytes[*at..*at + 32] == mine).collect();
    assert_eq!(places.len(), 3, "outer public, inner public, behind the seed");
    for place in places {
        bytes[place..place + 32].copy_from_slice(&other);
    }
    let lines: Vec<_> = STANDARD.encode(bytes).as_bytes().chunks(70).map(<[u8]>::to_vec).collect();
    let text = String::from_utf8(lines.join(&b'\n')).unwrap();
    let text = format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{text}\n-----END OPENSSH PRIVATE KEY-----\n");
    assert_eq!(KeySigner::from_openssh(&text, None).unwrap_err(), KeyError::Inconsistent);
}

/// A P-521 key file with the number 5, which is as short as a number can be.
fn short_p521() -> PrivateFile {
    let key = p521::ecdsa::SigningKey::from_slice(&left_padded(&[5], 66).unwrap()).unwrap();
    let point = p521::ecdsa::VerifyingKey::from(&key).to_encoded_point(false);
    let mut public = Vec::new();
    for part in [P521.as_bytes(), b"nistp521", point.as_bytes()] {
        put_string(&mut public, part);
    }
    let mut fields = public.clone();
    crate::wire::put_positive(&mut fields, &[5]);
    PrivateFile::of(&public, &fields, "short")
}

#[test]
fn an_ecdsa_number_shorter_than_its_curve_is_read() {
    let read = KeySigner::from_openssh(&short_p521().to_text(), None).unwrap();
    let signature = read.sign("allod-test", b"message").unwrap();
    verify_signature(read.public_key(), "allod-test", b"message", &signature).unwrap();
    assert_eq!(read.comment(), "short");
}

#[test]
fn padding_of_another_form_is_refused() {
    let fields = |tail: &[u8]| [&[0, 0, 0, 1, b'x'][..], tail].concat();
    for bad in [&[0][..], &[1, 1], &[1, 2, 4], &[2], &(1..=16).collect::<Vec<u8>>()] {
        assert_eq!(read_comment(Reader::new(&fields(bad))), Err(KeyError::NotAKey), "{bad:?}");
    }
    for good in [&[][..], &[1], &(1..=15).collect::<Vec<u8>>()] {
        assert_eq!(read_comment(Reader::new(&fields(good))).unwrap(), "x");
    }
}

#[test]
fn an_encryption_that_is_not_understood_is_named() {
    let file = |cipher: &str, kdf: &str, rounds: u32| {
        let mut options = Vec::new();
        put_string(&mut options, &[1; 16]);
        options.extend_from_slice(&rounds.to_be_bytes());
        let mut bytes = b"openssh-key-v1\0".to_vec();
        for part in [cipher.as_bytes(), kdf.as_bytes(), &options] {
            put_string(&mut bytes, part);
        }
        bytes.extend_from_slice(&1_u32.to_be_bytes());
        put_string(&mut bytes, key(7).public.blob());
        put_string(&mut bytes, &[0; 64]);
        let text = STANDARD.encode(bytes);
        let text =
            format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{text}\n-----END OPENSSH PRIVATE KEY-----\n");
        KeySigner::from_openssh(&text, Some(b"passphrase")).unwrap_err()
    };
    for (cipher, kdf, rounds) in [("rot13", "bcrypt", 1), ("aes256-ctr", "md5", 1), ("none", "bcrypt", 1)] {
        let error = file(cipher, kdf, rounds);
        assert!(matches!(error, KeyError::Cipher(_) | KeyError::NotAKey), "{cipher} {kdf}: {error}");
    }
    assert!(matches!(file("aes256-ctr", "bcrypt", u32::MAX), KeyError::Cipher(_)));
    assert_eq!(file("aes256-ctr", "bcrypt", 1), KeyError::WrongPassphrase);
    assert_eq!(file("aes256-ctr", "bcrypt", 0), KeyError::WrongPassphrase);
}

proptest::proptest! {
    #[test]
    fn reading_a_private_key_never_panics(bytes: Vec<u8>) {
        let bytes = [b"openssh-key-v1\0".to_vec(), bytes].concat();
        let text = STANDARD.encode(bytes);
        let text = format!("-----BEGIN OPENSSH PRIVATE KEY-----{text}-----END OPENSSH PRIVATE KEY-----");
        proptest::prop_assert!(KeySigner::from_openssh(&text, Some(b"x")).is_err());
    }
}

#[test]
fn a_certificate_of_another_key_is_refused() {
    let certificate = Draft::default().signed(&key(1), &key(2));
    let text = format!("ssh-ed25519-cert-v01@openssh.com {} x", STANDARD.encode(certificate));
    assert_eq!(key(3).with_certificate(&text).unwrap_err(), KeyError::Certificate);
    assert_eq!(key(1).with_certificate("ssh-ed25519 AAAA").unwrap_err(), KeyError::Certificate);
    key(1).with_certificate(&text).unwrap();
}

#[test]
fn a_made_key_reads_back_from_its_file_and_signs_the_same() {
    let made = key(7);
    let read = KeySigner::from_openssh(&made.to_openssh(), None).unwrap();
    assert_eq!(read.public_openssh(), made.public_openssh());
    assert_eq!(read.comment(), "person 7");
    let signature = read.sign("allod-test", b"message").unwrap();
    assert_eq!(signature, made.sign("allod-test", b"message").unwrap());
    verify_signature(made.public_key(), "allod-test", b"message", &signature).unwrap();
}

#[test]
fn debug_output_has_no_secret() {
    let seen = format!("{:?}", key(7));
    assert_eq!(seen, format!("KeySigner(ssh-ed25519 {})", key(7).fingerprint()));
}
