//! Secrets of an app: versions that stay sealed on the disk and are opened only to check them, to hand them to an
//! instance, and to seal them again for an operator. No error says a byte of a value.

use crate::{failure, layout::Layout};
use age::x25519::{Identity, Recipient};
use allod_apps::seal::seal_prefix;
use allod_proto::{
    AppRef, Fault, FaultCode, SecretName, Timestamp, limits,
    messages::secrets::{SealedSecret, SecretEntry},
};
use allod_store::Format;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::Read as _,
    path::PathBuf,
};
use zeroize::Zeroizing;

/// Names an app may have, and secrets one `secrets.set` may bring.
const NAMES: usize = 200;
/// What `age` adds at most: its header and a tag for each 64 KiB.
const SEALING: usize = 4096;

/// Values in the clear, wiped when dropped.
pub type OpenSecrets = BTreeMap<SecretName, Zeroizing<Vec<u8>>>;

/// The sealed secrets of one app. One owner at a time: a change reads, changes and writes the whole file.
#[derive(Debug)]
pub struct SecretStore {
    app: AppRef,
    path: PathBuf,
    key: PathBuf,
    record: SecretsRecord,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SecretsRecord {
    secrets: BTreeMap<SecretName, SecretRecord>,
}

#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretRecord {
    /// The newest version there ever was, so that no number is used twice.
    last: u64,
    /// Removed: no release made from now on gets it.
    removed: bool,
    versions: Vec<VersionRecord>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct VersionRecord {
    version: u64,
    sealed: String,
    set_at: Timestamp,
    by: String,
}

impl Format for SecretsRecord {
    const NAME: &'static str = "secrets";
    const FORMAT: u32 = 1;
}

impl SecretRecord {
    fn current(&self) -> Option<&VersionRecord> {
        if self.removed { None } else { self.versions.last() }
    }
}

impl SecretStore {
    /// The secrets of an app; none where none were ever set.
    ///
    /// # Errors
    /// `Internal` when the file can't be read or is damaged: never taken for empty.
    pub fn open(layout: &Layout, app: &AppRef) -> Result<Self, Fault> {
        let path = layout.secrets(app);
        let record = allod_store::load(&path)
            .map_err(|error| failure::of_store(&format!("read the secrets of {app}"), &error))?
            .unwrap_or_default();
        Ok(Self { app: app.clone(), path, key: layout.recipient_key(), record })
    }

    /// Whose secrets these are.
    #[must_use]
    pub fn app(&self) -> &AppRef {
        &self.app
    }

    /// Adds a version of each. All are opened and checked first; if one is refused, none is set.
    ///
    /// # Errors
    /// `Invalid` naming the secret that is not sealed to this server, or not as this app's secret of this name, or
    /// twice in the list, or too large, or has a NUL byte; `DiskFull` or `Internal` when it can't be saved.
    pub fn set(&mut self, secrets: &[SealedSecret], by: &str, now: Timestamp) -> Result<(), Fault> {
        let identity = load_identity(&self.key)?;
        let mut seen = BTreeSet::new();
        for secret in secrets {
            if !seen.insert(&secret.name) {
                return Err(invalid(format!("{} is there twice", secret.name)));
            }
            open_sealed(&identity, &self.app, &secret.name, &secret.sealed)?;
        }
        let mut record = self.record.clone();
        for secret in secrets {
            let entry = record.secrets.entry(secret.name.clone()).or_default();
            entry.last = entry.last.saturating_add(1);
            entry.removed = false;
            entry.versions.push(VersionRecord {
                version: entry.last,
                sealed: secret.sealed.clone(),
                set_at: now,
                by: by.to_owned(),
            });
        }
        if record.secrets.values().filter(|secret| !secret.removed).count() > NAMES {
            return Err(invalid(format!("an app has at most {NAMES} secrets")));
        }
        self.save(record)
    }

