//! What stays when a deploy fails: one test for each row of the matrix of failures. What served goes on serving, the
//! person is told which it is, and the next deploy works.

use crate::{
    app::App,
    cli::Cli,
    load::Load,
    processes::{eventually, signal},
    visitor::get,
    world::World,
};
use rustix::process::Signal;
use serde_json::Value;

/// Exit codes of commands that run on the client.
const COMMAND_FAILED: i32 = 11;
const AFTER_FAILED: i32 = 12;

async fn version(world: &World) -> Option<String> {
    let answer = get(world.http, "a", "/").await.ok()?;
    answer.header("x-version").map(str::to_owned)
}

/// A server with v1 of an app that takes its time to start from now on.
async fn with_v1(delay: &str) -> (World, App) {
    let world = World::up().await;
    let app = world.app("blog");
    app.deploy(&world, "v1").await.ok();
    let app = app.with(|options| options.arguments = ["--start-delay", delay].map(str::to_owned).into());
    app.write("v2");
    (world, app)
}

/// Writes lines at the top of the file.
fn with_lines(app: &App, lines: &str) {
    let document = std::fs::read_to_string(app.folder.join("allod.toml")).unwrap();
    app.write_document(&format!("{lines}\n{document}"));
}

async fn next_deploy_works(world: &World, app: App) {
    let app = app.with(|options| options.arguments.clear());
    app.deploy(world, "v9").await.ok();
    assert_eq!(version(world).await.as_deref(), Some("v9"));
    world.allod(&["audit", "verify"]).await.ok();
}

#[tokio::test]
async fn the_build_fails_old_up_exit_code_distinct() {
    let (world, app) = with_v1("0").await;
    with_lines(&app, "build = [\"sh\", \"-c\", \"echo no compiler; exit 7\"]");
    let failed = app.run(&world, &["deploy"]).await;
    assert_eq!(failed.code, COMMAND_FAILED, "{failed:?}");
    assert!(failed.stderr.contains("no compiler") && failed.stdout.contains("exit 7"), "{failed:?}");
    assert_eq!(version(&world).await.as_deref(), Some("v1"));
    assert_eq!(world.operations().await.len(), 1, "nothing was begun on the server");
    next_deploy_works(&world, app).await;
}

#[tokio::test]
async fn the_hook_before_the_deploy_fails_old_up_and_nothing_was_sent() {
    let (world, app) = with_v1("0").await;
    with_lines(&app, "before_deploy = [\"sh\", \"-c\", \"echo $ALLOD_APP on $ALLOD_SERVERS; exit 3\"]");
    let failed = app.run(&world, &["deploy"]).await;
    assert_eq!(failed.code, COMMAND_FAILED, "{failed:?}");
    assert!(failed.stderr.contains("blog on local"), "its output is shown: {failed:?}");
    assert!(failed.stdout.contains("before_deploy") && failed.stdout.contains("nothing was deployed"));
    with_lines(&app, "hook_timeout = \"300ms\"");
    let document = std::fs::read_to_string(app.folder.join("allod.toml")).unwrap();
    app.write_document(&document.replace("exit 3", "sleep 1000"));
    let late = app.run(&world, &["deploy"]).await;
    assert_eq!(late.code, COMMAND_FAILED, "{late:?}");
    assert!(late.stdout.contains("longer than 300ms"), "{late:?}");
    assert_eq!(version(&world).await.as_deref(), Some("v1"));
    assert_eq!(world.operations().await.len(), 1, "nothing was begun on the server");
    next_deploy_works(&world, app).await;
}

#[tokio::test]
async fn the_hook_after_the_deploy_fails_new_up_and_the_exit_code_says_so() {
    let (world, app) = with_v1("0").await;
    with_lines(&app, "after_deploy = [\"sh\", \"-c\", \"exit 3\"]");
    let failed = app.run(&world, &["deploy"]).await;
    assert_eq!(failed.code, AFTER_FAILED, "{failed:?}");
    assert!(failed.stdout.contains("the release serves"), "{failed:?}");
    assert_eq!(failed.json()["servers"][0]["state"], "deployed", "{failed:?}");
    assert_eq!(version(&world).await.as_deref(), Some("v2"));
}

