use super::*;
use crate::fixtures::{NOW, Token, delegated, key, server, terms};
use proptest::prelude::*;
use std::time::Duration;

const HOUR: Duration = Duration::from_secs(3600);

fn made() -> Delegation {
    terms(9, Role::Viewer, NOW).sign(&key(1)).unwrap()
}

/// The header of a delegation whose terms are these bytes.
fn header(terms: &[u8]) -> String {
    format!("{}.{}", STANDARD.encode(terms), sshsig::to_base64(made().signature()))
}

fn text() -> String {
    String::from_utf8(terms(9, Role::Viewer, NOW).bytes()).unwrap()
}

#[test]
fn a_delegation_for_no_server_for_too_many_or_for_too_long_can_not_be_made() {
    let make = |servers: u8, span| {
        let audiences = (0..servers).map(|seed| key(seed).fingerprint());
        Terms::new(key(9).public_key().clone(), audiences, Role::Viewer, (NOW, NOW.plus(span)))
    };
    assert_eq!(make(0, HOUR), Err(DelegationError::Audiences));
    assert_eq!(make(65, HOUR), Err(DelegationError::Audiences));
    assert_eq!(make(1, Duration::ZERO), Err(DelegationError::Span));
    assert_eq!(make(1, 12 * HOUR + Duration::from_millis(1)), Err(DelegationError::Span));
    assert!(make(64, 12 * HOUR).is_ok());
    let p256 = PublicKey::from_blob(&Token::p256().public).unwrap();
    let span = (NOW, NOW.plus(HOUR));
    assert_eq!(Terms::new(p256, [server()], Role::Viewer, span), Err(DelegationError::Kind));
}

#[test]
fn terms_of_another_form_are_refused_although_they_might_mean_the_same() {
    let good = text();
    let lines: Vec<&str> = good.lines().collect();
    let rebuilt = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines: Vec<String> = lines.iter().map(|&line| line.to_owned()).collect();
        change(&mut lines);
        lines.iter().map(|line| format!("{line}\n")).collect::<String>()
    };
    let bad = [
        rebuilt(&|lines| lines.swap(5, 6)),
        rebuilt(&|lines| lines.push(lines[6].clone())),
        rebuilt(&|lines| lines.truncate(5)),
        rebuilt(&|lines| lines[0].push(' ')),
        rebuilt(&|lines| lines[0] = "allod-management-v1".to_owned()),
        rebuilt(&|lines| lines[1].push_str(" comment")),
        rebuilt(&|lines| lines[2] = "Viewer".to_owned()),
        rebuilt(&|lines| lines[3].insert(0, '0')),
        rebuilt(&|lines| lines[4].insert(0, '+')),
        rebuilt(&|lines| lines[4] = NOW.plus(13 * HOUR).to_string()),
        rebuilt(&|lines| lines[4] = NOW.to_string()),
        rebuilt(&|lines| lines.insert(5, String::new())),
        good.trim_end().to_owned(),
        good.replace('\n', "\r\n"),
        format!("{good}\n"),
        String::new(),
    ];
    for terms in bad {
        assert!(Delegation::parse(&header(terms.as_bytes())).is_err(), "{terms:?}");
    }
    assert_eq!(Delegation::parse(&header(good.as_bytes())).unwrap(), made());
}

#[test]
fn a_header_of_another_form_is_refused() {
    let good = made().to_header();
    let (terms, signature) = good.split_once('.').unwrap();
    let long = format!("{}.{signature}", "A".repeat(1_000_000));
    for bad in [
        terms.to_owned(),
        format!("{terms}:{signature}"),
        format!("{terms}.{signature}.{signature}"),
        format!("{terms}.{signature} "),
        format!(" {good}"),
        format!("{}.{signature}", terms.trim_end_matches('=')),
        long,
    ] {
        assert!(Delegation::parse(&bad).is_err(), "{bad:.60}");
    }
    assert_eq!(Delegation::parse(&good).unwrap().to_header(), good);
}

#[test]
fn the_signed_lines_are_these() {
    let (one, two) = (server().to_string(), key(88).fingerprint().to_string());
    let (first, second) = if one < two { (one, two) } else { (two, one) };
    let fresh = key(9).public_key().to_openssh();
    let expected =
        format!("allod-delegation-v1\n{fresh}\nviewer\n1780000000123\n1780000900123\n{first}\n{second}\n");
    assert_eq!(text(), expected);
}

#[test]
fn a_key_signs_only_under_a_delegation_to_itself() {
    assert!(DelegatedSigner::new(key(8), made()).is_none());
    assert!(DelegatedSigner::new(key(9), made()).is_some());
}

#[test]
fn a_delegated_request_names_its_delegation_in_what_is_signed() {
    let one = delegated(&key(1), &terms(9, Role::Viewer, NOW));
    let other = delegated(&key(1), &terms(9, Role::Owner, NOW));
    assert_ne!(one.signature, other.signature);
}

proptest! {
    #[test]
    fn parsing_a_delegation_never_panics(text in ".{0,400}", bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Delegation::parse(&text);
        let _ = Delegation::parse(&header(&bytes));
    }

    #[test]
    fn what_parses_is_written_the_same_again(at in 0_usize..400, byte in any::<u8>()) {
        let mut header = made().to_header().into_bytes();
        let at = at % header.len();
        header[at] = byte;
        if let Ok(text) = String::from_utf8(header) && let Ok(delegation) = Delegation::parse(&text) {
            prop_assert_eq!(delegation.to_header(), text);
        }
    }
}
