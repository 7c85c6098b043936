//! A network in memory, with a clock of its own: latency, loss, routers that map, cables that are cut.

use crate::{
    Identity,
    engine::{Engine, Output, Route},
    packet::{Kind, Packet, tests::datagram},
};
use allod_meshproto::{
    NodeKey, Prefix,
    control::{DerpMap, DerpRegion, DnsConfig, FilterRule, Node, NodeId, PortRange, RuleTarget},
    netmap::NetMap,
    stun,
};
use allod_proto::Timestamp;
use ring::rand::SystemRandom;
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

pub(super) const REGION: u32 = 900;
pub(super) const START: Timestamp = Timestamp(1_795_348_800_000);
const ECHO: u16 = 7;

/// A router that maps: by destination, or one port for all. It lets in only who was written to.
#[derive(Default)]
pub(super) struct Router {
    by_destination: bool,
    ports: HashMap<Option<SocketAddr>, u16>,
    open: HashSet<(u16, SocketAddr)>,
}

pub(super) struct Host {
    pub(super) engine: Engine,
    pub(super) identity: Identity,
    pub(super) at: SocketAddr,
    pub(super) mesh: IpAddr,
    pub(super) received: Vec<Vec<u8>>,
    public: IpAddr,
    router: Option<Router>,
    endpoints: Vec<SocketAddr>,
}

enum Arrival {
    Udp { from: SocketAddr, to: SocketAddr, datagram: Vec<u8> },
    Relay { from: NodeKey, to: NodeKey, packet: Vec<u8> },
}

pub(super) struct World {
    pub(super) now: Timestamp,
    pub(super) hosts: Vec<Host>,
    pub(super) udp_is_up: bool,
    pub(super) relay_is_up: bool,
    pub(super) control_is_up: bool,
    /// One datagram in so many is lost; 0 for none.
    pub(super) loss: u64,
    pub(super) relayed: usize,
    /// Who does nothing, and to whom nothing comes.
    pub(super) asleep: HashSet<usize>,
    /// The last datagrams that were sent: from whom, to where.
    pub(super) seen: Vec<(usize, SocketAddr, Vec<u8>)>,
    wire: BTreeMap<(Timestamp, u64), Arrival>,
    count: u64,
    ticked: Timestamp,
}

pub(super) fn key(identity: &Identity) -> NodeKey {
    identity.node.public()
}

impl World {
    /// Hosts without routers, that know each other.
    pub(super) fn new(count: u8) -> Self {
        let hosts = (1..=count).map(host).collect();
        let mut world = Self {
            now: START,
            hosts,
            udp_is_up: true,
            relay_is_up: true,
            control_is_up: true,
            loss: 0,
            relayed: 0,
            asleep: HashSet::new(),
            seen: Vec::new(),
            wire: BTreeMap::new(),
            count: 0,
            ticked: START,
        };
        (0..world.hosts.len()).for_each(|at| world.plug(at));
        world.publish();
        world
    }

    /// Puts a host behind a router of its own.
    pub(super) fn put_behind_router(&mut self, at: usize, by_destination: bool) {
        self.hosts[at].router = Some(Router { by_destination, ..Router::default() });
        self.hosts[at].endpoints.clear();
        self.hosts[at].engine.stun.forget_answers();
        self.hosts[at].engine.ask_stun(self.now);
        self.run(500);
        self.publish();
    }

    fn plug(&mut self, at: usize) {
        let host = &mut self.hosts[at];
        host.engine.on_interfaces(self.now, &[host.at.ip()], host.at.port());
        let servers = [1, 2].map(|last| (REGION, SocketAddr::from(([203, 0, 113, last], 3478))));
        host.engine.on_stun_servers(self.now, &servers);
        self.drain(at);
    }

    /// The host has another address from now on.
    pub(super) fn move_to(&mut self, at: usize, address: &str) {
        let host = &mut self.hosts[at];
        host.at = address.parse().unwrap();
        host.public = host.at.ip();
        host.engine.on_interfaces(self.now, &[host.at.ip()], host.at.port());
        self.drain(at);
    }

    /// The host starts anew, with its keys and a map that it had stored.
    pub(super) fn restart(&mut self, at: usize) {
        let map = self.map(at);
        let now = self.now;
        let host = &mut self.hosts[at];
        host.engine = Engine::new(host.identity.clone(), Arc::new(SystemRandom::new()));
        host.received.clear();
        host.engine.on_map(now, &map, now);
        self.plug(at);
    }

