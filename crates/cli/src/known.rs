//! What is remembered of each server between runs: its epoch, the highest head of its record, the key it accepted, the
//! names of its apps. One file a server; a head never goes back, whichever program writes last.

mod file;
mod settling;

use crate::{
    failure::Failure,
    inventory::{Inventory, create_folders},
    output::Output,
    render::time::span,
};
use allod_proto::{
    AppRef, Epoch, Fingerprint, Timestamp,
    record::{Head, SignedHead},
};
use allod_rpc::client::{Memory, Notice};
use allod_store::remove_file;
use file::{Unread, lock, of_store, read, synced_copy, write};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeMap,
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

const FORMAT: u32 = 1;

/// What is remembered of one server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownServer {
    format: u32,
    /// Whose.
    pub identity: Fingerprint,
    /// The last epoch seen.
    #[serde(default)]
    pub epoch: Option<Epoch>,
    /// The newest protocol version that the server spoke, and in which epoch.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub newest: Option<(Epoch, u32)>,
    /// The highest head seen.
    #[serde(default)]
    pub head: Option<Head>,
    /// When that head was signed.
    #[serde(default)]
    pub head_at: Option<Timestamp>,
    /// The key that was accepted last.
    #[serde(default)]
    pub key: Option<Fingerprint>,
    /// The apps seen there, for completion.
    #[serde(default)]
    pub apps: Vec<AppRef>,
    /// When the head was signed that the synced copy has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    synced: Option<Timestamp>,
}

impl KnownServer {
    fn nothing(identity: &Fingerprint) -> Self {
        Self {
            format: FORMAT,
            identity: identity.clone(),
            epoch: None,
            newest: None,
            head: None,
            head_at: None,
            key: None,
            apps: Vec::new(),
            synced: None,
        }
    }
}

/// What is remembered can't be read or written.
#[derive(Debug, thiserror::Error)]
pub enum KnownError {
    /// The system refuses.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It is not what this program writes.
    #[error("{path}: {message}")]
    Broken {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
}

impl KnownError {
    /// What can be done.
    #[must_use]
    pub fn hint(&self) -> &'static str {
        match self {
            Self::Io { .. } => "without it, a record that went back isn't noticed; see its owner and mode",
            Self::Broken { .. } => {
                "it holds the head of the server's record that was seen last. To go on without it, move it away \
                 and run `allod audit verify`"
            }
        }
    }
}

/// The folder with one file a server. Clones of it put writing off together.
#[derive(Debug, Clone)]
pub struct KnownServers {
    folder: PathBuf,
    /// What is remembered and not written yet; `None` while all is written at once.
    waiting: Arc<Mutex<Option<BTreeMap<Fingerprint, KnownServer>>>>,
}

impl KnownServers {
    /// Those in the state folder.
    #[must_use]
    pub fn new(state: &Path) -> Self {
        Self { folder: state.join("servers"), waiting: Arc::default() }
    }

    /// From now on nothing is written until [`Self::settle`]: a file without a synced copy, torn by a power cut, would leave nothing to go
    /// on with.
    pub fn put_off(&self) {
        self.waiting().get_or_insert_default();
    }

