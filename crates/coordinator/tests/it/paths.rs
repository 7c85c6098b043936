//! Which way packets go between nodes of ours and stock clients, in networks as they are. Each test prints what it counted.

use crate::{
    lab::{Host, Router},
    nodes::{Mesh, address, echo, heard},
    stock::{self, Stock},
    talk::{PATIENCE, Talk},
};
use allod_meshnode::{Member, Route};
use std::{
    net::IpAddr,
    time::{Duration, Instant},
};
use tempfile::TempDir;
use tokio::{
    task::JoinHandle,
    time::{sleep, timeout},
};

/// A node of the mesh, ours or a stock client.
enum Node {
    Ours { name: String, member: Member, echo: JoinHandle<()> },
    Stock { client: Stock, at: IpAddr },
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Self::Ours { echo, .. } = self {
            echo.abort();
        }
    }
}

impl Node {
    async fn ours(name: &str, mesh: &Mesh, host: &Host) -> Self {
        Self::member(name, mesh.join_on(name, host).await)
    }

    fn member(name: &str, member: Member) -> Self {
        let echo = echo(&member);
        Self::Ours { name: name.to_owned(), member, echo }
    }

    async fn stock(name: &str, mesh: &Mesh, host: &Host, folder: &TempDir) -> Self {
        Self::client(name, host, folder, (&mesh.url(), &mesh.join_key().await)).await
    }

    async fn client(name: &str, host: &Host, folder: &TempDir, joining: (&str, &str)) -> Self {
        let client = Stock::join(name, host, folder.path(), joining).await;
        Self::Stock { at: client.address().await, client }
    }

    fn name(&self) -> &str {
        match self {
            Self::Ours { name, .. } => name,
            Self::Stock { client, .. } => &client.name,
        }
    }

    fn address(&self) -> IpAddr {
        match self {
            Self::Ours { member, .. } => address(member),
            Self::Stock { at, .. } => *at,
        }
    }

    async fn hears(&self, other: &Self) {
        match self {
            Self::Ours { member, .. } => heard(member, other.address()).await,
            Self::Stock { client, .. } => client.hears(other.address()).await,
        }
    }

    async fn talk(&self, other: &Self) -> Talk {
        let name = format!("{} to {}", self.name(), other.name());
        match self {
            Self::Ours { member, .. } => Talk::ours(name, member, other.address()).await,
            Self::Stock { client, .. } => client.talk(name, other.address()),
        }
    }

    /// Whether it sends to the other one directly.
    async fn is_direct(&self, other: &Self) -> bool {
        match self {
            Self::Ours { member, .. } => matches!(route(member, other.address()), Some(Route::Direct(_))),
            Self::Stock { client, .. } => client.direct(other.address()).await.is_some(),
        }
    }

    async fn until(&self, other: &Self, direct: bool) {
        let waiting = async {
            while self.is_direct(other).await != direct {
                sleep(Duration::from_millis(50)).await;
            }
        };
        let (one, other) = (self.name(), other.name());
        timeout(PATIENCE, waiting)
            .await
            .unwrap_or_else(|_| panic!("{one} to {other}: direct is never {direct}"));
    }
}

fn route(member: &Member, to: IpAddr) -> Option<Route> {
    let key = member.node().whois(to)?.key;
    member.node().paths().into_iter().find(|path| path.key == key).map(|path| path.route)
}

/// Every pair, both ways.
fn pairs(nodes: &[Node]) -> impl Iterator<Item = (&Node, &Node)> {
    nodes.iter().flat_map(move |one| {
        nodes.iter().filter(move |other| !std::ptr::eq(one, *other)).map(move |other| (one, other))
    })
}

async fn talks(nodes: &[Node]) -> Vec<Talk> {
    let mut talks = Vec::new();
    for (one, other) in pairs(nodes) {
        one.hears(other).await;
        talks.push(one.talk(other).await);
    }
    talks
}

/// Waits until each has had something back that it said after now. How long that took the slowest.
async fn all_go_on(talks: &[Talk], what: &str) {
    let begun = Instant::now();
    let marks: Vec<_> = talks.iter().map(Talk::sent).collect();
    for (talk, mark) in talks.iter().zip(marks) {
        talk.past(mark).await;
    }
    eprintln!("{what}: all {} streams went on after {:.1} s", talks.len(), begun.elapsed().as_secs_f32());
}

/// Waits until all pairs are direct, or none is.
async fn all_are(nodes: &[Node], direct: bool, what: &str) {
    let begun = Instant::now();
    for (one, other) in pairs(nodes) {
        one.until(other, direct).await;
    }
    let so = if direct { "direct" } else { "relayed" };
    eprintln!("{what}: every pair {so} both ways after {:.1} s", begun.elapsed().as_secs_f32());
}

async fn end(talks: Vec<Talk>) {
    let (mut records, mut longest) = (0, Duration::ZERO);
    for talk in talks {
        let name = talk.name.clone();
        let (count, gap) = talk.end().await;
        eprintln!("  {name}: longest silence {:.1} s", gap.as_secs_f32());
        records += count;
        longest = longest.max(gap);
    }
    eprintln!(
        "{records} records, all back, none lost; the longest silence of a stream {:.1} s",
        longest.as_secs_f32()
    );
}

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

/// For how long is told by `ALLOD_TEST_OUTAGE_SECONDS`.
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
    let given = std::env::var("ALLOD_TEST_OUTAGE_SECONDS").ok();
    sleep(Duration::from_secs(given.map_or(10, |given| given.parse().unwrap()))).await;
    all_go_on(&running, "out of reach").await;
    let late = talks(&nodes).await;
    end(late).await;
    lab.mend();
    end(running).await;
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