    /// The host sleeps for so long, its router forgets it, and it wakes.
    pub(super) fn sleep(&mut self, at: usize, slept: Duration) {
        self.asleep.insert(at);
        self.run(u64::try_from(slept.as_millis()).unwrap());
        if let Some(router) = &mut self.hosts[at].router {
            (router.ports, router.open) = (HashMap::new(), HashSet::new());
        }
        self.asleep.remove(&at);
        self.hosts[at].engine.on_wake(self.now, slept);
        self.drain(at);
    }

    /// The coordinator gives everybody a map.
    pub(super) fn publish(&mut self) {
        for at in 0..self.hosts.len() {
            let map = self.map(at);
            let now = self.now;
            self.hosts[at].engine.on_map(now, &map, now);
            self.drain(at);
        }
    }

    pub(super) fn map(&self, at: usize) -> NetMap {
        let node = |at: usize| {
            let host = &self.hosts[at];
            let mut node = Node {
                id: NodeId(i64::try_from(at + 1).unwrap()),
                key: key(&host.identity),
                disco_key: host.identity.disco.public(),
                addresses: vec![Prefix::host(host.mesh)],
                endpoints: host.endpoints.clone(),
                ..Node::default()
            };
            node.set_home(REGION);
            Arc::new(node)
        };
        let everything = RuleTarget { ip: "*".to_owned(), ports: PortRange::ALL };
        let rule = FilterRule {
            src_ips: vec!["*".to_owned()],
            dst_ports: vec![everything],
            ..FilterRule::default()
        };
        let region = DerpRegion { region_id: REGION, ..DerpRegion::default() };
        NetMap {
            me: node(at),
            peers: (0..self.hosts.len())
                .filter(|other| *other != at)
                .map(|at| (node(at).id, node(at)))
                .collect(),
            derp_map: Arc::new(DerpMap { regions: [(REGION, Some(region))].into(), ..DerpMap::default() }),
            dns: Arc::new(DnsConfig::default()),
            domain: "mesh".to_owned(),
            filters: [("base".to_owned(), Arc::new(vec![rule]))].into(),
            profiles: BTreeMap::new(),
            health: Vec::new(),
            messages: BTreeMap::new(),
            clock_ahead: 0,
        }
    }

    /// Does what an engine wants done.
    pub(super) fn drain(&mut self, at: usize) {
        while let Some(output) = self.hosts[at].engine.next_output() {
            match output {
                Output::Udp { to, datagram } => self.send_udp(at, to, datagram),
                Output::Relay { to, packet, .. } => {
                    let from = key(&self.hosts[at].identity);
                    self.relayed += 1;
                    if self.relay_is_up {
                        self.later(4, Arrival::Relay { from, to, packet });
                    }
                }
                Output::Packet(packet) => self.arrived(at, packet),
                Output::Standing(standing) => {
                    self.hosts[at].endpoints = standing.endpoints();
                    if self.control_is_up {
                        self.publish();
                    }
                }
            }
        }
    }

    /// Sends as if from a host: through its router.
    pub(super) fn send_udp(&mut self, at: usize, to: SocketAddr, datagram: Vec<u8>) {
        self.seen.push((at, to, datagram.clone()));
        self.count += 1;
        let is_lost = self.loss > 0 && self.count.wrapping_mul(2_654_435_761) % 1_000 < 1_000 / self.loss;
        if self.udp_is_up && !is_lost {
            let from = self.hosts[at].outside(to);
            self.later(1, Arrival::Udp { from, to, datagram });
        }
    }

    /// Sends from anywhere.
    pub(super) fn forge_udp(&mut self, from: SocketAddr, to: SocketAddr, datagram: Vec<u8>) {
        self.later(1, Arrival::Udp { from, to, datagram });
    }

    fn later(&mut self, milliseconds: u64, arrival: Arrival) {
        self.count += 1;
        self.wire.insert((self.now.plus(Duration::from_millis(milliseconds)), self.count), arrival);
    }

    fn arrived(&mut self, at: usize, packet: Vec<u8>) {
        let header = Packet::parse(&packet).unwrap();
        if let Kind::Udp { from, to: ECHO } = header.kind {
            let reply = datagram(header.target, ECHO, header.source, from, &packet[28..]);
            self.hosts[at].engine.on_ip(self.now, &reply);
        }
        self.hosts[at].received.push(packet);
    }

