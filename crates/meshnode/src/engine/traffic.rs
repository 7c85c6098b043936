//! Packets: from the stack through a session onto a path, and back. A packet comes in only from an address that is its peer's.

use super::{
    Engine, MTU, Output,
    admission::{Verdict, behind_relay},
    path::Route,
    peer::{PATIENCE, RETRY},
    wireguard::{Addressee, Opened, addressee},
};
use crate::packet::Packet;
use allod_meshproto::NodeKey;
use allod_proto::Timestamp;
use std::{net::SocketAddr, time::Duration};

/// How a WireGuard message came.
#[derive(Debug, Clone, Copy)]
pub(super) enum Origin {
    /// From an address.
    Udp(SocketAddr),
    /// Through a relay, which says from whom.
    Relay(NodeKey),
}

impl Engine {
    /// The stack sends an IP packet. One that is for no peer is dropped.
    pub fn on_ip(&mut self, now: Timestamp, packet: &[u8]) {
        let Some(header) = Packet::parse(packet).filter(|_| packet.len() <= MTU) else { return };
        let Some(key) = self.routes.peer(header.target) else { return };
        if !self.routes.own().contains(&header.source) {
            return;
        }
        if !self.firewall.outgoing(now, &header) {
            return;
        }
        self.touch(now, key);
        let Some(peer) = self.peers.get_mut(&key) else { return };
        match peer.tunnel(&self.identity.node).seal(packet) {
            Some(message) => self.ship(now, key, message),
            None => {
                peer.wait(now, packet);
                self.begin_session(now, key, RETRY);
            }
        }
    }

    /// There is traffic with a peer: its path is looked for if there is none.
    fn touch(&mut self, now: Timestamp, key: NodeKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let was_active = peer.is_active(now);
        peer.active_at = Some(now);
        if !was_active {
            let probe = peer.paths.due(now);
            self.send_probe(now, key, probe);
        }
    }

    pub(super) fn on_wireguard(&mut self, now: Timestamp, origin: Origin, message: &[u8]) {
        let source = match origin {
            Origin::Udp(from) => from.ip(),
            Origin::Relay(from) => behind_relay(from),
        };
        match self.admission.judge(source, message) {
            Verdict::Pass => {}
            Verdict::Refused => return,
            Verdict::Cookie(cookie) => return self.send_back(origin, cookie),
        }
        let Some((key, is_stale)) = self.whose(origin, message) else { return };
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let opened = if is_stale { Opened::Stale } else { peer.tunnel(&self.identity.node).open(message) };
        match (origin, &opened) {
            (Origin::Udp(from), Opened::Packet(_) | Opened::Nothing(_)) => peer.paths.heard(from),
            (Origin::Relay(_), Opened::Packet(_)) => peer.paths.heard_relayed(now),
            _ => {}
        }
        match opened {
            Opened::Packet(packet) => self.deliver(now, key, packet),
            Opened::Nothing(reply) => {
                if let Some(reply) = reply {
                    self.answer(now, key, origin, reply);
                }
                self.flush(now, key);
            }
            // Anybody can cause this, so it is done once a second for a peer at most, and breaks nothing that works.
            Opened::Stale => {
                self.touch(now, key);
                self.begin_session(now, key, RETRY);
            }
            Opened::Refused => {}
        }
    }

    /// Whose message it is, and whether it is of a session that this node does not have: after a restart, the peer would notice only
    /// after 15 seconds.
    fn whose(&self, origin: Origin, message: &[u8]) -> Option<(NodeKey, bool)> {
        let claimed = match origin {
            Origin::Udp(from) => self.by_address.get(&from).copied(),
            Origin::Relay(from) => Some(from),
        };
        let is_claimed = |key: &NodeKey| matches!(origin, Origin::Udp(_)) || claimed == Some(*key);
        match addressee(&self.identity.node, message)? {
            Addressee::Key(key) => Some(key).filter(is_claimed).map(|key| (key, false)),
            Addressee::Index { index, is_data } => match self.by_index.get(&index) {
                Some(key) => Some(*key).filter(is_claimed).map(|key| (key, false)),
                None => claimed.filter(|_| is_data).map(|key| (key, true)),
            },
        }
    }

