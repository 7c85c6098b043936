//! A delegation: an enrolled key lets a fresh one sign in its name, at these servers, up to this role, until then. One
//! signature by the enrolled key, so that a key that wants a finger or an answer is asked once. What it is worth is
//! decided in `verify.rs`; here is what it says.

use crate::{
    public_key::{ED25519, PublicKey},
    signer::{SignError, Signer},
    sshsig,
};
use allod_proto::{
    Digest, Fingerprint, Role, Timestamp,
    headers::DELEGATION_NAMESPACE,
    limits::{DELEGATION_AUDIENCES, DELEGATION_LONGEST},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The longest text of terms that is looked at, in bytes.
const TERMS: usize = 512 + DELEGATION_AUDIENCES * 64;

/// Why a delegation is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DelegationError {
    /// Not in the one form that it has.
    #[error("it is not in the form of a delegation")]
    Form,
    /// The fresh key is of another kind.
    #[error("only ssh-ed25519 keys are delegated to")]
    Kind,
    /// For no server, or for more than one delegation can be for.
    #[error("a delegation is for 1 to {DELEGATION_AUDIENCES} servers")]
    Audiences,
    /// It ends before it begins, or too late.
    #[error("a delegation lasts at most {} hours", DELEGATION_LONGEST.as_secs() / 3600)]
    Span,
}

/// What a delegation says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    key: PublicKey,
    role: Role,
    issued_at: Timestamp,
    expires_at: Timestamp,
    audiences: Vec<Fingerprint>,
}

impl Terms {
    /// `key`, an ed25519 one, may sign for these servers from `issued_at` to before `expires_at`, as `role` at most.
    ///
    /// # Errors
    /// [`DelegationError`] when it is another kind of key, for no server or too many, or for longer than 12 hours.
    pub fn new(
        key: PublicKey,
        audiences: impl IntoIterator<Item = Fingerprint>,
        role: Role,
        (issued_at, expires_at): (Timestamp, Timestamp),
    ) -> Result<Self, DelegationError> {
        let mut audiences: Vec<Fingerprint> = audiences.into_iter().collect();
        audiences.sort();
        audiences.dedup();
        if key.algorithm() != ED25519 {
            return Err(DelegationError::Kind);
        }
        if !(1..=DELEGATION_AUDIENCES).contains(&audiences.len()) {
            return Err(DelegationError::Audiences);
        }
        if expires_at <= issued_at || expires_at.since(issued_at) > DELEGATION_LONGEST {
            return Err(DelegationError::Span);
        }
        Ok(Self { key, role, issued_at, expires_at, audiences })
    }

    /// The key that may sign.
    #[must_use]
    pub fn key(&self) -> &PublicKey {
        &self.key
    }

    /// As what at most.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Since when.
    #[must_use]
    pub fn issued_at(&self) -> Timestamp {
        self.issued_at
    }

    /// Not at or after this time.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.expires_at
    }

    /// The identities of the servers it is for, sorted.
    #[must_use]
    pub fn audiences(&self) -> &[Fingerprint] {
        &self.audiences
    }

    /// Whether it is for this server.
    #[must_use]
    pub fn is_for(&self, server: &Fingerprint) -> bool {
        self.audiences.binary_search(server).is_ok()
    }

    /// The bytes to sign, in the namespace `allod-delegation-v1`: lines that each end in a newline.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let Self { key, role, issued_at, expires_at, audiences } = self;
        let mut text =
            format!("{DELEGATION_NAMESPACE}\n{}\n{role}\n{issued_at}\n{expires_at}\n", key.to_openssh());
        for audience in audiences {
            text.push_str(audience.as_str());
            text.push('\n');
        }
        text.into_bytes()
    }

    /// Reads what [`Terms::bytes`] wrote, and no other form of it.
    fn parse(bytes: &[u8]) -> Result<Self, DelegationError> {
        const FORM: DelegationError = DelegationError::Form;
        if bytes.len() > TERMS {
            return Err(FORM);
        }
        let text = std::str::from_utf8(bytes).map_err(|_| FORM)?;
        let mut lines = text.strip_suffix('\n').ok_or(FORM)?.split('\n');
        if lines.next() != Some(DELEGATION_NAMESPACE) {
            return Err(FORM);
        }
        let key = PublicKey::from_openssh(lines.next().ok_or(FORM)?).map_err(|_| DelegationError::Kind)?;
        let role = lines.next().and_then(|line| line.parse().ok()).ok_or(FORM)?;
        let mut time = || lines.next().and_then(|line| line.parse().ok()).map(Timestamp).ok_or(FORM);
        let span = (time()?, time()?);
        let audiences: Result<Vec<Fingerprint>, _> = lines.map(str::parse).collect();
        let terms = Self::new(key, audiences.map_err(|_| FORM)?, role, span)?;
        // One text, one meaning: another order, a doubled line, a leading zero, a comment are other bytes.
        if terms.bytes() == bytes { Ok(terms) } else { Err(FORM) }
    }

    /// Has them signed: the one signature of the key that delegates.
    ///
    /// # Errors
    /// [`SignError`] when the key can't be used.
    pub fn sign(self, parent: &dyn Signer) -> Result<Delegation, SignError> {
        let signature = parent.sign(DELEGATION_NAMESPACE, &self.bytes())?;
        Ok(Delegation { terms: self, signature })
    }
}

/// Terms with a signature, which is not checked yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delegation {
    terms: Terms,
    signature: Vec<u8>,
}

impl Delegation {
    /// Reads the value of the header `x-allod-delegation`: the terms and the SSHSIG over them, each in standard base64,
    /// with a full stop between.
    ///
    /// # Errors
    /// [`DelegationError`] when it is not in that one form, or for longer, or for more servers, than may be.
    pub fn parse(text: &str) -> Result<Self, DelegationError> {
        const FORM: DelegationError = DelegationError::Form;
        let (terms, signature) = text.split_once('.').ok_or(FORM)?;
        if terms.len() > TERMS.div_ceil(3) * 4 {
            return Err(FORM);
        }
        let terms = Terms::parse(&STANDARD.decode(terms).map_err(|_| FORM)?)?;
        let signature = sshsig::from_base64(signature).map_err(|_| FORM)?;
        Ok(Self { terms, signature })
    }

    /// The value of the header.
    #[must_use]
    pub fn to_header(&self) -> String {
        format!("{}.{}", STANDARD.encode(self.terms.bytes()), sshsig::to_base64(&self.signature))
    }

    /// What it says.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The SSHSIG of the key that delegates.
    #[must_use]
    pub fn signature(&self) -> &[u8] {
        &self.signature
    }

    /// SHA-256 of the header's value: what a delegated request names as its ninth line, so that nobody can take one
    /// delegation of a key for another.
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.to_header())
    }
}

/// A fresh key with the delegation that it signs under.
pub struct DelegatedSigner<S> {
    key: S,
    delegation: Delegation,
}

impl<S: Signer> DelegatedSigner<S> {
    /// `None` when the delegation is to another key.
    pub fn new(key: S, delegation: Delegation) -> Option<Self> {
        (key.public_key() == delegation.terms.key()).then_some(Self { key, delegation })
    }
}

impl<S: Signer> Signer for DelegatedSigner<S> {
    fn public_key(&self) -> &PublicKey {
        self.key.public_key()
    }

    fn sign(&self, namespace: &str, message: &[u8]) -> Result<Vec<u8>, SignError> {
        self.key.sign(namespace, message)
    }

    fn delegation(&self) -> Option<&Delegation> {
        Some(&self.delegation)
    }
}

#[cfg(test)]
mod tests;
