//! What lasts of a place on a mesh: `identity.json`, `map.json`, and `coordinator.json` with the key that the coordinator had. All
//! are written whole and synced, and are their owner's alone.

use crate::{
    Identity, IdentityError,
    control::{Trust, Vouched},
};
use allod_meshproto::{
    MachineKey, limits,
    netmap::{StoredMap, StoredMapError},
};
use allod_store::{Format, Lock, StoreError};
use ring::rand::SecureRandom;
use serde::{Deserialize, Serialize};
use std::{io, path::Path, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::watch;

const IDENTITY: &str = "identity.json";
const MAP: &str = "map.json";
const COORDINATOR: &str = "coordinator.json";
const MODE: u32 = 0o600;
/// How old what the stored map says of its age may be, while nothing else in it changes.
const AGE: Duration = Duration::from_secs(60 * 60);

/// Why there is no place on the mesh.
#[derive(Debug, thiserror::Error)]
pub enum MemberError {
    /// A file can't be read or written, or another process has the folder.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The keys.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The stored map.
    #[error("{}", path.display())]
    Map {
        /// Its file.
        path: PathBuf,
        /// What is wrong.
        source: StoredMapError,
    },
    /// The stored map can't be read.
    #[error("{} can't be read", path.display())]
    Read {
        /// Its file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The folder belongs to another network.
    #[error("{} is a place on another network: its coordinator has the key {known}, not {wanted}; use another folder", folder.display())]
    OtherNetwork {
        /// The folder.
        folder: PathBuf,
        /// The key that is known there.
        known: MachineKey,
        /// The one that is asked for.
        wanted: MachineKey,
    },
    /// No socket can be had.
    #[error("no socket for the node")]
    Socket(#[from] io::Error),
}

/// `coordinator.json`, format 1.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CoordinatorRecord {
    key: MachineKey,
    serial: u64,
}

impl Format for CoordinatorRecord {
    const NAME: &'static str = "mesh-coordinator";
    const FORMAT: u32 = 1;
}

/// The folder, which is this process's alone.
pub(super) struct Folder {
    path: PathBuf,
    _lock: Lock,
}

impl Folder {
    pub(super) fn open(path: &Path) -> Result<Self, MemberError> {
        allod_store::create_folder(path, 0o700)?;
        let lock = Lock::take(path)?;
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// The keys, made now if there are none.
    pub(super) fn identity(&self, random: &dyn SecureRandom) -> Result<Identity, MemberError> {
        let path = self.path.join(IDENTITY);
        if let Some(identity) = Identity::load(&path)? {
            return Ok(identity);
        }
        let identity = Identity::generate(random)?;
        identity.save(&path)?;
        Ok(identity)
    }

    pub(super) fn keep_identity(&self, identity: &Identity) -> Result<(), MemberError> {
        Ok(identity.save(&self.path.join(IDENTITY))?)
    }

    /// The stored map, however old.
    pub(super) fn map(&self) -> Result<Option<StoredMap>, MemberError> {
        let path = self.path.join(MAP);
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(MemberError::Read { path, source }),
        };
        match StoredMap::read(&text) {
            Ok(map) => Ok(Some(map)),
            Err(source) => Err(MemberError::Map { path, source }),
        }
    }

    /// Trusts what was known of the coordinator when it was met last.
    pub(super) fn recall(&self, trust: &mut Trust) -> Result<(), MemberError> {
        let Some(record) = allod_store::load::<CoordinatorRecord>(&self.path.join(COORDINATOR))? else {
            return Ok(());
        };
        match trust {
            Trust::Pinned(wanted) if *wanted != record.key => Err(MemberError::OtherNetwork {
                folder: self.path.clone(),
                known: record.key,
                wanted: *wanted,
            }),
            Trust::Pinned(_) => Ok(()),
            Trust::Root { seen, .. } => {
                *seen = record.serial.max(*seen);
                Ok(())
            }
            Trust::Certificate | Trust::FirstUse => {
                *trust = Trust::Pinned(record.key);
                Ok(())
            }
        }
    }

    fn keep_map(&self, map: &StoredMap) -> Result<(), MemberError> {
        let path = self.path.join(MAP);
        let text = map.write().map_err(|source| MemberError::Map { path: path.clone(), source })?;
        debug_assert!(text.len() <= limits::MAP_JSON.saturating_mul(2), "a map that could not be read again");
        Ok(allod_store::write_atomic(&path, &text, MODE)?)
    }

    fn keep_vouched(&self, vouched: Vouched) -> Result<(), MemberError> {
        let record = CoordinatorRecord { key: vouched.key, serial: vouched.serial };
        Ok(allod_store::save(&self.path.join(COORDINATOR), &record, MODE)?)
    }
}

/// Writes down what changes.
pub(super) struct Keeping {
    pub(super) folder: Folder,
    pub(super) maps: watch::Receiver<Option<Arc<StoredMap>>>,
    pub(super) vouched: watch::Receiver<Option<Vouched>>,
}

impl Keeping {
    /// Until nothing can change any more. A map that can't be written is said and served all the same.
    pub(super) async fn run(self) {
        let Self { folder, mut maps, mut vouched } = self;
        let folder = Arc::new(folder);
        let mut kept = maps.borrow_and_update().clone();
        loop {
            tokio::select! {
                changed = maps.changed() => {
                    if changed.is_err() { return }
                    let next = maps.borrow_and_update().clone();
                    let Some(next) = next.filter(|next| is_news(kept.as_deref(), next)) else { continue };
                    let (folder, map) = (Arc::clone(&folder), Arc::clone(&next));
                    if written("the map", move || folder.keep_map(&map)).await {
                        kept = Some(next);
                    }
                }
                changed = vouched.changed() => {
                    if changed.is_err() { return }
                    let next = *vouched.borrow_and_update();
                    let (Some(next), folder) = (next, Arc::clone(&folder)) else { continue };
                    written("the coordinator's key", move || folder.keep_vouched(next)).await;
                }
            }
        }
    }
}

fn is_news(kept: Option<&StoredMap>, next: &StoredMap) -> bool {
    kept.is_none_or(|kept| kept.map != next.map || next.heard_at.since(kept.heard_at) >= AGE)
}

async fn written(
    what: &'static str,
    write: impl FnOnce() -> Result<(), MemberError> + Send + 'static,
) -> bool {
    let outcome = tokio::task::spawn_blocking(write).await;
    match outcome {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::warn!(%error, what, "what must last could not be written");
            false
        }
        Err(error) => {
            tracing::error!(%error, what, "writing ended early");
            false
        }
    }
}

#[cfg(test)]
mod tests;
