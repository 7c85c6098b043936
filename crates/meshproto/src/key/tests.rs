use super::*;
use ring::rand::SystemRandom;

const TEXT: &str = "nodekey:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

#[test]
fn another_kind_is_refused() {
    assert_eq!(TEXT.parse::<MachineKey>(), Err(KeyError::Kind("mkey:")));
    assert_eq!("".parse::<NodeKey>(), Err(KeyError::Kind("nodekey:")));
    assert_eq!(TEXT.to_uppercase().parse::<NodeKey>(), Err(KeyError::Kind("nodekey:")));
}

#[test]
fn anything_but_64_lower_case_digits_is_refused() {
    let digits = TEXT.strip_prefix("nodekey:").unwrap();
    let cut = digits.get(1..).unwrap();
    let bad = [
        String::new(),
        cut.to_owned(),
        format!("{digits}0"),
        format!("{digits}00"),
        digits.to_uppercase(),
        format!("{cut}g"),
        format!("+{cut}"),
        "é".repeat(32),
        "é".repeat(64),
    ];
    for digits in bad {
        assert_eq!(
            format!("nodekey:{digits}").parse::<NodeKey>(),
            Err(KeyError::Digits("nodekey:")),
            "{digits}"
        );
    }
}

#[test]
fn a_public_key_has_one_text() {
    let key: NodeKey = TEXT.parse().unwrap();
    assert_eq!(key.to_string(), TEXT);
    assert_eq!(format!("{key:?}"), TEXT);
    assert_eq!(serde_json::to_string(&key).unwrap(), format!("\"{TEXT}\""));
    assert_eq!(serde_json::from_str::<NodeKey>(&format!("\"{TEXT}\"")).unwrap(), key);
    assert_eq!(NodeKey::new(*key.as_bytes()), key);
}

#[test]
fn an_escaped_text_is_the_same_key_and_null_is_none() {
    let escaped = format!("\"{}\"", TEXT.replace("nodekey", "\\u006eodekey"));
    assert_eq!(serde_json::from_str::<NodeKey>(&escaped).unwrap().to_string(), TEXT);
    assert!(serde_json::from_str::<NodeKey>("null").unwrap().is_zero());
    assert!(serde_json::from_str::<NodeKey>("\"\"").is_err());
}

#[test]
fn the_public_half_is_that_of_rfc_7748() {
    // Section 6.1: Alice's private and public key.
    let secret = from_hex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a").unwrap();
    let public = "mkey:8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a";
    assert_eq!(MachinePrivate::import(&secret).public().to_string(), public);
}

#[test]
fn a_private_half_comes_back_from_its_export() {
    let key = NodePrivate::generate(&SystemRandom::new()).unwrap();
    let again = NodePrivate::import(&key.export());
    assert_eq!(again.public(), key.public());
    assert_eq!(*again.export(), *key.export());
    assert_ne!(NodePrivate::generate(&SystemRandom::new()).unwrap().public(), key.public());
}

#[test]
fn a_private_half_is_never_shown() {
    let key = DiscoPrivate::import(&[7; 32]);
    let shown = format!("{key:?}");
    assert_eq!(shown, format!("DiscoPrivate(of {})", key.public()));
    assert!(!shown.contains("0707"), "{shown}");
}

#[test]
fn every_library_here_agrees_on_the_public_half() {
    for seed in 0..32_u8 {
        let key = NodePrivate::import(&[seed.wrapping_mul(37); 32]);
        let other = crypto_box::SecretKey::from(*key.export()).public_key();
        assert_eq!(other.as_bytes(), key.public().as_bytes());
    }
}
