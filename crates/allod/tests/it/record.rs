//! The record shows what was asked and what came of it, and whoever edits or cuts it on the server's disk is noticed.

use crate::{
    processes::eventually,
    wire::{Draft, send},
    world::World,
};
use allod_proto::{headers, messages::server::ServerStatus};
use allod_rpc::client::hello;
use allod_signing::{KeySigner, Signer as _};
use serde_json::Value;
use std::path::{Path, PathBuf};

async fn lines(world: &World) -> Vec<Value> {
    let shown = world.allod(&["audit", "show", "--from", "1", "--last", "10000"]).await.ok().json();
    let lines = shown["lines"].as_array().unwrap();
    lines.iter().map(|line| serde_json::from_str(line.as_str().unwrap()).unwrap()).collect()
}

fn segments(world: &World) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(world.state.join("record")).unwrap();
    let mut found: Vec<_> = entries
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .filter(|path| std::fs::read_to_string(path).is_ok_and(|text| text.starts_with("{\"prev\":")))
        .collect();
    found.sort();
    found
}

#[tokio::test]
async fn every_change_stands_there_with_who_asked_and_how_it_ended() {
    let world = World::up().await;
    let vic = world.enrol("vic", 3, &["--role", "viewer"]).await;
    let person = world.person("vic", &vic);
    assert_eq!(person.run(&["keys", "list"]).await.code, 4);
    assert_eq!(person.run(&["keys", "add", &vic.public_openssh(), "--role", "owner"]).await.code, 4);
    world.app("blog").deploy(&world, "v1").await.ok();
    world.allod(&["keys", "revoke", "vic"]).await.ok();
    send(world.management, "POST", headers::RPC_PATH, &[], b"{}").await;

    let lines = lines(&world).await;
    let intents: Vec<_> = lines.iter().filter(|line| line["entry"] == "intent").collect();
    let commands: Vec<_> = intents.iter().map(|line| line["command"].as_str().unwrap()).collect();
    assert_eq!(commands, ["keys.add", "app.deploy", "keys.revoke"]);
    let outcome = |intent: &Value| {
        lines.iter().find(|line| line["entry"] == "outcome" && line["intent"] == intent["seq"])
    };
    let results: Vec<_> =
        intents.iter().map(|intent| outcome(intent).unwrap()["result"].as_str().unwrap()).collect();
    assert_eq!(results, ["ok", "ok", "ok"]);
    let owner = world.owner().fingerprint();
    for intent in intents {
        assert_eq!(intent["who"]["key"], owner.as_str(), "{intent}");
        assert!(intent["signature"].is_string(), "the caller's own signature is kept: {intent}");
    }
    // Reads, and what somebody may not, follow within a moment.
    eventually("what vic may not do is recorded", async || {
        let lines = self::lines(&world).await;
        let denied = |command: &str| {
            let vic = lines.iter().filter(|line| line["who"]["key"] == vic.fingerprint().as_str());
            vic.clone().any(|line| line["command"] == command && line["code"] == "not_allowed")
        };
        (denied("keys.list") && denied("keys.add")).then_some(())
    })
    .await;
    let verified = world.allod(&["audit", "verify"]).await.ok().json();
    assert!(verified["lines"].as_u64().unwrap() >= 8, "{verified}");
}

#[tokio::test]
async fn x12_an_edited_line_is_named() {
    let world = World::up().await;
    world.enrol("eve", 7, &["--role", "viewer"]).await;
    world.allod(&["audit", "verify"]).await.ok();
    let segment = segments(&world).pop().unwrap();
    let text = std::fs::read_to_string(&segment).unwrap();
    let line = text.lines().find(|line| line.contains("\"intent\"") && line.contains("viewer")).unwrap();
    let seq = serde_json::from_str::<Value>(line).unwrap()["seq"].clone();
    // Nobody is to know what the key was given.
    let place = text.find(line).unwrap() + line.find("role=viewer").unwrap();
    let mut bytes = text.into_bytes();
    bytes[place + 5] = b'V';
    overwrite(&segment, &bytes);
    let found = world.allod(&["audit", "verify"]).await;
    let (code, message) = found.refused(10);
    assert_eq!(code, "untrusted", "{message}");
    let (here, next) = (seq.to_string(), (seq.as_u64().unwrap() + 1).to_string());
    assert!(message.contains(&here) || message.contains(&next), "line {here} is not named: {message}");
}

