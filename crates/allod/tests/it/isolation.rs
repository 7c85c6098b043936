//! An app that has turned hostile, and everything that ends with what began it. Where each app has a user of its own (as
//! root), it can neither read nor write what is not its own.

use crate::{
    cli::Cli,
    processes::{PATIENCE, descendants, eventually, is_alive, kill_left, signal},
    visitor::get,
    world::World,
};
use rustix::process::Signal;
use std::{fmt::Write as _, time::Duration};

/// What an app must not get at, relative to the state folder.
const CLOSED: [&str; 10] = [
    "executor/enrolled",
    "executor/record.key",
    "executor/recipient.key",
    "executor/secrets/victim/production.json",
    "record/head.json",
    "agent/identity.key",
    "client/owner",
    "data/victim/production/diary",
    "logs/victim/production",
    "releases/victim/production",
];

#[tokio::test]
async fn an_app_gets_at_nothing_that_is_not_its_own() {
    let world = World::up().await;
    if world.ready["own_users"] != true {
        eprintln!("skipped: {}", world.ready["why_one_user"]);
        return;
    }
    let state = world.state.display();
    let victim = world.app("victim").with(|options| options.routes = vec!["victim.test".to_owned()]);
    victim.deploy(&world, "v1").await.ok();
    world.cli.run_with_input(&victim.folder, &["secrets", "set", "TOKEN", "-"], b"hunter2").await.ok();
    std::fs::write(world.state.join("data/victim/production/diary"), "dear diary").unwrap();
    let pid = victim.pids(&world).await[0];

    let mut script = String::new();
    for path in CLOSED {
        assert!(world.state.join(path).exists(), "{path} is not there, so it proves nothing");
        writeln!(script, "(cat '{state}/{path}' || ls '{state}/{path}/') >/dev/null 2>&1 && echo GOT {path}")
            .unwrap();
        writeln!(script, "(echo x >> '{state}/{path}') 2>/dev/null && echo WROTE {path}").unwrap();
    }
    for folder in ["", "executor", "record", "run", "routes", "releases", "data", "agent", "proxy", "bin"] {
        writeln!(script, "(echo x > '{state}/{folder}/planted') 2>/dev/null && echo PLANTED {folder}")
            .unwrap();
    }
    // Its own release is read-only to it, and others' processes are not its to signal.
    writeln!(script, "(echo x >> work.sh) 2>/dev/null && echo WROTE release").unwrap();
    writeln!(script, "(echo x > planted) 2>/dev/null && echo PLANTED release").unwrap();
    for other in [pid, world.pid("agent"), world.pid("executor"), world.pid("proxy")] {
        writeln!(script, "kill -0 {other} 2>/dev/null && echo SIGNALLED {other}").unwrap();
        writeln!(script, "cat /proc/{other}/environ >/dev/null 2>&1 && echo SPIED {other}").unwrap();
    }
    // What it may do: its own folder.
    script.push_str("(echo mine > \"$ALLOD_DATA/file\") && echo OWN\necho TRIED\nexec sleep 600\n");
    let hostile = world.app("hostile");
    std::fs::write(hostile.folder.join("work.sh"), script).unwrap();
    hostile.write_document(
        "name = \"hostile\"\n\n[units.worker]\nstart = [\"sh\", \"work.sh\"]\nhealth = { running = \"200ms\" }\n",
    );
    hostile.run(&world, &["deploy"]).await.ok();
    let lines = eventually("it has tried everything", async || {
        let logs = hostile.run(&world, &["logs", "--tail", "200"]).await.ok();
        logs.stdout.contains("TRIED").then(|| logs.lines())
    })
    .await;
    let said: Vec<_> = lines.iter().map(|line| line["text"].as_str().unwrap()).collect();
    assert_eq!(said, ["OWN", "TRIED"]);
    assert_eq!(get(world.http, "victim.test", "/").await.unwrap().status, 200);
}

#[tokio::test]
async fn when_up_itself_is_killed_everything_ends() {
    let world = World::up().await;
    world.app("blog").deploy(&world, "v1").await.ok();
    let all = world.processes();
    assert!(all.len() >= 6, "four programs, a shim and an app: {all:?}");
    signal(world.up_pid(), Signal::KILL);
    let begin = std::time::Instant::now();
    let left = loop {
        let left: Vec<_> = all.iter().copied().filter(|pid| is_alive(*pid)).collect();
        if left.is_empty() || begin.elapsed() > PATIENCE {
            break left;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let what = |pid: &u32| {
        String::from_utf8_lossy(&std::fs::read(format!("/proc/{pid}/cmdline")).unwrap()).into_owned()
    };
    let told: Vec<_> = left.iter().map(what).collect();
    kill_left(&all);
    assert!(left.is_empty(), "left: {told:?}");
}

#[tokio::test]
async fn a_removed_app_leaves_nothing_but_the_record() {
    let world = World::up().await;
    let app = world.app("gone");
    app.deploy(&world, "v1").await.ok();
    app.deploy(&world, "v2").await.ok();
    world.cli.run_with_input(&app.folder, &["secrets", "set", "TOKEN", "-"], b"hunter2").await.ok();
    let pids = app.pids(&world).await;
    assert_eq!(app.plain(&world, &["app", "remove", "--json"]).await.refused(9).0, "confirmation");
    app.run(&world, &["app", "remove"]).await.ok();
    assert_eq!(get(world.http, "a", "/").await.unwrap().status, 404);
    assert!(pids.iter().all(|pid| !is_alive(*pid)));
    for place in [
        "releases/gone/production",
        "data/gone/production",
        "logs/gone/production",
        "agent/chunks/gone/production",
    ] {
        assert!(!world.state.join(place).exists(), "{place} is left");
    }
    for place in ["executor/apps/gone/production.json", "executor/secrets/gone/production.json"] {
        assert!(!world.state.join(place).exists(), "{place} is left");
    }
    let shown = world.allod(&["audit", "show", "--last", "100"]).await.ok();
    assert!(shown.stdout.contains("app.remove") && shown.stdout.contains("gone/production"));
    // The name is free again.
    app.deploy(&world, "v3").await.ok();
    assert_eq!(get(world.http, "a", "/").await.unwrap().header("x-version"), Some("v3"));
}

#[tokio::test]
async fn a_stranger_with_a_home_but_no_key_gets_nowhere() {
    let world = World::up().await;
    let stranger = allod_signing::KeySigner::generate([99; 32], "stranger");
    let person: Cli = world.person("stranger", &stranger);
    let app = world.app("blog");
    for words in
        [&["deploy"][..], &["status"], &["logs", "--app", "blog"], &["rollback"], &["secrets", "list"]]
    {
        let refused = person.run_in(&app.folder, words).await;
        assert_eq!(refused.code, 3, "{words:?}: {refused:?}");
    }
    assert_eq!(world.operations().await.len(), 0);
    assert!(!descendants(world.up_pid()).is_empty());
}
