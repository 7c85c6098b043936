//! Nodes of ours on this coordinator, over real sockets: what each of them is tested for alone, here they are tested for together.

use allod_coordinator::{Coordinator, Settings, policy::Policy, state::JoinKeySpec};
use allod_meshnode::{
    Clock, Interfaces, Member, MemberSettings, Route,
    control::{ControlSettings, ControlState, Trust},
};
use allod_meshproto::token::JoinToken;
use allod_proto::Timestamp;
use allod_testkit::{
    certificate::Certificate,
    coordinator::{self, ALL, Serving, is_free},
    lab::{Host, random},
    stock::PORT,
};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
    time::{sleep, timeout},
};
use zeroize::Zeroizing;

/// For a loaded machine; nothing here is measured by it.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) struct Mesh {
    folder: tempfile::TempDir,
    host: IpAddr,
    port: u16,
    clock: Clock,
    tls: Option<Certificate>,
    running: Option<Serving>,
}

impl Mesh {
    /// One whose policy is this.
    pub(crate) async fn start(policy: &str) -> Self {
        Self::start_at(V4, policy, None).await
    }

    /// One at this address, behind HTTPS if there is a certificate.
    pub(crate) async fn start_at(host: IpAddr, policy: &str, tls: Option<Certificate>) -> Self {
        let begun = Instant::now();
        let clock: Clock = Arc::new(move || Timestamp(1_800_000_000_000).plus(begun.elapsed()));
        let mut mesh =
            Self { folder: tempfile::tempdir().unwrap(), host, port: 0, clock, tls, running: None };
        mesh.serve().await;
        mesh.coordinator().set_policy(Policy::parse(policy).unwrap()).await.unwrap();
        mesh
    }

    /// Serves, where it served before.
    pub(crate) async fn serve(&mut self) {
        let folder = self.folder.path().join("coordinator");
        timeout(PATIENCE, is_free(&folder)).await.expect("the coordinator before never left its folder");
        let listener = TcpListener::bind((self.host, self.port)).await.unwrap();
        self.port = listener.local_addr().unwrap().port();
        let stun = UdpSocket::bind((self.host, self.port)).await.unwrap();
        let settings = Settings {
            url: self.url(),
            tls: self.tls.as_ref().map(|tls| tls.server.clone()),
            first_policy: Policy::default(),
            ..coordinator::settings(folder, self.host, self.port, self.port)
        };
        self.running = Some(Serving::start(settings, Arc::clone(&self.clock), listener, stun));
    }

    /// Ends coordinator, relay and STUN.
    pub(crate) async fn stop(&mut self) {
        self.running.take().unwrap().end().await;
    }

    pub(crate) fn coordinator(&self) -> &Coordinator {
        &self.running.as_ref().unwrap().coordinator
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}:{}", self.host, self.port)
    }

    /// A node that joins with a key for one.
    pub(crate) async fn join(&self, name: &str, from: IpAddr) -> Member {
        let token = self.token().await;
        let member = self.open(name, from, Some(&token));
        on_the_mesh(&member).await;
        member
    }

    async fn token(&self) -> JoinToken {
        JoinToken::parse(&self.token_line().await).unwrap()
    }

    /// What lets one machine in.
    pub(crate) async fn token_line(&self) -> Zeroizing<String> {
        self.running.as_ref().unwrap().token(self.url()).await
    }

    /// A key for one machine.
    pub(crate) async fn join_key(&self) -> Zeroizing<String> {
        self.running.as_ref().unwrap().join_key().await
    }

    /// A node that joins on a host of a lab.
    pub(crate) async fn join_on(&self, name: &str, host: &Host) -> Member {
        let token = self.token().await;
        let settings = self.settings(name, Interfaces::System, Some(&token));
        let member = host.run(async move { Member::open(settings).unwrap() }).await;
        on_the_mesh(&member).await;
        member
    }

    /// The place in the folder of that name; without a token it must be there already.
    fn open(&self, name: &str, from: IpAddr, token: Option<&JoinToken>) -> Member {
        Member::open(self.settings(name, Interfaces::Only(from), token)).unwrap()
    }

    fn settings(&self, name: &str, interfaces: Interfaces, token: Option<&JoinToken>) -> MemberSettings {
        let (trust, join_key) = match token {
            Some(token) => {
                (Trust::Root { root: token.root(), seen: 0 }, Some(token.join_key().to_owned().into()))
            }
            None => (Trust::FirstUse, None),
        };
        let control = ControlSettings {
            urls: vec![self.url()],
            trust,
            tls: self.tls.as_ref().map(|tls| Arc::clone(&tls.client)),
            hostname: name.to_owned(),
            join_key,
            ephemeral: false,
        };
        MemberSettings {
            folder: self.folder(name),
            control,
            interfaces,
            random: random(),
            clock: Arc::clone(&self.clock),
        }
    }

    fn folder(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }
}

