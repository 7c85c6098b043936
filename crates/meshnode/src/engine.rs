//! The data plane without its sockets: what comes in, what goes out, and `now`. It never waits for the coordinator: all it
//! knows of it is the map it was given last.

mod admission;
mod discovery;
mod mapping;
mod output;
mod path;
mod peer;
mod routes;
mod stun;
mod traffic;
mod wireguard;

pub(crate) use output::Footing;
pub use output::{Output, Standing};
pub use path::Route;
pub use peer::PeerPath;

use crate::{Identity, filter::Firewall};
use admission::Admission;
use allod_meshproto::{DiscoKey, NodeKey, disco::DiscoBox, netmap::NetMap, stun as wire};
use allod_proto::Timestamp;
use discovery::Flights;
use peer::{Peer, RETRY};
use ring::rand::SecureRandom;
use routes::Routes;
use std::{
    collections::{HashMap, VecDeque},
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use stun::{Server, Stun};

/// The longest packet inside the mesh, in bytes.
pub const MTU: usize = 1280;
/// How often [`Engine::tick`] wants to be called, at least.
pub const TICK: Duration = Duration::from_millis(250);
/// The longest datagram that is looked at.
const DATAGRAM: usize = 65_535;
/// What waits to be taken out: a caller that does not drain loses packets, not memory.
const OUTPUTS: usize = 16_384;

/// The source of random numbers.
pub type Random = Arc<dyn SecureRandom + Send + Sync>;

/// The data plane of one node.
pub struct Engine {
    identity: Identity,
    random: Random,
    admission: Admission,
    firewall: Firewall,
    map: Option<mapping::Current>,
    peers: HashMap<NodeKey, Peer>,
    by_index: HashMap<u32, NodeKey>,
    by_address: HashMap<SocketAddr, NodeKey>,
    boxes: HashMap<DiscoKey, Option<DiscoBox>>,
    routes: Routes,
    flights: Flights,
    stun: Stun,
    interfaces: Vec<SocketAddr>,
    home: u32,
    sleeps: u32,
    told: Standing,
    outputs: VecDeque<Output>,
    lost: u64,
}

impl Engine {
    /// One without a map: it talks to nobody.
    #[must_use]
    pub fn new(identity: Identity, random: Random) -> Self {
        Self {
            admission: Admission::new(identity.node.public()),
            firewall: Firewall::default(),
            identity,
            random,
            map: None,
            peers: HashMap::new(),
            by_index: HashMap::new(),
            by_address: HashMap::new(),
            boxes: HashMap::new(),
            routes: Routes::default(),
            flights: Flights::default(),
            stun: Stun::default(),
            interfaces: Vec::new(),
            home: 0,
            sleeps: 0,
            told: Standing::default(),
            outputs: VecDeque::new(),
            lost: 0,
        }
    }

    /// A datagram came to the UDP socket.
    pub fn on_udp(&mut self, now: Timestamp, from: SocketAddr, datagram: &[u8]) {
        let from = SocketAddr::new(from.ip().to_canonical(), from.port());
        if datagram.len() > DATAGRAM {
            return;
        }
        if wire::is_stun(datagram) {
            self.on_stun(now, from, datagram);
        } else if let Some(sender) = allod_meshproto::disco::claimed_sender(datagram) {
            self.on_disco(now, discovery::Origin::Udp(from), sender, datagram);
        } else {
            self.on_wireguard(now, traffic::Origin::Udp(from), datagram);
        }
    }

    /// A packet came through the relay of a region, which says who sent it.
    pub fn on_relay(&mut self, now: Timestamp, region: u32, from: NodeKey, packet: &[u8]) {
        let Some(peer) = self.peers.get_mut(&from) else { return };
        peer.heard_in = Some(region);
        if packet.len() > DATAGRAM {
            return;
        }
        if let Some(sender) = allod_meshproto::disco::claimed_sender(packet) {
            self.on_disco(now, discovery::Origin::Relay { region, from }, sender, packet);
        } else {
            self.on_wireguard(now, traffic::Origin::Relay(from), packet);
        }
    }

    /// There is a map: a new one, the same heard of again, or a stored one. It was heard of at `heard_at`, and holds for 14 days
    /// from then.
    pub fn on_map(&mut self, now: Timestamp, map: &NetMap, heard_at: Timestamp) {
        self.map = Some(mapping::Current::new(map.clone(), heard_at));
        self.apply_map(now);
    }

    /// These are the addresses of this machine's interfaces, and `port` is that of the socket. If they changed, all paths are doubted.
    pub fn on_interfaces(&mut self, now: Timestamp, addresses: &[IpAddr], port: u16) {
        let mut interfaces: Vec<_> = addresses.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        interfaces.sort_unstable();
        interfaces.dedup();
        interfaces.truncate(output::MOST_ENDPOINTS);
        if interfaces == self.interfaces {
            return;
        }
        self.interfaces = interfaces;
        self.stun.forget_answers();
        self.ask_stun(now);
        self.tell_standing(now);
        let active: Vec<_> =
            self.peers.iter_mut().filter(|(_, peer)| peer.is_active(now)).map(|(key, _)| *key).collect();
        for key in active {
            if let Some(peer) = self.peers.get_mut(&key) {
                peer.paths.doubt(now);
            }
            self.search(now, key);
        }
    }

    /// This machine slept for so long, or this process was halted, and nobody heard of it meanwhile: routers and relays may have forgotten
    /// it, and peers the sessions that they had with it.
    pub fn on_wake(&mut self, now: Timestamp, slept: Duration) {
        self.sleeps = self.sleeps.wrapping_add(1);
        self.stun.forget_answers();
        self.ask_stun(now);
        self.tell_standing(now);
        let fell_asleep = now.minus(slept);
        let mut in_use = Vec::new();
        for (key, peer) in &mut self.peers {
            peer.age_session(slept);
            if peer.is_active(fell_asleep) {
                peer.active_at = Some(now);
                peer.paths.doubt(now);
                in_use.push(*key);
            }
        }
        for key in in_use {
            self.search(now, key);
            self.begin_session(now, key, RETRY);
        }
    }

    /// Where to ask which address the world sees. The first two of each region are asked; a region whose server answers soonest is
    /// home.
    pub fn on_stun_servers(&mut self, now: Timestamp, servers: &[(u32, SocketAddr)]) {
        if self.stun.set_servers(servers.iter().map(|(region, at)| Server { region: *region, at: *at })) {
            self.ask_stun(now);
        }
    }

    /// Time went by. At least every [`TICK`].
    pub fn tick(&mut self, now: Timestamp) {
        self.admission.tick(now);
        self.expire(now);
        self.flights.age(now);
        if self.stun.is_due(now) {
            self.ask_stun(now);
        }
        self.tell_standing(now);
        let busy: Vec<_> =
            self.peers.iter().filter(|(_, peer)| peer.needs_ticks(now)).map(|(key, _)| *key).collect();
        for key in busy {
            self.tick_peer(now, key);
        }
    }

    /// What is to be done next; `None` when nothing is.
    pub fn next_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Who has this address on the mesh, if their key has not expired.
    #[must_use]
    pub fn who_is(&self, address: IpAddr) -> Option<Arc<allod_meshproto::control::Node>> {
        let peer = self.peers.get(&self.routes.peer(address)?)?;
        peer.node.addresses.iter().any(|own| own.address() == address).then(|| Arc::clone(&peer.node))
    }

    /// Whether there is a peer to send to for this address.
    #[must_use]
    pub fn reaches(&self, address: IpAddr) -> bool {
        self.routes.peer(address).is_some()
    }

    /// This node's own addresses on the mesh; none while it has no map that holds.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.routes.own().iter().copied()
    }

    /// How each peer is reached now.
    pub fn peer_paths(&self, now: Timestamp) -> impl Iterator<Item = PeerPath> {
        self.peers.values().map(move |peer| peer.path(now))
    }

    /// How many outputs were thrown away because nobody took them.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    fn put(&mut self, output: Output) {
        if self.outputs.len() < OUTPUTS {
            self.outputs.push_back(output);
        } else {
            self.lost = self.lost.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests;
