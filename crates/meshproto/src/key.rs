//! The Curve25519 keys of a mesh and their text forms (tailscale.com/types/key). A public key is its kind, a colon and 64
//! lower-case hexadecimal digits; it has no other form. A private half is wiped on drop and never shown.

use ring::rand::SecureRandom;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt, str::FromStr};
use zeroize::Zeroizing;

/// Why a text or a number of bytes is not a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// It is the text of another kind of key, or of none.
    #[error("not a key of the kind `{0}`")]
    Kind(&'static str),
    /// After the kind there are not exactly 64 lower-case hexadecimal digits.
    #[error("not 64 lower-case hexadecimal digits after `{0}`")]
    Digits(&'static str),
    /// The system has no random numbers.
    #[error("no random numbers")]
    Random,
}

macro_rules! public_key {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        ///
        /// The zero key stands for "none", as in Go: it is what an absent or `null` field reads as.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
        pub struct $name([u8; 32]);

        impl $name {
            /// What its text begins with.
            pub const KIND: &'static str = $kind;

            /// The key of these 32 bytes.
            #[must_use]
            pub const fn new(bytes: [u8; 32]) -> Self {
                Self(bytes)
            }

            /// Its 32 bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// Whether it stands for "none".
            #[must_use]
            pub fn is_zero(&self) -> bool {
                self.0 == [0; 32]
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str($kind)?;
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = KeyError;

            fn from_str(text: &str) -> Result<Self, KeyError> {
                let digits = text.strip_prefix($kind).ok_or(KeyError::Kind($kind))?;
                from_hex(digits).map(Self).ok_or(KeyError::Digits($kind))
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text: Option<Cow<'de, str>> = Option::deserialize(deserializer)?;
                text.map_or(Ok(Self::default()), |text| text.parse().map_err(de::Error::custom))
            }
        }
    };
}

public_key!(
    /// Names a machine to its coordinator: the static key of the Noise handshake. Coordinators have one too.
    MachineKey, "mkey:"
);
public_key!(
    /// Names a node to its peers: its WireGuard key, and its name at relays.
    NodeKey, "nodekey:"
);
public_key!(
    /// Seals the path discovery of a node.
    DiscoKey, "discokey:"
);
public_key!(
    /// What a coordinator asks a node to prove its node key against, in the early payload.
    ChallengeKey, "chalpub:"
);

macro_rules! private_key {
    ($(#[$doc:meta])* $name:ident, $public:ident) => {
        $(#[$doc])*
        ///
        /// It has no text form; what stores it must [`export`](Self::export) it by that name.
        #[derive(Clone)]
        pub struct $name {
            secret: Zeroizing<[u8; 32]>,
            public: $public,
        }

        impl $name {
            /// A fresh one. Fails when `random` does.
            pub fn generate(random: &dyn SecureRandom) -> Result<Self, KeyError> {
                let mut secret = Zeroizing::new([0; 32]);
                random.fill(secret.as_mut()).map_err(|_| KeyError::Random)?;
                Ok(Self::import(&secret))
            }

            /// The one that was [exported](Self::export): 32 bytes, of which the scalar is clamped (RFC 7748).
            #[must_use]
            pub fn import(secret: &[u8; 32]) -> Self {
                let mut secret = Zeroizing::new(*secret);
                clamp(&mut secret);
                let public = $public::new(x25519_dalek::x25519(*secret, x25519_dalek::X25519_BASEPOINT_BYTES));
                Self { secret, public }
            }

            /// Its 32 secret bytes, to be stored where only their owner reads.
            #[must_use]
            pub fn export(&self) -> Zeroizing<[u8; 32]> {
                self.secret.clone()
            }

            /// Its public half.
            #[must_use]
            pub const fn public(&self) -> $public {
                self.public
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($name), "(of {})"), self.public)
            }
        }
    };
}

private_key!(
    /// The private half of a [`MachineKey`].
    MachinePrivate, MachineKey
);
private_key!(
    /// The private half of a [`NodeKey`]. A relay has one too.
    NodePrivate, NodeKey
);
private_key!(
    /// The private half of a [`DiscoKey`]. It must outlive a restart: peers open pings with the key they know.
    DiscoPrivate, DiscoKey
);

fn clamp(secret: &mut [u8; 32]) {
    let [first, .., last] = secret;
    *first &= 248;
    *last = (*last & 127) | 64;
}

pub(crate) fn from_hex(digits: &str) -> Option<[u8; 32]> {
    let (pairs, rest) = digits.as_bytes().as_chunks::<2>();
    let mut bytes = [0; 32];
    if pairs.len() != bytes.len() || !rest.is_empty() {
        return None;
    }
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = (nibble(*high)? << 4) | nibble(*low)?;
    }
    Some(bytes)
}

const fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
