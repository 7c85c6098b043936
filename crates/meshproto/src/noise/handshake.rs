//! `Noise_IK_25519_ChaChaPoly_BLAKE2s`, both roles. The prologue holds the version, so a version that was changed on the
//! way is a handshake that does not hold. The payloads of both messages are empty.

use super::{ERROR, HEAD, INITIATION, NoiseError, RESPONSE, Session, frame};
use crate::key::{MachineKey, MachinePrivate};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use snow::{Builder, HandshakeState};
use std::fmt;

/// Bytes of an initiation: version, type, length, Noise message.
pub const INITIATION_LENGTH: usize = 5 + NOISE_INITIATION;
/// Bytes of a response: type, length, Noise message.
pub const RESPONSE_LENGTH: usize = HEAD + NOISE_RESPONSE;

const NOISE_INITIATION: usize = 96;
const NOISE_RESPONSE: usize = 48;
const PATTERN: &str = "Noise_IK_25519_ChaChaPoly_BLAKE2s";
/// Of the text of an error frame, so much is read.
const ERROR_TEXT: usize = 1024;
const ERROR_SHOWN: usize = 256;

/// The first message, from node to coordinator: BE16 version, type 1, BE16 length, 96 bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Initiation([u8; INITIATION_LENGTH]);

impl Initiation {
    /// Reads exactly one. Whether it holds, [`respond`] finds out.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, NoiseError> {
        let bytes: [u8; INITIATION_LENGTH] = bytes.try_into().map_err(|_| NoiseError::NotAnInitiation)?;
        let [_, _, INITIATION, 0, 96, ..] = bytes else { return Err(NoiseError::NotAnInitiation) };
        Ok(Self(bytes))
    }

    /// Reads the value of the [header](super::HANDSHAKE_HEADER).
    pub fn from_header(text: &str) -> Result<Self, NoiseError> {
        if text.len() > INITIATION_LENGTH.saturating_mul(2) {
            return Err(NoiseError::NotAnInitiation);
        }
        Self::from_bytes(&STANDARD.decode(text).map_err(|_| NoiseError::NotAnInitiation)?)
    }

    /// The value of the header.
    #[must_use]
    pub fn to_header(&self) -> String {
        STANDARD.encode(self.0)
    }

    /// As it travels.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; INITIATION_LENGTH] {
        &self.0
    }

    /// The capability version that the node says it speaks. Proven once [`respond`] has succeeded.
    #[must_use]
    pub const fn version(&self) -> u16 {
        let [high, low, ..] = self.0;
        u16::from_be_bytes([high, low])
    }

    fn message(&self) -> &[u8] {
        self.0.get(5..).unwrap_or_default()
    }
}

impl fmt::Debug for Initiation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Initiation(version {})", self.version())
    }
}

/// The node's side, between the initiation and the response.
pub struct Initiator {
    state: Option<Box<HandshakeState>>,
    server: MachineKey,
    buffer: Vec<u8>,
}

/// What a push to an [`Initiator`] led to.
#[derive(Debug)]
pub enum Received {
    /// The response is not whole yet. All bytes were taken.
    More,
    /// The handshake holds. The bytes past the first `consumed` are records already.
    Done {
        /// The session.
        session: Session,
        /// How many of the bytes pushed last belonged to the response.
        consumed: usize,
    },
}

impl Initiator {
    /// Begins: the node's machine key, the coordinator's pinned key, the capability version to speak.
    pub fn start(
        machine: &MachinePrivate,
        server: MachineKey,
        version: u16,
    ) -> Result<(Self, Initiation), NoiseError> {
        let prologue = prologue(version);
        let secret = machine.export();
        if !contributes(server, &secret) {
            return Err(NoiseError::Handshake);
        }
        let mut state = builder(&prologue, &secret)?
            .remote_public_key(server.as_bytes())
            .and_then(Builder::build_initiator)
            .map_err(|_| NoiseError::Handshake)?;
        let mut bytes = [0; INITIATION_LENGTH];
        let (head, message) = bytes.split_at_mut(5);
        let [high, low] = version.to_be_bytes();
        head.copy_from_slice(&[high, low, INITIATION, 0, 96]);
        let written = state.write_message(&[], message).map_err(|_| NoiseError::Handshake)?;
        if written != NOISE_INITIATION {
            return Err(NoiseError::Handshake);
        }
        let initiator = Self { state: Some(Box::new(state)), server, buffer: Vec::new() };
        Ok((initiator, Initiation(bytes)))
    }

