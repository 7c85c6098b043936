//! A server takes another identity, and everybody who knew it follows; nobody else is followed.

use crate::{processes::within, visitor::get, wire::Draft, world::World};
use allod_proto::messages::server::{ServerRotateIdentity, ServerStatus};
use allod_rpc::client::hello;
use allod_signing::{KeySigner, follow};
use std::{net::SocketAddr, time::Duration};

#[tokio::test]
async fn only_an_owner_who_knows_the_present_identity_rotates_it() {
    let world = World::up().await;
    let key = world.enrol("oda", 3, &["--role", "operator"]).await;
    let oda = world.person("oda", &key);
    let name = world.ready["name"].as_str().unwrap_or("local").to_owned();
    let listed = world.allod(&["servers", "list"]).await.ok().json();
    let name = listed["servers"][0]["name"].as_str().map_or(name, str::to_owned);
    assert_eq!(oda.run(&["servers", "rotate", &name]).await.refused(4).0, "not_allowed");
    let epoch = hello(world.management).await.unwrap().epoch;
    let other = KeySigner::generate([9; 32], "x");
    let from = allod_signing::Signer::fingerprint(&other);
    let draft = Draft::new(&world.identity, &epoch, ServerRotateIdentity { from });
    let reply = draft.sign(&world.owner()).send(world.management).await;
    assert_eq!((reply.answer.status, reply.code()), (409, "conflict"), "{reply:?}");
    assert_eq!(hello(world.management).await.unwrap().identity, world.identity);
}

#[tokio::test]
async fn who_pinned_the_old_identity_follows_to_the_new_one_and_is_told() {
    let world = World::up().await;
    let key = world.enrol("vic", 3, &["--role", "viewer"]).await;
    let (vic, late) = (world.person("vic", &key), world.person("late", &key));
    vic.run(&["servers", "status"]).await.ok();
    let listed = world.allod(&["servers", "list"]).await.ok().json();
    let name = listed["servers"][0]["name"].as_str().unwrap().to_owned();
    let before = hello(world.management).await.unwrap();
    let rotated = world.allod(&["servers", "rotate", &name]).await.ok().json();
    assert_eq!(rotated["was"], world.identity.as_str());
    let after = hello(world.management).await.unwrap();
    assert_eq!(rotated["identity"], after.identity.as_str());
    assert_ne!(after.identity, before.identity);
    assert!(follow(&after.succession, &before.identity, &after.identity).is_ok());
    // Requests for the identity that was: refused, as a stranger's, in both lives of the agent.
    for epoch in [&before.epoch, &after.epoch] {
        let old = Draft::new(&before.identity, epoch, ServerStatus {}).sign(&world.owner());
        let old = old.send(world.management).await;
        assert_eq!((old.answer.status, old.code()), (401, "refused"), "{old:?}");
    }
    for person in [&vic, &late] {
        let told = person.run(&["servers", "status"]).await.ok();
        assert!(told.stderr.contains(after.identity.as_str()), "{told:?}");
        let again = person.run(&["servers", "status"]).await.ok();
        assert!(!again.stderr.contains("another identity"), "told once: {again:?}");
    }
    // Its own key is nowhere in the agent's hands but in memory; the record and the hub go on.
    assert!(!world.state.join("agent/identity.key").exists());
    world.allod(&["audit", "verify"]).await.ok();
    // A second one, and somebody who slept through both.
    let second = world.allod(&["servers", "rotate", &name]).await.ok().json();
    let sleeper = world.person("sleeper", &key);
    let text = std::fs::read_to_string(sleeper.home.join("servers.toml")).unwrap();
    let now = second["identity"].as_str().unwrap();
    std::fs::write(sleeper.home.join("servers.toml"), text.replace(now, before.identity.as_str())).unwrap();
    sleeper.run(&["servers", "status"]).await.ok();
    let pinned = std::fs::read_to_string(sleeper.home.join("servers.toml")).unwrap();
    assert!(pinned.contains(now), "{pinned}");
    // The hub knows one server, by the identity that it has now, and nothing is wrong with it.
    let hub: SocketAddr = world.ready["hub"]
        .as_str()
        .unwrap()
        .trim_start_matches("http://")
        .trim_end_matches('/')
        .parse()
        .unwrap();
    within(Duration::from_secs(40), "the hub has followed", async || {
        let shown = get(hub, &hub.to_string(), "/status.json").await.ok()?;
        let shown: serde_json::Value = serde_json::from_str(&shown.body).ok()?;
        let servers = shown["servers"].as_array()?;
        assert!(servers.iter().all(|server| server["trouble"].is_null()), "{shown}");
        (servers.len() == 1 && servers[0]["identity"] == now).then_some(())
    })
    .await;
    // The programs begin again with it.
    let killed = world.kill("executor");
    world.is_back("executor", killed).await;
    within(Duration::from_secs(30), "the server answers as what it is", async || {
        hello(world.management).await.ok().filter(|hello| hello.identity.as_str() == now)
    })
    .await;
    within(Duration::from_secs(30), "commands work", async || {
        (world.allod(&["servers", "status"]).await.code == 0).then_some(())
    })
    .await;
}
