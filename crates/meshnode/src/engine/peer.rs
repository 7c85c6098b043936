//! What is kept for one peer.

use super::{
    path::{Paths, Route},
    wireguard::{Boring, Tunnel},
};
use allod_meshproto::{NodeKey, NodePrivate, control::Node};
use allod_proto::Timestamp;
use std::{collections::VecDeque, net::SocketAddr, sync::Arc, time::Duration};

/// A peer is active for so long after its last packet, either way: its paths are kept up.
const ACTIVE: Duration = Duration::from_secs(45);
/// How often a handshake is begun while packets wait.
pub(super) const RETRY: Duration = Duration::from_secs(1);
/// A session is used by nobody any more when it is so old (WireGuard's Reject-After-Time).
const SESSION: Duration = Duration::from_secs(180);
/// Packets wait so long for a session.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// Packets that wait for a session.
pub(super) const QUEUE: usize = 256;

/// How a peer is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerPath {
    /// Which peer.
    pub key: NodeKey,
    /// Which way.
    pub route: Route,
    /// How long the direct way there and back took, if there is one.
    pub trip: Option<Duration>,
    /// Whether there was traffic lately.
    pub is_active: bool,
}

pub(super) struct Peer {
    pub(super) node: Arc<Node>,
    pub(super) index: u32,
    /// Whether its paths know the endpoints that the map names.
    pub(super) is_named: bool,
    pub(super) paths: Paths,
    pub(super) heard_in: Option<u32>,
    pub(super) called_at: Option<Timestamp>,
    pub(super) active_at: Option<Timestamp>,
    pub(super) begun_at: Option<Timestamp>,
    pub(super) queue: VecDeque<Vec<u8>>,
    pub(super) queued_at: Option<Timestamp>,
    /// How long this machine slept since there is this session, and how old that said it was the last time.
    slept: (Duration, Duration),
    tunnel: Option<Box<dyn Tunnel>>,
}

impl Peer {
    pub(super) fn new(node: Arc<Node>, index: u32) -> Self {
        Self {
            node,
            index,
            is_named: false,
            paths: Paths::default(),
            heard_in: None,
            called_at: None,
            active_at: None,
            begun_at: None,
            queue: VecDeque::new(),
            queued_at: None,
            slept: (Duration::ZERO, Duration::ZERO),
            tunnel: None,
        }
    }

    /// Its tunnel, made when it is first used: most peers of a large map never are.
    pub(super) fn tunnel(&mut self, own: &NodePrivate) -> &mut dyn Tunnel {
        let (key, index) = (self.node.key, self.index);
        self.tunnel.get_or_insert_with(|| Box::new(Boring::new(own, key, index))).as_mut()
    }

    pub(super) fn existing_tunnel(&mut self) -> Option<&mut Box<dyn Tunnel>> {
        self.tunnel.as_mut()
    }

    /// What is sent from now on waits for a new session.
    pub(super) fn forget_session(&mut self) {
        self.tunnel = None;
        self.begun_at = None;
        self.slept = (Duration::ZERO, Duration::ZERO);
    }

    /// The session has grown older by so much without knowing it: its clock stands still while the machine sleeps. One that is too old for
    /// the peer is forgotten, so that packets wait instead of getting lost.
    pub(super) fn age_session(&mut self, slept: Duration) {
        let Some(age) = self.tunnel.as_ref().and_then(|tunnel| tunnel.age()) else { return };
        let (before, of_age) = self.slept;
        // One that is younger than it was is another.
        let slept = if age < of_age { slept } else { before.saturating_add(slept) };
        self.slept = (slept, age);
        if age.saturating_add(slept) >= SESSION {
            self.forget_session();
        }
    }

    pub(super) fn is_active(&self, now: Timestamp) -> bool {
        self.active_at.is_some_and(|at| now.since(at) <= ACTIVE)
    }

    pub(super) fn needs_ticks(&self, now: Timestamp) -> bool {
        self.tunnel.is_some() || self.is_active(now)
    }

    /// Keeps a packet until there is a session; the oldest goes when there are too many.
    pub(super) fn wait(&mut self, now: Timestamp, packet: &[u8]) {
        if self.queue.len() >= QUEUE {
            self.queue.pop_front();
        }
        self.queue.push_back(packet.to_vec());
        self.queued_at = Some(now);
    }

    /// Whether a handshake may begin now; notes that it does.
    pub(super) fn may_begin(&mut self, now: Timestamp, pause: Duration) -> bool {
        let may = self.begun_at.is_none_or(|at| now.since(at) >= pause);
        if may {
            self.begun_at = Some(now);
        }
        may
    }

    /// Whether it may be reached at this address, so far as the map says.
    pub(super) fn endpoints(&self) -> &[SocketAddr] {
        &self.node.endpoints
    }

    pub(super) fn path(&self, now: Timestamp) -> PeerPath {
        PeerPath {
            key: self.node.key,
            route: self.paths.route(now),
            trip: self.paths.trip(),
            is_active: self.is_active(now),
        }
    }
}
