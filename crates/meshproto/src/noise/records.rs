//! Records: type 4, BE16 length, ChaCha20-Poly1305 without additional data, under a nonce of four zero bytes and a **big**-endian
//! counter from 0 in each direction. A record that does not open ends the connection: none can be left out or repeated.

use super::{HEAD, NoiseError, RECORD};
use chacha20poly1305::{AeadInPlace as _, ChaCha20Poly1305, KeyInit as _};
use std::fmt;
use zeroize::Zeroizing;

/// Bytes of one record at most, its head among them.
pub const RECORD_LENGTH: usize = 4096;
/// Bytes that one record carries at most.
pub const RECORD_PLAINTEXT: usize = RECORD_LENGTH - HEAD - TAG;

const TAG: usize = 16;

/// Both directions, after the handshake.
pub struct Session {
    sealer: Sealer,
    opener: Opener,
}

impl Session {
    pub(super) fn new(ours: [u8; 32], theirs: [u8; 32]) -> Self {
        let (ours, theirs) = (Zeroizing::new(ours), Zeroizing::new(theirs));
        Self { sealer: Sealer(Direction::new(&ours)), opener: Opener::new(&theirs) }
    }

    /// One end for each direction; they need nothing of each other.
    #[must_use]
    pub fn split(self) -> (Sealer, Opener) {
        (self.sealer, self.opener)
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Session")
    }
}

struct Direction {
    cipher: ChaCha20Poly1305,
    /// How many records have gone; `None` once a nonce could repeat.
    count: Option<u64>,
}

impl Direction {
    fn new(key: &[u8; 32]) -> Self {
        Self { cipher: ChaCha20Poly1305::new(key.into()), count: Some(0) }
    }

    fn next_nonce(&mut self) -> Result<[u8; 12], NoiseError> {
        let count = self.count.ok_or(NoiseError::Failed)?;
        self.count = count.checked_add(1).filter(|next| *next != u64::MAX);
        let mut nonce = [0; 12];
        nonce.iter_mut().skip(4).zip(count.to_be_bytes()).for_each(|(to, from)| *to = from);
        Ok(nonce)
    }
}

/// Seals what is sent.
pub struct Sealer(Direction);

impl Sealer {
    /// Appends `plaintext` to `wire` in as many records as it needs; none for an empty one.
    pub fn seal(&mut self, plaintext: &[u8], wire: &mut Vec<u8>) -> Result<(), NoiseError> {
        for part in plaintext.chunks(RECORD_PLAINTEXT) {
            let nonce = self.0.next_nonce()?;
            let length = u16::try_from(part.len().saturating_add(TAG))
                .map_err(|_| NoiseError::FrameLength(part.len()))?;
            wire.push(RECORD);
            wire.extend_from_slice(&length.to_be_bytes());
            let begin = wire.len();
            wire.extend_from_slice(part);
            let sealed = wire.get_mut(begin..).unwrap_or_default();
            let tag = self
                .0
                .cipher
                .encrypt_in_place_detached(&nonce.into(), &[], sealed)
                .map_err(|_| NoiseError::Record)?;
            wire.extend_from_slice(&tag);
        }
        Ok(())
    }
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Sealer")
    }
}

/// Opens what is received.
pub struct Opener {
    direction: Direction,
    buffer: Vec<u8>,
    failed: bool,
}

impl Opener {
    fn new(key: &[u8; 32]) -> Self {
        Self { direction: Direction::new(key), buffer: Vec::new(), failed: false }
    }

    /// Takes all of `wire`, in pieces of any size, and appends to `plaintext` what the whole records in it carry: never more
    /// bytes than were pushed. Up to one record is kept. After an error nothing more is opened.
    pub fn push(&mut self, wire: &[u8], plaintext: &mut Vec<u8>) -> Result<(), NoiseError> {
        if self.failed {
            return Err(NoiseError::Failed);
        }
        let result = self.take(wire, plaintext);
        self.failed = result.is_err();
        result
    }

    /// Whether the bytes so far end between two records: only there may a connection end.
    #[must_use]
    pub fn is_between_records(&self) -> bool {
        self.buffer.is_empty()
    }

    fn take(&mut self, mut wire: &[u8], plaintext: &mut Vec<u8>) -> Result<(), NoiseError> {
        loop {
            let missing = wanted(&self.buffer)?.saturating_sub(self.buffer.len());
            let (now, later) = wire.split_at(missing.min(wire.len()));
            self.buffer.extend_from_slice(now);
            wire = later;
            if self.buffer.len() >= HEAD && wanted(&self.buffer)? == self.buffer.len() {
                self.open(plaintext)?;
                self.buffer.clear();
            } else if wire.is_empty() {
                return Ok(());
            }
        }
    }

    fn open(&mut self, plaintext: &mut Vec<u8>) -> Result<(), NoiseError> {
        let nonce = self.direction.next_nonce()?;
        let record = self.buffer.get_mut(HEAD..).unwrap_or_default();
        let (sealed, tag) = record.split_last_chunk_mut::<TAG>().ok_or(NoiseError::Record)?;
        self.direction
            .cipher
            .decrypt_in_place_detached(&nonce.into(), &[], sealed, (&*tag).into())
            .map_err(|_| NoiseError::Record)?;
        plaintext.extend_from_slice(sealed);
        Ok(())
    }
}

impl fmt::Debug for Opener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opener")
    }
}

/// How many bytes the frame that begins here has, as far as can be told yet.
fn wanted(frame: &[u8]) -> Result<usize, NoiseError> {
    let Some([kind, high, low]) = frame.first_chunk::<HEAD>() else { return Ok(HEAD) };
    if *kind != RECORD {
        return Err(NoiseError::FrameType(*kind));
    }
    let length = usize::from(u16::from_be_bytes([*high, *low]));
    if !(TAG..=RECORD_LENGTH - HEAD).contains(&length) {
        return Err(NoiseError::FrameLength(length));
    }
    Ok(HEAD.saturating_add(length))
}
