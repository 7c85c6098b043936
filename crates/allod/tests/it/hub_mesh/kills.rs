//! The hub is killed again and again under its nodes: none is lost, no address changes, what is direct does not notice, and what
//! goes through the relay goes on.

use super::hub::{Hub, address, on_the_mesh};
use crate::{crowd::short_or_long, processes::eventually};
use allod_meshnode::Member;
use std::{
    collections::BTreeMap,
    net::{Ipv6Addr, SocketAddr},
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::watch,
    task::JoinHandle,
    time::{sleep, timeout},
};

const PORT: u16 = 7;
/// A message that was not answered by then is lost, and with it the stream.
const LOST: Duration = Duration::from_secs(120);

/// Sends back what it hears.
fn echo(member: &Member) -> JoinHandle<()> {
    let listener = member.node().listen(PORT).unwrap();
    tokio::spawn(async move {
        while let Ok(stream) = listener.accept().await {
            tokio::spawn(async move {
                let (mut from, mut to) = tokio::io::split(stream);
                let _ = tokio::io::copy(&mut from, &mut to).await;
            });
        }
    })
}

/// One stream that asks and is answered, for as long as it is wanted: how often, and the longest that an answer took.
struct Talk {
    enough: watch::Sender<bool>,
    /// How many answers there were so far.
    answers: watch::Receiver<u64>,
    talking: JoinHandle<Duration>,
}

async fn talk(from: &Member, to: &str) -> Talk {
    let to = SocketAddr::new(to.parse().unwrap(), PORT);
    let mut stream = eventually("they are connected", async || {
        timeout(Duration::from_secs(20), from.node().connect(to)).await.ok()?.ok()
    })
    .await;
    let (enough, until) = watch::channel(false);
    let (tell, answers) = watch::channel(0_u64);
    let talking = tokio::spawn(async move {
        let mut longest = Duration::ZERO;
        let mut number = 0_u64;
        while !*until.borrow() {
            number += 1;
            let sent = Instant::now();
            stream.write_all(&number.to_be_bytes()).await.unwrap();
            let mut heard = [0; 8];
            timeout(LOST, stream.read_exact(&mut heard)).await.expect("an answer is lost").unwrap();
            assert_eq!(u64::from_be_bytes(heard), number);
            longest = longest.max(sent.elapsed());
            tell.send_replace(number);
            sleep(Duration::from_millis(20)).await;
        }
        longest
    });
    Talk { enough, answers, talking }
}

impl Talk {
    /// Waits for so many further answers.
    async fn goes_on(&mut self, further: u64) {
        let before = *self.answers.borrow();
        let waited = timeout(LOST, self.answers.wait_for(|count| *count >= before + further)).await;
        drop(waited.expect("nothing is answered any more").unwrap());
    }

    async fn end(self) -> Duration {
        self.enough.send_replace(true);
        self.talking.await.unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_again_and_again_it_loses_no_node_and_no_address_and_streams_go_on() {
    let (count, kills) = (short_or_long(8, 50), short_or_long(3, 20));
    let mut hub = Hub::start().await;
    let policy = hub.folder.path().join("policy.json");
    std::fs::write(&policy, r#"{"allow":[{"from":["*"],"to":["*"],"ports":["*"]}]}"#).unwrap();
    hub.told(&["policy", "set", policy.to_str().unwrap()]).await;
    let token = hub.token(&["--uses", &(count + 1).to_string()]).await;
    let mut members = Vec::new();
    for number in 0..count {
        members.push(hub.member(&format!("node-{number}"), Some(&token)));
    }
    // No datagram leads from this one to the others.
    let apart = hub.member_from("apart", Some(&token), Ipv6Addr::LOCALHOST.into());
    for member in members.iter().chain([&apart]) {
        on_the_mesh(member).await;
    }
    let before: BTreeMap<usize, String> = members.iter().map(address).enumerate().collect();
    let [first, second, ..] = members.as_slice() else { panic!("two") };
    let _echoes = [echo(first), echo(second)];
    let mut direct = talk(first, &address(second)).await;
    let mut relayed = talk(&apart, &address(first)).await;

    let mut back = Vec::new();
    for _ in 0..kills {
        direct.goes_on(5).await;
        relayed.goes_on(5).await;
        hub.kill();
        direct.goes_on(20).await;
        hub.begin().await;
        let begun = Instant::now();
        relayed.goes_on(2).await;
        back.push(begun.elapsed());
    }
    for member in members.iter().chain([&apart]) {
        on_the_mesh(member).await;
    }
    let after: BTreeMap<usize, String> = members.iter().map(address).enumerate().collect();
    assert_eq!(after, before);
    eventually("everybody is seen again", async || {
        let nodes = hub.told(&["nodes", "list"]).await["nodes"].clone();
        let nodes = nodes.as_array().unwrap();
        assert_eq!(nodes.len(), count + 1, "nobody is lost and nobody is there twice");
        nodes.iter().all(|node| node["online"] == true).then_some(())
    })
    .await;
    let (direct, relayed) = (direct.end().await, relayed.end().await);
    eprintln!(
        "{} nodes, {kills} kills: longest wait for an answer {direct:?} directly, {relayed:?} through the relay, \
         which went on after {back:?}",
        count + 1
    );
}
