//! The box that disco and relays share: `XSalsa20-Poly1305` under a Curve25519 secret (NaCl's `crypto_box`), the nonce before it.

use crypto_box::{PublicKey, SalsaBox, SecretKey, aead::Aead as _};
use ring::rand::SecureRandom;

pub(crate) const NONCE: usize = 24;
const TAG: usize = 16;

/// Between two keys, either of which opens what the other sealed.
pub(crate) struct KeyPairBox(SalsaBox);

impl KeyPairBox {
    pub(crate) fn new(own: &[u8; 32], other: &[u8; 32]) -> Self {
        Self(SalsaBox::new(&PublicKey::from(*other), &SecretKey::from(*own)))
    }

    /// Nonce and box. Fails when `random` does.
    pub(crate) fn seal(&self, plaintext: &[u8], random: &dyn SecureRandom) -> Option<Vec<u8>> {
        let mut nonce = [0; NONCE];
        random.fill(&mut nonce).ok()?;
        self.seal_with(nonce, plaintext)
    }

    pub(crate) fn seal_with(&self, nonce: [u8; NONCE], plaintext: &[u8]) -> Option<Vec<u8>> {
        let sealed = self.0.encrypt(&nonce.into(), plaintext).ok()?;
        Some([&nonce[..], &sealed].concat())
    }

    /// The plaintext, if the other key's holder (or this one's) sealed it.
    pub(crate) fn open(&self, sealed: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE>()?;
        if sealed.len() < TAG {
            return None;
        }
        self.0.decrypt(nonce.into(), sealed).ok()
    }
}
