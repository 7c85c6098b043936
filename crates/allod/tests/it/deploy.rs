//! An app's life on one server, as a person and its visitors see it: deployed, reached, replaced, broken, rolled back.

use crate::{
    load::Load,
    processes::{eventually, within},
    visitor::{Events, WebSocket, get},
    world::World,
};
use std::time::Duration;

#[tokio::test]
async fn an_app_is_deployed_and_reached_by_host_and_by_path() {
    let world = World::up().await;
    let app = world.app("blog").with(|options| {
        options.routes = ["blog.test", "/pages"].map(str::to_owned).into();
        options.more = "strip_prefix = true\n".to_owned();
    });
    let before = get(world.http, "blog.test", "/").await.unwrap();
    assert_eq!(before.status, 404, "{before:?}");
    let deployed = app.deploy(&world, "v1").await.ok().json();
    let row = &deployed["servers"][0];
    assert_eq!((&deployed["ok"], &row["server"]), (&true.into(), &"local".into()), "{deployed}");
    for (host, path) in [
        ("blog.test", "/"),
        ("BLOG.test:80", "/"),
        ("elsewhere.test", "/pages"),
        ("elsewhere.test", "/pages/"),
    ] {
        let answer = get(world.http, host, path).await.unwrap();
        assert_eq!((answer.status, answer.header("x-version")), (200, Some("v1")), "{host}{path} {answer:?}");
    }
    for (host, path) in [("elsewhere.test", "/"), ("elsewhere.test", "/pagesx"), ("x.blog.test", "/")] {
        assert_eq!(get(world.http, host, path).await.unwrap().status, 404, "{host}{path}");
    }
}

#[tokio::test]
async fn a_second_deploy_sends_only_what_changed_and_an_unchanged_one_does_nothing() {
    let world = World::up().await;
    let app = world.app("blog");
    let noise: Vec<u8> = (0u32..2_000_000)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).rotate_left(n % 31).to_le_bytes())
        .collect();
    std::fs::write(app.folder.join("data.bin"), &noise).unwrap();
    let first = app.deploy(&world, "v1").await.ok().json();
    let sent = |document: &serde_json::Value| document["servers"][0]["sent_bytes"].as_u64().unwrap();
    assert!(sent(&first) >= 8_000_000, "{first}");
    let second = app.deploy(&world, "v2").await.ok().json();
    assert!(sent(&second) < 64 * 1024, "{second}");
    assert_eq!(get(world.http, "a", "/").await.unwrap().header("x-version"), Some("v2"));
    let third = app.deploy(&world, "v2").await.ok().json();
    assert_eq!(third["servers"][0]["release"], second["servers"][0]["release"], "{third}");
    let operations = world.operations().await;
    assert_eq!(operations.len(), 2, "an unchanged deploy began an operation: {operations:?}");
}

#[tokio::test]
async fn twenty_deploys_and_a_rollback_under_load_lose_no_request() {
    let world = World::up().await;
    let app = world.app("blog").with(|options| options.instances = 2);
    app.deploy(&world, "v0").await.ok();
    let load = Load::begin(world.http, "/");
    for number in 1..=20 {
        app.deploy(&world, &format!("v{number}")).await.ok();
    }
    app.run(&world, &["rollback"]).await.ok();
    assert_eq!(get(world.http, "a", "/").await.unwrap().header("x-version"), Some("v19"));
    let report = load.stop().await;
    report.all_answered();
    assert!(report.versions.len() >= 20, "the load saw {:?}", report.versions);
}