    /// Reads what followed the head of the `101`. It keeps at most one response.
    pub fn receive(&mut self, bytes: &[u8]) -> Result<Received, NoiseError> {
        let before = self.buffer.len();
        let room = HEAD.saturating_add(ERROR_TEXT).saturating_sub(before);
        self.buffer.extend(bytes.iter().take(room));
        let Some(([kind, high, low], body)) = self.buffer.split_first_chunk::<HEAD>() else {
            return Ok(Received::More);
        };
        let length = usize::from(u16::from_be_bytes([*high, *low]));
        match *kind {
            RESPONSE if length == NOISE_RESPONSE => {}
            RESPONSE => return Err(self.fail(NoiseError::FrameLength(length))),
            ERROR if length <= ERROR_TEXT && body.len() < length => return Ok(Received::More),
            ERROR => {
                let refused = NoiseError::Refused(shown(body.get(..length).unwrap_or(body)));
                return Err(self.fail(refused));
            }
            other => return Err(self.fail(NoiseError::FrameType(other))),
        }
        let Some(message) = body.get(..NOISE_RESPONSE) else { return Ok(Received::More) };
        let mut state = self.state.take().ok_or(NoiseError::Failed)?;
        state.read_message(message, &mut [0; NOISE_RESPONSE]).map_err(|_| NoiseError::Handshake)?;
        let (ours, theirs) = state.dangerously_get_raw_split();
        let consumed = RESPONSE_LENGTH.saturating_sub(before);
        Ok(Received::Done { session: Session::new(ours, theirs), consumed })
    }

    /// The key that the coordinator must have.
    #[must_use]
    pub const fn server(&self) -> MachineKey {
        self.server
    }

    fn fail(&mut self, error: NoiseError) -> NoiseError {
        self.state = None;
        error
    }
}

impl fmt::Debug for Initiator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Initiator(to {})", self.server)
    }
}

/// The coordinator's side, all of it: who asked, what to answer, the session.
#[derive(Debug)]
pub struct Accepted {
    /// Whose machine key the handshake proved. Whatever the node then asks, it asks as this machine.
    pub peer: MachineKey,
    /// The capability version that the node speaks.
    pub version: u16,
    /// What to send, right after the head of the `101`.
    pub reply: [u8; RESPONSE_LENGTH],
    /// The session.
    pub session: Session,
}

/// Answers an initiation with the coordinator's key. Anybody who knows the public half can make one that holds: it proves
/// which machine asks, not that it may.
pub fn respond(machine: &MachinePrivate, initiation: &Initiation) -> Result<Accepted, NoiseError> {
    let version = initiation.version();
    let prologue = prologue(version);
    let secret = machine.export();
    let mut state = builder(&prologue, &secret)?.build_responder().map_err(|_| NoiseError::Handshake)?;
    let payload = state
        .read_message(initiation.message(), &mut [0; NOISE_INITIATION])
        .map_err(|_| NoiseError::Handshake)?;
    let peer: Option<[u8; 32]> = state.get_remote_static().and_then(|key| key.try_into().ok());
    let peer = peer.map(MachineKey::new).filter(|peer| payload == 0 && contributes(*peer, &secret));
    let peer = peer.ok_or(NoiseError::Handshake)?;
    let mut reply = [0; RESPONSE_LENGTH];
    let (head, message) = reply.split_at_mut(HEAD);
    head.copy_from_slice(&[RESPONSE, 0, 48]);
    let written = state.write_message(&[], message).map_err(|_| NoiseError::Handshake)?;
    if written != NOISE_RESPONSE {
        return Err(NoiseError::Handshake);
    }
    let (theirs, ours) = state.dangerously_get_raw_split();
    Ok(Accepted { peer, version, reply, session: Session::new(ours, theirs) })
}

/// A refusal in words, instead of a response: not authenticated, so it may say nothing that matters.
#[must_use]
pub fn error_frame(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    frame(ERROR, bytes.get(..ERROR_TEXT).unwrap_or(bytes))
}

fn builder<'a>(prologue: &'a str, secret: &'a [u8; 32]) -> Result<Builder<'a>, NoiseError> {
    let pattern = PATTERN.parse().map_err(|_| NoiseError::Handshake)?;
    Builder::new(pattern)
        .prologue(prologue.as_bytes())
        .and_then(|builder| builder.local_private_key(secret))
        .map_err(|_| NoiseError::Handshake)
}

/// Whether a public key is one that somebody can hold the private half of. With a point of low order (zero is one) every
/// shared secret is zero, so anybody could be its holder; Noise leaves that to its user.
fn contributes(key: MachineKey, secret: &[u8; 32]) -> bool {
    x25519_dalek::x25519(*secret, *key.as_bytes()) != [0; 32]
}

fn prologue(version: u16) -> String {
    format!("Tailscale Control Protocol v{version}")
}

/// What may be shown of a text from anybody.
fn shown(text: &[u8]) -> String {
    let printable = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
    String::from_utf8_lossy(text).chars().take(ERROR_SHOWN).map(printable).collect()
}
