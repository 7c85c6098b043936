//! Which mesh holds, for each way of asking and each past.

use super::*;
use allod_meshproto::token::RootPrivate;

const FOLDER: &str = "/state/node";

fn token(seed: u8, url: &str, key: &str) -> JoinToken {
    let root = RootPrivate::import(&[seed; 32]).unwrap().public();
    JoinToken::new(vec![url.to_owned()], root, key.to_owned().into()).unwrap()
}

fn wishes() -> Wishes {
    Wishes { hostname: None, ephemeral: false, machine: "Web1.example.org".to_owned() }
}

fn decided(known: Option<NetworkRecord>, way: Way) -> Result<NetworkRecord, NetworkError> {
    decide(Path::new(FOLDER), known, &way, &wishes())
}

fn in_by_token() -> NetworkRecord {
    let record = decided(None, Way::Token(token(1, "http://hub:80", "one"))).unwrap();
    NetworkRecord { join_key: None, ..record }
}

fn by(url: &str, key: Option<&str>) -> Way {
    Way::Coordinator { url: url.to_owned(), key: key.map(|key| key.to_owned().into()) }
}

#[test]
fn a_machine_that_never_joined_and_is_not_told_where_is_refused_with_what_to_do() {
    let refused = decided(None, Way::Back).unwrap_err().to_string();
    assert!(refused.contains("--join FILE"), "{refused}");
    let refused = decided(None, Way::Missing("there is no file /x".to_owned())).unwrap_err().to_string();
    assert!(refused.contains("there is no file /x"), "{refused}");
}

#[test]
fn a_token_of_another_network_is_refused_with_both_named() {
    let known = in_by_token();
    let known_root = known.root.unwrap().to_string();
    let wanted = token(2, "http://hub:80", "two");
    let wanted_root = wanted.root().to_string();
    let refused = decided(Some(known), Way::Token(wanted)).unwrap_err().to_string();
    assert!(
        refused.contains(&known_root) && refused.contains(&wanted_root) && refused.contains(FOLDER),
        "{refused}"
    );
}

#[test]
fn a_network_that_was_joined_by_a_url_and_one_of_a_token_are_not_the_same() {
    let by_url = decided(None, by("https://headscale", None)).unwrap();
    assert!(decided(Some(by_url), Way::Token(token(1, "https://headscale", "k"))).is_err());
    assert!(decided(Some(in_by_token()), by("http://hub:80", Some("k"))).is_err());
}

#[test]
fn a_key_that_can_be_none_is_refused() {
    for bad in ["", "two words", "kéy", &"x".repeat(200)] {
        assert!(matches!(decided(None, by("https://h", Some(bad))), Err(NetworkError::Key)), "{bad}");
    }
}

#[test]
fn a_url_that_is_more_or_less_than_a_place_is_refused_at_the_start() {
    for bad in [
        "",
        "hub",
        "ftp://hub",
        "http://",
        "https:///",
        "http://a@hub",
        "http://hub/x",
        "http://hub?x",
        "http://h\u{1b}",
    ] {
        assert!(matches!(decided(None, by(bad, None)), Err(NetworkError::Url(_))), "{bad:?}");
    }
    for good in ["https://hs.example.org", "https://hs.example.org/", "https://[2001:db8::1]:8080"] {
        assert_eq!(decided(None, by(good, None)).unwrap().urls, [good.trim_end_matches('/')]);
    }
}

#[test]
fn plain_http_without_a_root_key_is_refused_but_within_the_machine_and_where_the_key_was_met_before() {
    for bad in [
        "http://hs.example.org",
        "http://[2001:db8::1]:8080",
        "http://192.0.2.1",
        "http://127.0.0.1.nip.io",
        "http://localhost",
    ] {
        let refused = decided(None, by(bad, Some("k"))).unwrap_err();
        assert!(matches!(&refused, NetworkError::Plain(url) if url == bad), "{refused}");
        assert!(refused.to_string().contains("https") && refused.to_string().contains("keys create"));
    }
    for good in ["http://127.0.0.1:8080", "http://127.0.0.1", "http://[::1]", "http://[::1]:1/"] {
        decided(None, by(good, None)).unwrap();
    }
    let before = NetworkRecord { urls: vec!["http://192.0.2.1".to_owned()], root: None, ..in_by_token() };
    decided(Some(before.clone()), by("http://192.0.2.1/", None)).unwrap();
    assert!(decided(Some(before), by("http://192.0.2.2", None)).is_err());
}

#[test]
fn a_key_that_was_for_one_url_is_not_sent_to_another() {
    let known = decided(None, by("https://h", Some("k"))).unwrap();
    assert_eq!(decided(Some(known.clone()), by("https://h", None)).unwrap().join_key, known.join_key);
    assert_eq!(decided(Some(known), by("https://elsewhere", None)).unwrap().join_key, None);
}

#[test]
fn it_comes_back_with_what_it_knows() {
    let known = in_by_token();
    assert_eq!(decided(Some(known.clone()), Way::Back).unwrap(), known);
    assert_eq!(decided(Some(known.clone()), Way::Missing("gone".to_owned())).unwrap(), known);
}

#[test]
fn a_new_token_of_the_same_network_brings_new_urls_and_a_new_key() {
    let record = decided(Some(in_by_token()), Way::Token(token(1, "http://moved:80", "two"))).unwrap();
    assert_eq!(record.urls, ["http://moved:80"]);
    assert_eq!(record.join_key.unwrap().as_str(), "two");
}

#[test]
fn names_are_the_persons_else_as_before_else_the_machines() {
    assert_eq!(in_by_token().hostname, "web1");
    let named = Wishes { hostname: Some("shop".to_owned()), ..wishes() };
    let record = decide(Path::new(FOLDER), Some(in_by_token()), &Way::Back, &named).unwrap();
    assert_eq!(record.hostname, "shop");
    assert_eq!(decided(Some(record), Way::Back).unwrap().hostname, "shop");
    for (machine, label_of_it) in [("", "node"), ("-.-", "node"), ("Ann's Mac.local", "annsmac")] {
        assert_eq!(label(machine), label_of_it);
    }
}

#[test]
fn the_key_is_kept_and_shown_in_no_debug() {
    let folder = tempfile::tempdir().unwrap();
    let record = decided(None, Way::Token(token(1, "http://hub:80", "very-secret"))).unwrap();
    assert!(!format!("{record:?}").contains("very-secret"));
    save(folder.path(), &record).unwrap();
    assert_eq!(load(folder.path()).unwrap(), Some(record));
}
