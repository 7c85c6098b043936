//! `allod login`, and the signed door against delegations that have ended, are for others, or were never given.

use crate::{
    processes::within,
    wire::{Draft, Reply, body_of, now},
    world::World,
};
use allod_proto::{
    Epoch, Fingerprint, Request, Role, Timestamp,
    command::Call,
    headers::DELEGATION_NAMESPACE,
    limits::{DELEGATION_LONGEST, DELEGATION_USUAL},
    messages::{
        keys::{KeysAdd, KeysCan},
        server::{ServerPrune, ServerStatus},
    },
};
use allod_rpc::client::hello;
use allod_signing::{DelegatedSigner, Delegation, KeySigner, Signer, Terms, sshsig};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{process::Stdio, time::Duration};
use tokio::io::{AsyncBufReadExt as _, BufReader};

const MINUTE: Duration = Duration::from_secs(60);

fn key(seed: u8) -> KeySigner {
    KeySigner::generate([seed; 32], "fresh")
}

fn terms(server: &Fingerprint, role: Role, span: (Timestamp, Timestamp)) -> Terms {
    Terms::new(key(90).public_key().clone(), [server.clone()], role, span).unwrap()
}

fn usual() -> (Timestamp, Timestamp) {
    (now(), now().plus(DELEGATION_USUAL))
}

/// The fresh key of seed 90 under these terms, signed by `parent`.
fn under(terms: Terms, parent: &dyn Signer) -> impl Signer + use<> {
    DelegatedSigner::new(key(90), terms.sign(parent).unwrap()).unwrap()
}

struct Door<'a> {
    world: &'a World,
    epoch: Epoch,
}

impl<'a> Door<'a> {
    async fn of(world: &'a World) -> Self {
        Self { world, epoch: hello(world.management).await.unwrap().epoch }
    }

    async fn ask<C: Call>(&self, signer: &dyn Signer, params: C) -> Reply {
        let draft = Draft::new(&self.world.identity, &self.epoch, params);
        draft.sign(signer).send(self.world.management).await
    }

    async fn is_refused(&self, why: &str, signer: &dyn Signer) {
        let reply = self.ask(signer, ServerStatus {}).await;
        assert_eq!((reply.answer.status, reply.code()), (401, "refused"), "{why}: {reply:?}");
        assert!(!reply.is_signed(), "{why}: who proved nothing learns nothing");
    }
}

#[tokio::test]
async fn a_delegation_that_ended_comes_later_or_is_for_another_server_is_refused() {
    let world = World::up().await;
    let (door, owner) = (Door::of(&world).await, world.owner());
    let ended = (now().minus(2 * MINUTE), now().minus(MINUTE));
    door.is_refused("ended", &under(terms(&world.identity, Role::Owner, ended), &owner)).await;
    let later = (now().plus(2 * MINUTE), now().plus(3 * MINUTE));
    door.is_refused("from the future", &under(terms(&world.identity, Role::Owner, later), &owner)).await;
    let elsewhere = terms(&key(7).fingerprint(), Role::Owner, usual());
    door.is_refused("for another server", &under(elsewhere, &owner)).await;
    let good = under(terms(&world.identity, Role::Owner, usual()), &owner);
    assert_eq!(door.ask(&good, ServerStatus {}).await.answer.status, 200);
}

