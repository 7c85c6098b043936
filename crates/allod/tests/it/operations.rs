//! Long work belongs to the server: it goes on without its client, is done once, and one at a time an app.

use crate::{
    app::App,
    processes::{eventually, signal},
    visitor::get,
    world::World,
};
use allod_proto::{CommandId, messages::app::AppRestart};
use allod_rpc::client::{Client, Forgetful, Peer};
use rustix::process::Signal;
use std::sync::Arc;

fn slow(world: &World, milliseconds: &str) -> App {
    world
        .app("blog")
        .with(|options| options.arguments = ["--start-delay", milliseconds].map(str::to_owned).into())
}

#[tokio::test]
async fn a_request_that_is_sent_again_under_its_id_is_done_once() {
    let world = World::up().await;
    let app = world.app("blog");
    app.deploy(&world, "v1").await.ok();
    let peer = Peer {
        name: "local".to_owned(),
        address: world.management,
        identity: world.identity.clone(),
        record_key: None,
    };
    let (id, restart) =
        (CommandId::new("the-same-id-each-time").unwrap(), AppRestart { app: "blog".parse().unwrap() });
    let mut client =
        Client::connect(peer, Arc::new(world.owner()), Box::new(Forgetful::default())).await.unwrap();
    let first = client.call_with_id(&id, restart.clone()).await.unwrap();
    let again = client.call_with_id(&id, restart.clone()).await.unwrap();
    assert_eq!(first, again);
    world.is_idle().await;
    let late = client.call_with_id(&id, restart).await.unwrap();
    assert_eq!(first, late);
    assert_eq!(world.operations().await.len(), 2, "a deploy and one restart");
}

#[tokio::test]
async fn a_second_deploy_while_one_runs_is_told_whose_that_is() {
    let world = World::up().await;
    let app = slow(&world, "4000");
    app.write("v1");
    let first = app.run(&world, &["deploy"]);
    let second = async {
        world.is_busy().await;
        app.run(&world, &["deploy"]).await
    };
    let (first, second) = tokio::join!(first, second);
    first.ok();
    assert_eq!(second.code, 6, "{second:?}");
    for said in ["app.deploy", "owner", "ops attach"] {
        assert!(second.stdout.contains(said), "{said}: {second:?}");
    }
}

#[tokio::test]
async fn ctrl_c_leaves_the_deploy_running_and_attach_picks_it_up() {
    let world = World::up().await;
    let app = slow(&world, "4000");
    app.write("v1");
    let mut deploy =
        world.cli.command(&["deploy", "--yes", "--json"]).current_dir(&app.folder).spawn().unwrap();
    let operation = world.is_busy().await;
    signal(deploy.id().unwrap(), Signal::INT);
    assert_eq!(deploy.wait().await.unwrap().code(), Some(130));
    let id = operation["id"].as_str().unwrap();
    let attached = world.allod(&["ops", "attach", id]).await.ok();
    assert_eq!(attached.lines().last().unwrap()["event"], "finished", "{attached:?}");
    assert_eq!(get(world.http, "a", "/").await.unwrap().header("x-version"), Some("v1"));
}

#[tokio::test]
async fn a_cancelled_deploy_leaves_what_served() {
    let world = World::up().await;
    world.app("blog").deploy(&world, "v1").await.ok();
    let app = slow(&world, "15000");
    app.write("v2");
    let deploying = app.run(&world, &["deploy"]);
    let cancelling = async {
        let operation = world.is_busy().await;
        world.allod(&["ops", "cancel", operation["id"].as_str().unwrap()]).await.ok();
    };
    let (deployed, ()) = tokio::join!(deploying, cancelling);
    assert_eq!(deployed.refused(6).0, "cancelled");
    assert_eq!(get(world.http, "a", "/").await.unwrap().header("x-version"), Some("v1"));
    let operations = world.operations().await;
    assert_eq!(operations[0]["state"], "cancelled", "{operations:?}");
    // Nothing of it is left behind.
    let pids =
        eventually("the new copy is gone", async || Some(app.pids(&world).await).filter(|it| it.len() == 1))
            .await;
    assert!(crate::processes::is_alive(pids[0]));
}
