//! Checking a record from afar.

use crate::{person::Person, server::Server};
use allod_audit::Entry;

async fn verified(tamper: fn(String) -> String) -> crate::person::Ended {
    let person = Person::new(1);
    let server = Server::start_with("web1", 50, 1, tamper, Vec::new()).await;
    let (address, identity) = (server.address.to_string(), server.identity.to_string());
    assert_eq!(person.run(&["servers", "add", &address, "--identity", &identity]).await.exit, 0);
    server.record.append(Entry::note("test", "one more")).unwrap();
    person.run(&["audit", "verify", "--json"]).await
}

#[tokio::test]
async fn an_edited_line_is_found_and_named() {
    let edited = verified(|line| line.replace("line 10", "line ten")).await;
    assert_eq!(edited.exit, 10, "{edited:?}");
    assert_eq!(edited.json()["fault"]["code"], "untrusted");
}

#[tokio::test]
async fn a_rewritten_tail_is_found_by_the_head_that_was_seen() {
    // Nothing after the last line could contradict it but the signed head.
    let edited = verified(|line| line.replace("one more", "one less")).await;
    assert_eq!(edited.exit, 10, "{edited:?}");
}

#[tokio::test]
async fn a_whole_record_passes_through_the_head_that_was_seen() {
    let whole = verified(|line| line).await;
    assert_eq!(whole.exit, 0, "{whole:?}");
    let json = whole.json();
    assert_eq!((&json["passed_known"], &json["oldest"]), (&true.into(), &1.into()));
    assert_eq!(json["lines"], json["head"]["seq"]);
    assert!(json["known"]["seq"].as_u64().unwrap() > 0);
}

#[tokio::test]
async fn the_newest_lines_are_shown_over_several_pages() {
    let person = Person::new(1);
    let server = Server::start("web1", 50, 1).await;
    let (address, identity) = (server.address.to_string(), server.identity.to_string());
    assert_eq!(person.run(&["servers", "add", &address, "--identity", &identity]).await.exit, 0);
    let raw = person.run(&["audit", "show", "--last", "10", "--raw"]).await;
    assert_eq!(raw.out.lines().count(), 10, "{raw:?}");
    let last = raw.out.lines().last().unwrap();
    assert!(last.contains("line 19"), "{last}");
}
