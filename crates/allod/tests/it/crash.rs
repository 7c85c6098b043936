//! Programs die by SIGKILL in the middle of a deploy and under load. Apps run on, visitors are served again at once, the
//! deploy ends, and the record is whole.

use crate::{
    load::Load,
    processes::{eventually, is_alive},
    visitor::get,
    world::World,
};
use std::time::Duration;

/// How long visitors may be without an answer after the proxy died.
const SERVING_AGAIN: Duration = Duration::from_secs(3);

async fn dies_in_the_middle(programs: &[&str]) {
    let world = World::up().await;
    let app = world.app("blog").with(|options| options.instances = 2);
    app.deploy(&world, "v1").await.ok();
    let before = app.pids(&world).await;
    let app = app.with(|options| options.arguments = ["--start-delay", "1500"].map(str::to_owned).into());
    app.write("v2");
    let load = Load::begin(world.http, "/");
    let deploying = app.run(&world, &["deploy"]);
    let dying = async {
        world.is_busy().await;
        let killed: Vec<_> = programs.iter().map(|program| (*program, world.kill(program))).collect();
        let moment = load.elapsed();
        for (program, pid) in killed {
            world.is_back(program, pid).await;
        }
        let alive = before.iter().filter(|pid| is_alive(**pid)).count();
        let served = eventually("visitors are served", async || load.first_answer_after(moment)).await;
        (alive, moment, served - moment)
    };
    let (deployed, (alive, moment, pause)) = tokio::join!(deploying, dying);
    assert_eq!(alive, 2, "apps died with {programs:?}");
    assert!(pause < SERVING_AGAIN, "{pause:?} after {programs:?} died at {moment:?}");
    // It ended well, or it failed and said so; the command line is not left hanging either way.
    assert!(matches!(deployed.code, 0 | 1 | 6 | 7 | 8), "{deployed:?}");
    world.is_idle().await;
    let state = world.operations().await[0]["state"].clone();
    assert!(state == "done" || state == "failed", "{state}");
    let expected = if state == "done" { "v2" } else { "v1" };
    eventually(&format!("{expected} serves"), async || {
        let answer = get(world.http, "a", "/").await.ok()?;
        (answer.header("x-version") == Some(expected)).then_some(())
    })
    .await;
    let report = load.stop().await;
    if !programs.contains(&"proxy") {
        report.all_answered();
    }
    world.allod(&["audit", "verify"]).await.ok();
    // The server works as before.
    let app = app.with(|options| options.arguments.clear());
    app.deploy(&world, "v3").await.ok();
    assert_eq!(get(world.http, "a", "/").await.unwrap().header("x-version"), Some("v3"));
    let pids =
        eventually("two copies", async || Some(app.pids(&world).await).filter(|pids| pids.len() == 2)).await;
    assert!(pids.iter().all(|pid| is_alive(*pid)));
    assert!(before.iter().all(|pid| !is_alive(*pid)), "old copies were left behind");
}

#[tokio::test]
async fn the_agent_dies_in_the_middle_of_a_deploy() {
    dies_in_the_middle(&["agent"]).await;
}

#[tokio::test]
async fn the_executor_dies_in_the_middle_of_a_deploy() {
    dies_in_the_middle(&["executor"]).await;
}

#[tokio::test]
async fn the_proxy_dies_in_the_middle_of_a_deploy() {
    dies_in_the_middle(&["proxy"]).await;
}

#[tokio::test]
async fn all_of_them_die_in_the_middle_of_a_deploy() {
    dies_in_the_middle(&["executor", "agent", "proxy"]).await;
}

#[tokio::test]
async fn apps_do_not_notice_when_everything_around_them_dies() {
    let world = World::up().await;
    let app = world.app("blog").with(|options| options.instances = 2);
    app.deploy(&world, "v1").await.ok();
    let before = app.pids(&world).await;
    let load = Load::begin(world.http, "/");
    for program in ["agent", "executor", "hub", "agent"] {
        let pid = world.kill(program);
        world.is_back(program, pid).await;
        eventually("the server answers", async || {
            (world.allod(&["servers", "status"]).await.code == 0).then_some(())
        })
        .await;
        assert_eq!(app.pids(&world).await, before, "after {program} died");
    }
    load.stop().await.all_answered();
    let unit = app.status(&world).await["units"][0].clone();
    let restarts: Vec<_> =
        unit["instances"].as_array().unwrap().iter().map(|it| it["restarts"].clone()).collect();
    assert_eq!(restarts, [0, 0]);
    world.allod(&["audit", "verify"]).await.ok();
}