/// Writes in place: the executor has the file open.
fn overwrite(path: &Path, bytes: &[u8]) {
    use std::os::unix::fs::FileExt as _;
    let file = std::fs::File::options().write(true).open(path).unwrap();
    file.write_all_at(bytes, 0).unwrap();
}

#[tokio::test]
async fn x12_an_older_copy_of_the_record_put_back_is_noticed_by_who_saw_more() {
    let kept = tempfile::tempdir().unwrap();
    let world = World::up().await.restarted(|state| copy(&state.join("record"), kept.path())).await;
    for seed in 10..20 {
        world.enrol(&format!("key{seed}"), seed, &["--role", "viewer"]).await;
    }
    let seen = KeySigner::generate([10; 32], "key10");
    let put_back = |state: &Path| {
        std::fs::remove_dir_all(state.join("record")).unwrap();
        copy(kept.path(), &state.join("record"));
    };
    let world = world.restarted(put_back).await;
    let refused = world.allod(&["keys", "list"]).await;
    assert!(refused.stdout.contains("untrusted"), "{refused:?}");
    assert_eq!(refused.code, 10, "{refused:?}");
    assert_eq!(world.allod(&["audit", "verify"]).await.refused(10).0, "untrusted");
    // Who saw nothing before can't notice, and the server itself goes on.
    let epoch = hello(world.management).await.unwrap().epoch;
    let fresh = Draft::new(&world.identity, &epoch, ServerStatus {}).sign(&seen).send(world.management).await;
    assert_eq!(fresh.answer.status, 200, "{fresh:?}");
}

#[tokio::test]
async fn x12_what_the_hub_has_witnessed_is_missed_also_by_who_never_saw_it() {
    let kept = tempfile::tempdir().unwrap();
    let world = World::up().await.restarted(|state| copy(&state.join("record"), kept.path())).await;
    let page = world.ready["hub"].as_str().unwrap().to_owned();
    let address = page.trim_start_matches("http://").trim_end_matches('/');
    let against_hub = ["audit", "verify", "--against-hub", address];
    let ann = world.enrol("ann", 10, &["--role", "operator"]).await;
    for seed in 11..20 {
        world.enrol(&format!("key{seed}"), seed, &["--role", "viewer"]).await;
    }
    let grown = lines(&world).await.len() as u64;
    eventually("the hub has witnessed as much", async || {
        let verified = world.allod(&against_hub).await;
        if verified.code == 0 {
            let verified = verified.json();
            assert_eq!(verified["passed_witnessed"], true, "{verified}");
            return (verified["witnessed"]["seq"].as_u64().unwrap() >= grown).then_some(());
        }
        // Before its first report.
        assert_eq!(verified.refused(5).0, "not_found");
        None
    })
    .await;

    let put_back = |state: &Path| {
        std::fs::remove_dir_all(state.join("record")).unwrap();
        copy(kept.path(), &state.join("record"));
    };
    let world = world.restarted(put_back).await;
    // To somebody who comes for the first time, the older copy is whole.
    let newcomer = world.person("ann", &ann);
    newcomer.run(&["audit", "verify"]).await.ok();
    let (code, message) = newcomer.run(&against_hub).await.refused(10);
    assert_eq!(code, "untrusted", "{message}");
    assert!(message.contains("witnessed by the hub"), "{message}");
    // What is no hub, and where none is known.
    let agent = world.management.to_string();
    let (code, message) = newcomer.run(&["audit", "verify", "--against-hub", &agent]).await.refused(10);
    assert!(message.contains("is no hub"), "{code}: {message}");
    let (_, message) = newcomer.run(&["audit", "verify", "--against-hub"]).await.refused(2);
    assert!(message.contains("tag:hub"), "{message}");
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}
