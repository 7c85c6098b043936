//! Which way packets go between nodes of ours and stock clients, in networks as they are. Each test prints what it counted.

use crate::{
    nodes::Mesh,
    pairs::{Node, all_are, all_go_on, end, pairs, route, talks},
    stock,
};
use allod_meshnode::Route;
use allod_testkit::{
    coordinator::ALL,
    lab::{HUB, Lab, Router},
    stock::Stock,
};
use rustix::process::Signal;
use std::time::{Duration, Instant};
use tokio::time::sleep;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_pair_of_two_of_ours_and_two_stock_clients_talks_directly_then_relayed_then_directly_again() {
    let Some(mut lab) = stock::lab() else { return };
    let hosts = [11, 12, 13, 14].map(|site| lab.host(site, Router::Mild));
    let (mesh, folder) = stock::mesh(&lab).await;
    let [a, b, c, d] = &hosts;
    let nodes = [
        Node::ours("ours-a", &mesh, a).await,
        Node::ours("ours-b", &mesh, b).await,
        Node::stock("stock-c", &mesh, c, &folder).await,
        Node::stock("stock-d", &mesh, d, &folder).await,
    ];
    let talks = talks(&nodes).await;
    all_are(&nodes, true, "each behind a router that keeps ports").await;
    lab.cut("meta l4proto udp");
    all_go_on(&talks, "UDP cut").await;
    all_are(&nodes, false, "UDP cut").await;
    lab.mend();
    all_are(&nodes, true, "UDP back").await;
    end(talks).await;
}

