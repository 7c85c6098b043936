//! The proxy's process is replaced under load, again and again, with every kind of connection open: no request fails, no
//! line of the access log is lost, and a successor that can't serve changes nothing.

use crate::{
    load::Load,
    processes::{eventually, is_alive, signal},
    visitor::{Events, WebSocket},
    world::World,
};
use rustix::process::Signal;

/// Asks for a new proxy, and waits until it serves.
async fn replace(world: &World) -> (u32, u32) {
    let before = world.pid("proxy");
    signal(world.up_pid(), Signal::HUP);
    (before, world.is_back("proxy", before).await)
}

#[tokio::test]
async fn the_proxy_is_replaced_under_load_and_no_request_fails() {
    let world = World::up().await;
    let app = world.app("blog").with(|options| options.drain = "1s");
    app.deploy(&world, "v1").await.ok();
    let load = Load::begin(world.http, "/");
    let mut old = Vec::new();
    for _ in 0..3 {
        old.push(replace(&world).await.0);
    }
    // A deploy right behind a replacement: what the old proxies still have in flight is drained too.
    app.deploy(&world, "v2").await.ok();
    let mut socket = WebSocket::open(world.http).await;
    let events = Events::open(world.http).await;
    for round in 0..3 {
        old.push(replace(&world).await.0);
        assert_eq!(socket.echo(&format!("round {round}")).await.unwrap(), format!("round {round}"));
        events.next().await;
    }
    assert!(events.is_open());
    let report = load.stop().await;
    report.all_answered();
    assert!(report.versions.contains_key("v1") && report.versions.contains_key("v2"), "{report:?}");
    drop((socket, events));
    eventually("the old proxies end when they have served what they had", async || {
        old.iter().all(|pid| !is_alive(*pid)).then_some(())
    })
    .await;
    eventually("each of them is said to have retired", async || {
        (world.events("retired") >= old.len()).then_some(())
    })
    .await;
    assert_eq!(world.events("retired"), old.len());
    assert!(is_alive(world.pid("proxy")));
    let log = world.state.join("proxy/access.log");
    eventually("every request has its line", async || {
        let lines = std::fs::read_to_string(&log).unwrap();
        let answered = lines.lines().filter(|line| line.contains("\"path\":\"/\",\"status\":200")).count();
        (answered >= report.requests).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_proxy_that_cannot_serve_does_not_replace_one_that_does() {
    let world = World::up().await;
    let app = world.app("blog");
    app.deploy(&world, "v1").await.ok();
    let load = Load::begin(world.http, "/");
    let before = world.pid("proxy");
    let routes = world.state.join("routes/routes.json");
    let whole = std::fs::read(&routes).unwrap();
    std::fs::write(&routes, &whole[..whole.len() / 2]).unwrap();
    signal(world.up_pid(), Signal::HUP);
    eventually("it is said", async || (world.events("not_replaced") == 1).then_some(())).await;
    std::fs::write(&routes, &whole).unwrap();
    assert!(world.pid("proxy") == before && is_alive(before));
    let (_, after) = replace(&world).await;
    assert_ne!(after, before);
    let so_far = load.requests();
    eventually("enough requests", async || (load.requests() > so_far + 100).then_some(())).await;
    load.stop().await.all_answered();
}