    fn waiting(&self) -> MutexGuard<'_, Option<BTreeMap<Fingerprint, KnownServer>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn path(&self, identity: &Fingerprint) -> PathBuf {
        // A fingerprint's + and / have no business in a file name.
        let name: String = identity
            .as_str()
            .trim_start_matches("SHA256:")
            .chars()
            .map(|c| match c {
                '+' => '-',
                '/' => '_',
                c => c,
            })
            .collect();
        self.folder.join(format!("{name}.json"))
    }

    /// What is remembered of a server; nothing, if it was never heard of.
    ///
    /// # Errors
    /// [`KnownError`] when there is a file that can't be read, or isn't one of ours.
    pub fn load(&self, identity: &Fingerprint) -> Result<KnownServer, KnownError> {
        let waits = self.waiting().as_ref().and_then(|waiting| waiting.get(identity).cloned());
        waits.map_or_else(|| self.load_written(identity), Ok)
    }

    fn load_written(&self, identity: &Fingerprint) -> Result<KnownServer, KnownError> {
        let path = self.path(identity);
        let copy = read(&synced_copy(&path), identity);
        let known = match read(&path, identity) {
            // The power may have gone while it was written: what was synced last is not nothing.
            Err(Unread::Torn(message)) => match copy {
                Ok(Some(copy)) => return Ok(copy),
                Ok(None) | Err(_) => return Err(KnownError::Broken { path, message }),
            },
            Err(Unread::Foreign(message)) => return Err(KnownError::Broken { path, message }),
            Err(Unread::Io(error)) => return Err(KnownError::Io { path, error }),
            Ok(known) => known,
        };
        Ok(match (known, copy) {
            (Some(known), Ok(Some(copy))) if seq(copy.head) > seq(known.head) => {
                KnownServer { head: copy.head, head_at: copy.head_at, ..known }
            }
            (Some(known), _) | (None, Ok(Some(known))) => known,
            (None, Ok(None) | Err(_)) => KnownServer::nothing(identity),
        })
    }

    /// Changes what is remembered, under a lock. A head that is not higher than the one there is not taken.
    ///
    /// # Errors
    /// [`KnownError`] when it can't be read or written.
    pub fn change(
        &self,
        identity: &Fingerprint,
        change: impl FnOnce(&mut KnownServer),
    ) -> Result<KnownServer, KnownError> {
        self.locked(identity, |known| {
            let (head, head_at) = (known.head, known.head_at);
            change(known);
            if head.is_some() && seq(known.head) <= seq(head) {
                (known.head, known.head_at) = (head, head_at);
            }
        })
    }

    /// Takes the record of a server as it is now: the only way a remembered head goes back, and a person's decision.
    ///
    /// # Errors
    /// [`KnownError`] when it can't be written.
    pub fn forget(&self, identity: &Fingerprint) -> Result<(), KnownError> {
        self.waiting().as_mut().and_then(|waiting| waiting.remove(identity));
        let path = self.path(identity);
        [synced_copy(&path), path].iter().try_for_each(|path| remove_file(path).map(drop).map_err(of_store))
    }

    fn locked(
        &self,
        identity: &Fingerprint,
        change: impl FnOnce(&mut KnownServer),
    ) -> Result<KnownServer, KnownError> {
        if self.waiting().is_some() {
            return self.later(identity, change);
        }
        create_folders(&self.folder).map_err(of_store)?;
        let path = self.path(identity);
        let _lock = lock(&path.with_extension("lock"))?;
        let mut known = self.load_written(identity)?;
        let before = known.clone();
        change(&mut known);
        if known != before {
            write(&path, known.clone())?;
        }
        Ok(known)
    }
}

fn seq(head: Option<Head>) -> u64 {
    head.map_or(0, |head| head.seq)
}

/// What one client remembers of one server: in files, with warnings on stderr.
pub struct FileMemory {
    servers: KnownServers,
    config: PathBuf,
    known: KnownServer,
    output: Arc<Output>,
    warned: bool,
}

/// Pins a server's new identity in the place of the old one, and remembers of it what was remembered of that. Doing it
/// twice does no harm.
///
/// # Errors
/// [`Failure`] when a file can't be read or written.
pub fn repin(
    servers: &KnownServers,
    config: &Path,
    old: &Fingerprint,
    new: &Fingerprint,
) -> Result<KnownServer, Failure> {
    let before = servers.load(old)?;
    // The record goes on, so its head counts on. The epoch does not.
    let known = servers.change(new, |known| {
        if before.head.is_some() {
            (known.head, known.head_at) = (before.head, before.head_at);
        }
        known.key = known.key.take().or(before.key);
        if known.apps.is_empty() {
            known.apps = before.apps;
        }
    })?;
    Inventory::change(config, |servers| {
        let pinned = servers.iter_mut().filter(|server| server.identity == *old);
        pinned.for_each(|server| server.identity = new.clone());
        Ok::<(), Failure>(())
    })?;
    Ok(known)
}

