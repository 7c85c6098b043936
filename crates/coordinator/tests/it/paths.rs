//! Which way packets go between nodes of ours and stock clients, in networks as they are. Each test prints what it counted.

use crate::{
    lab::{Host, Router},
    nodes::{Mesh, address, echo, heard},
    stock::{self, Stock, named},
    talk::{PATIENCE, Talk},
};
use allod_meshnode::{Member, Route};
use std::{
    net::IpAddr,
    time::{Duration, Instant},
};
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
        let member = mesh.join_on(name, host).await;
        let echo = echo(&member);
        Self::Ours { name: name.to_owned(), member, echo }
    }

    async fn stock(name: &str, mesh: &Mesh, host: &Host, folder: &tempfile::TempDir) -> Self {
        let client = Stock::join(name, mesh, host, folder.path()).await;
        Self::Stock { client, at: named(mesh, name) }
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
