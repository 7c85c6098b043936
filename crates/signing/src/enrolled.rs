//! The file of enrolled keys, in OpenSSH `authorized_keys` format: who may call, as what. Reading it never fails: a line
//! that is not understood authorises nobody and becomes a complaint; the other lines work.

use crate::{
    enrolled_line,
    grant::{Grant, GrantError},
    public_key::{PublicKey, PublicKeyError},
};
use allod_proto::{Fingerprint, Timestamp};
use std::collections::{HashMap, hash_map::Entry};

/// What is wrong with a line of a file, for a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Complaint {
    /// Counted from 1.
    pub line: usize,
    /// One clause.
    pub message: String,
}

/// Why a line authorises nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LineError {
    /// It is not options and a key.
    #[error("{0}")]
    Form(&'static str),
    /// An option that this version does not know.
    #[error(
        "the option {0:?} is not understood; known are role=, apps=, commands=, from=, expiry-time=, cert-authority and principals=, and a list needs quotes"
    )]
    Option(String),
    /// An option that stands there twice.
    #[error("the option {0} stands there twice")]
    Twice(String),
    /// An option with a value that is not one of its.
    #[error("{value:?} is not a value of {option}")]
    Value {
        /// Which option.
        option: String,
        /// Cut to 80 characters.
        value: String,
    },
    /// A part of `apps=` or `from=`.
    #[error(transparent)]
    Grant(#[from] GrantError),
    /// Nothing says what the key may do.
    #[error(
        "role= is missing: nobody gets a role by being listed (viewer, deployer, operator, owner or caller)"
    )]
    NoRole,
    /// A CA that could vouch for anybody.
    #[error("principals= is missing: a cert-authority vouches only for the principals its line names")]
    NoPrincipals,
    /// Principals of no CA.
    #[error("principals= needs cert-authority")]
    PrincipalsAlone,
    /// The key.
    #[error(transparent)]
    Key(PublicKeyError),
    /// The comment, which is the name of the person, can't stand in a log.
    #[error("the comment is longer than 128 bytes or holds control characters")]
    Comment,
}

impl LineError {
    pub(crate) fn value(option: &str, value: &str) -> Self {
        Self::Value { option: option.to_owned(), value: value.chars().take(80).collect() }
    }
}

/// One line that authorises somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnrolledKey {
    public: PublicKey,
    comment: String,
    grant: Grant,
    authority: Option<Vec<String>>,
    line: usize,
}

impl EnrolledKey {
    /// An entry that is not in a file yet. `authority` holds the principals if the key is a CA's. An expiry is cut to
    /// whole seconds, as the file holds it.
    ///
    /// # Errors
    /// [`LineError`] when a part of it can't stand in a file as it is.
    pub fn new(
        public: PublicKey,
        comment: &str,
        grant: Grant,
        authority: Option<Vec<String>>,
    ) -> Result<Self, LineError> {
        let expires = grant.expires.map(|at| Timestamp(at.0 / 1000 * 1000));
        let given = Self::assemble(public, comment, Grant { expires, ..grant }, authority)?;
        // What does not read back as it was given would say something else in the file.
        let read = Self::parse(&given.to_line())?;
        if read == given { Ok(given) } else { Err(LineError::Form("a value in it can't be written")) }
    }

    pub(crate) fn assemble(
        public: PublicKey,
        comment: &str,
        grant: Grant,
        authority: Option<Vec<String>>,
    ) -> Result<Self, LineError> {
        if !enrolled_line::is_plain(comment) {
            return Err(LineError::Comment);
        }
        Ok(Self { public, comment: comment.trim().to_owned(), grant, authority, line: 0 })
    }

    /// Reads one line, as `keys.add` gets it.
    ///
    /// # Errors
    /// [`LineError`] when it would authorise nobody.
    pub fn parse(line: &str) -> Result<Self, LineError> {
        enrolled_line::parse(line)
    }

    /// The line that says this entry.
    #[must_use]
    pub fn to_line(&self) -> String {
        enrolled_line::render(self)
    }