    fn deliver(&mut self, now: Timestamp, key: NodeKey, packet: Vec<u8>) {
        self.flush(now, key);
        let Some(header) = Packet::parse(&packet) else { return };
        let is_theirs = self.routes.peer(header.source) == Some(key);
        if !is_theirs || !self.routes.own().contains(&header.target) {
            tracing::debug!(source = %header.source, target = %header.target, "a packet from another's address is dropped");
            return;
        }
        if let Some(answer) = crate::tsmp::answer(&packet, &header) {
            // No rule is asked, as with disco's pings: it says nothing but that there is a tunnel.
            let peer = self.peers.get_mut(&key);
            if let Some(message) = peer.and_then(|peer| peer.tunnel(&self.identity.node).seal(&answer)) {
                self.ship(now, key, message);
            }
            return;
        }
        let Some(peer) = self.peers.get(&key) else { return };
        if self.firewall.incoming(now, &header, &peer.node) {
            self.touch(now, key);
            self.put(Output::Packet(packet));
        }
    }

    /// Sends what waited for a session, if there is one now.
    fn flush(&mut self, now: Timestamp, key: NodeKey) {
        let mut messages = Vec::new();
        if let Some(peer) = self.peers.get_mut(&key) {
            while let Some(packet) = peer.queue.pop_front() {
                let Some(message) = peer.tunnel(&self.identity.node).seal(&packet) else {
                    peer.queue.push_front(packet);
                    break;
                };
                messages.push(message);
            }
        }
        messages.into_iter().for_each(|message| self.ship(now, key, message));
    }

    /// Begins a handshake, unless one was begun less than `pause` ago.
    pub(super) fn begin_session(&mut self, now: Timestamp, key: NodeKey, pause: Duration) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        if !peer.may_begin(now, pause) {
            return;
        }
        if let Some(message) = peer.tunnel(&self.identity.node).begin() {
            self.ship(now, key, message);
        }
    }

    pub(super) fn tick_peer(&mut self, now: Timestamp, key: NodeKey) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        let due = peer.existing_tunnel().and_then(|tunnel| tunnel.tick());
        if peer.queued_at.is_some_and(|at| now.since(at) > PATIENCE) {
            peer.queue.clear();
        }
        let waits = !peer.queue.is_empty();
        let probe = if peer.is_active(now) { peer.paths.due(now) } else { super::path::Probe::default() };
        self.send_probe(now, key, probe);
        if let Some(message) = due {
            self.ship(now, key, message);
        }
        if waits {
            self.flush(now, key);
            if self.peers.get(&key).is_some_and(|peer| !peer.queue.is_empty()) {
                self.begin_session(now, key, RETRY);
            }
        }
    }

    /// Answers a handshake that proved to be the peer's. While no path is trusted, the answer also goes back to where it came from: it
    /// is shorter, and the relay may be dead.
    fn answer(&mut self, now: Timestamp, key: NodeKey, origin: Origin, reply: Vec<u8>) {
        let is_direct = |peer: &super::Peer| matches!(peer.paths.route(now), Route::Direct(_));
        if let Origin::Udp(to) = origin
            && !self.peers.get(&key).is_some_and(is_direct)
        {
            self.put(Output::Udp { to, datagram: reply.clone() });
        }
        self.ship(now, key, reply);
    }

    /// Sends a WireGuard message the best way there is.
    fn ship(&mut self, now: Timestamp, key: NodeKey, message: Vec<u8>) {
        let Some(peer) = self.peers.get_mut(&key) else { return };
        peer.paths.used(now);
        let Some(peer) = self.peers.get(&key) else { return };
        let (route, region, last) = (peer.paths.route(now), self.region_of(peer), peer.paths.last_resort());
        let direct = match (route, region) {
            (Route::Direct(at) | Route::Both(at), _) => Some(at),
            (Route::Relay, None) => last,
            (Route::Relay, Some(_)) => None,
        };
        let relayed = region.filter(|_| !matches!(route, Route::Direct(_)));
        if let Some(region) = relayed {
            self.put(Output::Relay { region, to: key, packet: message.clone() });
        }
        if let Some(to) = direct {
            self.put(Output::Udp { to, datagram: message });
        }
    }

    /// Back the way it came, to somebody who proved nothing yet.
    fn send_back(&mut self, origin: Origin, message: Vec<u8>) {
        match origin {
            Origin::Udp(to) => self.put(Output::Udp { to, datagram: message }),
            Origin::Relay(from) => {
                if let Some(region) = self.peers.get(&from).and_then(|peer| self.region_of(peer)) {
                    self.put(Output::Relay { region, to: from, packet: message });
                }
            }
        }
    }
}
