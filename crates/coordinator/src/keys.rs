//! The coordinator's own keys. The root key's private half is not among them: it signs a Noise key and is put away again. A Noise
//! key that was replaced serves a while beside its successor, so that clients that are connected need no login.

use allod_meshproto::{
    MachinePrivate, NodePrivate,
    token::{RootKey, RootPrivate, SignedNoiseKey, TokenError},
};
use allod_proto::Timestamp;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ring::rand::SecureRandom;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use zeroize::Zeroizing;

/// Why keys are not made, read or replaced.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The system has no random numbers.
    #[error("no random numbers")]
    Random,
    /// A stored key is damaged.
    #[error("the stored keys are damaged")]
    Damaged,
    /// The root key did not sign it, or with a number that is not higher.
    #[error("the new Noise key is not taken")]
    NotSigned(#[from] TokenError),
    /// No new Noise key was prepared.
    #[error("no new Noise key was prepared, or another one than the signed one")]
    NotPrepared,
}

/// The keys that the coordinator works with.
#[derive(Clone)]
pub struct Keys {
    root: RootKey,
    current: Noise,
    former: Option<(Noise, Timestamp)>,
    prepared: Option<MachinePrivate>,
    relay: NodePrivate,
    made: Option<Timestamp>,
}

#[derive(Clone)]
struct Noise {
    private: MachinePrivate,
    signed: SignedNoiseKey,
}

impl Keys {
    /// Fresh ones, and the root key's private half, to be kept elsewhere.
    ///
    /// # Errors
    /// [`KeysError::Random`].
    pub fn generate(random: &dyn SecureRandom, now: Timestamp) -> Result<(Self, RootPrivate), KeysError> {
        let root = RootPrivate::generate(random).map_err(|_| KeysError::Random)?;
        let private = MachinePrivate::generate(random).map_err(|_| KeysError::Random)?;
        let signed = root.sign(private.public(), 1);
        let relay = NodePrivate::generate(random).map_err(|_| KeysError::Random)?;
        let current = Noise { private, signed };
        let made = Some(now);
        Ok((Self { root: root.public(), current, former: None, prepared: None, relay, made }, root))
    }

    /// Who vouches for the Noise key.
    #[must_use]
    pub const fn root(&self) -> RootKey {
        self.root
    }

    /// When the network was made, as far as that is known.
    #[must_use]
    pub const fn made(&self) -> Option<Timestamp> {
        self.made
    }

    /// The relay's key.
    #[must_use]
    pub const fn relay(&self) -> &NodePrivate {
        &self.relay
    }

    /// The Noise key of now.
    #[must_use]
    pub const fn noise(&self) -> &MachinePrivate {
        &self.current.private
    }

    /// The Noise keys that are answered with at `now`, the newest first.
    pub fn answering(&self, now: Timestamp) -> impl Iterator<Item = &MachinePrivate> {
        let former =
            self.former.iter().filter(move |(_, until)| now < *until).map(|(noise, _)| &noise.private);
        std::iter::once(&self.current.private).chain(former)
    }

    /// The Noise key of now with the root key's word for it.
    #[must_use]
    pub const fn signed(&self) -> &SignedNoiseKey {
        &self.current.signed
    }

    /// Prepares a new Noise key; its public half and the number to sign it under. One that was prepared and not taken is dropped.
    ///
    /// # Errors
    /// [`KeysError::Random`].
    pub fn prepare(
        &mut self,
        random: &dyn SecureRandom,
    ) -> Result<(allod_meshproto::MachineKey, u64), KeysError> {
        let private = MachinePrivate::generate(random).map_err(|_| KeysError::Random)?;
        let public = private.public();
        self.prepared = Some(private);
        Ok((public, self.current.signed.serial().saturating_add(1)))
    }

    /// Takes the prepared Noise key into use, now that the root key has signed it. The one before answers until `until`.
    ///
    /// # Errors
    /// When it is another key, or not signed, or not under a higher number.
    pub fn rotate(&mut self, signed: SignedNoiseKey, until: Timestamp) -> Result<(), KeysError> {
        let least = self.current.signed.serial().saturating_add(1);
        let public = signed.verify(self.root, least)?;
        let private = self.prepared.take_if(|prepared| prepared.public() == public);
        let private = private.ok_or(KeysError::NotPrepared)?;
        let former = std::mem::replace(&mut self.current, Noise { private, signed });
        self.former = Some((former, until));
        Ok(())
    }

