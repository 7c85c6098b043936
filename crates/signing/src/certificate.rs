//! OpenSSH certificates (`PROTOCOL.certkeys`): a CA says that a key belongs to some principals for some time. Parsed
//! strictly; what it restricts is enforced or it is refused.

use crate::{
    enrolled_line::is_plain,
    grant::{AddressRange, any_contains},
    public_key::{BLOB_LIMIT, CERTIFICATE_SUFFIX, Material, PublicKey, PublicKeyError, RSA},
    signature,
    verify::Refusal,
    wire::{Reader, put_string},
};
use allod_proto::Timestamp;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::net::IpAddr;

const USER: u32 = 1;
const PRINCIPALS_LIMIT: usize = 256;

/// A user certificate. Its own signature is not checked before verification does.
#[derive(Debug, Clone)]
pub struct Certificate {
    blob: Vec<u8>,
    /// How much of the blob the CA signed.
    signed: usize,
    key: PublicKey,
    serial: u64,
    key_id: String,
    principals: Vec<String>,
    valid_after: u64,
    valid_before: u64,
    sources: Option<Vec<AddressRange>>,
    authority: PublicKey,
    signature: Vec<u8>,
}

/// Whether a blob says it is a certificate.
pub(crate) fn is_certificate(blob: &[u8]) -> bool {
    Reader::new(blob).text().is_ok_and(|kind| kind.ends_with(CERTIFICATE_SUFFIX))
}

impl Certificate {
    /// Reads `<kind> <base64> [comment]`, the form of a `-cert.pub` file.
    ///
    /// # Errors
    /// [`Refusal`] when it is not that, or holds what is not understood.
    pub fn from_openssh(text: &str) -> Result<Self, Refusal> {
        let encoded = text.split_ascii_whitespace().nth(1).filter(|word| word.len() <= BLOB_LIMIT * 4 / 3);
        let blob = encoded.and_then(|word| STANDARD.decode(word).ok());
        Self::from_blob(&blob.ok_or(Refusal::Malformed("it is not a kind and base64"))?)
    }

    /// Reads the SSH encoding.
    ///
    /// # Errors
    /// [`Refusal`] when it is not that, or holds what is not understood.
    pub fn from_blob(blob: &[u8]) -> Result<Self, Refusal> {
        if blob.len() > BLOB_LIMIT {
            return Err(Refusal::Malformed("the certificate is too long"));
        }
        let mut reader = Reader::new(blob);
        let kind = reader.text()?;
        let plain = plain_kind(kind).ok_or(Refusal::Certificate("it is of a kind that is not accepted"))?;
        let _nonce = reader.string()?;
        let start = reader.remaining();
        Material::read(plain, &mut reader)?;
        let fields = blob.get(blob.len() - start..blob.len() - reader.remaining()).unwrap_or_default();
        let mut key = Vec::new();
        put_string(&mut key, plain.as_bytes());
        key.extend_from_slice(fields);
        let serial = reader.u64()?;
        let of = reader.u32()?;
        let key_id = reader.text()?.to_owned();
        let principals = read_principals(reader.string()?)?;
        let (valid_after, valid_before) = (reader.u64()?, reader.u64()?);
        let sources = read_critical_options(reader.string()?)?;
        read_extensions(reader.string()?)?;
        if !reader.string()?.is_empty() {
            return Err(Refusal::Malformed("the certificate's reserved field is in use"));
        }
        let authority = PublicKey::from_blob(reader.string()?)?;
        let signed = blob.len() - reader.remaining();
        let signature = reader.string()?.to_vec();
        reader.finish()?;
        if of != USER {
            return Err(Refusal::Certificate("it is not a user's"));
        }
        if !is_plain(&key_id) {
            return Err(Refusal::Certificate("its key id can't stand in a log"));
        }
        let key = PublicKey::from_blob(&key)?;
        Ok(Self {
            blob: blob.to_vec(),
            signed,
            key,
            serial,
            key_id,
            principals,
            valid_after,
            valid_before,
            sources,
            authority,
            signature,
        })
    }

    /// The SSH encoding.
    #[must_use]
    pub fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// The key it certifies.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// The key of the CA that it names.
    #[must_use]
    pub fn authority(&self) -> &PublicKey {
        &self.authority
    }

    /// Its number.
    #[must_use]
    pub fn serial(&self) -> u64 {
        self.serial
    }

