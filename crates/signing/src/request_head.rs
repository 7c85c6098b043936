//! The signed head of a request: what its headers say, read once and strictly, before a byte of the body.

use crate::{delegation::Delegation, sshsig};
use allod_proto::{Digest, Epoch, Fingerprint, Nonce, Timestamp, headers};
use serde::{Deserialize, Serialize};

/// Everything that a request's headers say about who signed it, for what, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestHead {
    /// The signing key; of a certificate, its key.
    pub fingerprint: Fingerprint,
    /// When it was signed.
    pub timestamp: Timestamp,
    /// Used once.
    pub nonce: Nonce,
    /// The life of the server's agent it is for.
    pub epoch: Epoch,
    /// The digest of the body.
    pub body: Digest,
    /// The SSHSIG; in JSON as in its header, in base64.
    #[serde(with = "base64_text")]
    pub signature: Vec<u8>,
    /// What the signing key signs under, when it signs in another's name; in JSON as in its header.
    #[serde(default, skip_serializing_if = "Option::is_none", with = "delegation_text")]
    pub delegation: Option<Delegation>,
}

/// Why headers are not those of a signed request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// A header is absent.
    #[error("the header {0} is missing")]
    Missing(&'static str),
    /// A header stands there twice.
    #[error("the header {0} stands there twice")]
    Twice(&'static str),
    /// A header's value has not its form.
    #[error("the header {0} is malformed")]
    Malformed(&'static str),
}

impl RequestHead {
    /// Reads the head from headers that `get` finds by their lower-case name. `get` must not hide a second header of
    /// the same name; [`RequestHead::from_pairs`] looks for that itself.
    ///
    /// # Errors
    /// [`HeadError`] naming the header.
    pub fn parse<'a>(get: impl Fn(&str) -> Option<&'a str>) -> Result<Self, HeadError> {
        let text = |name: &'static str| get(name).ok_or(HeadError::Missing(name));
        let signature = sshsig::from_base64(text(headers::SIGNATURE)?)
            .map_err(|_| HeadError::Malformed(headers::SIGNATURE))?;
        let delegation = get(headers::DELEGATION).map(Delegation::parse).transpose();
        Ok(Self {
            fingerprint: word(headers::KEY_FINGERPRINT, text)?,
            timestamp: parse_timestamp(text(headers::TIMESTAMP)?)
                .ok_or(HeadError::Malformed(headers::TIMESTAMP))?,
            nonce: word(headers::NONCE, text)?,
            epoch: word(headers::EPOCH, text)?,
            body: word(headers::CONTENT_SHA256, text)?,
            signature,
            delegation: delegation.map_err(|_| HeadError::Malformed(headers::DELEGATION))?,
        })
    }

    /// The same from a list of lower-case names and values, such as one that was passed on.
    ///
    /// # Errors
    /// [`HeadError`] naming the header.
    pub fn from_pairs(pairs: &[(String, String)]) -> Result<Self, HeadError> {
        for name in NAMES {
            if pairs.iter().filter(|pair| pair.0 == name).nth(1).is_some() {
                return Err(HeadError::Twice(name));
            }
        }
        Self::parse(|name| pairs.iter().find(|pair| pair.0 == name).map(|pair| pair.1.as_str()))
    }

    /// The headers that say this.
    #[must_use]
    pub fn headers(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            (headers::KEY_FINGERPRINT, self.fingerprint.to_string()),
            (headers::TIMESTAMP, self.timestamp.to_string()),
            (headers::NONCE, self.nonce.to_string()),
            (headers::EPOCH, self.epoch.to_string()),
            (headers::CONTENT_SHA256, self.body.to_string()),
            (headers::SIGNATURE, sshsig::to_base64(&self.signature)),
        ];
        all.extend(self.delegation.as_ref().map(|it| (headers::DELEGATION, it.to_header())));
        all
    }
}

const NAMES: [&str; 7] = [
    headers::KEY_FINGERPRINT,
    headers::TIMESTAMP,
    headers::NONCE,
    headers::EPOCH,
    headers::CONTENT_SHA256,
    headers::SIGNATURE,
    headers::DELEGATION,
];

fn word<'a, T: std::str::FromStr>(
    name: &'static str,
    text: impl Fn(&'static str) -> Result<&'a str, HeadError>,
) -> Result<T, HeadError> {
    text(name)?.parse().map_err(|_| HeadError::Malformed(name))
}

/// Decimal digits in the one form that [`Timestamp`] prints: the signature covers what is printed.
fn parse_timestamp(text: &str) -> Option<Timestamp> {
    let canonical = text.bytes().all(|b| b.is_ascii_digit()) && (text == "0" || !text.starts_with('0'));
    text.parse().ok().filter(|_| canonical).map(Timestamp)
}

mod base64_text {
    use crate::sshsig;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&sshsig::to_base64(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        sshsig::from_base64(&String::deserialize(from)?).map_err(D::Error::custom)
    }
}

mod delegation_text {
    use crate::delegation::Delegation;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    #[expect(clippy::ref_option, reason = "the signature that serde calls")]
    pub(super) fn serialize<S: Serializer>(
        delegation: &Option<Delegation>,
        to: S,
    ) -> Result<S::Ok, S::Error> {
        match delegation {
            Some(delegation) => to.serialize_some(&delegation.to_header()),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Delegation>, D::Error> {
        let text = Option::<String>::deserialize(from)?;
        text.map(|text| Delegation::parse(&text)).transpose().map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
