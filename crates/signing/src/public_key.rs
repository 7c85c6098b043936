//! Public keys of the kinds that may sign: read from OpenSSH text or an SSH blob, strictly; equal when their blobs are.
//! What is too weak (DSA, RSA under 2048 bits, ed25519 points of small order) is no key here.

use crate::wire::{Reader, WireError};
use allod_proto::Fingerprint;
use base64::{Engine as _, engine::general_purpose::STANDARD, engine::general_purpose::STANDARD_NO_PAD};
use ed25519_dalek::VerifyingKey;
use sha2::{Digest as _, Sha256};
use std::fmt;

pub(crate) const ED25519: &str = "ssh-ed25519";
pub(crate) const P256: &str = "ecdsa-sha2-nistp256";
pub(crate) const P384: &str = "ecdsa-sha2-nistp384";
pub(crate) const P521: &str = "ecdsa-sha2-nistp521";
pub(crate) const RSA: &str = "ssh-rsa";
pub(crate) const SK_ED25519: &str = "sk-ssh-ed25519@openssh.com";
pub(crate) const SK_P256: &str = "sk-ecdsa-sha2-nistp256@openssh.com";
/// The kinds accepted, as OpenSSH names them.
const ACCEPTED: [&str; 7] = [ED25519, P256, P384, P521, RSA, SK_ED25519, SK_P256];
/// What a certificate's kind ends in instead.
pub(crate) const CERTIFICATE_SUFFIX: &str = "-cert-v01@openssh.com";

/// The largest blob of a key or certificate that is looked at, in bytes.
pub(crate) const BLOB_LIMIT: usize = 12 * 1024;
const APPLICATION_LIMIT: usize = 256;

/// Why something is not a public key that may be used here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// The encoding is broken.
    #[error("the key is malformed: {0}")]
    Malformed(&'static str),
    /// The kind is not accepted, or is unknown.
    #[error("keys of the kind {0} are not accepted")]
    Kind(String),
    /// The kind is accepted, this key of it is not.
    #[error("the key is too weak: {0}")]
    Weak(&'static str),
}

impl From<WireError> for PublicKeyError {
    fn from(WireError(why): WireError) -> Self {
        Self::Malformed(why)
    }
}

/// What verification needs of a key.
#[derive(Clone)]
pub(crate) enum Material {
    Ed25519(VerifyingKey),
    /// The uncompressed point.
    P256(Vec<u8>),
    /// The uncompressed point.
    P384(Vec<u8>),
    P521(Box<p521::ecdsa::VerifyingKey>),
    /// Modulus and exponent, big-endian, minimal.
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
    SkEd25519 {
        key: VerifyingKey,
        application: String,
    },
    SkP256 {
        point: Vec<u8>,
        application: String,
    },
}

/// A public key: never a certificate, never of a refused kind.
#[derive(Clone)]
pub struct PublicKey {
    material: Material,
    blob: Vec<u8>,
    fingerprint: Fingerprint,
}

impl PublicKey {
    /// Reads `<kind> <base64> [comment]`, the form of a `.pub` file; the comment is ignored.
    ///
    /// # Errors
    /// [`PublicKeyError`] when it is not that, or a key that isn't accepted.
    pub fn from_openssh(text: &str) -> Result<Self, PublicKeyError> {
        let mut words = text.split_ascii_whitespace();
        let (Some(kind), Some(encoded)) = (words.next(), words.next()) else {
            return Err(PublicKeyError::Malformed("it is not a kind and base64"));
        };
        Self::from_words(kind, encoded)
    }

    /// The same from its two words.
    pub(crate) fn from_words(kind: &str, encoded: &str) -> Result<Self, PublicKeyError> {
        if !ACCEPTED.contains(&kind) {
            return Err(PublicKeyError::Kind(kind.chars().take(60).collect()));
        }
        if encoded.len() > BLOB_LIMIT * 4 / 3 {
            return Err(PublicKeyError::Malformed("it is too long"));
        }
        let blob = STANDARD.decode(encoded).map_err(|_| PublicKeyError::Malformed("its base64 is broken"))?;
        let key = Self::from_blob(&blob)?;
        if key.algorithm() != kind {
            return Err(PublicKeyError::Malformed("its text and its content name different kinds"));
        }
        Ok(key)
    }

    /// Reads the SSH encoding of a key.
    ///
    /// # Errors
    /// [`PublicKeyError`] when it is not that, or a key that isn't accepted.
    pub fn from_blob(blob: &[u8]) -> Result<Self, PublicKeyError> {
        if blob.len() > BLOB_LIMIT {
            return Err(PublicKeyError::Malformed("it is too long"));
        }
        let mut reader = Reader::new(blob);
        let kind = reader.text()?;
        let material = Material::read(kind, &mut reader)?;
        reader.finish()?;
        Ok(Self { material, blob: blob.to_vec(), fingerprint: fingerprint(blob) })
    }

    /// The SSH encoding.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// `SHA256:…`, as `ssh-keygen -l` prints it.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }

    /// The kind as OpenSSH names it, such as `ssh-ed25519`.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self.material {
            Material::Ed25519(_) => ED25519,
            Material::P256(_) => P256,
            Material::P384(_) => P384,
            Material::P521(_) => P521,
            Material::Rsa { .. } => RSA,
            Material::SkEd25519 { .. } => SK_ED25519,
            Material::SkP256 { .. } => SK_P256,
        }
    }

    /// `<kind> <base64>`, without comment.
    #[must_use]
    pub fn to_openssh(&self) -> String {
        format!("{} {}", self.algorithm(), STANDARD.encode(&self.blob))
    }

    pub(crate) fn material(&self) -> &Material {
        &self.material
    }
}

