//! Simulated nodes by the hundred, each with a machine, a connection and a stream of maps of its own: they join, hear of each
//! other, and say when they were told of a change.

use crate::stop::unless_asked;
use allod_meshproto::{
    MachineKey,
    control::{MapResponse, NodeId},
};
use allod_testkit::client::{self, Control, Node};
use anyhow::{Context as _, Result, anyhow, bail};
use std::{
    collections::BTreeSet,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    runtime::Runtime,
    sync::{
        Semaphore,
        mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    },
    task::JoinSet,
    time::timeout,
};

/// What has not happened by then does not happen.
const PATIENCE: Duration = Duration::from_secs(1_800);
/// What a node says.
enum News {
    /// It has heard of everybody.
    KnowsAll,
    /// Somebody is heard at this port now.
    Moved(u16),
    /// Its stream has ended, and it asks for another.
    AskedAnew,
    /// It gets no other.
    Ended,
}

/// They stay until it is dropped.
pub(crate) struct Crowd {
    runtime: Runtime,
    first: (Node, Control),
    news: UnboundedReceiver<News>,
    count: usize,
    /// How long all of them took to be let in.
    pub(crate) joined: Duration,
    /// How long until each had heard of all others.
    pub(crate) acquainted: Duration,
    /// How many streams had to be asked for anew.
    pub(crate) anew: usize,
    _rest: Vec<Control>,
}

impl Crowd {
    /// Lets so many join, at most `at_once` at a time: who is let in makes room for the next.
    pub(crate) fn join(to: SocketAddr, join_key: &str, count: usize, at_once: usize) -> Result<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let (tell, mut news) = unbounded_channel();
        let begun = Instant::now();
        let mut nodes = runtime.block_on(unless_asked(all_join(to, join_key, (count, at_once), &tell)))?;
        let joined = begun.elapsed();
        let acquainting = hear(&mut news, count, |news| matches!(news, News::KnowsAll));
        let anew = runtime.block_on(unless_asked(acquainting))?;
        let acquainted = begun.elapsed();
        let first = nodes.pop().context("nobody")?;
        let rest = nodes.into_iter().map(|(_, control)| control).collect();
        Ok(Self { runtime, first, news, count, joined, acquainted, anew, _rest: rest })
    }

    /// One of them says that it is heard at another port; how long until the last of the others was told.
    pub(crate) fn change(&mut self, port: u16) -> Result<Duration> {
        let (node, control) = &mut self.first;
        let (news, anew, others) = (&mut self.news, &mut self.anew, self.count - 1);
        self.runtime.block_on(unless_asked(async {
            let begun = Instant::now();
            let said = timeout(PATIENCE, control.map(&node.lite(&format!("192.0.2.1:{port}")))).await;
            said.context("it is not heard")?.map_err(|status| anyhow!("it is not heard: {status}"))?;
            *anew += hear(news, others, |news| matches!(news, News::Moved(told) if *told == port)).await?;
            Ok(begun.elapsed())
        }))
    }

    /// Ends all connections.
    pub(crate) fn end(self) {
        self.runtime.shutdown_background();
    }
}

async fn all_join(
    to: SocketAddr,
    join_key: &str,
    (count, at_once): (usize, usize),
    tell: &UnboundedSender<News>,
) -> Result<Vec<(Node, Control)>> {
    // What the client of the tests can't do makes it panic: that ends its task, and is a failure here.
    let server = tokio::spawn(client::key(to)).await.context("no keys are shown")?.public_key;
    let room = Arc::new(Semaphore::new(at_once));
    let mut joining = JoinSet::new();
    for number in 0..count {
        let (room, tell, join_key) = (Arc::clone(&room), tell.clone(), join_key.to_owned());
        joining.spawn(async move {
            let _room = room.acquire().await?;
            one_joins(to, server, &join_key, (number, count), tell).await
        });
    }
    let all = async {
        let mut nodes = Vec::new();
        while let Some(node) = joining.join_next().await {
            nodes.push(node.context("a node failed")??);
        }
        Ok(nodes)
    };
    timeout(PATIENCE, all).await.context("not all have joined")?
}

async fn one_joins(
    to: SocketAddr,
    server: MachineKey,
    join_key: &str,
    (number, count): (usize, usize),
    tell: UnboundedSender<News>,
) -> Result<(Node, Control)> {
    let node = Node::new(&format!("n{number}"));
    let mut control = node.connect(to, server).await;
    let reply = control.register(&node.register(Some(join_key))).await;
    if !reply.machine_authorized {
        bail!("a node is not let in: {}", reply.error);
    }
    let maps = control.map(&node.stream()).await;
    let mut maps = maps.map_err(|status| anyhow!("there is no stream of maps: {status}"))?;
    let first = maps.next().await.context("the first map never comes")?;
    let mut own =
        Listener { known: BTreeSet::new(), told: BTreeSet::new(), is_acquainted: false, count, tell };
    own.hear(&first);
    let asking = (control.http.clone(), node.stream());
    tokio::spawn(async move {
        let mut maps = Some(maps);
        while let Some(mut stream) = maps.take() {
            while let Some(map) = stream.next().await {
                own.hear(&map);
            }
            // Who could not be told in time is hung up on; it asks anew, as stock clients do.
            let (mut control, request) = (Control { http: asking.0.clone() }, asking.1.clone());
            let again = tokio::spawn(async move { control.map(&request).await.ok() });
            maps = again.await.ok().flatten();
            let _ = own.tell.send(News::AskedAnew);
        }
        let _ = own.tell.send(News::Ended);
    });
    Ok((node, control))
}