pub(crate) async fn on_the_mesh(member: &Member) {
    let mut status = member.node().watch();
    let waiting = timeout(PATIENCE, status.wait_for(|status| !status.addresses.is_empty()));
    let had = waiting.await.map(|status| status.is_ok());
    assert_eq!(had, Ok(true), "it never had an address: {:?}", *member.control().borrow());
}

pub(crate) fn address(member: &Member) -> IpAddr {
    member.node().watch().borrow().addresses[0]
}

/// Answers whatever is said.
pub(crate) fn echo(member: &Member) -> JoinHandle<()> {
    let listener = member.node().listen(PORT).unwrap();
    tokio::spawn(async move {
        while let Ok(mut stream) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reading, mut writing) = tokio::io::split(&mut stream);
                // Who leaves in the middle of it ends it.
                drop(tokio::io::copy(&mut reading, &mut writing).await);
                drop(writing.shutdown().await);
            });
        }
    })
}

async fn say(member: &Member, to: IpAddr, what: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = member.node().connect(SocketAddr::new(to, PORT)).await?;
    stream.write_all(what).await?;
    stream.shutdown().await?;
    let mut heard = Vec::new();
    stream.read_to_end(&mut heard).await?;
    Ok(heard)
}

/// Says it until it is heard: the other's map may come a moment later.
pub(crate) async fn heard(member: &Member, to: IpAddr) {
    let trying = async {
        loop {
            match timeout(Duration::from_secs(20), say(member, to, b"are you there?")).await {
                Ok(Ok(heard)) if heard == b"are you there?" => return,
                _ => sleep(Duration::from_millis(20)).await,
            }
        }
    };
    timeout(PATIENCE, trying).await.expect("it was never heard");
}

fn is_direct(member: &Member) -> bool {
    member.node().paths().iter().any(|path| matches!(path.route, Route::Direct(_)))
}

pub(crate) async fn directly(member: &Member) {
    let waiting = async {
        while !is_direct(member) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, waiting).await.expect("never directly");
}

async fn until(member: &Member, is: impl Fn(&ControlState) -> bool) {
    let mut state = member.control();
    drop(timeout(PATIENCE, state.wait_for(|state| is(state))).await.expect("never so").unwrap());
}

