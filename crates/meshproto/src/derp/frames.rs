//! Frames, both directions. Each type has the lengths that it may have; a body is kept only once its length is allowed, and one
//! of an unknown type is skipped without being kept.

use super::DerpError;
use crate::{key::NodeKey, limits, salsa::NONCE};
use std::time::Duration;

const HEAD: usize = 5;
const MAGIC: [u8; 8] = *b"DERP\xf0\x9f\x94\x91";
/// Bytes of an unknown frame at most.
const UNKNOWN: usize = 1 << 20;
const KEY: usize = 32;
const SEALED: usize = NONCE + 16 + limits::DERP_INFO;

const SERVER_KEY: u8 = 0x01;
const CLIENT_INFO: u8 = 0x02;
const SERVER_INFO: u8 = 0x03;
const SEND_PACKET: u8 = 0x04;
const RECV_PACKET: u8 = 0x05;
const KEEP_ALIVE: u8 = 0x06;
const NOTE_PREFERRED: u8 = 0x07;
const PEER_GONE: u8 = 0x08;
const PING: u8 = 0x12;
const PONG: u8 = 0x13;
const HEALTH: u8 = 0x14;
const RESTARTING: u8 = 0x15;

/// A frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Relay: its key. The first frame.
    ServerKey(NodeKey),
    /// Node: its key, and what it says of itself ([`DerpBox`](super::DerpBox)). Its first frame.
    ClientInfo {
        /// Whose connection this is, once the box has opened.
        key: NodeKey,
        /// The box.
        sealed: Vec<u8>,
    },
    /// Relay: what it says of itself.
    ServerInfo(Vec<u8>),
    /// Node: a packet for another.
    SendPacket {
        /// For whom.
        to: NodeKey,
        /// At most [`limits::DERP_PACKET`] bytes.
        packet: Vec<u8>,
    },
    /// Relay: a packet from another.
    RecvPacket {
        /// From whom: the relay's word, which WireGuard and disco then check.
        from: NodeKey,
        /// The packet.
        packet: Vec<u8>,
    },
    /// Relay: a sign of life.
    KeepAlive,
    /// Node: whether this is its home.
    NotePreferred(bool),
    /// Relay: packets to this node don't arrive.
    PeerGone {
        /// Which node.
        peer: NodeKey,
        /// Why.
        reason: GoneReason,
    },
    /// Either: answer with these bytes.
    Ping([u8; 8]),
    /// Either: the answer.
    Pong([u8; 8]),
    /// Relay: something is wrong with the connection, in words; empty when it is no more.
    Health(String),
    /// Relay: it restarts.
    Restarting {
        /// Reconnect after this long.
        reconnect_in: Duration,
        /// And go on trying for this long.
        try_for: Duration,
    },
    /// Of a type that is not spoken here; its body was skipped.
    Unknown(u8),
}

/// Why a peer is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoneReason {
    /// It was here and left.
    Left,
    /// It is not here.
    NotHere,
    /// For a reason of a newer relay.
    Other(u8),
}

impl GoneReason {
    const fn to_byte(self) -> u8 {
        match self {
            Self::Left => 0,
            Self::NotHere => 1,
            Self::Other(byte) => byte,
        }
    }

    const fn from_byte(byte: u8) -> Self {
        match byte {
            0 => Self::Left,
            1 => Self::NotHere,
            other => Self::Other(other),
        }
    }
}

/// Appends a [`Frame::SendPacket`] without owning the packet. Whoever gives more than [`limits::DERP_PACKET`] bytes is refused.
pub fn put_sent(to: NodeKey, packet: &[u8], wire: &mut Vec<u8>) -> Result<(), DerpError> {
    put(SEND_PACKET, &[to.as_bytes(), packet], wire)
}

/// Appends a [`Frame::RecvPacket`], likewise.
pub fn put_received(from: NodeKey, packet: &[u8], wire: &mut Vec<u8>) -> Result<(), DerpError> {
    put(RECV_PACKET, &[from.as_bytes(), packet], wire)
}

impl Frame {
    /// Appends it. A frame that the other end would refuse for its length is refused here, and so is [`Frame::Unknown`].
    pub fn write(&self, wire: &mut Vec<u8>) -> Result<(), DerpError> {
        match self {
            Self::ServerKey(key) => put(SERVER_KEY, &[&MAGIC, key.as_bytes()], wire),
            Self::ClientInfo { key, sealed } => put(CLIENT_INFO, &[key.as_bytes(), sealed], wire),
            Self::ServerInfo(sealed) => put(SERVER_INFO, &[sealed], wire),
            Self::SendPacket { to, packet } => put_sent(*to, packet, wire),
            Self::RecvPacket { from, packet } => put_received(*from, packet, wire),
            Self::KeepAlive => put(KEEP_ALIVE, &[], wire),
            Self::NotePreferred(home) => put(NOTE_PREFERRED, &[&[u8::from(*home)]], wire),
            Self::PeerGone { peer, reason } => put(PEER_GONE, &[peer.as_bytes(), &[reason.to_byte()]], wire),
            Self::Ping(bytes) => put(PING, &[bytes], wire),
            Self::Pong(bytes) => put(PONG, &[bytes], wire),
            Self::Health(text) => put(HEALTH, &[text.as_bytes()], wire),
            Self::Restarting { reconnect_in, try_for } => {
                put(RESTARTING, &[&milliseconds(*reconnect_in), &milliseconds(*try_for)], wire)
            }
            Self::Unknown(kind) => Err(DerpError::Length { kind: *kind, length: 0 }),
        }
    }

