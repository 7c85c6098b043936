//! A copy that hangs after the switch is restarted, and the others are left alone.

use crate::{
    processes::{signal, within},
    visitor::get,
    world::World,
};
use rustix::process::Signal;
use std::time::Duration;

/// Three silences of 5 s, 5 s apart, a grace, a start; and a machine that may be busy.
const RESTARTED: Duration = Duration::from_secs(150);

#[tokio::test]
async fn a_copy_that_stops_answering_is_restarted_and_the_others_are_left_alone() {
    let world = World::up().await;
    let app = world.app("blog").with(|options| {
        options.instances = 2;
        options.more = "stop_grace = \"1s\"\n".to_owned();
    });
    app.deploy(&world, "v1").await.ok();
    let before = app.pids(&world).await;
    let (hung, well) = (before[0], before[1]);
    // Stopped, it still has its port: connections are made, and nothing is answered.
    signal(hung, Signal::STOP);
    within(RESTARTED, "another copy is there", async || {
        let status = app.status(&world).await;
        let copies = status["units"][0]["instances"].as_array()?.clone();
        let healthy: Vec<u64> =
            copies.iter().filter(|it| it["state"] == "healthy").filter_map(|it| it["pid"].as_u64()).collect();
        assert!(healthy.contains(&well.into()), "the one that is well was touched: {status}");
        (healthy.len() == 2 && !healthy.contains(&hung.into())).then_some(())
    })
    .await;
    assert!(!crate::processes::is_alive(hung));
    for _ in 0..4 {
        assert_eq!(get(world.http, "a", "/").await.unwrap().status, 200);
    }
    assert_eq!(app.status(&world).await["units"][0]["instances"][1]["restarts"], 1);
}