const V4: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const V6: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_of_another_network_lets_nobody_in() {
    let (mesh, other) = (Mesh::start(ALL).await, Mesh::start(ALL).await);
    let spec = JoinKeySpec { uses: Some(1), ..JoinKeySpec::default() };
    let (_, key) = mesh.coordinator().create_join_key(spec).await.unwrap();
    let token = other.coordinator().join_token(vec![mesh.url()], key).unwrap();
    let member = mesh.open("stray", V4, Some(&token));
    let refused = |state: &ControlState| matches!(state, ControlState::Away(sentence) if sentence.contains("not signed by the root key"));
    until(&member, refused).await;
    assert!(mesh.coordinator().nodes().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_policy_does_not_allow_is_not_reached_and_replies_pass() {
    let policy = r#"{"allow":[{"from":["tag:web"],"to":["tag:db"],"ports":["9844"]}]}"#;
    let mesh = Mesh::start(policy).await;
    let (web, db) = (mesh.join("web", V4).await, mesh.join("db", V4).await);
    for node in mesh.coordinator().nodes() {
        let tag = format!("tag:{}", node.node.name);
        mesh.coordinator().set_tags(node.node.id, vec![tag]).await.unwrap();
    }
    let (_web_echo, _db_echo) = (echo(&web), echo(&db));
    heard(&web, address(&db)).await;
    let back = timeout(Duration::from_secs(3), say(&db, address(&web), b"and you?")).await;
    assert!(!matches!(back, Ok(Ok(_))), "a rule has one direction: {back:?}");
    heard(&web, address(&db)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_nodes_find_each_other_and_talk_directly_both_ways() {
    let mesh = Mesh::start(ALL).await;
    let (one, two) = (mesh.join("one", V4).await, mesh.join("two", V4).await);
    let (_first, _second) = (echo(&one), echo(&two));
    heard(&one, address(&two)).await;
    heard(&two, address(&one)).await;
    directly(&one).await;
    let large = vec![7; 1_000_000];
    assert!(say(&one, address(&two), &large).await.unwrap() == large);
    let who = two.node().whois(address(&one)).unwrap();
    assert_eq!(who.name, "one.mesh.internal.");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_there_is_no_direct_path_the_relay_is_used() {
    let mesh = Mesh::start(ALL).await;
    // A socket of each family: nothing that one sends can reach the other.
    let (four, six) = (mesh.join("four", V4).await, mesh.join("six", V6).await);
    let (_first, _second) = (echo(&four), echo(&six));
    heard(&four, address(&six)).await;
    heard(&six, address(&four)).await;
    assert!(four.node().paths().iter().all(|path| !matches!(path.route, Route::Direct(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_coordinator_and_relay_are_away_nothing_is_lost_and_a_node_comes_back_from_its_folder() {
    let mut mesh = Mesh::start(ALL).await;
    let (one, two) = (mesh.join("one", V4).await, mesh.join("two", V4).await);
    let (_first, second) = (echo(&one), echo(&two));
    heard(&one, address(&two)).await;
    directly(&one).await;
    let before = address(&two);
    mesh.stop().await;
    until(&one, |state| matches!(state, ControlState::Away(_))).await;
    for round in 0..100_u32 {
        let said = round.to_be_bytes();
        assert_eq!(say(&one, before, &said).await.unwrap(), said, "round {round}");
    }
    second.abort();
    drop(two);
    let two = timeout(PATIENCE, reopened(&mesh, "two")).await.expect("its folder was never free");
    let _second = echo(&two);
    assert_eq!(address(&two), before, "its map is on its disk");
    heard(&two, address(&one)).await;
    heard(&one, before).await;
    mesh.serve().await;
    until(&two, |state| *state == ControlState::Connected).await;
    until(&one, |state| *state == ControlState::Connected).await;
    assert_eq!(mesh.coordinator().nodes().len(), 2, "nobody is there twice");
    heard(&one, before).await;
}

/// A sleep that the boot clock counts and no other: what is measured by another clock must not take it for silence, nor what is measured by
/// this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_outlives_ten_minutes_that_pass_in_no_time() {
    let mesh = Mesh::start(ALL).await;
    let two = mesh.join("two", V4).await;
    let _echo = echo(&two);
    let slept = Arc::new(AtomicU64::new(0));
    let (counts, clock) = (Arc::clone(&slept), Arc::clone(&mesh.clock));
    let clock: Clock = Arc::new(move || clock().plus(Duration::from_secs(counts.load(SeqCst))));
    let token = mesh.token().await;
    let settings = mesh.settings("one", Interfaces::Only(V4), Some(&token));
    let one = Member::open(MemberSettings { clock, ..settings }).unwrap();
    on_the_mesh(&one).await;
    heard(&one, address(&two)).await;
    let mut stream = one.node().connect(SocketAddr::new(address(&two), PORT)).await.unwrap();
    for round in 0..3_u64 {
        let mut heard = [0; 8];
        stream.write_all(&round.to_be_bytes()).await.unwrap();
        timeout(PATIENCE, stream.read_exact(&mut heard)).await.expect("it stands still").unwrap();
        assert_eq!(heard, round.to_be_bytes());
        slept.fetch_add(600, SeqCst);
    }
    directly(&one).await;
    until(&one, |state| *state == ControlState::Connected).await;
}

/// The place in a folder, once the one before has left it.
async fn reopened(mesh: &Mesh, name: &str) -> Member {
    is_free(&mesh.folder(name)).await;
    let member = mesh.open(name, V4, None);
    on_the_mesh(&member).await;
    member
}
