//! Join keys: `ID.SECRET`, of which a keyed hash is kept. One that may be used once is used up by the node that it made; while that
//! node is in good standing, its machine may show the key again (its reply may have been lost).

use super::{Refusal, names};
use allod_proto::Timestamp;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::{hmac, rand::SecureRandom};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

const ID_BYTES: usize = 9;
const SECRET_BYTES: usize = 32;

/// What a join key shall allow.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct JoinKeySpec {
    /// Tags of the nodes that it lets in.
    pub tags: Vec<String>,
    /// How many nodes it lets in; `None` for any number.
    pub uses: Option<u32>,
    /// Until when it lets nodes in; `None` for ever.
    pub expiry: Option<Timestamp>,
    /// Whether its nodes are forgotten when they are away.
    pub ephemeral: bool,
    /// How long the node keys of its nodes are good, in milliseconds; `None` for ever.
    pub node_lifetime_ms: Option<u64>,
}

/// A join key, as it is stored: nothing of it lets anybody in.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JoinKeyRecord {
    /// Its first half, which names it.
    pub id: String,
    pub(super) salt: String,
    pub(super) hash: String,
    /// Tags of the nodes that it lets in.
    pub tags: Vec<String>,
    /// How many more nodes it lets in; `None` for any number.
    pub uses_left: Option<u32>,
    /// Until when it lets nodes in.
    pub expiry: Option<Timestamp>,
    /// Whether its nodes are forgotten when they are away.
    pub ephemeral: bool,
    /// How long the node keys of its nodes are good, in milliseconds.
    pub node_lifetime_ms: Option<u64>,
    /// Since when there is one.
    pub created: Timestamp,
    /// Whether somebody revoked it.
    pub revoked: bool,
}

impl std::fmt::Debug for JoinKeyRecord {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("JoinKeyRecord").field("id", &self.id).finish_non_exhaustive()
    }
}

impl JoinKeyRecord {
    /// A fresh one and its text, which is shown once.
    pub(super) fn generate(
        spec: JoinKeySpec,
        now: Timestamp,
        random: &dyn SecureRandom,
    ) -> Result<(Self, Zeroizing<String>), Refusal> {
        if spec.tags.len() > super::TAGS || spec.tags.iter().any(|tag| !names::is_tag(tag)) {
            return Err(Refusal::Tag);
        }
        let mut bytes = Zeroizing::new([0; ID_BYTES + SECRET_BYTES * 2]);
        random.fill(bytes.as_mut()).map_err(|_| Refusal::Random)?;
        let (id, rest) = bytes.split_at(ID_BYTES);
        let (secret, salt) = rest.split_at(SECRET_BYTES);
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.encode(secret));
        let id = URL_SAFE_NO_PAD.encode(id);
        let text = Zeroizing::new([&id, ".", &secret].concat());
        let hash = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, salt), secret.as_bytes());
        let record = Self {
            id,
            salt: URL_SAFE_NO_PAD.encode(salt),
            hash: URL_SAFE_NO_PAD.encode(hash),
            tags: spec.tags,
            uses_left: spec.uses,
            expiry: spec.expiry,
            ephemeral: spec.ephemeral,
            node_lifetime_ms: spec.node_lifetime_ms,
            created: now,
            revoked: false,
        };
        Ok((record, text))
    }

    /// Whether it lets nodes in at `now`, uses aside.
    #[must_use]
    pub fn is_good(&self, now: Timestamp) -> bool {
        !self.revoked && self.expiry.is_none_or(|expiry| now < expiry)
    }

    /// Whether `secret` is its second half, in constant time.
    pub(super) fn is_secret(&self, secret: &str) -> bool {
        let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).unwrap_or_default();
        let key = hmac::Key::new(hmac::HMAC_SHA256, &decode(&self.salt));
        hmac::verify(&key, secret.as_bytes(), &decode(&self.hash)).is_ok()
    }
}

/// Both halves of a text.
pub(super) fn halves(text: &str) -> Option<(&str, &str)> {
    (text.len() <= 128).then(|| text.split_once('.')).flatten()
}