/// One node's memory of what it was told: it says each thing once, however often it is told.
struct Listener {
    known: BTreeSet<NodeId>,
    told: BTreeSet<u16>,
    is_acquainted: bool,
    count: usize,
    tell: UnboundedSender<News>,
}

impl Listener {
    fn hear(&mut self, map: &MapResponse) {
        learn(&mut self.known, map);
        if !self.is_acquainted && self.known.len() + 1 >= self.count {
            self.is_acquainted = true;
            let _ = self.tell.send(News::KnowsAll);
        }
        for port in ports(map) {
            if self.told.insert(port) {
                let _ = self.tell.send(News::Moved(port));
            }
        }
    }
}

fn learn(known: &mut BTreeSet<NodeId>, map: &MapResponse) {
    if !map.peers.is_empty() {
        known.clear();
    }
    known.extend(map.peers.iter().chain(&map.peers_changed).map(|peer| peer.id));
    for gone in &map.peers_removed {
        known.remove(gone);
    }
}

/// Where somebody is heard now.
fn ports(map: &MapResponse) -> BTreeSet<u16> {
    let patches = map.peers_changed_patch.iter().filter_map(|patch| patch.endpoints.as_ref());
    let whole = map.peers.iter().chain(&map.peers_changed).map(|peer| &peer.endpoints);
    patches.chain(whole).flatten().map(SocketAddr::port).collect()
}

async fn hear(
    news: &mut UnboundedReceiver<News>,
    count: usize,
    is_it: impl Fn(&News) -> bool,
) -> Result<usize> {
    let hearing = async {
        let (mut heard, mut anew) = (0, 0);
        while heard < count {
            match news.recv().await.context("nobody is left")? {
                News::Ended => bail!("a stream of maps has ended"),
                News::AskedAnew => anew += 1,
                said => heard += usize::from(is_it(&said)),
            }
        }
        Ok(anew)
    };
    timeout(PATIENCE, hearing).await.context("not everybody was told")?
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_meshproto::control::Node as Told;

    fn peer(id: i64) -> Told {
        Told { id: NodeId(id), ..Told::default() }
    }

    #[test]
    fn who_was_removed_is_not_known_and_a_whole_map_begins_anew() {
        let mut known = BTreeSet::new();
        learn(&mut known, &MapResponse { peers: vec![peer(1), peer(2)], ..MapResponse::default() });
        learn(&mut known, &MapResponse { peers_changed: vec![peer(2), peer(3)], ..MapResponse::default() });
        assert_eq!(known.len(), 3);
        learn(&mut known, &MapResponse { peers_removed: vec![NodeId(1)], ..MapResponse::default() });
        learn(&mut known, &MapResponse::alive());
        assert_eq!(known, BTreeSet::from([NodeId(2), NodeId(3)]));
        learn(&mut known, &MapResponse { peers: vec![peer(9)], ..MapResponse::default() });
        assert_eq!(known, BTreeSet::from([NodeId(9)]));
    }

    #[test]
    fn what_a_node_is_told_twice_it_says_once() {
        let (tell, mut news) = unbounded_channel();
        let mut own =
            Listener { known: BTreeSet::new(), told: BTreeSet::new(), is_acquainted: false, count: 2, tell };
        let moved = Told { endpoints: vec!["192.0.2.1:7".parse().unwrap()], ..peer(1) };
        let map = MapResponse { peers: vec![moved], ..MapResponse::default() };
        own.hear(&map);
        own.hear(&map);
        assert!(matches!(news.try_recv(), Ok(News::KnowsAll)));
        assert!(matches!(news.try_recv(), Ok(News::Moved(7))));
        assert!(news.try_recv().is_err());
    }

    #[test]
    fn a_move_is_seen_in_a_patch_and_in_a_whole_node() {
        let moved = Told { endpoints: vec!["192.0.2.1:7".parse().unwrap()], ..peer(1) };
        let map = MapResponse { peers_changed: vec![moved], ..MapResponse::default() };
        assert_eq!(ports(&map), BTreeSet::from([7]));
        assert_eq!(ports(&MapResponse::alive()), BTreeSet::new());
    }
}