    /// No release made from now on gets the secret; those that have it keep their version until [`Self::prune`].
    ///
    /// # Errors
    /// `NotFound` when there is no such secret; `DiskFull` or `Internal` when it can't be saved.
    pub fn remove(&mut self, name: &SecretName) -> Result<(), Fault> {
        let mut record = self.record.clone();
        match record.secrets.get_mut(name) {
            Some(secret) if !secret.removed => secret.removed = true,
            _ => return Err(Fault::new(FaultCode::NotFound, format!("{} has no secret {name}", self.app))),
        }
        self.save(record)
    }

    /// Every secret that is set, without its value. `in_use` is what the current release uses.
    #[must_use]
    pub fn list(&self, in_use: &BTreeMap<SecretName, u64>) -> Vec<SecretEntry> {
        let entry = |(name, secret): (&SecretName, &SecretRecord)| {
            let current = secret.current()?;
            Some(SecretEntry {
                name: name.clone(),
                version: current.version,
                set_at: current.set_at,
                by: current.by.clone(),
                in_use: in_use.get(name).copied(),
            })
        };
        self.record.secrets.iter().filter_map(entry).collect()
    }

    /// The newest version of each secret that is set.
    #[must_use]
    pub fn current_versions(&self) -> BTreeMap<SecretName, u64> {
        let version = |(name, secret): (&SecretName, &SecretRecord)| {
            secret.current().map(|current| (name.clone(), current.version))
        };
        self.record.secrets.iter().filter_map(version).collect()
    }

    /// The values of these versions, in the clear.
    ///
    /// # Errors
    /// `NotFound` naming a version that is not there; `Internal` when one can't be opened.
    pub fn open_versions(&self, versions: &BTreeMap<SecretName, u64>) -> Result<OpenSecrets, Fault> {
        let mut values = OpenSecrets::new();
        if versions.is_empty() {
            return Ok(values);
        }
        let identity = load_identity(&self.key)?;
        for (name, version) in versions {
            let found = self.find(name, *version).ok_or_else(|| {
                Fault::new(
                    FaultCode::NotFound,
                    format!("{} has no version {version} of secret {name}", self.app),
                )
                .hint(format!("allod secrets set {name}, then deploy or restart"))
            })?;
            let text = open_sealed(&identity, &self.app, name, &found.sealed)?;
            let value = text.get(seal_prefix(&self.app, name).len()..).unwrap_or_default();
            values.insert(name.clone(), Zeroizing::new(value.to_vec()));
        }
        Ok(values)
    }

    /// The newest version of each, sealed again to another recipient.
    ///
    /// # Errors
    /// `Invalid` when the recipient is not an X25519 one; `Internal` when one can't be opened.
    pub fn export(&self, recipient: &str) -> Result<Vec<SealedSecret>, Fault> {
        let recipient: Recipient = recipient
            .parse()
            .map_err(|_| invalid("the recipient is not an age X25519 recipient (age1…)".to_owned()))?;
        let identity = load_identity(&self.key)?;
        let mut sealed = Vec::new();
        for (name, secret) in &self.record.secrets {
            let Some(current) = secret.current() else { continue };
            let text = open_sealed(&identity, &self.app, name, &current.sealed)?;
            let again = age::encrypt(&recipient, &text)
                .map_err(|_| Fault::new(FaultCode::Internal, format!("can't seal {name}")))?;
            sealed.push(SealedSecret { name: name.clone(), sealed: STANDARD.encode(again) });
        }
        Ok(sealed)
    }

    /// Forgets versions that are neither the newest of a secret that is set nor in `in_use` (of any kept release).
    /// Says how many.
    ///
    /// # Errors
    /// `DiskFull` or `Internal` when it can't be saved.
    pub fn prune(&mut self, in_use: &BTreeSet<(SecretName, u64)>) -> Result<usize, Fault> {
        let mut record = self.record.clone();
        let mut dropped = 0_usize;
        for (name, secret) in &mut record.secrets {
            let newest = secret.current().map(|current| current.version);
            let before = secret.versions.len();
            secret.versions.retain(|version| {
                Some(version.version) == newest || in_use.contains(&(name.clone(), version.version))
            });
            dropped = dropped.saturating_add(before.saturating_sub(secret.versions.len()));
        }
        if dropped > 0 {
            self.save(record)?;
        }
        Ok(dropped)
    }

