//! Steady load over everything that is done to an app and to its server: not one request may fail, and a stream ends only
//! when the copy that it is connected to has gone and the app's grace is over. `ALLOD_LONG=1` does all the counts.

use crate::{
    app::App,
    load::Load,
    processes::{eventually, signal},
    streams::{Kind, Streams},
    world::World,
};
use allod_proto::{
    command::StreamItem,
    messages::ops::OpsAttach,
    operation::{Happening, Step},
};
use allod_rpc::client::{Client, Forgetful};
use rustix::process::Signal;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// How long open streams of a copy that goes are left alone.
const DRAIN: &str = "2s";
const DRAIN_MS: u64 = 2_000;

/// How much of everything.
struct Counts {
    deploys: u32,
    scalings: u32,
    rollbacks: u32,
    agents: u32,
    proxies: u32,
}

const SHORT: Counts = Counts { deploys: 3, scalings: 2, rollbacks: 1, agents: 1, proxies: 1 };
const LONG: Counts = Counts { deploys: 50, scalings: 20, rollbacks: 10, agents: 5, proxies: 5 };

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_request_fails_and_no_stream_is_cut_over_deploys_scalings_rollbacks_and_restarts() {
    let counts = if std::env::var_os("ALLOD_LONG").is_some() { LONG } else { SHORT };
    let world = World::up().await;
    let app = world.app("blog").with(|options| {
        options.instances = 2;
        options.drain = DRAIN;
    });
    app.deploy(&world, "v0").await.ok();
    let begin = Instant::now();
    let load = Load::begin(world.http, "/");
    let streams = [Kind::WebSocket, Kind::Events].map(|kind| Streams::begin(world.http, kind, 2));
    everything(&world, &app, &counts).await;
    let took = begin.elapsed();
    let report = load.stop().await;
    let drains = drains(&world).await;
    let mut lived = 0;
    for streams in streams {
        for life in streams.stop().await {
            lived += 1;
            life.ended_only_as_the_grace_allows(&drains, DRAIN_MS);
        }
    }
    eprintln!(
        "steady: {} deploys, {} scalings, {} rollbacks, {} agents killed, {} proxies replaced in {:.0} s: \
         {} requests, {} failed, {lived} streams lived, {} drains",
        counts.deploys,
        counts.scalings,
        counts.rollbacks,
        counts.agents,
        counts.proxies,
        took.as_secs_f64(),
        report.requests,
        report.failed.len(),
        drains.len(),
    );
    report.all_answered();
    assert!(lived > 4, "no stream lived through anything");
    world.allod(&["audit", "verify"]).await.ok();
}

/// The kinds of change take turns, so that each meets the others' traces.
async fn everything(world: &World, app: &App, counts: &Counts) {
    let most =
        counts.deploys.max(counts.scalings).max(counts.rollbacks).max(counts.agents).max(counts.proxies);
    for turn in 0..most {
        if turn < counts.deploys {
            app.deploy(world, &format!("v{}", turn + 1)).await.ok();
        }
        if turn < counts.scalings {
            app.run(world, &["scale", if turn % 2 == 0 { "web=3" } else { "web=2" }]).await.ok();
        }
        if turn < counts.rollbacks {
            app.run(world, &["rollback"]).await.ok();
        }
        if turn < counts.agents {
            let pid = world.kill("agent");
            world.is_back("agent", pid).await;
            eventually("the server answers", async || {
                (world.allod(&["servers", "status"]).await.code == 0).then_some(())
            })
            .await;
        }
        if turn < counts.proxies {
            let pid = world.pid("proxy");
            signal(world.up_pid(), Signal::HUP);
            world.is_back("proxy", pid).await;
        }
    }
}

/// When each operation began to drain what it replaced, by the server's own word. Milliseconds since 1970.
async fn drains(world: &World) -> Vec<u64> {
    let (owner, memory) = (Arc::new(world.owner()), Box::new(Forgetful::default()));
    let mut client = Client::connect(world.peer(), owner, memory).await.unwrap();
    let mut found = Vec::new();
    for operation in world.operations().await {
        let operation = operation["id"].as_str().unwrap().parse().unwrap();
        let mut events = client.stream(OpsAttach { operation, after: None }).await.unwrap();
        while let Some(item) = events.next().await.unwrap() {
            if let StreamItem::Operation(event) = item
                && matches!(event.what, Happening::Began { step: Step::Drain, .. })
            {
                found.push(event.at.0);
            }
        }
    }
    found.sort_unstable();
    found
}

/// A stream that outlives its copy by exactly the grace is a matter of milliseconds on two clocks.
pub(crate) const CLOCKS: Duration = Duration::from_millis(100);
