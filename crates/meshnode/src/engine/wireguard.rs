//! One peer's WireGuard session behind five verbs. What boringtun lacks is done by whoever calls them: a random index, quick
//! retries, a queue, and a handshake when the peer uses a session that is gone.

use allod_meshproto::{NodeKey, NodePrivate};
use boringtun::{
    noise::{
        Packet, Tunn, TunnResult, errors::WireGuardError, handshake::parse_handshake_anon,
        rate_limiter::RateLimiter,
    },
    x25519,
};
use std::{sync::Arc, time::Duration};

/// What sealing adds to a packet, and no handshake is longer than.
const OVERHEAD: usize = 160;

/// What was in a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Opened {
    /// An IP packet.
    Packet(Vec<u8>),
    /// Part of a handshake, or a sign of life; if there is something, it goes back.
    Nothing(Option<Vec<u8>>),
    /// Data of a session that this node does not have.
    Stale,
    /// Not from the peer, or not now.
    Refused,
}

/// A session with one peer, through its handshakes.
pub(super) trait Tunnel: Send {
    /// How old the session is, by a clock that may stand still while the machine sleeps; `None` while there is none.
    fn age(&self) -> Option<Duration>;
    /// Whether a packet can be sealed now.
    fn has_session(&self) -> bool {
        self.age().is_some()
    }
    /// The message that carries `packet`; `None` while there is no session.
    fn seal(&mut self, packet: &[u8]) -> Option<Vec<u8>>;
    /// What is in a message that was admitted.
    fn open(&mut self, message: &[u8]) -> Opened;
    /// The first message of a new handshake.
    fn begin(&mut self) -> Option<Vec<u8>>;
    /// What is due by now, if anything.
    fn tick(&mut self) -> Option<Vec<u8>>;
}

/// For whom a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Addressee {
    /// It begins a handshake, and proves nothing yet but that it was made for this node.
    Key(NodeKey),
    /// It belongs to the session or handshake with this index of ours; `is_data` if it carries data.
    Index {
        /// The 24 bits that tell peers apart.
        index: u32,
        /// Whether it carries data.
        is_data: bool,
    },
}

/// For whom a message is; `None` if it is not one, or begins a handshake with another node.
pub(super) fn addressee(own: &NodePrivate, message: &[u8]) -> Option<Addressee> {
    let (index, is_data) = match Tunn::parse_incoming_packet(message).ok()? {
        Packet::HandshakeInit(init) => {
            let public = x25519::PublicKey::from(*own.public().as_bytes());
            let half = parse_handshake_anon(&secret(own), &public, &init).ok()?;
            return Some(Addressee::Key(NodeKey::new(half.peer_static_public)));
        }
        Packet::HandshakeResponse(response) => (response.receiver_idx, false),
        Packet::PacketCookieReply(reply) => (reply.receiver_idx, false),
        Packet::PacketData(data) => (data.receiver_idx, true),
    };
    Some(Addressee::Index { index: index >> 8, is_data })
}

fn secret(own: &NodePrivate) -> x25519::StaticSecret {
    x25519::StaticSecret::from(*own.export())
}

/// By boringtun.
pub(super) struct Boring {
    inner: Tunn,
}

impl Boring {
    /// With `peer`; `index` has 24 bits and is told to it.
    pub(super) fn new(own: &NodePrivate, peer: NodeKey, index: u32) -> Self {
        let public = x25519::PublicKey::from(*own.public().as_bytes());
        // Admission has judged each message before; a second count here would only disagree with it.
        let limiter = Arc::new(RateLimiter::new(&public, u64::MAX));
        let peer = x25519::PublicKey::from(*peer.as_bytes());
        Self { inner: Tunn::new(secret(own), peer, None, None, index, Some(limiter)) }
    }
}

impl Tunnel for Boring {
    fn age(&self) -> Option<Duration> {
        self.inner.time_since_last_handshake()
    }

    fn seal(&mut self, packet: &[u8]) -> Option<Vec<u8>> {
        if !self.has_session() {
            return None;
        }
        let mut buffer = vec![0; packet.len().saturating_add(OVERHEAD)];
        sent(self.inner.encapsulate(packet, &mut buffer)).and_then(|length| cut(buffer, length))
    }

    fn open(&mut self, message: &[u8]) -> Opened {
        let mut buffer = vec![0; message.len().saturating_add(OVERHEAD)];
        let is_data = message.first() == Some(&4);
        let (length, is_packet) = match self.inner.decapsulate(None, message, &mut buffer) {
            TunnResult::WriteToTunnelV4(packet, _) => (packet.len(), true),
            TunnResult::WriteToTunnelV6(packet, _) => (packet.len(), true),
            TunnResult::WriteToNetwork(reply) => (reply.len(), false),
            TunnResult::Done => return Opened::Nothing(None),
            TunnResult::Err(WireGuardError::NoCurrentSession | WireGuardError::WrongIndex) if is_data => {
                return Opened::Stale;
            }
            TunnResult::Err(_) => return Opened::Refused,
        };
        match cut(buffer, length) {
            Some(packet) if is_packet => Opened::Packet(packet),
            reply => Opened::Nothing(reply),
        }
    }

    fn begin(&mut self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; OVERHEAD];
        sent(self.inner.format_handshake_initiation(&mut buffer, true)).and_then(|length| cut(buffer, length))
    }

    fn tick(&mut self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; OVERHEAD];
        sent(self.inner.update_timers(&mut buffer)).and_then(|length| cut(buffer, length))
    }
}

fn sent(result: TunnResult<'_>) -> Option<usize> {
    match result {
        TunnResult::WriteToNetwork(message) => Some(message.len()),
        TunnResult::Done
        | TunnResult::Err(_)
        | TunnResult::WriteToTunnelV4(..)
        | TunnResult::WriteToTunnelV6(..) => None,
    }
}

fn cut(mut buffer: Vec<u8>, length: usize) -> Option<Vec<u8>> {
    buffer.truncate(length);
    Some(buffer)
}