    fn find(&self, name: &SecretName, version: u64) -> Option<&VersionRecord> {
        self.record.secrets.get(name)?.versions.iter().find(|candidate| candidate.version == version)
    }

    fn save(&mut self, record: SecretsRecord) -> Result<(), Fault> {
        let doing = format!("save the secrets of {}", self.app);
        if let Some(folder) = self.path.parent() {
            allod_store::create_folder(folder, 0o700).map_err(|error| failure::of_store(&doing, &error))?;
        }
        allod_store::save(&self.path, &record, 0o600).map_err(|error| failure::of_store(&doing, &error))?;
        self.record = record;
        Ok(())
    }
}

/// The recipient that clients seal to; its identity is made at the first call. The file is an `age` identity file.
///
/// # Errors
/// `Internal` when the identity can't be read or saved: a damaged one is never replaced, because what is sealed to it
/// would be lost.
pub fn recipient(layout: &Layout) -> Result<String, Fault> {
    let path = layout.recipient_key();
    let absent = |error: &std::io::Error| error.kind() == std::io::ErrorKind::NotFound;
    if path.symlink_metadata().is_err_and(|error| absent(&error)) {
        use age::secrecy::ExposeSecret as _;
        let identity = Identity::generate().to_string();
        let text = Zeroizing::new(format!("{}\n", identity.expose_secret()));
        allod_store::write_atomic(&path, text.as_bytes(), 0o600)
            .map_err(|error| failure::of_store("save the identity that secrets are sealed to", &error))?;
    }
    Ok(load_identity(&path)?.to_public().to_string())
}

fn load_identity(path: &std::path::Path) -> Result<Identity, Fault> {
    let damaged = || {
        Fault::new(FaultCode::Internal, "the identity that secrets are sealed to can't be read")
            .hint("executor/recipient.key must be the server's own age identity; restore it from a backup")
    };
    let text = std::fs::read(path).map(Zeroizing::new).map_err(|_| damaged())?;
    std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok()).ok_or_else(damaged)
}

/// The whole sealed text, checked to be this app's secret of this name.
fn open_sealed(
    identity: &Identity,
    app: &AppRef,
    name: &SecretName,
    sealed: &str,
) -> Result<Zeroizing<Vec<u8>>, Fault> {
    let prefix = seal_prefix(app, name);
    let limit = prefix.len().saturating_add(limits::SECRET);
    let too_large = || invalid(format!("{name} has more than {} bytes", limits::SECRET));
    if sealed.len() / 4 * 3 > limit.saturating_add(SEALING) {
        return Err(too_large());
    }
    let bytes = STANDARD.decode(sealed).map_err(|_| invalid(format!("{name} is not in base64")))?;
    let closed = || {
        invalid(format!("{name} is not sealed to this server"))
            .hint("seal it to the recipient that `allod servers status` shows; was the server reinstalled?")
    };
    let reader = age::Decryptor::new_buffered(bytes.as_slice())
        .and_then(|decryptor| decryptor.decrypt(std::iter::once(identity as &dyn age::Identity)))
        .map_err(|_| closed())?;
    // Never grows: a reallocation would leave a copy of the value behind.
    let mut text = Zeroizing::new(Vec::with_capacity(limit.saturating_add(2)));
    let bound = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    reader.take(bound).read_to_end(&mut text).map_err(|_| closed())?;
    if text.len() > limit {
        return Err(too_large());
    }
    let value = text
        .strip_prefix(prefix.as_bytes())
        .ok_or_else(|| invalid(format!("{name} was sealed for another app, environment or name")))?;
    if value.contains(&0) {
        return Err(invalid(format!("{name} has a NUL byte, which no environment variable can carry")));
    }
    Ok(text)
}

fn invalid(message: String) -> Fault {
    Fault::new(FaultCode::Invalid, message)
}

#[cfg(test)]
mod tests;
