//! Finding paths: what disco and STUN say is checked here against who may say it, and then goes to the choice of paths.

use super::{Engine, Output, path::Probe};
use allod_meshproto::{
    DiscoKey, NodeKey,
    disco::{DiscoBox, Message, Opened, Transaction},
    stun,
};
use allod_proto::Timestamp;
use std::{collections::HashMap, net::SocketAddr, time::Duration};

/// A pong that comes later is none.
const LATE: Duration = Duration::from_secs(5);
/// Pings whose pong is awaited, in all.
pub(super) const FLIGHTS: usize = 16_384;
/// How often a peer may ask to be pinged.
const CALLS: Duration = Duration::from_secs(1);
/// Addresses that authentic pings came from, besides those of the map.
pub(super) const ADDRESSES: usize = 65_536;

/// How a disco message came.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    /// From an address.
    Udp(SocketAddr),
    /// Through a region's relay, which says from whom.
    Relay { region: u32, from: NodeKey },
}

#[derive(Debug, Clone, Copy)]
struct Flight {
    peer: NodeKey,
    to: SocketAddr,
    sent: Timestamp,
}

/// Pings that are on their way.
#[derive(Debug, Default)]
pub(super) struct Flights(HashMap<Transaction, Flight>);

impl Flights {
    pub(super) fn age(&mut self, now: Timestamp) {
        self.0.retain(|_, flight| now.since(flight.sent) <= LATE);
    }

    pub(super) fn retain_peers(&mut self, is_peer: impl Fn(&NodeKey) -> bool) {
        self.0.retain(|_, flight| is_peer(&flight.peer));
    }

