//! Disco: how two nodes find a direct path (tailscale.com/disco). A message is `TS💬`, the sender's disco key, a nonce and a box;
//! inside: a type, a version, a body.
//!
//! An opened message proves that one of the two keys sealed it for the other, not where it came from. Whoever acts on one checks
//! the rest: a ping's node key is the sender's, a pong comes from where the ping went, candidates came by relay.

use crate::{
    key::{DiscoKey, DiscoPrivate, NodeKey},
    limits,
    salsa::KeyPairBox,
};
use ring::rand::SecureRandom;
use std::{
    fmt,
    net::{IpAddr, Ipv6Addr, SocketAddr},
};

const MAGIC: [u8; 6] = *b"TS\xf0\x9f\x92\xac";
const ENVELOPE: usize = MAGIC.len() + 32;
const PING: u8 = 1;
const PONG: u8 = 2;
const CALL_ME_MAYBE: u8 = 3;
const CANDIDATE: usize = 18;

/// Twelve random bytes that tie a pong to its ping.
pub type Transaction = [u8; 12];

/// What one node says to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Is there a path this way?
    Ping {
        /// To be repeated in the pong.
        transaction: Transaction,
        /// The sender's node key; `None` from very old clients.
        node: Option<NodeKey>,
        /// Zeros after it, to find out how long a datagram may be.
        padding: usize,
    },
    /// There is, and this is where your ping came from.
    Pong {
        /// That of the ping.
        transaction: Transaction,
        /// The ping's source, as its receiver saw it.
        source: SocketAddr,
    },
    /// Here is where I might be reached: send pings there, mine are on their way. At most [`limits::CANDIDATES`].
    CallMeMaybe(Vec<SocketAddr>),
}

/// What was in an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opened {
    /// A message.
    Message(Message),
    /// Something authentic of a type or version that this crate does not speak: to be ignored.
    Ignored {
        /// Its type.
        kind: u8,
        /// Its version.
        version: u8,
    },
}

/// Why there is no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiscoError {
    /// It does not begin as a disco message does, or is too short or too long for one.
    #[error("not a disco message")]
    NotDisco,
    /// It is not from the key that it names, or not to this one.
    #[error("a disco message that does not open")]
    Box,
    /// It is authentic, of a known type, and does not have the bytes of one.
    #[error("a disco message of a known type that is not one")]
    Body,
    /// The system has no random numbers.
    #[error("no random numbers")]
    Random,
}

/// Who says they sent a datagram, if it looks like disco. For choosing the peer to open it with; proves nothing.
#[must_use]
pub fn claimed_sender(datagram: &[u8]) -> Option<DiscoKey> {
    let (magic, rest) = datagram.split_first_chunk::<6>()?;
    let (key, sealed) = rest.split_first_chunk::<32>()?;
    let is_one = *magic == MAGIC && !sealed.is_empty() && datagram.len() <= limits::DISCO_MESSAGE;
    is_one.then_some(DiscoKey::new(*key))
}

/// What two nodes seal to each other with. Making one costs a scalar multiplication: keep it for as long as both keys live.
pub struct DiscoBox {
    own: DiscoKey,
    other: DiscoKey,
    inner: KeyPairBox,
}

impl DiscoBox {
    /// Between one's own key and a peer's.
    #[must_use]
    pub fn new(own: &DiscoPrivate, other: DiscoKey) -> Self {
        let inner = KeyPairBox::new(&own.export(), other.as_bytes());
        Self { own: own.public(), other, inner }
    }

    /// The peer's key.
    #[must_use]
    pub const fn peer(&self) -> DiscoKey {
        self.other
    }

    /// The datagram that says `message`.
    pub fn seal(&self, message: &Message, random: &dyn SecureRandom) -> Result<Vec<u8>, DiscoError> {
        let sealed = self.inner.seal(&message.to_bytes(), random).ok_or(DiscoError::Random)?;
        Ok(self.envelope(&sealed))
    }

    /// What the peer said in `datagram`.
    pub fn open(&self, datagram: &[u8]) -> Result<Opened, DiscoError> {
        let sender = claimed_sender(datagram).ok_or(DiscoError::NotDisco)?;
        let sealed = datagram.get(ENVELOPE..).unwrap_or_default();
        // The box alone would also open what this node sealed itself and somebody sent back.
        if sender != self.other {
            return Err(DiscoError::Box);
        }
        Message::from_bytes(&self.inner.open(sealed).ok_or(DiscoError::Box)?)
    }

    fn envelope(&self, sealed: &[u8]) -> Vec<u8> {
        [&MAGIC[..], self.own.as_bytes(), sealed].concat()
    }
}

impl fmt::Debug for DiscoBox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DiscoBox({} to {})", self.own, self.other)
    }
}

impl Message {
    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(64);
        match self {
            Self::Ping { transaction, node, padding } => {
                bytes.extend([PING, 0]);
                bytes.extend(transaction);
                if let Some(node) = node {
                    bytes.extend(node.as_bytes());
                    bytes.resize(bytes.len().saturating_add((*padding).min(limits::DISCO_MESSAGE)), 0);
                }
            }
            Self::Pong { transaction, source } => {
                bytes.extend([PONG, 0]);
                bytes.extend(transaction);
                put(*source, &mut bytes);
            }
            Self::CallMeMaybe(candidates) => {
                bytes.extend([CALL_ME_MAYBE, 0]);
                candidates.iter().take(limits::CANDIDATES).for_each(|one| put(*one, &mut bytes));
            }
        }
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Result<Opened, DiscoError> {
        let ([kind, version], body) = bytes.split_first_chunk::<2>().ok_or(DiscoError::Body)?;
        let message = match (*kind, *version) {
            (PING, 0) => Self::ping(body),
            (PONG, 0) => Self::pong(body),
            (CALL_ME_MAYBE, 0) => Self::candidates(body),
            (kind, version) => return Ok(Opened::Ignored { kind, version }),
        };
        message.map(Opened::Message).ok_or(DiscoError::Body)
    }

    fn ping(body: &[u8]) -> Option<Self> {
        let (transaction, rest) = body.split_first_chunk::<12>()?;
        let (node, padding) = match rest.split_first_chunk::<32>() {
            Some((key, padding)) => (Some(NodeKey::new(*key)), padding.len()),
            None => (None, 0),
        };
        Some(Self::Ping { transaction: *transaction, node, padding })
    }

    fn pong(body: &[u8]) -> Option<Self> {
        let (transaction, rest) = body.split_first_chunk::<12>()?;
        let source = take(rest.first_chunk()?);
        Some(Self::Pong { transaction: *transaction, source })
    }

    fn candidates(body: &[u8]) -> Option<Self> {
        let (candidates, rest) = body.as_chunks::<CANDIDATE>();
        let is_one = rest.is_empty() && candidates.len() <= limits::CANDIDATES;
        is_one.then(|| Self::CallMeMaybe(candidates.iter().map(take).collect()))
    }
}

/// Sixteen bytes of address (IPv4 mapped), BE16 port.
fn put(address: SocketAddr, bytes: &mut Vec<u8>) {
    let ip = match address.ip() {
        IpAddr::V4(ip) => ip.to_ipv6_mapped(),
        IpAddr::V6(ip) => ip,
    };
    bytes.extend(ip.octets());
    bytes.extend(address.port().to_be_bytes());
}

fn take(bytes: &[u8; CANDIDATE]) -> SocketAddr {
    let [ip @ .., high, low] = *bytes;
    SocketAddr::new(Ipv6Addr::from(ip).to_canonical(), u16::from_be_bytes([high, low]))
}

#[cfg(test)]
mod tests;
