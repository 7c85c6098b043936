use allod_meshnode::{Clock, Identity, Interfaces, Node, NodeSettings, RelayPacket, Route, Standing, Wires};
use allod_meshproto::{
    Prefix,
    control::{self, DerpMap, DerpRegion, DnsConfig, FilterRule, NodeId, PortRange, RuleTarget},
    netmap::{NetMap, StoredMap},
};
use allod_proto::Timestamp;
use ring::rand::SystemRandom;
use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    sync::{mpsc, watch},
    time::timeout,
};

const REGION: u32 = 900;
/// For a loaded machine; nothing here is measured by it.
const PATIENCE: Duration = Duration::from_secs(120);

struct Host {
    node: Node,
    identity: Identity,
    maps: watch::Sender<Option<Arc<StoredMap>>>,
    outside: IpAddr,
    mesh: IpAddr,
    to_relay: mpsc::Receiver<RelayPacket>,
    relayed: mpsc::Sender<RelayPacket>,
    _standing: watch::Receiver<Standing>,
}

fn clock() -> Clock {
    let start = Instant::now();
    Arc::new(move || Timestamp(1_795_348_800_000).plus(start.elapsed()))
}

/// A host whose datagrams and packets are of IPv4.
fn host(number: u8, clock: &Clock) -> Host {
    host_at(Ipv4Addr::LOCALHOST.into(), [100, 64, 0, number].into(), clock)
}

fn host_at(outside: IpAddr, mesh: IpAddr, clock: &Clock) -> Host {
    let random = Arc::new(SystemRandom::new());
    let identity = Identity::generate(random.as_ref()).expect("random numbers");
    let (maps, maps_rx) = watch::channel(None);
    let (to_relay, to_relay_rx) = mpsc::channel(512);
    let (relayed, from_relay) = mpsc::channel(512);
    let (standing, standing_rx) = watch::channel(Standing::default());
    let settings = NodeSettings {
        identity: identity.clone(),
        interfaces: Interfaces::Only(outside),
        random,
        clock: Arc::clone(clock),
    };
    let wires = Wires { maps: maps_rx, to_relay, from_relay, standing };
    let node = Node::start(settings, wires).expect("a socket on loopback");
    Host { node, identity, maps, outside, mesh, to_relay: to_relay_rx, relayed, _standing: standing_rx }
}

impl Host {
    fn described(&self, is_found_directly: bool) -> Arc<control::Node> {
        let last = match self.mesh {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(ip) => ip.octets()[15],
        };
        let mut node = control::Node {
            id: NodeId(last.into()),
            key: self.identity.node.public(),
            disco_key: self.identity.disco.public(),
            name: format!("n{last}.mesh."),
            addresses: vec![Prefix::host(self.mesh)],
            endpoints: is_found_directly
                .then(|| SocketAddr::new(self.outside, self.node.port()))
                .into_iter()
                .collect(),
            ..control::Node::default()
        };
        node.set_home(REGION);
        Arc::new(node)
    }

    fn give_map(&self, others: &[&Self], is_found_directly: bool, rules: Vec<FilterRule>) {
        let peers = others.iter().map(|other| other.described(is_found_directly));
        let region = DerpRegion { region_id: REGION, ..DerpRegion::default() };
        let map = NetMap {
            me: self.described(true),
            peers: peers.map(|node| (node.id, node)).collect(),
            derp_map: Arc::new(DerpMap { regions: [(REGION, Some(region))].into(), ..DerpMap::default() }),
            dns: Arc::new(DnsConfig::default()),
            domain: "mesh".to_owned(),
            filters: [("base".to_owned(), Arc::new(rules))].into(),
            profiles: BTreeMap::new(),
            health: Vec::new(),
            messages: BTreeMap::new(),
            clock_ahead: 0,
        };
        let heard_at = Timestamp(1_795_348_800_000);
        self.maps.send_replace(Some(Arc::new(StoredMap { map, heard_at })));
    }

    async fn is_up(&self) {
        let mut status = self.node.watch();
        let up = timeout(PATIENCE, status.wait_for(|status| !status.addresses.is_empty())).await;
        assert!(up.is_ok_and(|told| told.is_ok()), "the node takes its map");
    }
}

fn everything() -> Vec<FilterRule> {
    let target = RuleTarget { ip: "*".to_owned(), ports: PortRange::ALL };
    vec![FilterRule { src_ips: vec!["*".to_owned()], dst_ports: vec![target], ..FilterRule::default() }]
}

async fn two(is_found_directly: bool) -> (Host, Host) {
    let clock = clock();
    introduced(host(1, &clock), host(2, &clock), is_found_directly).await
}

async fn introduced(one: Host, two: Host, is_found_directly: bool) -> (Host, Host) {
    one.give_map(&[&two], is_found_directly, everything());
    two.give_map(&[&one], is_found_directly, everything());
    one.is_up().await;
    two.is_up().await;
    (one, two)
}

