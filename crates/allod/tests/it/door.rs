//! The signed door against those who hold no key, the wrong key, an old request, or a key that may not.

use crate::{
    processes::within,
    wire::{Draft, Signed, body_of, now, send},
    world::World,
};
use allod_proto::{
    AppRef, Epoch, Role, Timestamp, headers,
    limits::BODY,
    messages::{
        app::{AppStatusGet, AppStop},
        keys::{KeysAdd, KeysCan, KeysList},
        server::{ServerDoctor, ServerStatus},
    },
};
use allod_rpc::client::hello;
use allod_signing::{KeySigner, Signer as _};
use std::{
    process::Stdio,
    time::{Duration, Instant},
};
use tokio::io::{AsyncBufReadExt as _, BufReader};

async fn epoch(world: &World) -> Epoch {
    hello(world.management).await.unwrap().epoch
}

async fn look(world: &World) -> Draft {
    Draft::new(&world.identity, &epoch(world).await, ServerStatus {})
}

fn app(name: &str) -> AppRef {
    name.parse().unwrap()
}

#[tokio::test]
async fn a_request_is_good_once() {
    let world = World::up().await;
    let signed = look(&world).await.sign(&world.owner());
    let first = signed.send(world.management).await;
    assert_eq!((first.answer.status, first.code()), (200, "none"), "{first:?}");
    let again = signed.send(world.management).await;
    assert_eq!((again.answer.status, again.code()), (401, "replay"), "{again:?}");
    assert!(again.is_signed(), "the caller proved who they are, so the refusal is proven too");
}

#[tokio::test]
async fn a_request_is_good_for_one_server_only() {
    let (here, there) = tokio::join!(World::up(), World::up());
    // The same person owns both.
    let owner = here.owner();
    there.allod(&["keys", "add", &owner.public_openssh(), "--role", "owner", "--name", "both"]).await.ok();
    // Even an attacker who learns the other server's epoch can't pass a request on.
    let draft = Draft::new(&here.identity, &epoch(&there).await, ServerStatus {});
    let passed_on = draft.clone().sign(&owner).send(there.management).await;
    assert_eq!((passed_on.answer.status, passed_on.code()), (401, "refused"), "{passed_on:?}");
    let meant = Draft { audience: there.identity.clone(), ..draft }.sign(&owner).send(there.management).await;
    assert_eq!(meant.answer.status, 200, "{meant:?}");
}

#[tokio::test]
async fn a_signature_is_good_for_its_own_route_and_body_only() {
    let world = World::up().await;
    let (owner, at) = (world.owner(), world.management);
    let elsewhere = Draft { path: "/rpc?x=1".to_owned(), ..look(&world).await }.sign(&owner);
    let refused = elsewhere.send_as(at, "POST", headers::RPC_PATH, &elsewhere.draft.body).await;
    assert_eq!((refused.answer.status, refused.code()), (401, "refused"), "{refused:?}");
    let put = Draft { method: "PUT", ..look(&world).await }.sign(&owner);
    let refused = put.send_as(at, "POST", headers::RPC_PATH, &put.draft.body).await;
    assert_eq!((refused.answer.status, refused.code()), (401, "refused"), "{refused:?}");
    let other_body = look(&world).await.sign(&owner);
    let refused = other_body.send_as(at, "POST", headers::RPC_PATH, &body_of(KeysList {})).await;
    assert_eq!((refused.answer.status, refused.code()), (401, "refused"), "{refused:?}");
    let chunk = look(&world).await.sign(&owner);
    let path = format!("/chunks/blog/production/{}", "0".repeat(64));
    let refused = chunk.send_as(at, "PUT", &path, &chunk.draft.body).await;
    assert_eq!((refused.answer.status, refused.code()), (401, "refused"), "{refused:?}");
    assert_eq!(look(&world).await.sign(&owner).send(at).await.answer.status, 200);
}

#[tokio::test]
async fn who_proves_nothing_is_not_told_what_was_wrong() {
    let world = World::up().await;
    let (at, owner) = (world.management, world.owner());
    let stranger = KeySigner::generate([9; 32], "stranger");
    let good = look(&world).await.sign(&owner);
    let unsigned = send(at, "POST", headers::RPC_PATH, &[], &good.draft.body).await;
    let unknown_key = look(&world).await.sign(&stranger).send(at).await;
    // A stranger who claims the owner's key.
    let mut claimed = look(&world).await.sign(&stranger);
    claimed.head.fingerprint = owner.fingerprint();
    let claimed = claimed.send(at).await;
    let mut forged = look(&world).await.sign(&owner);
    let last = forged.head.signature.len() - 1;
    forged.head.signature[last] ^= 1;
    let forged = forged.send(at).await;
    // A stranger whose clock, epoch or wish is wrong as well learns of none of it.
    let late = Draft { timestamp: Timestamp(1), ..look(&world).await }.sign(&stranger).send(at).await;
    let old =
        Draft { epoch: Epoch::from_random([7; 16]), ..look(&world).await }.sign(&stranger).send(at).await;
    let mut without = good.head.headers();
    without.retain(|(name, _)| *name != headers::NONCE);
    let without = send(at, "POST", headers::RPC_PATH, &without, &good.draft.body).await;
    let mut twice = good.head.headers();
    twice.push((headers::NONCE, "a".repeat(32)));
    let twice = send(at, "POST", headers::RPC_PATH, &twice, &good.draft.body).await;
    for reply in [&unknown_key, &claimed, &forged, &late, &old, &without, &twice] {
        assert_eq!((reply.answer.status, reply.code()), (401, "refused"), "{reply:?}");
        assert_eq!(reply.answer.body, unsigned.answer.body, "the wire tells refusals apart");
        assert!(!reply.is_signed() && reply.answer.header(headers::RECORD).is_none(), "{reply:?}");
    }
    assert_eq!(good.send(at).await.answer.status, 200, "none of these spent the owner's nonce");
}