impl FileMemory {
    /// Reads what is remembered.
    ///
    /// # Errors
    /// [`KnownError`] when it can't be read: a client that forgot the head would not notice that it went back.
    pub fn load(
        servers: &KnownServers,
        config: &Path,
        identity: &Fingerprint,
        output: Arc<Output>,
    ) -> Result<Self, KnownError> {
        let known = servers.load(identity)?;
        Ok(Self { servers: servers.clone(), config: config.to_owned(), known, output, warned: false })
    }
}

impl Memory for FileMemory {
    fn epoch(&self, identity: &Fingerprint) -> Option<Epoch> {
        self.known.epoch.clone().filter(|_| self.known.identity == *identity)
    }

    fn newest(&self, identity: &Fingerprint) -> Option<u32> {
        let epoch = self.epoch(identity)?;
        self.known.newest.as_ref().filter(|(of, _)| *of == epoch).map(|(_, newest)| *newest)
    }

    fn greeted(&mut self, identity: &Fingerprint, epoch: &Epoch, newest: u32) {
        let spoken = Some((epoch.clone(), newest));
        if self.known.newest == spoken {
            return;
        }
        self.known.newest = spoken.clone();
        // Without it, `hello` is asked again next time; whether the file can be written is said by `learn`.
        let _ = self.servers.change(identity, |known| known.newest = spoken);
    }

    fn succeeded(&mut self, server: &str, old: &Fingerprint, new: &Fingerprint) {
        match repin(&self.servers, &self.config, old, new) {
            Ok(known) => self.known = known,
            Err(failure) => self.output.warn(&format!("{server}: {}", failure.fault.message)),
        }
        self.output.warn(&format!(
            "{server} has another identity now, {new}; the one that was pinned, {old}, named it, so it is pinned instead"
        ));
    }

    fn head(&self, identity: &Fingerprint) -> Option<Head> {
        self.known.head.filter(|_| self.known.identity == *identity)
    }

    fn learn(&mut self, identity: &Fingerprint, epoch: &Epoch, head: &SignedHead) {
        let higher = self.known.head.is_none_or(|known| head.head.seq > known.seq);
        if !higher && self.known.epoch.as_ref() == Some(epoch) {
            return;
        }
        let changed = self.servers.change(identity, |known| {
            known.epoch = Some(epoch.clone());
            known.head = Some(head.head);
            known.head_at = Some(head.at);
        });
        match changed {
            Ok(known) => self.known = known,
            Err(error) => {
                self.known.epoch = Some(epoch.clone());
                if higher {
                    self.known.head = Some(head.head);
                }
                if !std::mem::replace(&mut self.warned, true) {
                    self.output.warn(&format!("{error}: the head of the record can't be remembered"));
                }
            }
        }
    }

    fn notice(&mut self, notice: Notice) {
        show(&self.output, &notice);
    }
}

/// Says a notice on stderr.
pub fn show(output: &Output, notice: &Notice) {
    match notice {
        Notice::ClockDiffers { server, ahead_ms } => {
            let far = span(Duration::from_millis(ahead_ms.unsigned_abs()));
            let way = if *ahead_ms > 0 { "ahead of" } else { "behind" };
            output.warn(&format!("the clock of {server} is {far} {way} this one: set one of them right"));
        }
        Notice::TryingAgain { server, why } => output.note(&format!("{server}: {why}; trying again")),
        Notice::KeyPassedOver { why } => output.note(why),
        Notice::NoDelegations { server } => {
            output.note(&format!("{server} is too old for the login: signing with the key itself"));
        }
        Notice::NewerFrame { server } => {
            output.note(&format!("{server} is newer than this program and said something it does not know"));
        }
    }
}

#[cfg(test)]
mod tests;
