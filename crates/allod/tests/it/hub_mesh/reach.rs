//! Who reaches whom under the policy that a network begins with: real machines, all pairs, the ports that matter.

use super::hub::{Hub, address};
use crate::processes::{PATIENCE, eventually};
use allod_meshnode::Member;
use std::{collections::BTreeMap, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::JoinSet,
    time::timeout,
};

const PORTS: [u16; 3] = [22, 9844, 9845];
/// Long enough for one that is allowed and near; one that isn't is not waited for longer.
const TRY: Duration = Duration::from_secs(2);

/// Says its port to whoever connects.
fn answer(member: &Member, tasks: &mut JoinSet<()>) {
    for port in PORTS {
        let listener = member.node().listen(port).unwrap();
        tasks.spawn(async move {
            while let Ok(mut stream) = listener.accept().await {
                let _ = stream.write_all(&port.to_be_bytes()).await;
                let _ = stream.shutdown().await;
            }
        });
    }
}

async fn reaches(from: &Member, to: &Member, port: u16, bound: Duration) -> bool {
    let to = SocketAddr::new(address(to).parse().unwrap(), port);
    let talk = async {
        let mut stream = from.node().connect(to).await?;
        let mut heard = [0; 2];
        stream.read_exact(&mut heard).await?;
        Ok::<_, std::io::Error>(heard == port.to_be_bytes())
    };
    matches!(timeout(bound, talk).await, Ok(Ok(true)))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_the_first_policy_own_machines_reach_all_and_servers_the_hub_alone() {
    let hub = Hub::start().await;
    let machines = BTreeMap::from([
        ("laptop", Arc::new(hub.join("laptop", &[]).await)),
        ("phone", Arc::new(hub.join("phone", &[]).await)),
        ("web1", Arc::new(hub.join("web1", &["--tag", "tag:server"]).await)),
        ("web2", Arc::new(hub.join("web2", &["--tag", "tag:server"]).await)),
        ("hub", Arc::new(hub.join("hub", &["--tag", "tag:hub"]).await)),
    ]);
    let mut tasks = JoinSet::new();
    machines.values().for_each(|member| answer(member, &mut tasks));
    let is_allowed = |from: &str, to: &str, port: u16| match (from, to) {
        ("laptop" | "phone", _) => true,
        ("web1" | "web2", "hub") => port == 9845,
        ("hub", "web1" | "web2") => port == 9844,
        _ => false,
    };
    for (from, to, port) in triples(&machines) {
        if is_allowed(from, to, port) {
            eventually(&format!("{from} reaches port {port} of {to}"), async || {
                reaches(&machines[from], &machines[to], port, PATIENCE / 4).await.then_some(())
            })
            .await;
        }
    }
    // All that is known of paths is known now: what fails, fails by the policy.
    let mut trying = JoinSet::new();
    for (from, to, port) in triples(&machines) {
        if !is_allowed(from, to, port) {
            let (one, other) = (Arc::clone(&machines[from]), Arc::clone(&machines[to]));
            let told = format!("{from} reaches port {port} of {to}");
            trying.spawn(async move { (told, reaches(&one, &other, port, TRY).await) });
        }
    }
    assert!(trying.len() > 20);
    while let Some(tried) = trying.join_next().await {
        let (told, is_reached) = tried.unwrap();
        assert!(!is_reached, "{told}");
    }
}

fn triples<'a>(machines: &BTreeMap<&'a str, Arc<Member>>) -> Vec<(&'a str, &'a str, u16)> {
    let pairs = machines.keys().flat_map(|from| machines.keys().map(move |to| (*from, *to)));
    let pairs = pairs.filter(|(from, to)| from != to);
    pairs.flat_map(|(from, to)| PORTS.map(|port| (from, to, port))).collect()
}
