//! A client of ssh-agent (draft-ietf-sshm-ssh-agent): lists keys, signs with one. Bounded, with deadlines.

use allod_signing::{Certificate, PublicKey, SignError, Signer, sshsig};
use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    time::Duration,
};

const REQUEST_IDENTITIES: u8 = 11;
const IDENTITIES_ANSWER: u8 = 12;
const SIGN_REQUEST: u8 = 13;
const SIGN_RESPONSE: u8 = 14;
/// Sign with SHA-512; only RSA keys heed it.
const RSA_SHA2_512: u32 = 4;
/// The largest message that is read, in bytes.
const MESSAGE: usize = 256 * 1024;
/// How many keys are looked at.
const KEYS: u32 = 256;
const LIST_DEADLINE: Duration = Duration::from_secs(5);
/// A person may have to touch a key or answer a dialogue.
const SIGN_DEADLINE: Duration = Duration::from_secs(120);

/// Why the agent gave no answer.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// It can't be reached.
    #[error("ssh-agent at {path}: {error}")]
    Io {
        /// Its socket.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It says no: locked, declined by a person, or without the key.
    #[error("ssh-agent at {0} refused")]
    Refused(PathBuf),
    /// What it says makes no sense.
    #[error("ssh-agent at {0} gave an answer that makes no sense")]
    Nonsense(PathBuf),
}

/// A running agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    socket: PathBuf,
}

/// A key in an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentKey {
    /// The key or certificate, as the agent names it.
    pub blob: Vec<u8>,
    /// What its owner called it.
    pub comment: String,
    /// The key; of a certificate, the one that it certifies.
    pub key: PublicKey,
}

impl AgentKey {
    /// Whether it is a certificate.
    #[must_use]
    pub fn is_certificate(&self) -> bool {
        self.blob != self.key.blob()
    }
}

impl Agent {
    /// The agent behind this socket.
    #[must_use]
    pub fn new(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// The keys it holds that can sign here; others are passed over.
    ///
    /// # Errors
    /// [`AgentError`] when it does not answer.
    pub fn keys(&self) -> Result<Vec<AgentKey>, AgentError> {
        let answer = self.ask(&[REQUEST_IDENTITIES], IDENTITIES_ANSWER, LIST_DEADLINE)?;
        let nonsense = || AgentError::Nonsense(self.socket.clone());
        let mut rest = answer.as_slice();
        let count = take_u32(&mut rest).ok_or_else(nonsense)?;
        let mut keys = Vec::new();
        for _ in 0..count.min(KEYS) {
            let blob = take_string(&mut rest).ok_or_else(nonsense)?;
            let comment = take_string(&mut rest).ok_or_else(nonsense)?;
            if let Some(key) = key_of(blob) {
                let comment = String::from_utf8_lossy(comment).into_owned();
                keys.push(AgentKey { blob: blob.to_vec(), comment, key });
            }
        }
        Ok(keys)
    }

    /// The SSH signature of a key over `data`.
    ///
    /// # Errors
    /// [`AgentError`] when it does not answer, or a person declines.
    pub fn sign(&self, key: &AgentKey, data: &[u8]) -> Result<Vec<u8>, AgentError> {
        let mut message = vec![SIGN_REQUEST];
        put_string(&mut message, &key.blob);
        put_string(&mut message, data);
        let flags = if key.key.algorithm() == "ssh-rsa" { RSA_SHA2_512 } else { 0 };
        message.extend_from_slice(&flags.to_be_bytes());
        let answer = self.ask(&message, SIGN_RESPONSE, SIGN_DEADLINE)?;
        let signature = take_string(&mut answer.as_slice()).map(<[u8]>::to_vec);
        signature.ok_or_else(|| AgentError::Nonsense(self.socket.clone()))
    }

    fn ask(&self, message: &[u8], expected: u8, deadline: Duration) -> Result<Vec<u8>, AgentError> {
        let failed = |error| AgentError::Io { path: self.socket.clone(), error };
        let nonsense = || AgentError::Nonsense(self.socket.clone());
        let mut stream = UnixStream::connect(&self.socket).map_err(failed)?;
        stream.set_read_timeout(Some(deadline)).map_err(failed)?;
        stream.set_write_timeout(Some(LIST_DEADLINE)).map_err(failed)?;
        let mut framed = Vec::with_capacity(message.len() + 4);
        put_string(&mut framed, message);
        stream.write_all(&framed).map_err(failed)?;
        let mut length = [0; 4];
        stream.read_exact(&mut length).map_err(failed)?;
        let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
        if length == 0 || length > MESSAGE {
            return Err(nonsense());
        }
        let mut answer = vec![0; length];
        stream.read_exact(&mut answer).map_err(failed)?;
        let (&kind, rest) = answer.split_first().ok_or_else(nonsense)?;
        if kind == expected { Ok(rest.to_vec()) } else { Err(AgentError::Refused(self.socket.clone())) }
    }
}

fn key_of(blob: &[u8]) -> Option<PublicKey> {
    PublicKey::from_blob(blob)
        .ok()
        .or_else(|| Certificate::from_blob(blob).ok().map(|made| made.key().clone()))
}

fn put_string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    let (number, after) = rest.split_first_chunk::<4>()?;
    *rest = after;
    Some(u32::from_be_bytes(*number))
}

fn take_string<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(take_u32(rest)?).ok()?;
    let (string, after) = rest.split_at_checked(length)?;
    *rest = after;
    Some(string)
}

/// Signs with a key in an agent.
#[derive(Debug, Clone)]
pub struct AgentSigner {
    agent: Agent,
    key: AgentKey,
}

impl AgentSigner {
    /// With this key.
    #[must_use]
    pub fn new(agent: Agent, key: AgentKey) -> Self {
        Self { agent, key }
    }
}

impl Signer for AgentSigner {
    fn public_key(&self) -> &PublicKey {
        &self.key.key
    }

    fn sign(&self, namespace: &str, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let signature = self.agent.sign(&self.key, &sshsig::to_be_signed(namespace, message));
        match signature {
            Ok(signature) => Ok(sshsig::wrap(&self.key.blob, namespace, &signature)),
            Err(error @ AgentError::Refused(_)) => Err(SignError::Declined(error.to_string())),
            Err(error @ (AgentError::Io { .. } | AgentError::Nonsense(_))) => {
                Err(SignError::Failed(error.to_string()))
            }
        }
    }
}

#[cfg(test)]
mod tests;