/// How long a coordinator is away.
fn outage() -> Duration {
    let given = std::env::var_os("ALLOD_TEST_OUTAGE_SECONDS").and_then(|given| given.into_string().ok());
    Duration::from_secs(given.map_or(10, |given| given.parse().unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_coordinator_and_relay_out_of_reach_nothing_is_lost_on_direct_paths() {
    let Some(mut lab) = stock::lab() else { return };
    let hosts = [71, 72, 73].map(|site| lab.host(site, Router::Mild));
    let (mesh, folder) = stock::mesh(&lab).await;
    let [a, b, c] = &hosts;
    let nodes = [
        Node::ours("ours-a", &mesh, a).await,
        Node::ours("ours-b", &mesh, b).await,
        Node::stock("stock-c", &mesh, c, &folder).await,
    ];
    let running = talks(&nodes).await;
    all_are(&nodes, true, "before").await;
    // Both are on one port of TCP; STUN goes too.
    lab.cut_hub();
    sleep(outage()).await;
    all_go_on(&running, "out of reach").await;
    let late = talks(&nodes).await;
    end(late).await;
    lab.mend();
    end(running).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_an_outage_of_the_relay_those_that_need_it_have_it_back() {
    let Some(mut lab) = stock::lab() else { return };
    let hosts = [111, 112, 113].map(|site| lab.host(site, Router::Hard));
    let (mut mesh, folder) = stock::mesh(&lab).await;
    let [a, b, c] = &hosts;
    let nodes = [
        Node::ours("ours-a", &mesh, a).await,
        Node::ours("ours-b", &mesh, b).await,
        Node::stock("stock-c", &mesh, c, &folder).await,
    ];
    let [one, other, client] = &nodes;
    let talks = talks(&nodes).await;
    let mut mesh = lab.hub().run(async move { (mesh.stop().await, mesh).1 }).await;
    sleep(outage()).await;
    let _mesh = lab.hub().run(async move { (mesh.serve().await, mesh).1 }).await;
    let begun = Instant::now();
    one.hears(other).await;
    eprintln!("relay back: ours heard by ours after {:.1} s", begun.elapsed().as_secs_f32());
    client.hears(one).await;
    one.hears(client).await;
    eprintln!("relay back: ours and stock, both ways, after {:.1} s", begun.elapsed().as_secs_f32());
    all_go_on(&talks, "relay back").await;
    end(talks).await;
}

/// Through a router that maps by destination only who has none, or is known to it by address and port, gets in.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn direct_where_both_routers_allow_it_relayed_where_not_and_direct_when_one_is_replaced() {
    let Some(mut lab) = stock::lab() else { return };
    let routers = [Router::Hard, Router::None, Router::Hard, Router::Mild];
    let hosts: Vec<_> = (21..).zip(routers).map(|(site, router)| lab.host(site, router)).collect();
    let [a, b, c, d] = &hosts[..] else { unreachable!("four routers") };
    let (mesh, folder) = stock::mesh(&lab).await;
    let nodes = [
        Node::ours("ours-hard", &mesh, a).await,
        Node::ours("ours-open", &mesh, b).await,
        Node::stock("stock-hard", &mesh, c, &folder).await,
        Node::stock("stock-mild", &mesh, d, &folder).await,
    ];
    let [ours_hard, open, stock_hard, mild] = &nodes;
    let talks = talks(&nodes).await;
    let begun = Instant::now();
    for one in [ours_hard, stock_hard, mild] {
        one.until(open, true).await;
        open.until(one, true).await;
    }
    eprintln!("with the one that has no router: direct after {:.1} s", begun.elapsed().as_secs_f32());
    for (one, other) in [(ours_hard, stock_hard), (ours_hard, mild), (stock_hard, mild)] {
        let is_direct = one.is_direct(other).await || other.is_direct(one).await;
        assert!(!is_direct, "{} and {}: by what way?", one.name(), other.name());
    }
    all_go_on(&talks, "hard routers").await;
    let begun = Instant::now();
    lab.translate(21, Router::Mild);
    ours_hard.until(mild, true).await;
    mild.until(ours_hard, true).await;
    eprintln!("a milder router in its place: direct after {:.1} s", begun.elapsed().as_secs_f32());
    end(talks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_moves_to_another_network_keeps_its_streams() {
    let Some(mut lab) = stock::lab() else { return };
    let hosts =
        [(31, Router::Mild), (32, Router::Mild), (33, Router::Mild)].map(|(at, how)| lab.host(at, how));
    let [a, b, c] = &hosts;
    let (mesh, folder) = stock::mesh(&lab).await;
    let nodes = [
        Node::ours("ours-a", &mesh, a).await,
        Node::ours("ours-b", &mesh, b).await,
        Node::stock("stock-c", &mesh, c, &folder).await,
    ];
    let talks = talks(&nodes).await;
    all_are(&nodes, true, "at home").await;
    lab.roam(a, 34, Router::Mild);
    all_go_on(&talks, "one of ours moved").await;
    all_are(&nodes, true, "one of ours moved").await;
    lab.roam(c, 35, Router::Mild);
    all_go_on(&talks, "the stock client moved").await;
    all_are(&nodes, true, "the stock client moved").await;
    end(talks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_comes_back_after_a_restart_and_with_a_new_key() {
    let Some(mut lab) = stock::lab() else { return };
    let (one, other) = (lab.host(41, Router::Mild), lab.host(42, Router::Mild));
    let (mesh, folder) = stock::mesh(&lab).await;
    let ours = Node::ours("ours", &mesh, &one).await;
    let stock = Node::stock("stock", &mesh, &other, &folder).await;
    let both = async |ours: &Node, stock: &Node, what: &str| {
        let begun = Instant::now();
        ours.hears(stock).await;
        stock.hears(ours).await;
        let heard = begun.elapsed().as_secs_f32();
        ours.until(stock, true).await;
        stock.until(ours, true).await;
        eprintln!("{what}: heard after {heard:.1} s, direct after {:.1} s", begun.elapsed().as_secs_f32());
    };
    both(&ours, &stock, "at first").await;
    let (key, at) = (stock_key(&mesh), stock.address());
    drop(stock);
    let client = Stock::start("stock", &other, folder.path()).await;
    let stock = Node::Stock { client, at };
    both(&ours, &stock, "started again").await;
    assert_eq!(stock_key(&mesh), key);
    let Node::Stock { client, .. } = &stock else { unreachable!("it is one") };
    client.up((&mesh.url(), &mesh.join_key().await), &["--force-reauth"]).await;
    assert!(stock_key(&mesh) != key, "it has another key");
    assert_eq!(client.address().await, at, "and is the same node");
    both(&ours, &stock, "with a new key").await;
}

fn stock_key(mesh: &Mesh) -> allod_meshproto::NodeKey {
    let nodes = mesh.coordinator().nodes();
    nodes.iter().find(|node| node.node.name == "stock").expect("it is a node").node.key
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_only_ipv6_leads_from_node_to_node_it_is_used() {
    let Some(mut lab) = stock::lab() else { return };
    let sites = [51, 52, 53];
    let hosts = sites.map(|site| lab.host(site, Router::None));
    sites.iter().zip(&hosts).for_each(|(site, host)| lab.give_ipv6(host, *site));
    lab.cut_between("ip protocol udp");
    let [a, b, c] = &hosts;
    let (mesh, folder) = stock::mesh(&lab).await;
    let nodes = [
        Node::ours("ours-a", &mesh, a).await,
        Node::ours("ours-b", &mesh, b).await,
        Node::stock("stock-c", &mesh, c, &folder).await,
    ];
    let talks = talks(&nodes).await;
    all_are(&nodes, true, "IPv6").await;
    for (one, other) in pairs(&nodes) {
        if let Node::Ours { member, .. } = one {
            let at = route(member, other.address());
            assert!(matches!(at, Some(Route::Direct(at)) if at.is_ipv6()), "{at:?}");
        }
    }
    end(talks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_has_its_pings_of_each_kind_answered_by_a_node_of_ours() {
    let Some(mut lab) = stock::lab() else { return };
    let (one, other) = (lab.host(61, Router::None), lab.host(62, Router::None));
    let (mesh, folder) = stock::mesh(&lab).await;
    let ours = Node::ours("ours", &mesh, &one).await;
    let key = mesh.join_key().await;
    let stock = Stock::join("stock", &other, folder.path(), (&mesh.url(), &key)).await;
    stock.hears(ours.address()).await;
    let six = mesh.coordinator().nodes().iter().find(|node| node.node.name == "ours").unwrap().node.v6;
    for to in [ours.address().to_string(), six.to_string()] {
        for kind in ["--until-direct", "--icmp", "--tsmp"] {
            let pinged = stock.run(&["ping", "--c=3", "--timeout=20s", kind, &to]).await;
            let said = String::from_utf8_lossy(&pinged.stdout);
            assert!(pinged.status.success() && said.contains("pong from ours"), "{kind} {to}: {said}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_of_ours_meet_through_routers_where_these_allow_it() {
    let Some(mut lab) = Lab::new() else { return };
    let routers = [Router::Hard, Router::Hard, Router::None, Router::Mild, Router::Mild];
    let hosts: Vec<_> = (91..).zip(routers).map(|(site, router)| lab.host(site, router)).collect();
    let mesh = lab.hub().run(Mesh::start_at(HUB, ALL, None)).await;
    let mut nodes = Vec::new();
    for (host, name) in hosts.iter().zip(["hard-a", "hard-b", "open", "mild-a", "mild-b"]) {
        nodes.push(Node::ours(name, &mesh, host).await);
    }
    let talks = talks(&nodes).await;
    let may_be = |one: &Node, other: &Node| {
        let names = [one.name(), other.name()];
        names.contains(&"open") || names.iter().all(|name| name.starts_with("mild"))
    };
    for (one, other) in pairs(&nodes).filter(|(one, other)| may_be(one, other)) {
        one.until(other, true).await;
    }
    all_go_on(&talks, "direct or not").await;
    for (one, other) in pairs(&nodes).filter(|(one, other)| !may_be(one, other)) {
        assert!(!one.is_direct(other).await, "{} to {}: by what way?", one.name(), other.name());
    }
    end(talks).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_that_slept_goes_on_where_it_was() {
    let Some(mut lab) = stock::lab() else { return };
    let (one, other) = (lab.host(101, Router::Mild), lab.host(102, Router::Mild));
    let (mesh, folder) = stock::mesh(&lab).await;
    let nodes = [Node::ours("ours", &mesh, &one).await, Node::stock("stock", &mesh, &other, &folder).await];
    let talks = talks(&nodes).await;
    all_are(&nodes, true, "awake").await;
    let [_, Node::Stock { client, .. }] = &nodes else { unreachable!("the second is one") };
    client.signal(Signal::STOP);
    // So that its paths are no longer trusted, nor is it thought to be there.
    sleep(Duration::from_secs(25)).await;
    client.signal(Signal::CONT);
    all_go_on(&talks, "awake again").await;
    all_are(&nodes, true, "awake again").await;
    end(talks).await;
}