    fn read(kind: u8, body: &[u8]) -> Result<Self, DerpError> {
        let wrong = DerpError::Length { kind, length: body.len() };
        let key =
            || body.split_first_chunk::<KEY>().map(|(key, rest)| (NodeKey::new(*key), rest)).ok_or(wrong);
        let eight = || body.first_chunk::<8>().copied().ok_or(wrong);
        Ok(match kind {
            SERVER_KEY => {
                let (magic, key) = body.split_first_chunk::<8>().ok_or(wrong)?;
                let key = key.first_chunk::<KEY>().filter(|_| *magic == MAGIC).ok_or(DerpError::NotARelay)?;
                Self::ServerKey(NodeKey::new(*key))
            }
            CLIENT_INFO => key().map(|(key, sealed)| Self::ClientInfo { key, sealed: sealed.to_vec() })?,
            SERVER_INFO => Self::ServerInfo(body.to_vec()),
            SEND_PACKET => key().map(|(to, packet)| Self::SendPacket { to, packet: packet.to_vec() })?,
            RECV_PACKET => key().map(|(from, packet)| Self::RecvPacket { from, packet: packet.to_vec() })?,
            KEEP_ALIVE => Self::KeepAlive,
            NOTE_PREFERRED => Self::NotePreferred(body.first() == Some(&1)),
            PEER_GONE => {
                let (peer, rest) = key()?;
                let reason = rest.first().map_or(GoneReason::Left, |byte| GoneReason::from_byte(*byte));
                Self::PeerGone { peer, reason }
            }
            PING => Self::Ping(eight()?),
            PONG => Self::Pong(eight()?),
            HEALTH => Self::Health(String::from_utf8_lossy(body).into_owned()),
            RESTARTING => {
                let [a, b, c, d, e, f, g, h] = eight()?;
                let wait = |bytes| Duration::from_millis(u32::from_be_bytes(bytes).into());
                Self::Restarting { reconnect_in: wait([a, b, c, d]), try_for: wait([e, f, g, h]) }
            }
            other => Self::Unknown(other),
        })
    }
}

/// The lengths that a body of this type may have. What newer ends append to small frames is read over, as stock ends do.
const fn lengths(kind: u8) -> (usize, usize) {
    match kind {
        SERVER_KEY => (MAGIC.len() + KEY, 1024),
        CLIENT_INFO => (KEY + NONCE + 16, KEY + SEALED),
        SERVER_INFO => (NONCE + 16, SEALED),
        SEND_PACKET | RECV_PACKET => (KEY, KEY + limits::DERP_PACKET),
        KEEP_ALIVE => (0, 1024),
        NOTE_PREFERRED => (1, 1),
        PEER_GONE => (KEY, 1024),
        PING | PONG => (8, 1000),
        HEALTH => (0, limits::DERP_INFO),
        RESTARTING => (8, 1024),
        _ => (0, UNKNOWN),
    }
}

const fn is_known(kind: u8) -> bool {
    matches!(kind, SERVER_KEY..=PEER_GONE | PING..=RESTARTING)
}

fn put(kind: u8, parts: &[&[u8]], wire: &mut Vec<u8>) -> Result<(), DerpError> {
    let length = parts.iter().map(|part| part.len()).sum();
    let wrong = DerpError::Length { kind, length };
    let (least, most) = lengths(kind);
    let head = u32::try_from(length).ok().filter(|_| (least..=most).contains(&length)).ok_or(wrong)?;
    wire.push(kind);
    wire.extend_from_slice(&head.to_be_bytes());
    parts.iter().for_each(|part| wire.extend_from_slice(part));
    Ok(())
}

fn milliseconds(span: Duration) -> [u8; 4] {
    u32::try_from(span.as_millis()).unwrap_or(u32::MAX).to_be_bytes()
}

/// Reads frames from a stream that arrives in pieces.
#[derive(Debug, Default)]
pub struct FrameReader {
    buffer: Vec<u8>,
    /// An unknown frame, and how much of it is still to come.
    skipping: Option<(u8, usize)>,
}

impl FrameReader {
    /// Takes bytes off the front of `bytes` until one frame is whole, or all are taken: call it until it gives `None`. It keeps
    /// at most one frame, and sets nothing aside for bytes that have not come.
    pub fn push(&mut self, bytes: &mut &[u8]) -> Result<Option<Frame>, DerpError> {
        if let Some((kind, left)) = self.skipping {
            return Ok(self.skip(kind, left, bytes));
        }
        self.take(bytes, HEAD);
        let Some([kind, a, b, c, d]) = self.buffer.first_chunk::<HEAD>().copied() else { return Ok(None) };
        let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
        let (least, most) = lengths(kind);
        if !(least..=most).contains(&length) {
            return Err(DerpError::Length { kind, length });
        }
        if !is_known(kind) {
            self.buffer.clear();
            return Ok(self.skip(kind, length, bytes));
        }
        self.take(bytes, HEAD.saturating_add(length));
        let body = self.buffer.get(HEAD..).unwrap_or_default();
        if body.len() < length {
            return Ok(None);
        }
        let frame = Frame::read(kind, body);
        self.buffer.clear();
        frame.map(Some)
    }

    fn skip(&mut self, kind: u8, left: usize, bytes: &mut &[u8]) -> Option<Frame> {
        let now = left.min(bytes.len());
        *bytes = bytes.get(now..).unwrap_or_default();
        let left = left.saturating_sub(now);
        self.skipping = (left > 0).then_some((kind, left));
        (left == 0).then_some(Frame::Unknown(kind))
    }

    fn take(&mut self, bytes: &mut &[u8], until: usize) {
        let missing = until.saturating_sub(self.buffer.len());
        let (now, later) = bytes.split_at(missing.min(bytes.len()));
        self.buffer.extend_from_slice(now);
        *bytes = later;
    }
}