#[tokio::test]
async fn open_connections_keep_their_old_copy_for_the_grace_they_were_given() {
    let world = World::up().await;
    let app = world.app("blog").with(|options| options.drain = "6s");
    app.deploy(&world, "v1").await.ok();
    let mut socket = WebSocket::open(world.http).await;
    let events = Events::open(world.http).await;
    assert_eq!(socket.echo("before").await.unwrap(), "before");
    app.write("v2");
    let deploying = app.run(&world, &["deploy"]);
    let visiting = async {
        within(Duration::from_secs(60), "v2 serves", async || {
            let answer = get(world.http, "a", "/").await.unwrap();
            (answer.header("x-version") == Some("v2")).then_some(())
        })
        .await;
        // New visitors get v2, and those who were there are not cut off.
        let echoed = socket.echo("across").await;
        let before = events.count();
        events.next().await;
        (echoed, events.count() > before && events.is_open())
    };
    let (deployed, (echoed, flows)) = tokio::join!(deploying, visiting);
    deployed.ok();
    assert_eq!(echoed.unwrap(), "across");
    assert!(flows);
    // The grace has an end.
    eventually("the old connections end", async || (!events.is_open()).then_some(())).await;
    assert!(socket.echo("after").await.is_err());
}

#[tokio::test]
async fn a_version_that_never_becomes_healthy_leaves_the_old_one_serving_and_says_why() {
    let world = World::up().await;
    let app = world.app("blog");
    app.deploy(&world, "v1").await.ok();
    let load = Load::begin(world.http, "/");
    let app = app.with(|options| {
        options.arguments = vec!["--never-healthy".to_owned()];
        options.health_timeout = "2s";
    });
    let refused = app.deploy(&world, "v2").await;
    assert_eq!(refused.refused(8).0, "unhealthy");
    // The last probe and the last lines of the log.
    for said in ["/health", "503", "v2 listens on"] {
        assert!(refused.stdout.contains(said), "{said}: {refused:?}");
    }
    let told = app.plain(&world, &["deploy", "--yes"]).await;
    assert_eq!(told.code, 8, "{told:?}");
    for said in ["/health", "503", "v2 listens on"] {
        assert!(told.stderr.contains(said) || told.stdout.contains(said), "{said}: {told:?}");
    }
    let report = load.stop().await;
    report.all_answered();
    assert_eq!(report.versions.keys().collect::<Vec<_>>(), ["v1"]);
    let status = app.status(&world).await;
    assert_eq!(status["state"], "healthy", "{status}");
}

#[tokio::test]
async fn a_version_that_exits_at_once_is_refused_with_its_exit_status() {
    let world = World::up().await;
    let app = world.app("blog").with(|options| options.routes = vec!["blog.test".to_owned()]);
    app.deploy(&world, "v1").await.ok();
    let app = app.with(|options| options.arguments = ["--exit-after", "0"].map(str::to_owned).into());
    let refused = app.deploy(&world, "v2").await;
    assert_eq!(refused.refused(8).0, "unhealthy");
    assert!(refused.stdout.contains("exit status 3"), "{refused:?}");
    assert_eq!(get(world.http, "blog.test", "/").await.unwrap().header("x-version"), Some("v1"));
    // The very first deploy of an app may fail as well, and then there is nothing.
    let first = world.app("first").with(|options| {
        options.routes = vec!["first.test".to_owned()];
        options.arguments = ["--exit-after", "0"].map(str::to_owned).into();
    });
    assert_eq!(first.deploy(&world, "v1").await.refused(8).0, "unhealthy");
    let answer = get(world.http, "first.test", "/").await.unwrap();
    assert_eq!(answer.status, 404, "{answer:?}");
}

#[tokio::test]
async fn rolling_back_needs_no_argument_and_goes_back_and_forth() {
    let world = World::up().await;
    let app = world.app("blog");
    let nothing = app.run(&world, &["rollback"]).await;
    assert_eq!(nothing.code, 5, "{nothing:?}");
    app.deploy(&world, "v1").await.ok();
    let first = app.run(&world, &["rollback"]).await;
    assert_eq!(first.code, 5, "there is nothing before the first: {first:?}");
    app.deploy(&world, "v2").await.ok();
    for expected in ["v1", "v2"] {
        app.run(&world, &["rollback"]).await.ok();
        assert_eq!(get(world.http, "a", "/").await.unwrap().header("x-version"), Some(expected));
    }
    let unknown = app.run(&world, &["rollback", "--to", "0123456789ab"]).await;
    assert_eq!(unknown.refused(5).0, "not_found");
}