    /// Lets time go by.
    pub(super) fn run(&mut self, milliseconds: u64) {
        let end = self.now.plus(Duration::from_millis(milliseconds));
        while self.step(end) {}
        self.now = end;
    }

    fn step(&mut self, end: Timestamp) -> bool {
        let tick = self.ticked.plus(crate::engine::TICK);
        let next = self.wire.first_key_value().map(|((at, _), _)| *at);
        if next.is_some_and(|at| at <= tick && at <= end) {
            let ((at, _), arrival) = self.wire.pop_first().unwrap();
            self.now = at.max(self.now);
            self.arrive(arrival);
        } else if tick <= end {
            self.now = tick.max(self.now);
            self.ticked = tick;
            for at in (0..self.hosts.len()).filter(|at| !self.asleep.contains(at)).collect::<Vec<_>>() {
                self.hosts[at].engine.tick(self.now);
                self.drain(at);
            }
        } else {
            return false;
        }
        true
    }

    fn arrive(&mut self, arrival: Arrival) {
        match arrival {
            Arrival::Udp { from, to, datagram } if to.port() == 3478 => {
                if let Ok(transaction) = stun::read_request(&datagram) {
                    self.later(
                        1,
                        Arrival::Udp { from: to, to: from, datagram: stun::answer(transaction, from) },
                    );
                }
            }
            Arrival::Udp { from, to, datagram } => {
                if let Some(at) = self.hosts.iter().position(|host| host.takes(from, to))
                    && !self.asleep.contains(&at)
                {
                    self.hosts[at].engine.on_udp(self.now, from, &datagram);
                    self.drain(at);
                }
            }
            Arrival::Relay { from, to, packet } => {
                if let Some(at) = self.hosts.iter().position(|host| key(&host.identity) == to)
                    && !self.asleep.contains(&at)
                {
                    self.hosts[at].engine.on_relay(self.now, REGION, from, &packet);
                    self.drain(at);
                }
            }
        }
    }

    /// One packet from a host to another's echo; how long until the answer came, if it did.
    pub(super) fn echo(&mut self, from: usize, to: usize, within: u64) -> Option<u64> {
        self.count += 1;
        let payload = self.count.to_be_bytes();
        let sent = self.now;
        self.send_echo(from, to, payload);
        while self.now.since(sent) < Duration::from_millis(within) {
            let end = self.now.plus(Duration::from_millis(1));
            while self.step(end) {}
            self.now = end;
            if self.hosts[from].received.iter().any(|packet| packet.ends_with(&payload)) {
                return Some(u64::try_from(self.now.since(sent).as_millis()).unwrap());
            }
        }
        None
    }

    pub(super) fn send_echo(&mut self, from: usize, to: usize, payload: [u8; 8]) {
        let packet = datagram(self.hosts[from].mesh, 40_000, self.hosts[to].mesh, ECHO, &payload);
        self.hosts[from].engine.on_ip(self.now, &packet);
        self.drain(from);
    }

    pub(super) fn route(&self, from: usize, to: usize) -> Route {
        let peer = key(&self.hosts[to].identity);
        self.hosts[from].engine.peer_paths(self.now).find(|path| path.key == peer).unwrap().route
    }

    pub(super) fn is_direct(&self, from: usize, to: usize) -> bool {
        matches!(self.route(from, to), Route::Direct(_))
    }
}

impl Host {
    fn takes(&self, from: SocketAddr, to: SocketAddr) -> bool {
        match &self.router {
            None => self.at == to,
            Some(router) => self.public == to.ip() && router.open.contains(&(to.port(), from)),
        }
    }

    /// What the world sees as the source of a datagram to there.
    fn outside(&mut self, to: SocketAddr) -> SocketAddr {
        let Some(router) = &mut self.router else { return self.at };
        let next = 20_000 + u16::try_from(router.ports.len()).unwrap();
        let port = *router.ports.entry(router.by_destination.then_some(to)).or_insert(next);
        router.open.insert((port, to));
        SocketAddr::new(self.public, port)
    }
}

fn host(number: u8) -> Host {
    let random = SystemRandom::new();
    let identity = Identity::generate(&random).unwrap();
    Host {
        engine: Engine::new(identity.clone(), Arc::new(random)),
        identity,
        at: SocketAddr::from(([192, 168, 7, number], 41_641)),
        mesh: [100, 64, 0, number].into(),
        received: Vec::new(),
        public: [198, 51, 100, number].into(),
        router: None,
        endpoints: Vec::new(),
    }
}