fn bytes(seed: u32) -> Vec<u8> {
    (0..10_000_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) ^ seed).to_le_bytes()[2]).collect()
}

#[test]
fn outside_a_runtime_a_node_is_an_error() {
    let random = Arc::new(SystemRandom::new());
    let identity = Identity::generate(random.as_ref()).unwrap();
    let interfaces = Interfaces::Only(Ipv4Addr::LOCALHOST.into());
    let settings = NodeSettings { identity, interfaces, random, clock: clock() };
    let (to_relay, from_relay) = mpsc::channel(1);
    let (maps, standing) = (watch::channel(None).1, watch::channel(Standing::default()).0);
    assert!(Node::start(settings, Wires { maps, to_relay, from_relay, standing }).is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_takes_another_port_when_its_own_is_taken() {
    let clock = clock();
    let first = host(1, &clock);
    let with_port = |port| {
        let random = Arc::new(SystemRandom::new());
        let identity = Identity { port, ..Identity::generate(random.as_ref()).unwrap() };
        let interfaces = Interfaces::Only(Ipv4Addr::LOCALHOST.into());
        let (to_relay, from_relay) = mpsc::channel(1);
        let (maps, standing) = (watch::channel(None).1, watch::channel(Standing::default()).0);
        let settings = NodeSettings { identity, interfaces, random, clock: Arc::clone(&clock) };
        Node::start(settings, Wires { maps, to_relay, from_relay, standing }).unwrap()
    };
    let other = with_port(first.node.port());
    assert_ne!(other.port(), first.node.port());
    assert_ne!(other.port(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_that_is_no_peers_is_refused_at_once() {
    let (one, two) = two(true).await;
    let nobody = one.node.connect("100.64.0.9:80".parse().unwrap()).await;
    assert_eq!(nobody.unwrap_err().kind(), io::ErrorKind::HostUnreachable);
    assert!(one.node.whois([100, 64, 0, 9].into()).is_none());
    assert_eq!(one.node.whois(two.mesh).unwrap().key, two.identity.node.public());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_megabytes_go_both_ways_at_once() {
    let (one, two) = two(true).await;
    let listener = two.node.listen(80).unwrap();
    let to = SocketAddr::new(two.mesh, 80);
    let exchange = async |stream: allod_meshnode::MeshStream, sent: Vec<u8>| {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let send = async {
            writer.write_all(&sent).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let mut received = Vec::new();
        tokio::join!(send, reader.read_to_end(&mut received)).1.unwrap();
        received
    };
    let (client, server) = tokio::join!(one.node.connect(to), listener.accept());
    let both =
        async { tokio::join!(exchange(client.unwrap(), bytes(1)), exchange(server.unwrap(), bytes(2))) };
    let (at_client, at_server) = timeout(PATIENCE, both).await.unwrap();
    assert!(at_client == bytes(2) && at_server == bytes(1));
    let path = one.node.paths().into_iter().find(|path| path.key == two.identity.node.public()).unwrap();
    assert!(matches!(path.route, Route::Direct(_)), "{path:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_connections_at_once_are_all_served() {
    let (one, two) = two(true).await;
    let listener = two.node.listen(80).unwrap();
    let to = SocketAddr::new(two.mesh, 80);
    let server = tokio::spawn(async move {
        let mut streams = tokio::task::JoinSet::new();
        for _ in 0..200 {
            let mut stream = listener.accept().await.unwrap();
            streams.spawn(async move {
                let said = stream.read_u64().await.unwrap();
                stream.write_u64(said + 1).await.unwrap();
                stream.shutdown().await.unwrap();
                let _ = stream.read(&mut [0]).await;
            });
        }
        streams.join_all().await;
    });
    let node = Arc::new(one.node);
    let mut clients = tokio::task::JoinSet::new();
    for number in 0..200_u64 {
        let node = Arc::clone(&node);
        clients.spawn(async move {
            let mut stream = node.connect(to).await.unwrap();
            stream.write_u64(number).await.unwrap();
            assert_eq!(stream.read_u64().await.unwrap(), number + 1);
        });
    }
    timeout(PATIENCE, clients.join_all()).await.unwrap();
    timeout(PATIENCE, server).await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_is_reset_is_an_error_at_the_other_end_and_no_end() {
    let (one, two) = two(true).await;
    let listener = two.node.listen(80).unwrap();
    let connected = one.node.connect(SocketAddr::new(two.mesh, 80));
    let (client, server) =
        timeout(PATIENCE, async { tokio::join!(connected, listener.accept()) }).await.unwrap();
    let (mut client, server) = (client.unwrap(), server.unwrap());
    server.reset();
    let read = timeout(PATIENCE, client.read(&mut [0])).await.unwrap();
    assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rule_has_one_direction() {
    let clock = clock();
    let (one, two) = (host(1, &clock), host(2, &clock));
    one.give_map(&[&two], true, Vec::new());
    two.give_map(&[&one], true, everything());
    one.is_up().await;
    two.is_up().await;
    let (mine, theirs) = (one.node.listen(80).unwrap(), two.node.listen(80).unwrap());
    let (out, reply) = tokio::join!(one.node.connect(SocketAddr::new(two.mesh, 80)), theirs.accept());
    let (mut out, mut reply) = (out.unwrap(), reply.unwrap());
    let back = two.node.connect(SocketAddr::new(one.mesh, 80));
    let passes = async {
        // What is said after the request for a connection back arrives after it.
        for _ in 0..20 {
            reply.write_u8(1).await.unwrap();
            out.read_u8().await.unwrap();
            out.write_u8(2).await.unwrap();
            reply.read_u8().await.unwrap();
        }
    };
    let is_back = tokio::select! {
        biased;
        _ = back => true,
        _ = mine.accept() => true,
        () = passes => false,
    };
    assert!(!is_back, "replies pass, a new connection back does not");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn through_a_relay_alone_they_talk_all_the_same() {
    let (mut one, mut two) = two(false).await;
    let (key_one, key_two) = (one.identity.node.public(), two.identity.node.public());
    let listener = two.node.listen(80).unwrap();
    let to = SocketAddr::new(two.mesh, 80);
    let relay = async {
        loop {
            tokio::select! {
                Some(RelayPacket { region, packet, .. }) = one.to_relay.recv() => {
                    let _ = two.relayed.send(RelayPacket { region, peer: key_one, packet }).await;
                }
                Some(RelayPacket { region, packet, .. }) = two.to_relay.recv() => {
                    let _ = one.relayed.send(RelayPacket { region, peer: key_two, packet }).await;
                }
            }
        }
    };
    let talk = async {
        let (client, server) = tokio::join!(one.node.connect(to), listener.accept());
        let (mut client, mut server) = (client.unwrap(), server.unwrap());
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut said = Vec::new();
        server.read_to_end(&mut said).await.unwrap();
        said
    };
    let said = tokio::select! {
        said = timeout(PATIENCE, talk) => said.unwrap(),
        () = relay => Vec::new(),
    };
    assert_eq!(said, b"hello");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_ipv6_inside_and_outside_they_talk_too() {
    let clock = clock();
    let mesh = |last| IpAddr::V6(Ipv6Addr::new(0xfd7a, 0x115c, 0xa1e0, 0, 0, 0, 0, last));
    let at = |last| host_at(Ipv6Addr::LOCALHOST.into(), mesh(last), &clock);
    let (one, two) = introduced(at(1), at(2), true).await;
    let listener = two.node.listen(80).unwrap();
    let connected =
        async { tokio::join!(one.node.connect(SocketAddr::new(two.mesh, 80)), listener.accept()) };
    let (client, server) = timeout(PATIENCE, connected).await.unwrap();
    let (mut client, mut server) = (client.unwrap(), server.unwrap());
    assert_eq!(two.node.whois(server.peer_addr().ip()).unwrap().key, one.identity.node.public());
    client.write_all(b"six").await.unwrap();
    let mut said = [0; 3];
    timeout(PATIENCE, server.read_exact(&mut said)).await.unwrap().unwrap();
    assert_eq!(&said, b"six");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_map_that_the_coordinator_takes_back_leaves_nobody() {
    let (one, two) = two(true).await;
    one.give_map(&[], true, everything());
    let mut waits = 0;
    while one.node.whois(two.mesh).is_some() {
        tokio::task::yield_now().await;
        waits += 1;
        assert!(waits < 100_000_000, "the new map counts");
    }
    let to = SocketAddr::new(two.mesh, 80);
    assert_eq!(one.node.connect(to).await.unwrap_err().kind(), io::ErrorKind::HostUnreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_panic_in_the_loop_is_told_and_leaves_nobody_waiting() {
    let (broken, clock) = (Arc::new(AtomicBool::new(false)), clock());
    let breaks = Arc::clone(&broken);
    let breaking: Clock = Arc::new(move || {
        assert!(!breaks.load(Ordering::SeqCst), "as if by a fault of the stack");
        clock()
    });
    let (one, two) = introduced(host(1, &breaking), host(2, &self::clock()), true).await;
    let (listener, theirs) = (one.node.listen(80).unwrap(), two.node.listen(80).unwrap());
    let (stream, _accepted) = tokio::join!(one.node.connect((two.mesh, 80).into()), theirs.accept());
    let mut stream = stream.unwrap();
    let ended = one.node.ended();
    tokio::pin!(ended);
    assert!(timeout(Duration::from_millis(50), &mut ended).await.is_err(), "it is alive");
    broken.store(true, Ordering::SeqCst);
    timeout(PATIENCE, ended).await.expect("its end is told");
    assert!(timeout(PATIENCE, listener.accept()).await.expect("its listeners end").is_err());
    assert!(timeout(PATIENCE, stream.read(&mut [0])).await.expect("its streams end").is_err());
}