#[tokio::test]
async fn hooks_run_in_order_around_a_deploy_that_ends_well() {
    let (world, app) = with_v1("0").await;
    with_lines(&app, "before_deploy = [\"sh\", \"-c\", \"echo before >> told\"]\nignore = [\"told\"]");
    with_lines(&app, "after_deploy = [\"sh\", \"-c\", \"echo after >> told\"]");
    let told = || std::fs::read_to_string(app.folder.join("told")).unwrap_or_default();
    app.run(&world, &["deploy", "--plan"]).await.ok();
    assert_eq!(told(), "", "a plan runs nothing");
    app.run(&world, &["deploy"]).await.ok();
    assert_eq!(told(), "before\nafter\n");
}

/// One program dies while a deploy is under way; visitors notice nothing, or, with the proxy, next to nothing.
async fn restart_midway(program: &str) {
    let (world, app) = with_v1("1500").await;
    let load = Load::begin(world.http, "/");
    let deploying = app.run(&world, &["deploy"]);
    let dying = async {
        world.is_busy().await;
        let pid = world.kill(program);
        world.is_back(program, pid).await;
    };
    let (deployed, ()) = tokio::join!(deploying, dying);
    // The operation belongs to the server, and whoever followed it hears how it ended.
    deployed.ok();
    world.is_idle().await;
    assert_eq!(world.operations().await[0]["state"], "done");
    assert_eq!(version(&world).await.as_deref(), Some("v2"));
    let report = load.stop().await;
    if program == "proxy" {
        assert!(report.failed.len() <= 6, "more than one for each visitor: {:?}", report.failed);
    } else {
        report.all_answered();
    }
    next_deploy_works(&world, app).await;
}

#[tokio::test]
async fn the_agent_restarts_midway_the_journalled_operation_goes_on_and_is_followed_to_its_end() {
    restart_midway("agent").await;
}

#[tokio::test]
async fn the_proxy_restarts_midway_and_serves_its_routes_again() {
    restart_midway("proxy").await;
}

#[tokio::test]
async fn the_executor_restarts_midway_the_journalled_operation_goes_on() {
    restart_midway("executor").await;
}

#[tokio::test]
async fn the_command_line_is_killed_midway_and_the_server_goes_on() {
    let (world, app) = with_v1("2000").await;
    let mut deploy = world.cli.command(&["deploy", "--yes"]).current_dir(&app.folder).spawn().unwrap();
    let operation = world.is_busy().await;
    signal(deploy.id().unwrap(), Signal::KILL);
    deploy.wait().await.unwrap();
    // No lock is left behind: attach picks it up, and the next deploy is let in when this one is done.
    let attached = world.allod(&["ops", "attach", operation["id"].as_str().unwrap()]).await.ok();
    assert_eq!(attached.lines().last().unwrap()["event"], "finished", "{attached:?}");
    assert_eq!(version(&world).await.as_deref(), Some("v2"));
    next_deploy_works(&world, app).await;
}

/// Tears a file while the server is down; it comes up without it, says so, and serves nothing in its place.
async fn torn(file: &str, program: &str) {
    let world = World::up().await;
    let app = world.app("blog");
    app.deploy(&world, "v1").await.ok();
    let (name, mut whole) = (file.to_owned(), Vec::new());
    let mut world = world;
    assert_eq!(world.stop(), Some(0));
    let path = world.state.join(&name);
    whole.extend(std::fs::read(&path).unwrap());
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    world.up_without_waiting();
    // Refused loudly, with the file's name, and never taken for "nothing there".
    eventually("the torn file is named", async || {
        let log = std::fs::read_to_string(world.state.join(format!("logs-programs/{program}.log"))).ok()?;
        let is_loud = |line: &str| line.contains("can't run") || line.contains("is torn");
        log.lines().any(|line| is_loud(line) && line.contains(&name)).then_some(())
    })
    .await;
    assert_eq!(std::fs::read(&path).unwrap(), whole[..whole.len() / 2], "and nobody wrote another one");
    assert!(!get_now(&world).await, "an answer without routes");
    // Put back, everything is as it was.
    std::fs::write(&path, &whole).unwrap();
    eventually("v1 serves", async || (version(&world).await.as_deref() == Some("v1")).then_some(())).await;
    world.allod(&["audit", "verify"]).await.ok();
}

