//! The machine's clock is set forward and back under a running server: visitors and apps notice nothing, people are let
//! in at once, and the record stays whole.

use crate::{load::Load, processes::eventually, visitor::get, world::World};

const HOUR_MS: i64 = 3_600_000;

async fn set(world: &World, offset_ms: i64) {
    let before = (world.pid("executor"), world.pid("agent"));
    std::fs::write(world.state.join("bin/clock-offset-ms"), offset_ms.to_string()).unwrap();
    world.is_back("executor", before.0).await;
    world.is_back("agent", before.1).await;
    eventually("the server answers", async || {
        (world.allod(&["servers", "status"]).await.code == 0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn x25_the_clock_is_set_forward_and_back_and_nothing_is_lost() {
    let world = World::up().await;
    let app = world.app("blog");
    app.deploy(&world, "v1").await.ok();
    let before = app.pids(&world).await;
    let load = Load::begin(world.http, "/");
    for offset_ms in [2 * HOUR_MS, -72 * HOUR_MS, 0] {
        set(&world, offset_ms).await;
        assert_eq!(app.pids(&world).await, before, "{offset_ms}");
        world.allod(&["audit", "verify"]).await.ok();
    }
    set(&world, -HOUR_MS).await;
    // Changes too are let in, by a laptop whose clock was not set.
    app.deploy(&world, "v2").await.ok();
    assert_eq!(get(world.http, "a", "/").await.unwrap().header("x-version"), Some("v2"));
    set(&world, 0).await;
    app.run(&world, &["rollback"]).await.ok();
    assert_eq!(get(world.http, "a", "/").await.unwrap().header("x-version"), Some("v1"));
    load.stop().await.all_answered();
    world.allod(&["audit", "verify"]).await.ok();
}
