//! Beginning and ending: who may, with what, and what is left.

use crate::world::{PATIENCE, World, is_up, until};
use allod_mesh::{Mesh as _, Trouble};
use allod_meshnode::Clock;
use allod_node::{NodeError, Way};
use allod_proto::Timestamp;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::time::{sleep, timeout};

fn kept(world: &World, name: &str) -> String {
    std::fs::read_to_string(world.folder.path().join(name).join("node/network.json")).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_node_on_a_folder_is_refused_with_the_firsts_process_id() {
    let world = World::start().await;
    let (first, _mesh) = world.node("one").await;
    let second = world.run("one", world.settings("one", Way::Back));
    let refused = timeout(PATIENCE, second.running).await.unwrap().unwrap().unwrap_err().to_string();
    assert!(refused.contains(&std::process::id().to_string()), "{refused}");
    first.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_network_is_refused_and_changes_nothing() {
    let (world, other) = (World::start().await, World::start().await);
    let (node, _mesh) = world.node("one").await;
    node.end().await;
    let before = kept(&world, "one");
    let stray = world.run("one", world.settings("one", Way::Token(other.token().await)));
    let refused = timeout(PATIENCE, stray.running).await.unwrap().unwrap();
    assert!(matches!(refused, Err(NodeError::Network(_))), "{refused:?}");
    assert_eq!(kept(&world, "one"), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_told_to_end_leaves_no_socket() {
    let world = World::start().await;
    let (node, _mesh) = world.node("one").await;
    let socket = node.socket();
    assert!(socket.exists());
    node.end().await;
    assert!(!socket.exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_join_key_is_on_the_disk_until_the_node_is_in_and_then_no_more() {
    let mut world = World::start().await;
    let token = world.token().await;
    let key = token.join_key().to_owned();
    world.leave().await;
    // It can't join, is killed, and comes back without being given the token again.
    let settings = world.settings("one", Way::Token(token));
    let node = world.run("one", settings);
    let mesh = node.mesh().await;
    until(&*mesh, |status| matches!(status.troubles.as_slice(), [Trouble::Joining { why: Some(_) }])).await;
    assert!(kept(&world, "one").contains(&key));
    node.kill().await;
    let node = world.back("one").await;
    world.serve().await;
    is_up(&*mesh).await;
    let is_gone = async {
        while kept(&world, "one").contains(&key) {
            sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(PATIENCE, is_gone).await.expect("the key is still on the disk");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_killed_before_it_forgot_its_key_is_let_in_with_it_again() {
    let world = World::start().await;
    let token = world.token().await;
    let (node, mesh) = {
        let node = world.run("one", world.settings("one", Way::Token(token.clone())));
        let mesh = node.mesh().await;
        (node, mesh)
    };
    is_up(&*mesh).await;
    let address = mesh.watch().borrow().addresses.clone();
    node.kill().await;
    // As if it had been killed between the coordinator's answer and the first thing that it wrote.
    std::fs::remove_file(world.folder.path().join("one/node/place/map.json")).unwrap();
    let settings = world.settings("one", Way::Token(token));
    until(&*mesh, |status| !status.up).await;
    let node = world.run_when_free("one", settings).await;
    is_up(&*mesh).await;
    assert_eq!(mesh.watch().borrow().addresses, address);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_nobody_used_for_a_while_ends_and_one_that_is_used_does_not() {
    let world = World::start().await;
    let mut settings = world.settings("one", Way::Token(world.token().await));
    settings.idle_end = Some(Duration::from_millis(300));
    let node = world.run("one", settings);
    let mesh = node.mesh().await;
    is_up(&*mesh).await;
    // A watch is a connection.
    assert!(timeout(Duration::from_secs(1), sleep_until_ended(&node)).await.is_err());
    drop(mesh);
    timeout(PATIENCE, node.running).await.unwrap().unwrap().unwrap();
}

async fn sleep_until_ended(node: &crate::world::Node) {
    while !node.running.is_finished() {
        sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_the_nodes_task_fails_the_program_ends_with_an_error() {
    let world = World::start().await;
    let is_broken = Arc::new(AtomicBool::new(false));
    let (breaks, inner) = (Arc::clone(&is_broken), Arc::clone(&world.clock));
    let clock: Clock = Arc::new(move || -> Timestamp {
        assert!(!breaks.load(Ordering::Relaxed), "the test breaks it here");
        inner()
    });
    let settings = world.settings("one", Way::Token(world.token().await));
    let node = world.run_by("one", settings, clock);
    let mesh = node.mesh().await;
    is_up(&*mesh).await;
    is_broken.store(true, Ordering::Relaxed);
    let ended = timeout(PATIENCE, node.running).await.unwrap().unwrap();
    assert!(matches!(ended, Err(NodeError::Ended)), "{ended:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_key_it_waits_until_somebody_lets_it_in_and_says_where() {
    let world = World::start().await;
    let way = Way::Coordinator { url: world.url(), key: None };
    let node = world.run("one", world.settings("one", way));
    let mesh = node.mesh().await;
    let asks = |trouble: &Trouble| matches!(trouble, Trouble::LogIn { .. } | Trouble::NeedsApproval);
    until(&*mesh, |status| status.troubles.iter().any(asks)).await;
    let waiting = world.coordinator().waiting();
    assert_eq!(waiting.len(), 1);
    world.coordinator().approve(waiting[0].id.clone(), Vec::new(), None).await.unwrap();
    is_up(&*mesh).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_there_before_its_coordinator_joins_when_that_comes() {
    let mut world = World::start().await;
    let token = world.token().await;
    world.leave().await;
    let node = world.run("one", world.settings("one", Way::Token(token)));
    let mesh = node.mesh().await;
    until(&*mesh, |status| status.troubles.iter().any(Trouble::is_grave)).await;
    world.serve().await;
    is_up(&*mesh).await;
    node.end().await;
}
