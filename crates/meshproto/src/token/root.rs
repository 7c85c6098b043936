//! The root key and the Noise keys that it signs: an Ed25519 signature (RFC 8032) over the word `allod-noise-key-v1`, a zero byte,
//! the serial number (8 bytes, most significant first) and the 32 bytes of the key.

use super::TokenError;
use crate::key::{MachineKey, from_hex};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::{
    rand::SecureRandom,
    signature::{ED25519, Ed25519KeyPair, KeyPair as _, UnparsedPublicKey},
};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt, str::FromStr};
use zeroize::Zeroizing;

pub(super) const KIND: &str = "allodroot:";
const WORD: &[u8] = b"allod-noise-key-v1\0";
const SIGNATURE: usize = 64;

/// The public half of the key that a network's trust hangs on: Ed25519, as `allodroot:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RootKey([u8; 32]);

impl RootKey {
    /// The key of these 32 bytes. Whether they are a point is found out when something is verified.
    #[must_use]
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its 32 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(KIND)?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for RootKey {
    type Err = TokenError;

    fn from_str(text: &str) -> Result<Self, TokenError> {
        text.strip_prefix(KIND).and_then(from_hex).map(Self).ok_or(TokenError::RootKey)
    }
}

impl Serialize for RootKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for RootKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

/// The private half of a [`RootKey`]. Nothing that runs needs it: it signs a Noise key and is put away again.
pub struct RootPrivate {
    seed: Zeroizing<[u8; 32]>,
    pair: Ed25519KeyPair,
}

impl RootPrivate {
    /// A fresh one.
    ///
    /// # Errors
    /// [`TokenError::Random`].
    pub fn generate(random: &dyn SecureRandom) -> Result<Self, TokenError> {
        let mut seed = Zeroizing::new([0; 32]);
        random.fill(seed.as_mut()).map_err(|_| TokenError::Random)?;
        Self::import(&seed)
    }

    /// The one that was [exported](Self::export).
    ///
    /// # Errors
    /// [`TokenError::RootKey`], should the library refuse the seed.
    pub fn import(seed: &[u8; 32]) -> Result<Self, TokenError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| TokenError::RootKey)?;
        Ok(Self { seed: Zeroizing::new(*seed), pair })
    }

    /// Its 32 secret bytes, to be kept away from the machine that runs the coordinator.
    #[must_use]
    pub fn export(&self) -> Zeroizing<[u8; 32]> {
        self.seed.clone()
    }

    /// Its public half.
    #[must_use]
    pub fn public(&self) -> RootKey {
        RootKey(self.pair.public_key().as_ref().first_chunk().copied().unwrap_or_default())
    }

    /// Vouches for a Noise key. Each new one has a higher serial number than all before.
    #[must_use]
    pub fn sign(&self, key: MachineKey, serial: u64) -> SignedNoiseKey {
        let signature = self.pair.sign(&signed_bytes(key, serial));
        SignedNoiseKey { key, serial, signature: STANDARD.encode(signature) }
    }
}

impl fmt::Debug for RootPrivate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RootPrivate(of {})", self.public())
    }
}

/// A Noise key with the root key's word for it, as it travels in the reply of `/key`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct SignedNoiseKey {
    key: MachineKey,
    serial: u64,
    signature: String,
}

impl SignedNoiseKey {
    /// The key, if the root key signed it and no later one was seen.
    ///
    /// # Errors
    /// [`TokenError::Unsigned`] or [`TokenError::Older`].
    pub fn verify(&self, root: RootKey, seen: u64) -> Result<MachineKey, TokenError> {
        let signature = STANDARD.decode(&self.signature).map_err(|_| TokenError::Unsigned)?;
        if signature.len() != SIGNATURE || self.key.is_zero() {
            return Err(TokenError::Unsigned);
        }
        UnparsedPublicKey::new(&ED25519, root.as_bytes())
            .verify(&signed_bytes(self.key, self.serial), &signature)
            .map_err(|_| TokenError::Unsigned)?;
        if self.serial < seen {
            return Err(TokenError::Older { shown: self.serial, seen });
        }
        Ok(self.key)
    }

    /// Its serial number, which is worth nothing before [`verify`](Self::verify) has held.
    #[must_use]
    pub const fn serial(&self) -> u64 {
        self.serial
    }
}

/// The latest of the shown keys that the root key signed, with its serial number.
///
/// # Errors
/// What was wrong with the one that came nearest: [`TokenError::Older`] before [`TokenError::Unsigned`].
pub fn newest(shown: &[SignedNoiseKey], root: RootKey, seen: u64) -> Result<(MachineKey, u64), TokenError> {
    let mut best: Result<(MachineKey, u64), TokenError> = Err(TokenError::Unsigned);
    for one in shown {
        match (one.verify(root, seen), &best) {
            (Ok(key), Ok((_, serial))) if one.serial > *serial => best = Ok((key, one.serial)),
            (Ok(key), Err(_)) => best = Ok((key, one.serial)),
            (Err(older @ TokenError::Older { .. }), Err(TokenError::Unsigned)) => best = Err(older),
            _ => {}
        }
    }
    best
}

fn signed_bytes(key: MachineKey, serial: u64) -> Vec<u8> {
    [WORD, &serial.to_be_bytes(), key.as_bytes()].concat()
}