#[tokio::test]
async fn a_delegation_by_a_stranger_by_a_delegate_or_changed_in_any_way_is_refused() {
    let world = World::up().await;
    let (door, owner) = (Door::of(&world).await, world.owner());
    let mine = || terms(&world.identity, Role::Owner, usual());
    door.is_refused("by a stranger", &under(mine(), &key(7))).await;
    door.is_refused("without the delegation", &key(90)).await;
    // The fresh key passes its power on.
    let second = Terms::new(key(91).public_key().clone(), [world.identity.clone()], Role::Owner, usual());
    let by_delegate = second.unwrap().sign(&under(mine(), &owner)).unwrap();
    door.is_refused("by a delegate", &DelegatedSigner::new(key(91), by_delegate).unwrap()).await;
    // Terms of one, signature of another.
    let viewer = terms(&world.identity, Role::Viewer, usual()).sign(&owner).unwrap().to_header();
    let other = mine().sign(&owner).unwrap().to_header();
    let (lifted, signature) = (other.split_once('.').unwrap().0, viewer.split_once('.').unwrap().1);
    let lifted = Delegation::parse(&format!("{lifted}.{signature}")).unwrap();
    door.is_refused("lifted", &DelegatedSigner::new(key(90), lifted).unwrap()).await;
    // A byte here and there of the header.
    let good = mine().sign(&owner).unwrap();
    let header = good.to_header();
    let draft = || Draft::new(&world.identity, &door.epoch, ServerStatus {});
    for at in (0..header.len()).step_by(37) {
        let signed = draft().sign(&DelegatedSigner::new(key(90), good.clone()).unwrap());
        let mut headers = signed.head.headers();
        let mut changed = header.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        headers.last_mut().unwrap().1 = String::from_utf8(changed).unwrap();
        let reply = crate::wire::send(world.management, "POST", "/rpc", &headers, &signed.draft.body).await;
        assert_eq!((reply.answer.status, reply.code()), (401, "refused"), "{at}: {reply:?}");
    }
    let twice = draft().sign(&DelegatedSigner::new(key(90), good.clone()).unwrap());
    let mut headers = twice.head.headers();
    headers.push(headers.last().unwrap().clone());
    let reply = crate::wire::send(world.management, "POST", "/rpc", &headers, &twice.draft.body).await;
    assert_eq!((reply.answer.status, reply.code()), (401, "refused"), "twice: {reply:?}");
}

#[tokio::test]
async fn a_delegation_for_more_than_twelve_hours_is_refused_although_its_parent_signed_it() {
    let world = World::up().await;
    let (door, owner) = (Door::of(&world).await, world.owner());
    let (begin, end) = usual();
    let text = String::from_utf8(terms(&world.identity, Role::Owner, (begin, end)).bytes()).unwrap();
    let send = async |text: &str| {
        let signature = owner.sign(DELEGATION_NAMESPACE, text.as_bytes()).unwrap();
        let header = format!("{}.{}", STANDARD.encode(text), sshsig::to_base64(&signature));
        // A client that signs whatever it likes.
        let draft = Draft::new(&world.identity, &door.epoch, ServerStatus {});
        let digest = allod_proto::Digest::of(&header);
        let signed = draft.sign(&Forger(key(90), digest));
        let mut headers = signed.head.headers();
        headers.push((allod_proto::headers::DELEGATION, header));
        crate::wire::send(world.management, "POST", "/rpc", &headers, &signed.draft.body).await
    };
    let longer = begin.plus(DELEGATION_LONGEST + MINUTE).to_string();
    let reply = send(&text.replace(&end.to_string(), &longer)).await;
    assert_eq!((reply.answer.status, reply.code()), (401, "refused"), "{reply:?}");
    let reply = send(&text).await;
    assert_eq!(reply.answer.status, 200, "made by hand, the same is good: {reply:?}");
}

/// Adds the ninth line for a delegation that no honest client could make.
struct Forger(KeySigner, allod_proto::Digest);

impl Signer for Forger {
    fn public_key(&self) -> &allod_signing::PublicKey {
        self.0.public_key()
    }
    fn sign(&self, namespace: &str, message: &[u8]) -> Result<Vec<u8>, allod_signing::SignError> {
        self.0.sign(namespace, &[message, format!("{}\n", self.1).as_bytes()].concat())
    }
}

