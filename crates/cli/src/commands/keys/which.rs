//! Which key a person means: a fingerprint, a public key file, the key itself, or the name it is enrolled under.

use crate::{failure::Failure, keys::FileKey};
use allod_proto::{FaultCode, Fingerprint, messages::keys::KeysListReply};
use allod_signing::PublicKey;
use std::path::Path;

/// A key as a person names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Which {
    Fingerprint(Fingerprint),
    Name(String),
}

impl Which {
    /// Reads what a person wrote.
    pub(crate) fn parse(text: &str) -> Result<Self, Failure> {
        if let Ok(fingerprint) = text.parse() {
            return Ok(Self::Fingerprint(fingerprint));
        }
        if let Ok(key) = PublicKey::from_openssh(text) {
            return Ok(Self::Fingerprint(key.fingerprint().clone()));
        }
        match FileKey::load(Path::new(text)) {
            Ok(Some(file)) => Ok(Self::Fingerprint(file.key.fingerprint().clone())),
            Ok(None) if !text.contains('/') => Ok(Self::Name(text.to_owned())),
            Ok(None) => Err(Failure::new(FaultCode::NotFound, format!("there is no file {text:?}"))),
            Err(error) => Err(error.into()),
        }
    }

    /// The fingerprint on a server with these keys; a name must be the name of exactly one.
    pub(crate) fn find(&self, keys: &KeysListReply) -> Result<Fingerprint, Failure> {
        let name = match self {
            Self::Fingerprint(fingerprint) => return Ok(fingerprint.clone()),
            Self::Name(name) => name,
        };
        let found: Vec<_> = keys.keys.iter().filter(|key| key.name == *name).collect();
        match found.as_slice() {
            [key] => Ok(key.fingerprint.clone()),
            [] => {
                Err(Failure::new(FaultCode::NotFound, format!("no key is enrolled under the name {name:?}"))
                    .hint("`allod keys list` shows names and fingerprints"))
            }
            several => {
                let all: Vec<_> = several.iter().map(|key| key.fingerprint.as_str()).collect();
                Err(Failure::usage(format!("{} keys are called {name:?}: {}", all.len(), all.join(", ")))
                    .hint("name one by its fingerprint"))
            }
        }
    }
}

/// `<kind> <base64> [comment]`, from a `.pub` file or as it stands.
pub(super) fn public_key_line(text: &str) -> Result<String, Failure> {
    let text = text.trim();
    if text.contains(' ') && PublicKey::from_openssh(text).is_ok() {
        return Ok(text.to_owned());
    }
    let path = Path::new(text);
    let read = std::fs::read_to_string(path).map_err(|error| {
        Failure::usage(format!("{text:?} is neither a public key nor a file of one: {error}"))
    })?;
    if read.contains("PRIVATE KEY-----") {
        return Err(Failure::usage(format!("{text} holds a private key, which stays here"))
            .hint(format!("name the public half: {text}.pub")));
    }
    let mut lines = read.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    match (lines.next(), lines.next()) {
        (Some(line), None) => {
            PublicKey::from_openssh(line).map_err(|why| Failure::usage(format!("{text}: {why}")))?;
            Ok(line.to_owned())
        }
        _ => Err(Failure::usage(format!("{text} does not hold exactly one public key"))),
    }
}