#[tokio::test]
async fn scaling_under_load_loses_no_request_and_every_copy_answers() {
    let world = World::up().await;
    let app = world.app("blog");
    app.deploy(&world, "v1").await.ok();
    let load = Load::begin(world.http, "/");
    for wanted in [3_usize, 2] {
        app.run(&world, &["scale", &format!("web={wanted}")]).await.ok();
        let unit = app.status(&world).await["units"][0].clone();
        assert_eq!(
            (
                unit["wanted"].as_u64().and_then(|wanted| usize::try_from(wanted).ok()),
                unit["instances"].as_array().unwrap().len()
            ),
            (Some(wanted), wanted),
            "{unit}"
        );
        let mut seen = std::collections::BTreeSet::new();
        eventually("every copy answers", async || {
            let answer = get(world.http, "a", "/").await.unwrap();
            seen.insert(answer.header("x-instance").unwrap().to_owned());
            (seen.len() >= wanted).then_some(())
        })
        .await;
    }
    load.stop().await.all_answered();
    let refused = app.run(&world, &["scale", "db=2"]).await;
    assert_eq!(refused.refused(5).0, "not_found");
}

#[tokio::test]
async fn a_stopped_app_stays_stopped_until_it_is_started() {
    let world = World::up().await;
    let app = world.app("blog");
    app.deploy(&world, "v1").await.ok();
    let pid = app.pids(&world).await[0];
    let unconfirmed = app.plain(&world, &["stop", "--json"]).await;
    assert_eq!(unconfirmed.refused(9).0, "confirmation");
    app.run(&world, &["stop"]).await.ok();
    let answer = get(world.http, "a", "/").await.unwrap();
    assert_eq!(answer.status, 503, "{answer:?}");
    assert!(!crate::processes::is_alive(pid));
    assert_eq!(app.status(&world).await["state"], "stopped");
    app.run(&world, &["start"]).await.ok();
    assert_eq!(get(world.http, "a", "/").await.unwrap().header("x-version"), Some("v1"));
    assert_eq!(app.run(&world, &["start"]).await.refused(6).0, "conflict");
}

#[tokio::test]
async fn a_restart_replaces_every_process_and_loses_no_request() {
    let world = World::up().await;
    let app = world.app("blog").with(|options| options.instances = 2);
    app.deploy(&world, "v1").await.ok();
    let before = app.pids(&world).await;
    let load = Load::begin(world.http, "/");
    app.run(&world, &["restart"]).await.ok();
    let after = app.pids(&world).await;
    assert_eq!((before.len(), after.len()), (2, 2));
    assert!(after.iter().all(|pid| !before.contains(pid)), "{before:?} {after:?}");
    load.stop().await.all_answered();
}

#[tokio::test]
async fn a_crashed_process_is_started_again_by_itself() {
    let world = World::up().await;
    let app = world.app("blog");
    app.deploy(&world, "v1").await.ok();
    let before = app.pids(&world).await[0];
    crate::processes::signal(before, rustix::process::Signal::KILL);
    let unit = eventually("the app runs again", async || {
        let status = app.status(&world).await;
        let instance =
            status["units"][0]["instances"].as_array()?.iter().find(|it| it["state"] == "healthy")?.clone();
        (instance["pid"].as_u64()? != u64::from(before)).then_some(instance)
    })
    .await;
    assert_eq!(unit["restarts"], 1, "{unit}");
    let answer = eventually("visitors are served", async || {
        get(world.http, "a", "/").await.ok().filter(|answer| answer.status == 200)
    })
    .await;
    assert_eq!(answer.header("x-version"), Some("v1"));
}

