//! The SSHSIG container of OpenSSH `PROTOCOL.sshsig`: which key signed which hash in which namespace. Only version 1,
//! only SHA-512, nothing reserved, nothing trailing.

use crate::{
    certificate,
    public_key::{BLOB_LIMIT, PublicKey},
    verify::Refusal,
    wire::{Reader, WireError, put_string},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha512};

const MAGIC: &[u8; 6] = b"SSHSIG";
const VERSION: u32 = 1;
const HASH: &str = "sha512";
/// The largest SSHSIG that is looked at, in bytes: a certificate with RSA keys of 8192 bits has room.
pub const LIMIT: usize = BLOB_LIMIT + 4 * 1024;

/// An SSHSIG taken apart; the signature in it is not checked yet.
pub(crate) struct SshSig<'a> {
    /// The blob of the key or certificate that claims to have signed.
    pub(crate) key: &'a [u8],
    namespace: &'a str,
    signature: &'a [u8],
}

impl<'a> SshSig<'a> {
    pub(crate) fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        if bytes.len() > LIMIT {
            return Err(WireError("it is too long"));
        }
        let mut reader = Reader::new(bytes);
        if reader.take(MAGIC.len())? != MAGIC || reader.u32()? != VERSION {
            return Err(WireError("it is not an SSHSIG of version 1"));
        }
        let (key, namespace, reserved, hash) =
            (reader.string()?, reader.text()?, reader.string()?, reader.string()?);
        let signature = reader.string()?;
        reader.finish()?;
        if !reserved.is_empty() {
            return Err(WireError("its reserved field is in use"));
        }
        if hash != HASH.as_bytes() {
            return Err(WireError("its hash is not sha512"));
        }
        Ok(Self { key, namespace, signature })
    }

    /// Checks that `key` made it over `message` in this namespace. Whether `key` is the one it names is the caller's
    /// question.
    pub(crate) fn check(&self, key: &PublicKey, namespace: &str, message: &[u8]) -> Result<(), Refusal> {
        if self.namespace != namespace {
            return Err(Refusal::Namespace);
        }
        crate::signature::check(key, &to_be_signed(namespace, message), self.signature)
    }
}

/// What a key signs for an SSHSIG in `namespace` over `message`. With RSA it must sign as `rsa-sha2-512`.
#[must_use]
pub fn to_be_signed(namespace: &str, message: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(96 + namespace.len());
    out.extend_from_slice(MAGIC);
    put_string(&mut out, namespace.as_bytes());
    put_string(&mut out, b"");
    put_string(&mut out, HASH.as_bytes());
    put_string(&mut out, &Sha512::digest(message));
    out
}

/// The SSHSIG around a signature over [`to_be_signed`]. `key` is the blob of the public key, or of its certificate;
/// `signature` is the SSH signature blob that an agent answers.
#[must_use]
pub fn wrap(key: &[u8], namespace: &str, signature: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + key.len() + namespace.len() + signature.len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&VERSION.to_be_bytes());
    put_string(&mut out, key);
    put_string(&mut out, namespace.as_bytes());
    put_string(&mut out, b"");
    put_string(&mut out, HASH.as_bytes());
    put_string(&mut out, signature);
    out
}

/// The key that an SSHSIG names, for one who knows only its fingerprint. It proves nothing until
/// [`crate::verify_signature`] holds with it.
///
/// # Errors
/// [`Refusal`] when it is no SSHSIG, or one made with a certificate.
pub fn signer_key(sshsig: &[u8]) -> Result<PublicKey, Refusal> {
    let parsed = SshSig::parse(sshsig)?;
    if certificate::is_certificate(parsed.key) {
        return Err(Refusal::Algorithm);
    }
    Ok(PublicKey::from_blob(parsed.key)?)
}

/// An SSHSIG as it stands in a header: standard base64 with padding, no armour, no line breaks.
#[must_use]
pub fn to_base64(sshsig: &[u8]) -> String {
    STANDARD.encode(sshsig)
}

/// Reads what [`to_base64`] wrote, and no other form of it.
///
/// # Errors
/// [`Refusal::Malformed`] when it is too long or not standard base64.
pub fn from_base64(text: &str) -> Result<Vec<u8>, Refusal> {
    if text.len() > LIMIT.div_ceil(3) * 4 {
        return Err(Refusal::Malformed("it is too long"));
    }
    STANDARD.decode(text).map_err(|_| Refusal::Malformed("its base64 is broken"))
}

#[cfg(test)]
mod tests;
