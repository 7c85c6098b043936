//! The enrolled keys: one root-owned file in `authorized_keys` format, one of revocations. Changed whole, by rename.

use crate::{apps::store_fault, gate::keys_file::KeysFile, layout::Layout};
use allod_proto::{
    Fault, FaultCode, Fingerprint, Role, Timestamp,
    executor::KeyFiles,
    messages::keys::{KeyEntry, KeysListReply},
};
use allod_signing::{EnrolledKey, EnrolledKeys, PublicKey, Revoked};
use std::path::Path;

/// The two files, read and understood.
#[derive(Debug)]
pub struct KeyStore {
    layout: Layout,
    enrolled_text: String,
    revoked_text: String,
    enrolled: EnrolledKeys,
    revoked: Revoked,
    generation: u64,
    /// The callers' keys as sshd reads them, where there is a gate.
    for_sshd: Option<KeysFile>,
}

impl KeyStore {
    /// Reads both files. An absent file is an empty one: it authorises nobody.
    ///
    /// # Errors
    /// A sentence, when a file can't be read or the revocations are not understood: then nobody may be believed.
    pub fn load(layout: Layout) -> Result<Self, String> {
        let enrolled_text = read(&layout.enrolled())?;
        let revoked_text = read(&layout.revoked())?;
        let revoked = parse_revoked(&layout.revoked(), &revoked_text)?;
        let enrolled = EnrolledKeys::parse(&enrolled_text);
        Ok(Self { layout, enrolled_text, revoked_text, enrolled, revoked, generation: 1, for_sshd: None })
    }

    /// Reads the files again if somebody edited them on the machine. Keeps what it had when they are not understood.
    pub fn refresh(&mut self) {
        let Ok(fresh) = Self::load(self.layout.clone()) else {
            tracing::error!("the key files can't be read; those read before stay in force");
            return;
        };
        if fresh.enrolled_text != self.enrolled_text || fresh.revoked_text != self.revoked_text {
            let (generation, for_sshd) = (self.generation + 1, self.for_sshd.take());
            *self = Self { generation, for_sshd, ..fresh };
            self.tell_sshd();
        }
    }

    /// From now on sshd's file of callers follows every change.
    pub(crate) fn keep_for_sshd(&mut self, file: KeysFile) {
        self.for_sshd = Some(file);
        self.tell_sshd();
    }

    fn tell_sshd(&self) {
        if let Some(file) = &self.for_sshd {
            file.write(&self.enrolled, &self.revoked);
        }
    }

    /// Who may call.
    #[must_use]
    pub fn enrolled(&self) -> &EnrolledKeys {
        &self.enrolled
    }

    /// Who may no longer.
    #[must_use]
    pub fn revoked(&self) -> &Revoked {
        &self.revoked
    }

    /// The texts, for the agent.
    #[must_use]
    pub fn files(&self) -> KeyFiles {
        KeyFiles {
            enrolled: self.enrolled_text.clone(),
            revoked: self.revoked_text.clone(),
            generation: self.generation,
        }
    }

    /// Counts up with each change.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// Puts the very first owner in, when no file is there yet.
    ///
    /// # Errors
    /// When the line authorises nobody, or the disk refuses.
    pub fn enroll_first(&mut self, line: &str) -> Result<bool, Fault> {
        if self.layout.enrolled().exists() {
            return Ok(false);
        }
        let entry = parse_line(line)?;
        self.write(&[entry.to_line()], None)?;
        Ok(true)
    }

    /// Enrols a key, or changes what it may do.
    ///
    /// # Errors
    /// `Invalid` when the line authorises nobody, `Conflict` when the key is revoked or the last owner would go.
    pub fn add(&mut self, line: &str, now: Timestamp) -> Result<KeysListReply, Fault> {
        let entry = parse_line(line)?;
        if self.revoked.has(entry.fingerprint()) {
            let message =
                format!("{} is revoked on this server and can't be enrolled again", entry.fingerprint());
            return Err(Fault::new(FaultCode::Conflict, message).hint("make a new key with ssh-keygen"));
        }
        let mut lines = self.lines_without(entry.fingerprint());
        lines.push(entry.to_line());
        self.keep_an_owner(&lines, now)?;
        self.write(&lines, None)?;
        Ok(self.list())
    }

    /// Revokes a key.
    ///
    /// # Errors
    /// `NotFound` when it is not enrolled, `Conflict` when it is the last owner.
    pub fn revoke(&mut self, key: &Fingerprint, now: Timestamp) -> Result<KeysListReply, Fault> {
        self.known(key)?;
        let lines = self.lines_without(key);
        self.keep_an_owner(&lines, now)?;
        self.write(&lines, Some(key))?;
        Ok(self.list())
    }

