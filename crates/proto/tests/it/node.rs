//! What programs and `allod node` say to each other, as it was first written: read whole, and written the same.

use allod_proto::node::{CoordinatorState, NodeAnswer, NodeAsk, NodePath};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::collections::BTreeSet;

const ASKS: &str = include_str!("../golden/node/asks.jsonl");
const ANSWERS: &str = include_str!("../golden/node/answers.jsonl");

fn read<T: DeserializeOwned + Serialize>(text: &str) -> Vec<T> {
    let read = |line: &str| {
        let value: T = serde_json::from_str(line).unwrap();
        let (again, there) =
            (serde_json::to_value(&value).unwrap(), serde_json::from_str::<Value>(line).unwrap());
        assert_eq!(again, there);
        value
    };
    text.lines().map(read).collect()
}

#[test]
fn what_is_no_ask_is_refused() {
    for bad in [
        r#"{"ask":"everything"}"#,
        r#"{"ask":"connect","to":"web1:22"}"#,
        r#"{"ask":"connect","to":"100.64.0.7:9844","from":"100.64.0.8:1"}"#,
        r#"{"ask":"listen","port":65536}"#,
        r#"{"ask":"accept","listener":-1}"#,
        r#"{"ask":"whois"}"#,
        r#"{"ask":"status","of":"web1"}"#,
        r#"{"ask":"watch","all":true}"#,
        r#"{"ask":"peers","like":"web"}"#,
    ] {
        assert!(serde_json::from_str::<NodeAsk>(bad).is_err(), "{bad}");
    }
}

#[test]
fn every_ask_is_read_and_written_as_it_was() {
    let words: BTreeSet<_> = read::<NodeAsk>(ASKS)
        .iter()
        .map(|ask| match ask {
            NodeAsk::Status {} => "status",
            NodeAsk::Watch {} => "watch",
            NodeAsk::Whois { .. } => "whois",
            NodeAsk::Peers {} => "peers",
            NodeAsk::Connect { .. } => "connect",
            NodeAsk::Listen { .. } => "listen",
            NodeAsk::Accept { .. } => "accept",
        })
        .collect();
    assert_eq!(words.len(), 7);
}

#[test]
fn every_answer_is_read_and_written_as_it_was() {
    let answers = read::<NodeAnswer>(ANSWERS);
    let mut words = BTreeSet::new();
    for answer in &answers {
        words.insert(match answer {
            NodeAnswer::Status(state) => coordinator(&state.coordinator),
            NodeAnswer::Whois { peer: None } => "nobody",
            NodeAnswer::Whois { peer: Some(peer) } => way(peer.path),
            NodeAnswer::Peers { .. } => "peers",
            NodeAnswer::Connected { .. } => "connected to",
            NodeAnswer::Listening { .. } => "listening",
            NodeAnswer::Accepted { .. } => "accepted",
            NodeAnswer::Failed(_) => "failed",
        });
        if let NodeAnswer::Peers { peers } = answer {
            words.extend(peers.iter().map(|peer| way(peer.path)));
        }
    }
    assert_eq!(words.len(), 17);
}

fn coordinator(state: &CoordinatorState) -> &'static str {
    match state {
        CoordinatorState::Connecting => "connecting",
        CoordinatorState::LogIn { .. } => "log in",
        CoordinatorState::Waiting => "waiting",
        CoordinatorState::Connected => "connected",
        CoordinatorState::Away { .. } => "away",
        CoordinatorState::Refused { .. } => "refused",
        CoordinatorState::Expired => "expired",
    }
}

fn way(path: NodePath) -> &'static str {
    match path {
        NodePath::Own => "own",
        NodePath::Idle => "idle",
        NodePath::Direct { .. } => "direct",
        NodePath::Relay => "relay",
    }
}
