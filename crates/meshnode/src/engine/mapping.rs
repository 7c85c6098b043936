//! What the map means for the engine: who the peers are, until when, and through which regions they are reached.

use super::{Engine, Output, peer::Peer, routes::Routes};
use allod_meshproto::{
    NodeKey,
    filter::Filter,
    netmap::{MOST_AGE, NetMap},
};
use allod_proto::Timestamp;
use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::Arc,
    time::Duration,
};

/// The map that holds now.
pub(super) struct Current {
    map: NetMap,
    heard_at: Timestamp,
    again_at: Option<Timestamp>,
}

impl Current {
    pub(super) fn new(map: NetMap, heard_at: Timestamp) -> Self {
        Self { map, heard_at, again_at: None }
    }

    /// Whether it makes this node part of the network at `now`: it is for this key, not expired, and was heard of lately.
    fn holds(&self, now: Timestamp, own: NodeKey) -> bool {
        let me = &self.map.me;
        me.key == own && !me.is_expired(self.map.control_time(now)) && now.since(self.heard_at) <= MOST_AGE
    }

    /// When to look again.
    fn next_change(&self, now: Timestamp) -> Timestamp {
        let stale = self.heard_at.plus(MOST_AGE).plus(Duration::from_millis(1));
        let stale = if stale > now { stale } else { Timestamp(u64::MAX) };
        self.map.next_expiry(now).map_or(stale, |expiry| expiry.min(stale))
    }

    fn is_region(&self, region: u32) -> bool {
        matches!(self.map.derp_map.regions.get(&region), Some(Some(_)))
    }
}

impl Engine {
    /// Looks at the map again when a key or the map itself has expired.
    pub(super) fn expire(&mut self, now: Timestamp) {
        let is_time = |current: &Current| current.again_at.is_none_or(|at| at <= now);
        if self.map.as_ref().is_some_and(is_time) {
            self.apply_map(now);
        }
    }

    pub(super) fn apply_map(&mut self, now: Timestamp) {
        let own = self.identity.node.public();
        let Some(current) = self.map.as_mut() else { return };
        current.again_at = Some(current.next_change(now));
        let holds = current.holds(now, own);
        let live: Vec<_> = current.map.live_peers(now).filter(|_| holds).cloned().collect();
        let addresses: Vec<_> = current.map.addresses().filter(|_| holds).collect();
        let rules = if holds { current.map.filter().0 } else { Filter::default() };
        self.routes = Routes::new(addresses, &live);
        let keys: HashSet<_> = live.iter().map(|node| node.key).collect();
        self.peers.retain(|key, _| keys.contains(key));
        for node in live {
            self.take_in(now, node);
        }
        self.reindex();
        let (routes, peers) = (&self.routes, &self.peers);
        self.firewall.set_rules(rules, |ip| Some(peers.get(&routes.peer(ip)?)?.node.as_ref()));
        self.settle_home(now);
        self.tell_standing(now);
    }

    /// A peer of the map, known before or not.
    fn take_in(&mut self, now: Timestamp, node: Arc<allod_meshproto::control::Node>) {
        let key = node.key;
        if !self.peers.contains_key(&key) {
            let Some(index) = self.fresh_index() else { return };
            self.by_index.insert(index, key);
            self.peers.insert(key, Peer::new(Arc::clone(&node), index));
        }
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.is_named && Arc::ptr_eq(&peer.node, &node) {
            return;
        }
        peer.is_named = true;
        if peer.node.disco_key != node.disco_key && !peer.node.disco_key.is_zero() {
            // It started anew, without the key that it had: what is known of its paths is old, and the session is gone. Left to
            // WireGuard, that would be noticed after 15 s.
            peer.paths.doubt(now);
            peer.forget_session();
        }
        peer.paths.name(now, &node.endpoints);
        peer.node = node;
    }

    /// Rebuilds what finds a peer by something else than its key.
    fn reindex(&mut self) {
        self.by_index = self.peers.iter().map(|(key, peer)| (peer.index, *key)).collect();
        let endpoints =
            self.peers.iter().flat_map(|(key, peer)| peer.endpoints().iter().map(|at| (*at, *key)));
        self.by_address = endpoints.collect::<HashMap<SocketAddr, NodeKey>>();
        let discos: HashSet<_> =
            self.peers.values().map(|peer| peer.node.disco_key).filter(|key| !key.is_zero()).collect();
        self.boxes.retain(|key, _| discos.contains(key));
        for key in discos {
            self.boxes.entry(key).or_default();
        }
        let peers = &self.peers;
        self.flights.retain_peers(|key| peers.contains_key(key));
    }

    /// A random index of 24 bits that no peer has: after a restart, old ones must match nothing.
    fn fresh_index(&self) -> Option<u32> {
        (0..64).find_map(|_| {
            let mut bytes = [0; 4];
            self.random.fill(&mut bytes).ok()?;
            let index = u32::from_be_bytes(bytes) >> 8;
            (!self.by_index.contains_key(&index)).then_some(index)
        })
    }

    /// The home that was measured, else the one there was, else the first that may be one.
    pub(super) fn settle_home(&mut self, now: Timestamp) {
        let Some(current) = &self.map else { return };
        let regions = current.map.derp_map.regions.values().flatten();
        let may_be_home = |id: &u32| {
            let region = current.map.derp_map.regions.get(id).and_then(Option::as_ref);
            region.is_some_and(|region| !region.avoid && !region.no_measure_no_home)
        };
        let measured = self.stun.nearest(now, self.home).filter(may_be_home);
        let former = Some(self.home).filter(may_be_home);
        let first = || regions.map(|region| region.region_id).find(may_be_home);
        self.home = measured.or(former).or_else(first).unwrap_or(0);
    }

    /// The region to reach a peer through: its home, else where it was heard, else this node's home.
    pub(super) fn region_of(&self, peer: &Peer) -> Option<u32> {
        let current = self.map.as_ref()?;
        let known = |region: &u32| current.is_region(*region);
        let heard = || peer.heard_in.filter(known);
        peer.node.home().filter(known).or_else(heard).or(Some(self.home).filter(known))
    }

    /// Tells the coordinator where this node is, if that changed.
    pub(super) fn tell_standing(&mut self, now: Timestamp) {
        let standing = super::Standing {
            local: self.interfaces.clone(),
            public: self.stun.public(now),
            home: self.home,
            sleeps: self.sleeps,
        };
        if standing != self.told {
            self.told = standing.clone();
            self.put(Output::Standing(standing));
        }
    }
}