#[tokio::test]
async fn a_static_site_is_served_beside_a_program() {
    let world = World::up().await;
    let app = world.app("blog").with(|options| {
        options.routes = vec!["site.test/app".to_owned()];
        options.more = "strip_prefix = true\n\n[units.pages]\ntype = \"static\"\nroot = \"public\"\n\
                        routes = [\"site.test\"]\n"
            .to_owned();
    });
    std::fs::create_dir_all(app.folder.join("public/deep")).unwrap();
    std::fs::write(app.folder.join("public/index.html"), "<h1>hello</h1>").unwrap();
    std::fs::write(app.folder.join("public/deep/a.txt"), "deep").unwrap();
    app.deploy(&world, "v1").await.ok();
    let index = get(world.http, "site.test", "/").await.unwrap();
    assert_eq!((index.status, index.body.as_str()), (200, "<h1>hello</h1>"), "{index:?}");
    assert_eq!(get(world.http, "site.test", "/deep/a.txt").await.unwrap().body, "deep");
    assert_eq!(get(world.http, "site.test", "/app").await.unwrap().header("x-version"), Some("v1"));
    for outside in
        ["/../allod.toml", "/%2e%2e/allod.toml", "/..%2fallod.toml", "/deep/../../allod.toml", "/allod.toml"]
    {
        let answer = get(world.http, "site.test", outside).await.unwrap();
        assert!(answer.status >= 400 && !answer.body.contains("units"), "{outside}: {answer:?}");
    }
}

#[tokio::test]
async fn two_environments_of_an_app_live_side_by_side() {
    let world = World::up().await;
    let app = world.app("blog").with(|options| {
        options.routes = vec!["blog.test".to_owned()];
        options.more = "\n[env.staging.units.web]\nroutes = [\"staging.test\"]\n".to_owned();
    });
    app.deploy(&world, "v1").await.ok();
    app.write("v2");
    app.run(&world, &["deploy", "--env", "staging"]).await.ok();
    for (host, version) in [("blog.test", "v1"), ("staging.test", "v2")] {
        assert_eq!(get(world.http, host, "/").await.unwrap().header("x-version"), Some(version));
    }
    app.run(&world, &["stop", "--env", "staging"]).await.ok();
    assert_eq!(get(world.http, "staging.test", "/").await.unwrap().status, 503);
    assert_eq!(get(world.http, "blog.test", "/").await.unwrap().status, 200);
    let unknown = app.run(&world, &["deploy", "--env", "nowhere"]).await;
    assert_eq!(unknown.code, 2, "{unknown:?}");
    // A route belongs to one app.
    let thief = world.app("thief").with(|options| options.routes = vec!["blog.test".to_owned()]);
    let refused = thief.deploy(&world, "evil").await;
    assert_eq!(refused.code, 6, "{refused:?}");
    assert!(refused.stdout.contains("blog/production"), "{refused:?}");
    assert_eq!(get(world.http, "blog.test", "/").await.unwrap().header("x-version"), Some("v1"));
}

#[tokio::test]
async fn status_and_logs_show_what_is_wanted_and_what_there_is() {
    let world = World::up().await;
    let app = world.app("blog").with(|options| options.instances = 2);
    app.deploy(&world, "v1").await.ok();
    let told = app.plain(&world, &["status"]).await.ok();
    for said in ["blog/production on local", "healthy", "web"] {
        assert!(told.stdout.contains(said), "{said}: {told:?}");
    }
    let logs = app.run(&world, &["logs", "--tail", "10"]).await.ok();
    let texts: Vec<_> = logs.lines().iter().map(|line| line["text"].as_str().unwrap().to_owned()).collect();
    assert_eq!(texts.iter().filter(|text| text.starts_with("v1 listens on")).count(), 2, "{texts:?}");
    let none = app.run(&world, &["logs", "--app", "nope"]).await;
    assert_eq!(none.refused(5).0, "not_found");
    let releases = app.run(&world, &["releases"]).await.ok();
    assert!(releases.stdout.contains("\"current\":true"), "{releases:?}");
}