#[tokio::test]
async fn a_delegation_narrows_and_takes_the_version_that_brought_it() {
    let world = World::up().await;
    let (door, owner) = (Door::of(&world).await, world.owner());
    let viewer = under(terms(&world.identity, Role::Viewer, usual()), &owner);
    let can = door.ask(&viewer, KeysCan::default()).await.body.result.unwrap();
    assert_eq!(
        (can["role"].as_str(), can["fingerprint"].as_str()),
        (Some("viewer"), Some(owner.fingerprint().as_str()))
    );
    let prune = door.ask(&viewer, ServerPrune::default()).await;
    assert_eq!((prune.answer.status, prune.code()), (403, "not_allowed"), "{prune:?}");
    let operator = under(terms(&world.identity, Role::Operator, usual()), &owner);
    let line = format!("role=owner {}", key(90).public_openssh());
    let enrol = door.ask(&operator, KeysAdd { line }).await;
    assert_eq!((enrol.answer.status, enrol.code()), (403, "not_allowed"), "{enrol:?}");
    assert_eq!(door.ask(&operator, ServerPrune::default()).await.answer.status, 200);
    // A ceiling above the parent lifts nothing.
    let low = world.enrol("vic", 3, &["--role", "viewer"]).await;
    let lifted = under(terms(&world.identity, Role::Owner, usual()), &low);
    assert_eq!(door.ask(&lifted, ServerPrune::default()).await.code(), "not_allowed");
    let mut old = Draft::new(&world.identity, &door.epoch, ServerStatus {});
    old.body = Request { v: 1, ..Request::parse(&body_of(ServerStatus {})).unwrap() }.to_body();
    let reply = old.clone().sign(&viewer).send(world.management).await;
    assert_eq!((reply.answer.status, reply.code()), (426, "version"), "{reply:?}");
    let plain = Draft { nonce: Draft::new(&world.identity, &door.epoch, ServerStatus {}).nonce, ..old };
    assert_eq!(plain.sign(&owner).send(world.management).await.answer.status, 200);
}

/// The lines of the record, as somebody with this key reads them; reads are written down within a second.
async fn record(world: &World, key: &str) -> Vec<String> {
    let words = ["--key", key, "audit", "show", "--last", "200"];
    within(Duration::from_secs(20), "what was read is in the record", async || {
        let shown = world.allod(&words).await.ok().json();
        let lines = shown["servers"][0]["lines"].as_array().or_else(|| shown["lines"].as_array());
        let lines = lines.unwrap_or_else(|| panic!("{shown}"));
        let lines: Vec<String> = lines.iter().map(|line| line.as_str().unwrap().to_owned()).collect();
        lines.iter().any(|line| line.contains("audit.show")).then_some(lines)
    })
    .await
}

#[tokio::test]
async fn one_login_signs_for_the_commands_after_it_and_the_record_names_both() {
    let world = World::up().await;
    let owner = world.owner();
    let login = world.allod(&["login", "--role", "operator"]).await.ok().json();
    assert_eq!(login["login"]["parent"], owner.fingerprint().as_str());
    assert_eq!(
        (&login["login"]["role"], &login["servers"][0]["role"]),
        (&"operator".into(), &"operator".into())
    );
    let fresh = login["login"]["key"].as_str().unwrap();
    // The owner's own key is out of reach now: what works, works by the login.
    let hidden = world.ready["key"].as_str().unwrap().to_owned();
    let text = std::fs::read(&hidden).unwrap();
    let pruned = world.allod(&["servers", "prune"]).await.ok();
    assert!(pruned.stderr.contains("signing by the login of"), "{pruned:?}");
    world.allod(&["servers", "status"]).await.ok();
    let (code, message) = world.allod(&["keys", "revoke", owner.fingerprint().as_str()]).await.refused(4);
    assert_eq!(code, "not_allowed", "{message}");
    let lines = record(&world, &hidden).await;
    let by = |command: &str, entry: &str| {
        let line = lines.iter().rfind(|line| line.contains(command) && line.contains(entry));
        line.unwrap_or_else(|| panic!("no {entry} of {command}: {lines:?}")).clone()
    };
    for (command, entry) in [("server.prune", "\"intent\""), ("server.status", "\"read\"")] {
        let line = by(command, entry);
        assert!(line.contains(fresh) && line.contains(owner.fingerprint().as_str()), "{line}");
    }
    assert!(by("server.prune", "\"intent\"").contains("\"delegation\":"), "the record proves who delegated");
    let ended = world.allod(&["logout"]).await.ok().json();
    assert_eq!(ended["ended"], 1);
    let after = world.allod(&["servers", "prune"]).await.ok();
    assert!(!after.stderr.contains("login"), "{after:?}");
    assert_eq!(std::fs::read(&hidden).unwrap(), text);
}