    /// One key for another, with the same role, scopes and name. The new one is in before the old one is out, so that
    /// nobody is locked out by a power cut in between; asked again, it is finished.
    ///
    /// # Errors
    /// `NotFound` when the old one is not enrolled, `Invalid` when the new one is no key, `Conflict` when it is revoked, or
    /// enrolled as something else.
    pub fn rotate(&mut self, old: &Fingerprint, new: &str) -> Result<KeysListReply, Fault> {
        let entry = self.known(old)?.clone();
        let public = PublicKey::from_openssh(new).map_err(|error| {
            Fault::new(FaultCode::Invalid, format!("the new key can't be read: {error}"))
                .hint("give the content of a .pub file, without options")
        })?;
        let new = public.fingerprint().clone();
        let comment = entry.comment().to_owned();
        let authority = entry.authority().map(<[String]>::to_vec);
        let fresh = EnrolledKey::new(public, &comment, entry.grant().clone(), authority)
            .map_err(|error| Fault::new(FaultCode::Invalid, error.to_string()))?;
        let known = self.enrolled.entries().iter().find(|entry| *entry.fingerprint() == new);
        let is_half_done = known.is_some_and(|known| known.to_line() == fresh.to_line());
        if self.revoked.has(&new) || *old == new || (known.is_some() && !is_half_done) {
            return Err(Fault::new(FaultCode::Conflict, format!("{new} is already known here")));
        }
        if !is_half_done {
            let mut both: Vec<String> = self.enrolled_text.lines().map(str::to_owned).collect();
            both.push(fresh.to_line());
            self.write(&both, None)?;
        }
        self.write(&self.lines_without(old), Some(old))?;
        Ok(self.list())
    }

    /// Both files as a reply.
    #[must_use]
    pub fn list(&self) -> KeysListReply {
        list(&self.enrolled, &self.revoked)
    }

    fn known(&self, key: &Fingerprint) -> Result<&EnrolledKey, Fault> {
        // An authority is revoked like any key; what it certified goes with it.
        self.enrolled.entries().iter().find(|entry| entry.fingerprint() == key).ok_or_else(|| {
            Fault::new(FaultCode::NotFound, format!("{key} is not enrolled on this server"))
                .hint("`allod keys list` shows the enrolled keys")
        })
    }

    /// The file's lines without those of a key; comments and lines that are not understood stay.
    fn lines_without(&self, key: &Fingerprint) -> Vec<String> {
        let of_key = |line: &str| EnrolledKey::parse(line).is_ok_and(|entry| entry.fingerprint() == key);
        self.enrolled_text.lines().filter(|line| !of_key(line)).map(str::to_owned).collect()
    }

    fn keep_an_owner(&self, lines: &[String], now: Timestamp) -> Result<(), Fault> {
        let after = EnrolledKeys::parse(&lines.join("\n"));
        // One who can call keys.* from anywhere: a narrowed owner, a CA or a revoked key would not get anybody back in.
        let stays = |entry: &EnrolledKey| {
            let grant = entry.grant();
            let whole = grant.apps.is_none() && grant.commands.is_none() && grant.from.is_none();
            let key = entry.authority().is_none() && !self.revoked.has(entry.fingerprint());
            grant.role == Role::Owner && !grant.is_expired(now) && whole && key
        };
        if after.entries().iter().any(stays) {
            return Ok(());
        }
        Err(Fault::new(FaultCode::Conflict, "this would leave the server without an owner")
            .hint("enrol another owner first: `allod keys add KEY --role owner`"))
    }

    fn write(&mut self, lines: &[String], revoke: Option<&Fingerprint>) -> Result<(), Fault> {
        // The revocation first: if the second write fails, the key is out all the same.
        if let Some(key) = revoke {
            let text = format!("{}{key}\n", self.revoked_text);
            allod_store::write_atomic(&self.layout.revoked(), text.as_bytes(), 0o600).map_err(store_fault)?;
            self.revoked.revoke(key.clone());
            self.revoked_text = text;
            self.generation += 1;
        }
        let mut text = lines.join("\n");
        text.push('\n');
        allod_store::write_atomic(&self.layout.enrolled(), text.as_bytes(), 0o600).map_err(store_fault)?;
        self.enrolled = EnrolledKeys::parse(&text);
        self.enrolled_text = text;
        self.generation += 1;
        self.tell_sshd();
        Ok(())
    }
}

/// Enrolled and revoked keys as a reply.
#[must_use]
pub fn list(enrolled: &EnrolledKeys, revoked: &Revoked) -> KeysListReply {
    let entry = |key: &EnrolledKey| KeyEntry {
        fingerprint: key.fingerprint().clone(),
        name: key.name().to_owned(),
        algorithm: key.public().algorithm().to_owned(),
        role: key.grant().role,
        line: key.to_line(),
    };
    KeysListReply {
        keys: enrolled.entries().iter().map(entry).collect(),
        complaints: enrolled
            .complaints()
            .iter()
            .map(|it| format!("line {}: {}", it.line, it.message))
            .collect(),
        revoked: revoked.lines().collect(),
    }
}

fn parse_line(line: &str) -> Result<EnrolledKey, Fault> {
    EnrolledKey::parse(line.trim()).map_err(|error| {
        Fault::new(FaultCode::Invalid, format!("this line authorises nobody: {error}"))
            .hint("a line is: role=deployer,apps=\"blog\" ssh-ed25519 AAAA… name")
    })
}

fn parse_revoked(path: &Path, text: &str) -> Result<Revoked, String> {
    Revoked::parse(text).map_err(|complaints| {
        let all: Vec<_> = complaints.iter().map(|it| format!("line {}: {}", it.line, it.message)).collect();
        format!("{}: {}", path.display(), all.join("; "))
    })
}

fn read(path: &Path) -> Result<String, String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(format!("{}: {error}", path.display())),
    }
}

#[cfg(test)]
mod tests;