    /// The ping that this pong answers: from where it went, and once.
    fn land(&mut self, transaction: Transaction, from: SocketAddr) -> Option<Flight> {
        self.0.get(&transaction).filter(|flight| flight.to == from)?;
        self.0.remove(&transaction)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Engine {
    pub(super) fn on_disco(&mut self, now: Timestamp, origin: Origin, sender: DiscoKey, datagram: &[u8]) {
        // Only a peer's key has an entry.
        let Some(entry) = self.boxes.get_mut(&sender) else { return };
        let opener = entry.get_or_insert_with(|| DiscoBox::new(&self.identity.disco, sender));
        let Ok(Opened::Message(message)) = opener.open(datagram) else { return };
        match message {
            Message::Ping { transaction, node: Some(key), .. } => {
                if self.is_by(key, sender) {
                    self.on_ping(now, origin, key, transaction);
                }
            }
            // Which node it is from can't be told: several may share a disco key.
            Message::Ping { node: None, .. } => {}
            Message::Pong { transaction, .. } => {
                if let Origin::Udp(from) = origin {
                    self.on_pong(now, from, sender, transaction);
                }
            }
            Message::CallMeMaybe(candidates) => {
                if let Origin::Relay { from, .. } = origin
                    && self.is_by(from, sender)
                {
                    self.on_call(now, from, &candidates);
                }
            }
        }
    }

    /// Whether this peer has this disco key.
    fn is_by(&self, key: NodeKey, sender: DiscoKey) -> bool {
        self.peers.get(&key).is_some_and(|peer| peer.node.disco_key == sender)
    }

    fn on_ping(&mut self, now: Timestamp, origin: Origin, key: NodeKey, transaction: Transaction) {
        match origin {
            Origin::Udp(from) => {
                if let Some(pong) = self.seal_disco(key, &Message::Pong { transaction, source: from }) {
                    self.put(Output::Udp { to: from, datagram: pong });
                }
                if self.by_address.len() < ADDRESSES {
                    // What the map says of an address counts for more than a ping, whose source anybody may forge.
                    self.by_address.entry(from).or_insert(key);
                }
                let pings = self.peers.get_mut(&key).map(|peer| peer.paths.heard_ping(now, from));
                self.send_probe(now, key, Probe { pings: pings.unwrap_or_default(), call: false });
            }
            Origin::Relay { region, from } => {
                let source = SocketAddr::from(([127, 3, 3, 40], u16::try_from(region).unwrap_or(0)));
                let pong = self.seal_disco(key, &Message::Pong { transaction, source });
                if let Some(packet) = pong.filter(|_| from == key) {
                    self.put(Output::Relay { region, to: key, packet });
                }
            }
        }
    }

    fn on_pong(&mut self, now: Timestamp, from: SocketAddr, sender: DiscoKey, transaction: Transaction) {
        let is_theirs = |flight: &Flight| self.is_by(flight.peer, sender);
        if !self.flights.0.get(&transaction).is_some_and(is_theirs) {
            return;
        }
        let Some(flight) = self.flights.land(transaction, from) else { return };
        let Some(peer) = self.peers.get_mut(&flight.peer) else { return };
        if peer.paths.answered(now, from, flight.sent) && !peer.queue.is_empty() {
            // The first path: a handshake that went before may have been lost with a dead relay.
            self.begin_session(now, flight.peer, Duration::ZERO);
        }
    }

    fn on_call(&mut self, now: Timestamp, key: NodeKey, candidates: &[SocketAddr]) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if peer.called_at.is_some_and(|at| now.since(at) < CALLS) {
            return;
        }
        peer.called_at = Some(now);
        let pings = peer.paths.called(now, candidates);
        self.send_probe(now, key, Probe { pings, call: false });
    }

    pub(super) fn on_stun(&mut self, now: Timestamp, from: SocketAddr, datagram: &[u8]) {
        if let Ok(answer) = stun::read_answer(datagram) {
            self.stun.answered(now, from, answer.transaction, answer.source);
            self.settle_home(now);
            self.tell_standing(now);
        }
    }

    pub(super) fn ask_stun(&mut self, now: Timestamp) {
        for server in self.stun.ask(now) {
            let Some(transaction) = self.transaction() else { return };
            self.stun.asked(now, server, transaction);
            self.put(Output::Udp { to: server, datagram: stun::request(transaction) });
        }
    }

    /// Asks everywhere where this peer might be.
    pub(super) fn search(&mut self, now: Timestamp, key: NodeKey) {
        if let Some(peer) = self.peers.get_mut(&key) {
            let probe = peer.paths.search(now);
            self.send_probe(now, key, probe);
        }
    }

    pub(super) fn send_probe(&mut self, now: Timestamp, key: NodeKey, probe: Probe) {
        for to in probe.pings {
            self.ping(now, key, to);
        }
        if probe.call && self.stun.is_worth_asking(now) {
            self.ask_stun(now);
        }
        let endpoints = self.told.endpoints();
        if probe.call && !endpoints.is_empty() {
            let region = self.peers.get(&key).and_then(|peer| self.region_of(peer));
            let call = self.seal_disco(key, &Message::CallMeMaybe(endpoints));
            if let (Some(region), Some(packet)) = (region, call) {
                self.put(Output::Relay { region, to: key, packet });
            }
        }
    }

    fn ping(&mut self, now: Timestamp, key: NodeKey, to: SocketAddr) {
        // A peer may name any address; programs of this machine that listen on loopback are not its to be written to.
        let is_foreign = to.ip().is_loopback() && !self.interfaces.iter().any(|own| own.ip().is_loopback());
        if is_foreign || self.flights.0.len() >= FLIGHTS {
            return;
        }
        let Some(transaction) = self.transaction() else { return };
        let message = Message::Ping { transaction, node: Some(self.identity.node.public()), padding: 0 };
        let Some(datagram) = self.seal_disco(key, &message) else { return };
        self.flights.0.insert(transaction, Flight { peer: key, to, sent: now });
        if let Some(peer) = self.peers.get_mut(&key) {
            peer.paths.pinged(now, to);
        }
        self.put(Output::Udp { to, datagram });
    }

    fn seal_disco(&mut self, key: NodeKey, message: &Message) -> Option<Vec<u8>> {
        let disco = self.peers.get(&key)?.node.disco_key;
        let entry = self.boxes.get_mut(&disco)?;
        let sealer = entry.get_or_insert_with(|| DiscoBox::new(&self.identity.disco, disco));
        sealer.seal(message, self.random.as_ref()).ok()
    }

    fn transaction(&self) -> Option<Transaction> {
        let mut bytes = [0; 12];
        self.random.fill(&mut bytes).ok().map(|()| bytes)
    }
}