impl Material {
    /// Reads the fields of a key of this kind, in a key's blob or in the middle of a certificate.
    pub(crate) fn read(kind: &str, reader: &mut Reader<'_>) -> Result<Self, PublicKeyError> {
        match kind {
            ED25519 => Ok(Self::Ed25519(read_ed25519(reader)?)),
            P256 => Ok(Self::P256(read_point(reader, "nistp256", 65)?.to_vec())),
            P384 => Ok(Self::P384(read_point(reader, "nistp384", 97)?.to_vec())),
            P521 => {
                let point = read_point(reader, "nistp521", 133)?;
                p521::ecdsa::VerifyingKey::from_sec1_bytes(point)
                    .map(|key| Self::P521(Box::new(key)))
                    .map_err(|_| PublicKeyError::Malformed("its point is not on the curve"))
            }
            RSA => read_rsa(reader),
            SK_ED25519 => {
                Ok(Self::SkEd25519 { key: read_ed25519(reader)?, application: read_application(reader)? })
            }
            SK_P256 => Ok(Self::SkP256 {
                point: read_point(reader, "nistp256", 65)?.to_vec(),
                application: read_application(reader)?,
            }),
            other => Err(PublicKeyError::Kind(other.chars().take(60).collect())),
        }
    }
}

fn read_ed25519(reader: &mut Reader<'_>) -> Result<VerifyingKey, PublicKeyError> {
    let bytes: &[u8; 32] =
        reader.string()?.try_into().map_err(|_| PublicKeyError::Malformed("an ed25519 key has 32 bytes"))?;
    let key = VerifyingKey::from_bytes(bytes)
        .map_err(|_| PublicKeyError::Malformed("its point is not on the curve"))?;
    // Under a point of small order, one signature is good for many messages.
    if key.is_weak() { Err(PublicKeyError::Weak("its point has small order")) } else { Ok(key) }
}

fn read_point<'a>(reader: &mut Reader<'a>, curve: &str, size: usize) -> Result<&'a [u8], PublicKeyError> {
    if reader.string()? != curve.as_bytes() {
        return Err(PublicKeyError::Malformed("it names another curve"));
    }
    let point = reader.string()?;
    if point.len() != size || point.first() != Some(&4) {
        return Err(PublicKeyError::Malformed("its point is not an uncompressed one of its curve"));
    }
    Ok(point)
}

fn read_rsa(reader: &mut Reader<'_>) -> Result<Material, PublicKeyError> {
    let (e, n) = (reader.positive()?, reader.positive()?);
    let leading = n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = n.len().saturating_mul(8).saturating_sub(leading);
    if bits < 2048 {
        return Err(PublicKeyError::Weak("RSA needs 2048 bits"));
    }
    if bits > 8192 {
        return Err(PublicKeyError::Malformed("RSA has 8192 bits at most"));
    }
    let odd = |number: &[u8]| number.last().is_some_and(|byte| byte & 1 == 1);
    if !odd(n) || !odd(e) || e.len() > 4 || e == [1] {
        return Err(PublicKeyError::Weak("its RSA modulus or exponent can't be one"));
    }
    Ok(Material::Rsa { n: n.to_vec(), e: e.to_vec() })
}

fn read_application(reader: &mut Reader<'_>) -> Result<String, PublicKeyError> {
    let text = reader.text()?;
    if text.is_empty() || text.len() > APPLICATION_LIMIT || text.chars().any(char::is_control) {
        return Err(PublicKeyError::Malformed("its application is empty, too long or unprintable"));
    }
    Ok(text.to_owned())
}

/// The fingerprint of a key's blob.
pub(crate) fn fingerprint(blob: &[u8]) -> Fingerprint {
    let text = format!("SHA256:{}", STANDARD_NO_PAD.encode(Sha256::digest(blob)));
    Fingerprint::new(text).expect("32 bytes are 43 characters of base64")
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.blob == other.blob
    }
}
impl Eq for PublicKey {}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.algorithm(), self.fingerprint)
    }
}

#[cfg(test)]
mod tests;
