//! Nodes of ours and stock clients in pairs: each with each, both ways, and what is counted of it.

use crate::{
    nodes::{Mesh, address, echo, heard},
    talk::{PATIENCE, Talk},
};
use allod_meshnode::{Member, Route};
use allod_testkit::{lab::Host, stock::Stock};
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
pub(crate) enum Node {
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
    pub(crate) async fn ours(name: &str, mesh: &Mesh, host: &Host) -> Self {
        Self::member(name, mesh.join_on(name, host).await)
    }

    pub(crate) fn member(name: &str, member: Member) -> Self {
        let echo = echo(&member);
        Self::Ours { name: name.to_owned(), member, echo }
    }

    pub(crate) async fn stock(name: &str, mesh: &Mesh, host: &Host, folder: &TempDir) -> Self {
        Self::client(name, host, folder, (&mesh.url(), &mesh.join_key().await)).await
    }

    pub(crate) async fn client(name: &str, host: &Host, folder: &TempDir, joining: (&str, &str)) -> Self {
        let client = Stock::join(name, host, folder.path(), joining).await;
        Self::Stock { at: client.address().await, client }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Ours { name, .. } => name,
            Self::Stock { client, .. } => &client.name,
        }
    }

    pub(crate) fn address(&self) -> IpAddr {
        match self {
            Self::Ours { member, .. } => address(member),
            Self::Stock { at, .. } => *at,
        }
    }

    pub(crate) async fn hears(&self, other: &Self) {
        match self {
            Self::Ours { member, .. } => heard(member, other.address()).await,
            Self::Stock { client, .. } => client.hears(other.address()).await,
        }
    }

    pub(crate) async fn talk(&self, other: &Self) -> Talk {
        let name = format!("{} to {}", self.name(), other.name());
        match self {
            Self::Ours { member, .. } => Talk::ours(name, member, other.address()).await,
            Self::Stock { client, .. } => Talk::stock(name, client, other.address()),
        }
    }

    /// Whether it sends to the other one directly.
    pub(crate) async fn is_direct(&self, other: &Self) -> bool {
        match self {
            Self::Ours { member, .. } => matches!(route(member, other.address()), Some(Route::Direct(_))),
            Self::Stock { client, .. } => client.direct(other.address()).await.is_some(),
        }
    }

    pub(crate) async fn until(&self, other: &Self, direct: bool) {
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

pub(crate) fn route(member: &Member, to: IpAddr) -> Option<Route> {
    let key = member.node().whois(to)?.key;
    member.node().paths().into_iter().find(|path| path.key == key).map(|path| path.route)
}

/// Every pair, both ways.
pub(crate) fn pairs(nodes: &[Node]) -> impl Iterator<Item = (&Node, &Node)> {
    nodes.iter().flat_map(move |one| {
        nodes.iter().filter(move |other| !std::ptr::eq(one, *other)).map(move |other| (one, other))
    })
}

pub(crate) async fn talks(nodes: &[Node]) -> Vec<Talk> {
    let mut talks = Vec::new();
    for (one, other) in pairs(nodes) {
        one.hears(other).await;
        talks.push(one.talk(other).await);
    }
    talks
}

/// Waits until each has had something back that it said after now. How long that took the slowest.
pub(crate) async fn all_go_on(talks: &[Talk], what: &str) {
    let begun = Instant::now();
    let marks: Vec<_> = talks.iter().map(Talk::sent).collect();
    for (talk, mark) in talks.iter().zip(marks) {
        talk.past(mark).await;
    }
    eprintln!("{what}: all {} streams went on after {:.1} s", talks.len(), begun.elapsed().as_secs_f32());
}

/// Waits until all pairs are direct, or none is.
pub(crate) async fn all_are(nodes: &[Node], direct: bool, what: &str) {
    let begun = Instant::now();
    for (one, other) in pairs(nodes) {
        one.until(other, direct).await;
    }
    let so = if direct { "direct" } else { "relayed" };
    eprintln!("{what}: every pair {so} both ways after {:.1} s", begun.elapsed().as_secs_f32());
}

pub(crate) async fn end(talks: Vec<Talk>) {
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