#[tokio::test]
async fn a_login_dies_with_its_parent_and_so_does_its_open_stream() {
    let world = World::up().await;
    let parent = world.enrol("bob", 2, &["--role", "operator"]).await;
    let bob = world.person("bob", &parent);
    bob.run(&["login", "--for", "12h"]).await.ok();
    // What is left to bob is the login alone.
    std::fs::write(bob.home.join("key"), "gone").unwrap();
    std::fs::remove_file(bob.home.join("key")).unwrap();
    let inventory = std::fs::read_to_string(bob.home.join("servers.toml")).unwrap();
    let without: Vec<&str> = inventory.lines().filter(|line| !line.starts_with("key = ")).collect();
    std::fs::write(bob.home.join("servers.toml"), without.join("\n")).unwrap();
    bob.run(&["keys", "list"]).await.ok();
    let mut follow = bob.command(&["--json", "audit", "follow"]).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    bob.run(&["can", "--me"]).await.ok();
    let shown = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await.unwrap().unwrap();
    assert!(shown.is_some());
    world.allod(&["keys", "revoke", "bob"]).await.ok();
    let ended = async {
        while let Ok(Some(_)) = lines.next_line().await {}
        follow.wait().await.unwrap()
    };
    let ended = tokio::time::timeout(Duration::from_secs(20), ended).await.expect("the stream goes on");
    assert_eq!(ended.code(), Some(3));
    assert_eq!(bob.run(&["can", "--me"]).await.refused(3).0, "refused");
}

#[tokio::test]
async fn a_login_that_no_server_accepts_is_not_kept() {
    let world = World::up().await;
    let stranger = world.person("eve", &key(66));
    assert_eq!(stranger.run(&["login"]).await.refused(3).0, "refused");
    assert_eq!(stranger.run(&["logout"]).await.ok().json()["ended"], 0);
    for words in [["login", "--for", "13h"], ["login", "--for", "0m"], ["login", "--role", "king"]] {
        assert_eq!(world.allod(&words).await.code, 2, "{words:?}");
    }
    assert_eq!(world.allod(&["login", "--on", "nowhere"]).await.code, 5);
}

#[tokio::test]
async fn a_retry_by_another_login_of_the_same_key_is_the_same_request() {
    let world = World::up().await;
    let (door, owner) = (Door::of(&world).await, world.owner());
    let draft = Draft::new(&world.identity, &door.epoch, ServerPrune::default());
    let by = |seed: u8| {
        let span = usual();
        let made = Terms::new(key(seed).public_key().clone(), [world.identity.clone()], Role::Owner, span);
        DelegatedSigner::new(key(seed), made.unwrap().sign(&owner).unwrap()).unwrap()
    };
    let first = draft.clone().sign(&by(91)).send(world.management).await;
    assert_eq!(first.answer.status, 200, "{first:?}");
    let fresh_nonce = || Draft::new(&world.identity, &door.epoch, ServerPrune::default()).nonce;
    let again = Draft { nonce: fresh_nonce(), ..draft.clone() }.sign(&by(92)).send(world.management).await;
    assert_eq!((again.answer.status, &again.body.result), (200, &first.body.result));
    let lines = record(&world, world.ready["key"].as_str().unwrap()).await;
    let intents = lines.iter().filter(|line| line.contains("\"server.prune\"")).count();
    assert_eq!(intents, 1, "done once");
}