/// Whether anything at all is answered within a moment.
async fn get_now(world: &World) -> bool {
    let asked = tokio::time::timeout(std::time::Duration::from_millis(500), get(world.http, "a", "/")).await;
    matches!(asked, Ok(Ok(answer)) if answer.status == 404)
}

#[tokio::test]
async fn a_torn_table_of_routes_is_refused_loudly_by_the_agent() {
    torn("routes/routes.json", "agent").await;
}

#[tokio::test]
async fn a_torn_table_of_routes_is_refused_loudly_by_the_proxy() {
    torn("routes/routes.json", "proxy").await;
}

#[tokio::test]
async fn torn_desired_state_is_refused_loudly_by_the_executor() {
    torn("executor/apps/blog/production.json", "executor").await;
}

#[tokio::test]
async fn a_release_that_never_becomes_healthy_on_the_second_of_three_servers_stops_there_and_the_mix_is_printed()
 {
    let (worlds, cli, app) = three().await;
    let failed = cli.run_in(&app.folder, &["deploy"]).await;
    assert_eq!(failed.code, 8, "{failed:?}");
    assert_eq!(states(&failed.json()), ["deployed", "failed", "not_touched"], "{failed:?}");
    for (world, expected) in worlds.iter().zip(["v2", "v1", "v1"]) {
        assert_eq!(version(world).await.as_deref(), Some(expected));
    }
    let plain = cli.plain_in(&app.folder, &["deploy", "--yes"]).await;
    assert_eq!(plain.code, 8, "{plain:?}");
    for said in ["web1", "unchanged", "web2", "failed", "web3", "not touched"] {
        assert!(plain.stdout.contains(said), "{said}: {plain:?}");
    }
}

#[tokio::test]
async fn when_the_second_of_three_servers_fails_revert_brings_the_first_one_back() {
    let (worlds, cli, app) = three().await;
    with_lines(&app, "on_failure = \"revert\"");
    let failed = cli.run_in(&app.folder, &["deploy"]).await;
    assert_eq!(failed.code, 8, "{failed:?}");
    assert_eq!(states(&failed.json()), ["reverted", "failed", "not_touched"], "{failed:?}");
    for world in &worlds {
        assert_eq!(version(world).await.as_deref(), Some("v1"));
    }
}

/// Three servers with v1 of an app, somebody who knows them all, and a v2 that is not well on the second.
async fn three() -> ([World; 3], Cli, App) {
    let worlds = [World::up().await, World::up().await, World::up().await];
    let home = worlds[0].state.with_extension("fleet");
    std::fs::create_dir_all(&home).unwrap();
    let mut inventory = String::new();
    for (number, world) in (1..).zip(&worlds) {
        let one = std::fs::read_to_string(world.cli.home.join("servers.toml")).unwrap();
        let at = if inventory.is_empty() { 0 } else { one.find("[[").unwrap() };
        inventory.push_str(&one[at..].replace("\"local\"", &format!("\"web{number}\"")));
        inventory.push('\n');
    }
    std::fs::write(home.join("servers.toml"), inventory).unwrap();
    let (cli, app) = (Cli::at(home), worlds[0].app("blog").with(|options| options.health_timeout = "2s"));
    app.write("v1");
    with_lines(&app, "servers = [\"web1\", \"web2\", \"web3\"]");
    cli.run_in(&app.folder, &["deploy"]).await.ok();
    app.write("v2");
    with_lines(&app, "servers = [\"web1\", \"web2\", \"web3\"]");
    let script = std::fs::read_to_string(app.folder.join("run.sh")).unwrap();
    let second = worlds[1].state.display();
    let ill = format!("case \"$ALLOD_DATA\" in {second}/*) set -- \"$@\" --never-healthy;; esac\nexec ");
    std::fs::write(app.folder.join("run.sh"), script.replace("exec ", &ill)).unwrap();
    (worlds, cli, app)
}

fn states(document: &Value) -> Vec<String> {
    let servers = document["servers"].as_array().unwrap();
    servers.iter().map(|row| row["state"].as_str().unwrap().to_owned()).collect()
}