    /// The line by which sshd lets this key run one command and nothing else, with the key's own `from=` and time.
    ///
    /// # Errors
    /// [`LineError`] for a CA's key, and for a command with anything that sshd or a shell could read in two ways.
    pub fn to_sshd_line(&self, command: &str) -> Result<String, LineError> {
        enrolled_line::render_for_sshd(self, command)
    }

    /// The key's fingerprint.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        self.public.fingerprint()
    }

    /// The key.
    #[must_use]
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// The comment as written: the name of the person. May be empty; see [`EnrolledKey::name`].
    #[must_use]
    pub fn comment(&self) -> &str {
        &self.comment
    }

    /// The comment, or the fingerprint if there is none.
    #[must_use]
    pub fn name(&self) -> &str {
        if self.comment.is_empty() { self.fingerprint().as_str() } else { &self.comment }
    }

    /// What it may do.
    #[must_use]
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// If the key is a CA's: the principals it may vouch for. Such a key signs no requests itself.
    #[must_use]
    pub fn authority(&self) -> Option<&[String]> {
        self.authority.as_deref()
    }

    /// Its line in the file, counted from 1; 0 if it is in none.
    #[must_use]
    pub fn line(&self) -> usize {
        self.line
    }
}

/// Everybody who may call.
#[derive(Debug, Clone, Default)]
pub struct EnrolledKeys {
    entries: Vec<EnrolledKey>,
    complaints: Vec<Complaint>,
    keys: HashMap<Fingerprint, usize>,
    authorities: HashMap<Fingerprint, Vec<usize>>,
}

impl EnrolledKeys {
    /// Reads a whole file.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut keys = Self::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let added = EnrolledKey::parse(line)
                .map_err(|error| error.to_string())
                .and_then(|entry| keys.add(EnrolledKey { line: number, ..entry }));
            if let Err(message) = added {
                keys.complaints.push(Complaint { line: number, message });
            }
        }
        keys
    }

    fn add(&mut self, entry: EnrolledKey) -> Result<(), String> {
        let index = self.entries.len();
        match &entry.authority {
            None => match self.keys.entry(entry.fingerprint().clone()) {
                Entry::Vacant(slot) => _ = slot.insert(index),
                Entry::Occupied(slot) => {
                    let first = self.entries.get(*slot.get()).map_or(0, |entry| entry.line);
                    return Err(format!("the key stands on line {first} already; only that line counts"));
                }
            },
            Some(principals) => {
                // A CA may have several lines, one per role; a principal in two of them would be ambiguous.
                let others = self.authorities.entry(entry.fingerprint().clone()).or_default();
                let first = others.iter().filter_map(|index| self.entries.get(*index)).find(|other| {
                    other.authority.iter().flatten().any(|principal| principals.contains(principal))
                });
                if let Some(first) = first {
                    return Err(format!("line {} names a principal of this CA already", first.line));
                }
                others.push(index);
            }
        }
        self.entries.push(entry);
        Ok(())
    }

    /// The lines that authorise somebody, in their order.
    #[must_use]
    pub fn entries(&self) -> &[EnrolledKey] {
        &self.entries
    }

    /// The lines that authorise nobody, and why.
    #[must_use]
    pub fn complaints(&self) -> &[Complaint] {
        &self.complaints
    }

    /// The entry of a key that signs by itself. CAs are found by [`EnrolledKeys::authorities`].
    #[must_use]
    pub fn find(&self, fingerprint: &Fingerprint) -> Option<&EnrolledKey> {
        self.keys.get(fingerprint).and_then(|index| self.entries.get(*index))
    }

    /// The lines of a CA, in their order.
    pub fn authorities(&self, fingerprint: &Fingerprint) -> impl Iterator<Item = &EnrolledKey> {
        let indexes = self.authorities.get(fingerprint).map(Vec::as_slice).unwrap_or_default();
        indexes.iter().filter_map(|index| self.entries.get(*index))
    }
}

#[cfg(test)]
mod tests;
