use super::*;
use crate::key::{MachineKey, MachinePrivate};
use proptest::prelude::*;

const SEED: [u8; 32] = [7; 32];

fn root() -> RootPrivate {
    RootPrivate::import(&SEED).unwrap()
}

fn machine(byte: u8) -> MachineKey {
    MachinePrivate::import(&[byte; 32]).public()
}

fn token() -> JoinToken {
    let urls = vec!["https://hub.example".to_owned(), "http://192.0.2.7:8080".to_owned()];
    JoinToken::new(urls, root().public(), Zeroizing::new("join-secret".to_owned())).unwrap()
}

#[test]
fn a_token_that_was_cut_or_changed_is_refused() {
    let text = token().to_text();
    for length in 0..text.len() {
        let error = JoinToken::parse(&text[..length]).unwrap_err();
        assert!(matches!(error, TokenError::NotAToken | TokenError::Damaged), "{length}: {error}");
    }
    for at in 13..text.len() {
        let mut changed = text.as_bytes().to_vec();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert_eq!(JoinToken::parse(&changed).unwrap_err(), TokenError::Damaged, "{at}");
    }
    assert_eq!(JoinToken::parse(&format!("{}AAAA", &*text)).unwrap_err(), TokenError::Damaged);
}

#[test]
fn a_token_of_a_newer_version_says_so_and_another_word_is_none() {
    assert_eq!(JoinToken::parse("allod-join-2.AAAA").unwrap_err(), TokenError::Version);
    for text in ["", "allod-join-", "allod-join-x.AAAA", "tskey-auth-1", "allod-ticket-1.AAAA"] {
        assert_eq!(JoinToken::parse(text).unwrap_err(), TokenError::NotAToken, "{text}");
    }
}

#[test]
fn urls_that_are_more_or_less_than_scheme_host_and_port_are_refused() {
    let key = || Zeroizing::new("k".to_owned());
    for url in [
        "",
        "hub.example",
        "ftp://hub.example",
        "https://",
        "https://hub.example/",
        "https://hub.example/key",
        "https://user@hub.example",
        "https://hub.example?x",
        "https://hub.example#x",
        "https://hub example",
        "https://hub.example:",
        "https://hub.example:0",
        "https://hub.example:65536",
        "https://hub.example:+80",
        "https://[::1",
        "https://[::x]",
        "https://[::1]80",
        "https://-hub.example",
        "https://hub..example",
        "https://hub.example\n",
    ] {
        let refused = JoinToken::new(vec![url.to_owned()], root().public(), key()).unwrap_err();
        assert_eq!(refused, TokenError::Url(url.to_owned()));
    }
    for url in ["http://[2001:db8::1]:8080", "https://[::1]", "http://10.0.0.1", "https://a-b.example:443"] {
        JoinToken::new(vec![url.to_owned()], root().public(), key()).unwrap();
    }
    let long = format!("https://{}.example", "a".repeat(URL_LENGTH));
    assert!(matches!(JoinToken::new(vec![long], root().public(), key()).unwrap_err(), TokenError::Url(_)));
    let five = vec!["https://hub.example".to_owned(); MOST_URLS + 1];
    assert_eq!(JoinToken::new(five, root().public(), key()).unwrap_err(), TokenError::Urls);
    assert_eq!(JoinToken::new(Vec::new(), root().public(), key()).unwrap_err(), TokenError::Urls);
}

#[test]
fn a_join_key_that_could_break_a_line_is_refused() {
    for key in [String::new(), "a b".to_owned(), "a\n".to_owned(), "\u{e9}".to_owned(), "k".repeat(129)] {
        let urls = vec!["https://hub.example".to_owned()];
        let refused = JoinToken::new(urls, root().public(), Zeroizing::new(key)).unwrap_err();
        assert_eq!(refused, TokenError::JoinKey);
    }
}

#[test]
fn a_token_says_itself_again_and_hides_its_secret() {
    let text = token().to_text();
    let read = JoinToken::parse(&format!("  {}\n", &*text)).unwrap();
    assert_eq!(read, token());
    assert_eq!(read.join_key(), "join-secret");
    assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte)), "{}", &*text);
    assert!(!format!("{read:?}").contains("join-secret"));
}

#[test]
fn a_noise_key_that_the_root_did_not_sign_is_refused() {
    let signed = root().sign(machine(1), 3);
    let other = RootPrivate::import(&[8; 32]).unwrap();
    assert_eq!(signed.verify(other.public(), 0), Err(TokenError::Unsigned));
    let json = serde_json::to_value(&signed).unwrap();
    for (field, value) in [
        ("key", serde_json::json!(machine(2))),
        ("serial", serde_json::json!(4)),
        ("signature", serde_json::json!("")),
        ("signature", serde_json::json!("AAAA")),
        ("signature", serde_json::json!("?")),
    ] {
        let mut changed = json.clone();
        changed[field] = value;
        let changed: SignedNoiseKey = serde_json::from_value(changed).unwrap();
        assert_eq!(changed.verify(root().public(), 0), Err(TokenError::Unsigned), "{field}");
    }
    assert_eq!(SignedNoiseKey::default().verify(root().public(), 0), Err(TokenError::Unsigned));
    let zero = root().sign(MachineKey::default(), 1);
    assert_eq!(zero.verify(root().public(), 0), Err(TokenError::Unsigned));
}

#[test]
fn a_stolen_older_key_is_taken_no_more_once_a_newer_was_seen() {
    let (old, new) = (root().sign(machine(1), 3), root().sign(machine(2), 4));
    assert_eq!(old.verify(root().public(), 3), Ok(machine(1)));
    assert_eq!(old.verify(root().public(), 4), Err(TokenError::Older { shown: 3, seen: 4 }));
    assert_eq!(
        newest(std::slice::from_ref(&old), root().public(), 4),
        Err(TokenError::Older { shown: 3, seen: 4 })
    );
    for shown in [[old.clone(), new.clone()], [new, old]] {
        assert_eq!(newest(&shown, root().public(), 3), Ok((machine(2), 4)));
    }
    assert_eq!(newest(&[], root().public(), 0), Err(TokenError::Unsigned));
}

#[test]
fn what_is_signed_is_fixed() {
    let signed = root().sign(machine(1), 1);
    assert_eq!(
        root().public().to_string(),
        "allodroot:ea4a6c63e29c520abef5507b132ec5f9954776aebebe7b92421eea691446d22c"
    );
    assert_eq!("allodroot:00".parse::<RootKey>(), Err(TokenError::RootKey));
    assert_eq!(root().public().to_string().parse::<RootKey>().unwrap(), root().public());
    let text = serde_json::to_string(&signed).unwrap();
    assert_eq!(serde_json::from_str::<SignedNoiseKey>(&text).unwrap(), signed);
    assert!(!format!("{:?}", root()).contains("0707"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in ".{0,200}", bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let _ = JoinToken::parse(&text);
        let body = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, &bytes);
        let _ = JoinToken::parse(&format!("allod-join-1.{body}"));
    }

    #[test]
    fn every_token_says_itself_again(key in "[!-~]{1,128}", host in "[a-z][a-z0-9]{0,20}", port in 1_u16..) {
        let urls = vec![format!("http://{host}.example:{port}")];
        let token = JoinToken::new(urls, root().public(), Zeroizing::new(key)).unwrap();
        prop_assert_eq!(JoinToken::parse(&token.to_text()).unwrap(), token);
    }
}