#[tokio::test]
async fn after_a_restart_an_old_signature_is_stale_and_the_command_line_signs_again_by_itself() {
    let world = World::up().await;
    let owner = world.owner();
    world.allod(&["servers", "status"]).await.ok();
    let before = epoch(&world).await;
    let kept = look(&world).await.sign(&owner);
    let killed = world.kill("agent");
    world.is_back("agent", killed).await;
    within(Duration::from_secs(20), "the agent answers", async || {
        hello(world.management).await.ok().filter(|hello| hello.epoch != before)
    })
    .await;
    let stale = kept.send(world.management).await;
    assert_eq!((stale.answer.status, stale.code()), (401, "stale_epoch"), "{stale:?}");
    assert!(stale.is_signed());
    let output = world.allod(&["servers", "status"]).await.ok();
    assert_eq!(output.json()["servers"][0]["ok"], true, "{output:?}");
}

#[tokio::test]
async fn a_revoked_key_is_refused_on_its_next_request_and_its_open_stream_ends() {
    let world = World::up().await;
    let key = world.enrol("bob", 2, &["--role", "operator"]).await;
    let bob = world.person("bob", &key);
    bob.run(&["keys", "list"]).await.ok();
    let mut follow = bob.command(&["--json", "audit", "follow"]).stderr(Stdio::null()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    // Something for the stream to show, so that it is known to be open.
    bob.run(&["can", "--me"]).await.ok();
    let shown = tokio::time::timeout(Duration::from_secs(20), lines.next_line()).await.unwrap().unwrap();
    assert!(shown.is_some());

    world.allod(&["keys", "revoke", "bob"]).await.ok();
    let revoked = Instant::now();
    let next = look(&world).await.sign(&key).send(world.management).await;
    assert_eq!((next.answer.status, next.code()), (401, "refused"), "{next:?}");
    let ended = async {
        while let Ok(Some(_)) = lines.next_line().await {}
        follow.wait().await.unwrap()
    };
    let ended = tokio::time::timeout(Duration::from_secs(10), ended).await.expect("the stream goes on");
    assert!(revoked.elapsed() < Duration::from_secs(3), "{:?}", revoked.elapsed());
    assert_eq!(ended.code(), Some(3));
    assert_eq!(bob.run(&["can", "--me"]).await.refused(3).0, "refused");
    // It can't come back by being enrolled once more.
    let again = world.allod(&["keys", "add", &key.public_openssh(), "--role", "viewer"]).await;
    assert_eq!(again.code, 6, "{again:?}");
}

#[tokio::test]
async fn a_viewer_may_look_and_nothing_else() {
    let world = World::up().await;
    let key = world.enrol("vic", 3, &["--role", "viewer"]).await;
    let vic = world.person("vic", &key);
    vic.run(&["servers", "status"]).await.ok();
    let (code, _) = vic.run(&["keys", "list"]).await.refused(4);
    assert_eq!(code, "not_allowed");
    let (code, _) = vic.run(&["keys", "revoke", key.fingerprint().as_str()]).await.refused(4);
    assert_eq!(code, "not_allowed");
    let (code, _) = vic.run(&["keys", "add", &key.public_openssh(), "--role", "owner"]).await.refused(4);
    assert_eq!(code, "not_allowed");
    assert_eq!(vic.run(&["audit", "show"]).await.refused(4).0, "not_allowed");
    let draft = Draft::new(&world.identity, &epoch(&world).await, AppStop { app: app("blog") });
    let refused = draft.sign(&key).send(world.management).await;
    assert_eq!((refused.answer.status, refused.code()), (403, "not_allowed"), "{refused:?}");
    let keys = world.allod(&["keys", "list"]).await.ok().json();
    let roles: Vec<_> =
        keys["servers"][0]["keys"].as_array().unwrap().iter().map(|key| key["role"].clone()).collect();
    assert_eq!(roles, ["owner", "viewer"], "{keys}");
}

#[tokio::test]
async fn a_key_narrowed_to_an_app_reaches_that_app_only() {
    let world = World::up().await;
    let key = world.enrol("dee", 4, &["--role", "deployer", "--apps", "blog"]).await;
    let ask = async |draft: Draft| draft.sign(&key).send(world.management).await;
    let epoch = epoch(&world).await;
    let of = |name: &str| Draft::new(&world.identity, &epoch, AppStatusGet { app: app(name) });
    let other = ask(of("shop")).await;
    assert_eq!((other.answer.status, other.code()), (403, "not_allowed"), "{other:?}");
    let whole = ask(Draft::new(&world.identity, &epoch, ServerDoctor {})).await;
    assert_eq!((whole.answer.status, whole.code()), (403, "not_allowed"), "{whole:?}");
    let chunk = Draft {
        method: "PUT",
        path: format!("{}shop/production/{}", headers::CHUNKS_PATH, allod_proto::Digest::of(b"x")),
        body: b"x".to_vec(),
        ..of("shop")
    };
    let chunk = ask(chunk).await;
    assert_eq!((chunk.answer.status, chunk.code()), (403, "not_allowed"), "{chunk:?}");
    // Of its own app it learns the truth: there is none yet.
    let own = ask(of("blog")).await;
    assert_eq!((own.answer.status, own.code()), (404, "not_found"), "{own:?}");
    let can = ask(Draft::new(&world.identity, &epoch, KeysCan::default())).await;
    assert_eq!(can.body.result.unwrap()["role"], serde_json::to_value(Role::Deployer).unwrap());
}

#[tokio::test]
async fn what_is_too_large_or_goes_nowhere_is_refused() {
    let world = World::up().await;
    let (at, owner) = (world.management, world.owner());
    let large = Draft { body: vec![b' '; BODY + 1], ..look(&world).await }.sign(&owner).send(at).await;
    assert_eq!((large.answer.status, large.code()), (413, "too_large"), "{:?}", large.answer.head);
    for (method, path) in
        [("GET", "/rpc"), ("POST", "/"), ("POST", "/rpc/"), ("PUT", "/rpc"), ("GET", "/chunks/a/b/c")]
    {
        let nowhere = send(at, method, path, &[], b"").await;
        assert_eq!((nowhere.answer.status, nowhere.code()), (404, "not_found"), "{method} {path}");
    }
    let nonsense = Draft { body: b"{\"v\":1}".to_vec(), ..look(&world).await }.sign(&owner).send(at).await;
    assert_eq!((nonsense.answer.status, nonsense.code()), (400, "malformed"), "{nonsense:?}");
    let newer = String::from_utf8(body_of(ServerStatus {})).unwrap().replace("\"v\":2", "\"v\":99");
    let newer = Draft { body: newer.into_bytes(), ..look(&world).await }.sign(&owner).send(at).await;
    assert_eq!((newer.answer.status, newer.code()), (426, "version"), "{newer:?}");
}

#[tokio::test]
async fn the_last_owner_stays() {
    let world = World::up().await;
    let owner = world.owner();
    let (code, message) = world.allod(&["keys", "revoke", owner.fingerprint().as_str()]).await.refused(6);
    assert_eq!(code, "conflict", "{message}");
    let demoted = world.allod(&["keys", "add", &owner.public_openssh(), "--role", "viewer"]).await;
    assert_eq!(demoted.code, 6, "{demoted:?}");
    // With a second one, the first may go.
    world.enrol("second", 5, &["--role", "owner"]).await;
    world.allod(&["keys", "revoke", owner.fingerprint().as_str()]).await.ok();
    assert_eq!(world.allod(&["keys", "list"]).await.code, 3);
}

#[tokio::test]
async fn a_caller_with_a_wrong_clock_is_told_the_time_and_comes_in_with_it() {
    let world = World::up().await;
    let owner = world.owner();
    for timestamp in [now().plus(Duration::from_secs(90)), now().minus(Duration::from_secs(90))] {
        let wrong = Draft { timestamp, ..look(&world).await }.sign(&owner).send(world.management).await;
        assert_eq!((wrong.answer.status, wrong.code()), (401, "clock"), "{wrong:?}");
        assert!(wrong.is_signed());
        let told = wrong.body.fault.unwrap().server_time.unwrap();
        assert!(told.distance(now()) < Duration::from_secs(30));
        let corrected: Signed = Draft { timestamp: told, ..look(&world).await }.sign(&owner);
        assert_eq!(corrected.send(world.management).await.answer.status, 200);
    }
}

#[tokio::test]
async fn a_line_that_would_authorise_nobody_is_refused_by_the_server_too() {
    let world = World::up().await;
    let key = KeySigner::generate([6; 32], "eve").public_openssh();
    let before = world.allod(&["keys", "list"]).await.ok().json();
    for line in [
        format!("role=king {key}"),
        format!("role=owner,danger {key}"),
        key.clone(),
        format!("role=owner {key}\nrole=owner {key}"),
    ] {
        let draft = Draft::new(&world.identity, &epoch(&world).await, KeysAdd { line: line.clone() });
        let refused = draft.sign(&world.owner()).send(world.management).await;
        assert_eq!(refused.code(), "invalid", "{line:?}: {refused:?}");
    }
    assert_eq!(world.allod(&["keys", "list"]).await.ok().json()["servers"], before["servers"]);
}
