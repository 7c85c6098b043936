//! Many nodes at once. How many: `ALLOD_TEST_NODES`, 40 otherwise. It prints what it measured and asserts no time.

use crate::world::World;
use allod_coordinator::policy::Policy;
use allod_testkit::coordinator::ALL;
use std::{io::Write as _, time::Instant};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_reaches_every_node() {
    let count =
        std::env::var_os("ALLOD_TEST_NODES").and_then(|text| text.to_str()?.parse().ok()).unwrap_or(40);
    let world = World::new().await;
    world.coordinator.set_policy(Policy::parse(ALL).unwrap()).await.unwrap();
    let begin = Instant::now();
    let mut all = Vec::new();
    for number in 0..count {
        let (node, control, mut maps) = world.live(&format!("n{number}")).await;
        let (sender, mut told) = tokio::sync::watch::channel(0_u16);
        tokio::spawn(async move {
            while let Some(map) = maps.next().await {
                let patches = map.peers_changed_patch.iter().filter_map(|patch| patch.endpoints.as_ref());
                let whole = map.peers_changed.iter().map(|peer| &peer.endpoints);
                for endpoint in patches.chain(whole).flatten() {
                    sender.send_replace(endpoint.port());
                }
            }
        });
        told.mark_unchanged();
        all.push((node, control, told));
    }
    let joined = begin.elapsed();
    let (node, mut control, _) = all.remove(0);
    for port in 1..=3 {
        let begin = Instant::now();
        control.map(&node.lite(&format!("192.0.2.1:{port}"))).await.unwrap();
        for (_, _, told) in &mut all {
            told.wait_for(|seen| *seen == port).await.unwrap();
        }
        let took = begin.elapsed();
        writeln!(std::io::stderr(), "{count} nodes joined in {joined:?}; a move reached all in {took:?}")
            .unwrap();
    }
}