    /// As it is stored: a secret.
    pub(crate) fn to_text(&self) -> Result<Zeroizing<String>, KeysError> {
        let noise = |noise: &Noise| NoiseRecord {
            private: to_base64(&noise.private.export()),
            signed: noise.signed.clone(),
        };
        let record = KeysRecord {
            root: self.root,
            current: noise(&self.current),
            former: self.former.as_ref().map(|(former, until)| (noise(former), *until)),
            prepared: self.prepared.as_ref().map(|prepared| to_base64(&prepared.export())),
            relay: to_base64(&self.relay.export()),
            made: self.made,
        };
        serde_json::to_string(&record).map(Zeroizing::new).map_err(|_| KeysError::Damaged)
    }

    /// Reads that.
    pub(crate) fn parse(text: &str) -> Result<Self, KeysError> {
        let record: KeysRecord = serde_json::from_str(text).map_err(|_| KeysError::Damaged)?;
        let noise = |noise: NoiseRecord| {
            let private = MachinePrivate::import(&*from_base64(&noise.private)?);
            Ok::<_, KeysError>(Noise { private, signed: noise.signed })
        };
        let former = match record.former {
            Some((former, until)) => Some((noise(former)?, until)),
            None => None,
        };
        let prepared = record.prepared.map(|prepared| from_base64(&prepared)).transpose()?;
        Ok(Self {
            root: record.root,
            current: noise(record.current)?,
            former,
            prepared: prepared.map(|prepared| MachinePrivate::import(&prepared)),
            relay: NodePrivate::import(&*from_base64(&record.relay)?),
            made: record.made,
        })
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("root", &self.root).finish_non_exhaustive()
    }
}

#[derive(Serialize, Deserialize)]
struct KeysRecord {
    root: RootKey,
    current: NoiseRecord,
    former: Option<(NoiseRecord, Timestamp)>,
    prepared: Option<Secret>,
    relay: Secret,
    #[serde(default)]
    made: Option<Timestamp>,
}

#[derive(Serialize, Deserialize)]
struct NoiseRecord {
    private: Secret,
    signed: SignedNoiseKey,
}

/// A secret as text, wiped on drop.
struct Secret(Zeroizing<String>);

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

fn to_base64(secret: &[u8; 32]) -> Secret {
    Secret(Zeroizing::new(STANDARD.encode(secret)))
}

fn from_base64(text: &Secret) -> Result<Zeroizing<[u8; 32]>, KeysError> {
    let bytes = Zeroizing::new(STANDARD.decode(text.0.as_bytes()).map_err(|_| KeysError::Damaged)?);
    bytes.as_slice().try_into().map(Zeroizing::new).map_err(|_| KeysError::Damaged)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::rand::SystemRandom;
    use std::time::Duration;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn keys() -> (Keys, RootPrivate) {
        Keys::generate(&SystemRandom::new(), NOW).unwrap()
    }

    #[test]
    fn a_noise_key_that_the_root_key_did_not_sign_is_not_taken() {
        let (mut keys, root) = keys();
        let before = keys.noise().public();
        let (public, serial) = keys.prepare(&SystemRandom::new()).unwrap();
        let stranger = RootPrivate::generate(&SystemRandom::new()).unwrap();
        let later = NOW.plus(Duration::from_secs(60));
        for bad in [
            stranger.sign(public, serial),
            root.sign(public, serial - 1),
            root.sign(MachinePrivate::generate(&SystemRandom::new()).unwrap().public(), serial),
        ] {
            assert!(keys.rotate(bad, later).is_err());
            assert_eq!(keys.noise().public(), before);
        }
        assert!(keys.rotate(root.sign(public, serial), later).is_ok(), "the right one is taken still");
    }

    #[test]
    fn a_former_noise_key_answers_for_its_time_and_no_longer() {
        let (mut keys, root) = keys();
        let before = keys.noise().public();
        let (public, serial) = keys.prepare(&SystemRandom::new()).unwrap();
        let until = NOW.plus(Duration::from_secs(60));
        keys.rotate(root.sign(public, serial), until).unwrap();
        let answering = |now| keys.answering(now).map(MachinePrivate::public).collect::<Vec<_>>();
        assert_eq!(answering(NOW), [public, before]);
        assert_eq!(answering(until), [public]);
        assert_eq!(keys.signed().verify(keys.root(), serial), Ok(public));
    }

    #[test]
    fn keys_say_themselves_again_and_show_nothing() {
        let (mut keys, root) = keys();
        keys.prepare(&SystemRandom::new()).unwrap();
        let text = keys.to_text().unwrap();
        let read = Keys::parse(&text).unwrap();
        assert_eq!(*read.to_text().unwrap(), *text);
        assert_eq!((read.root(), read.made()), (root.public(), Some(NOW)));
        let shown = format!("{keys:?}");
        let secret = STANDARD.encode(*keys.noise().export());
        assert!(text.contains(&secret) && !shown.contains(&secret));
    }
}