    /// What the CA calls its holder. May be empty.
    #[must_use]
    pub fn key_id(&self) -> &str {
        &self.key_id
    }

    /// Whom it is good for.
    #[must_use]
    pub fn principals(&self) -> &[String] {
        &self.principals
    }

    /// When it ends; `None` is never.
    #[must_use]
    pub fn expires(&self) -> Option<Timestamp> {
        (self.valid_before != u64::MAX).then(|| Timestamp(self.valid_before.saturating_mul(1000)))
    }

    /// Checks that the CA it names signed it.
    pub(crate) fn check_signature(&self) -> Result<(), Refusal> {
        let signed = self.blob.get(..self.signed).unwrap_or_default();
        signature::check(&self.authority, signed, &self.signature)
    }

    /// Checks that it is valid at `now`.
    pub(crate) fn check_time(&self, now: Timestamp) -> Result<(), Refusal> {
        let seconds = now.0 / 1000;
        if seconds < self.valid_after {
            return Err(Refusal::Certificate("it is not valid yet"));
        }
        if seconds >= self.valid_before { Err(Refusal::Expired) } else { Ok(()) }
    }

    /// Checks its `source-address`.
    pub(crate) fn check_source(&self, source: Option<IpAddr>) -> Result<(), Refusal> {
        match &self.sources {
            Some(ranges) if !any_contains(ranges, source) => Err(Refusal::Source),
            Some(_) | None => Ok(()),
        }
    }
}

/// The kind of key inside a certificate of this kind.
fn plain_kind(kind: &str) -> Option<&str> {
    let stem = kind.strip_suffix(CERTIFICATE_SUFFIX)?;
    Some(match stem {
        "sk-ssh-ed25519" => crate::public_key::SK_ED25519,
        "sk-ecdsa-sha2-nistp256" => crate::public_key::SK_P256,
        crate::public_key::ED25519
        | crate::public_key::P256
        | crate::public_key::P384
        | crate::public_key::P521
        | RSA => stem,
        _ => return None,
    })
}

fn read_principals(bytes: &[u8]) -> Result<Vec<String>, Refusal> {
    let mut reader = Reader::new(bytes);
    let mut principals = Vec::new();
    while !reader.is_empty() {
        if principals.len() == PRINCIPALS_LIMIT {
            return Err(Refusal::Certificate("it has too many principals"));
        }
        principals.push(reader.text()?.to_owned());
    }
    Ok(principals)
}

/// Names in strictly rising order, each with its data; so none stands there twice.
fn read_options<'a>(
    bytes: &'a [u8],
    mut each: impl FnMut(&str, &'a [u8]) -> Result<(), Refusal>,
) -> Result<(), Refusal> {
    let mut reader = Reader::new(bytes);
    let mut before: Option<&str> = None;
    while !reader.is_empty() {
        let (name, value) = (reader.text()?, reader.string()?);
        if before.is_some_and(|before| before >= name) {
            return Err(Refusal::Malformed("the certificate's options are out of order"));
        }
        before = Some(name);
        each(name, value)?;
    }
    Ok(())
}

/// `source-address` is understood. What else is critical, `force-command` and `verify-required` included, refuses.
fn read_critical_options(bytes: &[u8]) -> Result<Option<Vec<AddressRange>>, Refusal> {
    let mut sources = None;
    read_options(bytes, |name, value| {
        if name != "source-address" {
            return Err(Refusal::Certificate("it has a critical option that is not accepted"));
        }
        let mut reader = Reader::new(value);
        let list = reader.text()?;
        reader.finish()?;
        let ranges: Result<Vec<AddressRange>, _> = list.split(',').map(str::parse).collect();
        sources = Some(ranges.map_err(|_| Refusal::Certificate("its source-address is not understood"))?);
        Ok(())
    })?;
    Ok(sources)
}

/// Extensions may be ignored, and are: they are about terminals and forwarding.
fn read_extensions(bytes: &[u8]) -> Result<(), Refusal> {
    read_options(bytes, |_, _| Ok(()))
}

impl From<PublicKeyError> for Refusal {
    fn from(error: PublicKeyError) -> Self {
        match error {
            PublicKeyError::Malformed(why) => Self::Malformed(why),
            PublicKeyError::Kind(_) | PublicKeyError::Weak(_) => Self::Algorithm,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
