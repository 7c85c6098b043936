//! Chunks that clients sent, per app, waiting to be put together by the executor. It trusts none of them. They are not
//! synced one by one, which would take longer than sending them: while some are not on the disk, a mark is, and after the
//! machine went down with it every chunk is read again. A torn one is then not there, and is asked for again.
//! A chunk's time of change is its lease (`leases.rs`).

mod leases;

use crate::executor_link::unexpected;
use allod_proto::{
    AppRef, Digest, Fault, FaultCode, Timestamp,
    executor::Release,
    limits,
    manifest::{EntryKind, Manifest, ManifestIndex},
};
use allod_store::{StoreError, disk};
use leases::Leased;
use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError, RwLock},
};

/// What must stay free on the disk.
const RESERVE: u64 = 64 * 1024 * 1024;

/// The name of the mark. It holds the machine's boot id.
const MARK: &str = "unsynced";

/// The folder of chunks.
#[derive(Debug)]
pub(crate) struct Chunks {
    folder: PathBuf,
    /// Which life of the machine this is.
    boot: String,
    /// Whether the mark stands. Held for reading while a chunk is written.
    is_marked: RwLock<bool>,
    /// Held for reading by whoever counts on a chunk, for writing while some are taken away.
    taking: RwLock<()>,
    /// Of each app that sent something, the bytes that no release is made of yet.
    unfinished: Mutex<HashMap<AppRef, u64>>,
}

impl Chunks {
    /// Those of an agent. When the machine went down before the last ones were on the disk, torn ones are removed.
    pub(crate) fn open(agent_folder: &Path, boot: &str) -> Result<Self, StoreError> {
        let folder = agent_folder.join("chunks");
        let marked = std::fs::read_to_string(folder.join(MARK)).ok();
        let chunks = Self {
            folder,
            boot: boot.to_owned(),
            is_marked: RwLock::new(marked.is_some()),
            taking: RwLock::default(),
            unfinished: Mutex::default(),
        };
        if marked.is_some_and(|marked| marked != boot || boot.is_empty()) {
            let removed = remove_torn(&chunks.folder);
            tracing::warn!(removed, "the machine went down during an upload: all chunks were read again");
            chunks.sync()?;
        }
        Ok(chunks)
    }

    /// Makes everything that was kept durable. Blocking; chunks that come meanwhile wait.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        let mut is_marked = self.is_marked.write().unwrap_or_else(PoisonError::into_inner);
        if !*is_marked {
            return Ok(());
        }
        allod_store::sync_file_system(&self.folder)?;
        allod_store::remove_file(&self.folder.join(MARK))?;
        *is_marked = false;
        Ok(())
    }

    /// Writes a chunk while the mark stands.
    fn write(&self, path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
        loop {
            let is_marked = self.is_marked.read().unwrap_or_else(PoisonError::into_inner);
            if *is_marked {
                return allod_store::write_unsynced(path, bytes, 0o600);
            }
            drop(is_marked);
            let mut is_marked = self.is_marked.write().unwrap_or_else(PoisonError::into_inner);
            if !*is_marked {
                allod_store::write_atomic(&self.folder.join(MARK), self.boot.as_bytes(), 0o600)?;
                *is_marked = true;
            }
        }
    }

    fn of(&self, app: &AppRef) -> PathBuf {
        self.folder.join(app.name.as_str()).join(app.env.as_str())
    }

    /// Which of these are not there. Those that are stay for an hour: whoever asked is about to use them.
    pub(crate) fn missing(
        &self,
        app: &AppRef,
        chunks: &[Digest],
        now: Timestamp,
    ) -> Result<Vec<Digest>, Fault> {
        if chunks.len() > limits::MISSING_HASHES {
            let message = format!("at most {} chunks can be asked for at once", limits::MISSING_HASHES);
            return Err(Fault::new(FaultCode::Invalid, message));
        }
        let folder = self.of(app);
        let _counting = self.taking.read().unwrap_or_else(PoisonError::into_inner);
        let mut asked = HashSet::new();
        let missing = chunks.iter().filter(|chunk| {
            asked.insert(**chunk) && leases::renew(&folder.join(chunk.to_string()), now).is_err()
        });
        Ok(missing.copied().collect())
    }

    /// Keeps one; it is durable after [`Chunks::sync`].
    pub(crate) fn keep(
        &self,
        app: &AppRef,
        chunk: &Digest,
        bytes: &[u8],
        now: Timestamp,
    ) -> Result<(), Fault> {
        let folder = self.of(app);
        let path = folder.join(chunk.to_string());
        let _counting = self.taking.read().unwrap_or_else(PoisonError::into_inner);
        if leases::renew(&path, now).is_ok() {
            return Ok(());
        }
        if !folder.is_dir() {
            allod_store::create_folder(&folder, 0o700).map_err(|error| fault(&error))?;
        }
        let free = allod_store::free_bytes(&folder).map_err(|error| fault(&error))?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if free < size.saturating_add(RESERVE) {
            return Err(Fault::new(
                FaultCode::DiskFull,
                format!("only {} MiB are free on the server", free >> 20),
            )
            .hint("`allod servers prune`, or remove an app"));
        }
        self.charge(app, size, free)?;
        let written = self.write(&path, bytes).map_err(|error| fault(&error));
        if written.is_err() {
            self.give_back(app, size);
        }
        written
    }

    /// Whether it is known how much of what the app sent is in no release.
    pub(crate) fn knows(&self, app: &AppRef) -> bool {
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).contains_key(app)
    }

    /// Finds out how much of what the app sent is in none of these releases.
    pub(crate) fn learn(&self, app: &AppRef, releases: &[&Release]) {
        let _counting = self.taking.read().unwrap_or_else(PoisonError::into_inner);
        let kept = self.kept(app, releases);
        let loose = leases::list(&self.of(app)).into_iter().filter(|found| !found.is_one_of(&kept));
        let bytes = loose.map(|found| cost(found.bytes)).sum();
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).entry(app.clone()).or_insert(bytes);
    }

    /// Counts what is about to be written against the app's quota.
    fn charge(&self, app: &AppRef, size: u64, free: u64) -> Result<(), Fault> {
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        let held = unfinished.entry(app.clone()).or_default();
        let (after, quota) = (held.saturating_add(cost(size)), quota(free, *held));
        if after > quota {
            return Err(over_quota(app, *held, quota));
        }
        *held = after;
        Ok(())
    }

    fn give_back(&self, app: &AppRef, size: u64) {
        let mut unfinished = self.unfinished.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(held) = unfinished.get_mut(app) {
            *held = held.saturating_sub(cost(size));
        }
    }

    /// After a deploy: removes what none of these releases is made of and nobody is about to use. What can't be read keeps
    /// everything.
    pub(crate) fn prune(&self, app: &AppRef, releases: &[&Release], now: Timestamp) -> Result<u64, Fault> {
        let mut kept = HashSet::new();
        for release in releases {
            kept.extend(self.chunks_of(app, &release.manifest)?);
        }
        let _taking = self.taking.write().unwrap_or_else(PoisonError::into_inner);
        let (mut freed, mut unfinished) = (0, 0);
        for found in leases::list(&self.of(app)) {
            if found.is_one_of(&kept) {
                // In a release now, so that nobody else waits for it.
                leases::end(&found.path);
            } else if found.lease(now) == Leased::Until {
                unfinished += cost(found.bytes);
            } else {
                freed += found.remove();
            }
        }
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).insert(app.clone(), unfinished);
        Ok(freed)
    }

    /// Removes what is older than `age` and in no release of these: leftovers of deploys that never happened. An app that
    /// somebody is uploading for is left alone. Says how many bytes that freed.
    pub(crate) fn sweep(
        &self,
        only: Option<&AppRef>,
        in_use: &HashMap<AppRef, Vec<&Release>>,
        age: std::time::Duration,
        now: Timestamp,
    ) -> u64 {
        let mut freed = 0;
        for app in self.apps().into_iter().filter(|app| only.is_none_or(|only| only == app)) {
            let kept = self.kept(&app, in_use.get(&app).map(Vec::as_slice).unwrap_or_default());
            let _taking = self.taking.write().unwrap_or_else(PoisonError::into_inner);
            let all = leases::list(&self.of(&app));
            if all.iter().any(|found| found.lease(now) == Leased::Until) {
                continue;
            }
            let loose = all.into_iter().filter(|found| !found.is_one_of(&kept) && found.is_older(age, now));
            freed += loose.map(|found| found.remove()).sum::<u64>();
            self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).remove(&app);
            self.remove_if_empty(&app);
        }
        freed
    }

    /// Removes all chunks of an app.
    pub(crate) fn forget(&self, app: &AppRef) {
        let _taking = self.taking.write().unwrap_or_else(PoisonError::into_inner);
        let _ = disk::remove_tree(&self.of(app));
        self.unfinished.lock().unwrap_or_else(PoisonError::into_inner).remove(app);
    }

    /// The apps that there are folders for.
    fn apps(&self) -> Vec<AppRef> {
        let names = |folder: &Path| -> Vec<String> {
            let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
            entries.filter_map(|entry| entry.file_name().into_string().ok()).collect()
        };
        let of_name = |name: String| {
            let envs = names(&self.folder.join(&name));
            envs.into_iter().filter_map(move |env| format!("{name}/{env}").parse().ok())
        };
        names(&self.folder).into_iter().flat_map(of_name).collect()
    }

    fn remove_if_empty(&self, app: &AppRef) {
        let folder = self.of(app);
        if leases::is_empty(&folder) && disk::remove_tree(&folder).is_ok() {
            let of_name = folder.parent().filter(|parent| leases::is_empty(parent));
            let _ = of_name.map(disk::remove_tree);
        }
    }

    /// The chunks of these releases. What can't be read is no base for anything, so it keeps nothing.
    fn kept(&self, app: &AppRef, releases: &[&Release]) -> HashSet<Digest> {
        releases.iter().filter_map(|release| self.chunks_of(app, &release.manifest).ok()).flatten().collect()
    }

    fn chunks_of(&self, app: &AppRef, index: &Digest) -> Result<HashSet<Digest>, Fault> {
        let index_bytes = self.read(app, index)?;
        let parsed: ManifestIndex = serde_json::from_slice(&index_bytes).map_err(|_| unexpected())?;
        let mut manifest = Vec::new();
        for chunk in &parsed.chunks {
            manifest.extend(self.read(app, chunk)?);
        }
        let manifest: Manifest = serde_json::from_slice(&manifest).map_err(|_| unexpected())?;
        let mut all: HashSet<Digest> = parsed.chunks.into_iter().collect();
        all.insert(*index);
        for entry in manifest.entries {
            if let EntryKind::File { chunks, .. } = entry.what {
                all.extend(chunks);
            }
        }
        Ok(all)
    }

    fn read(&self, app: &AppRef, chunk: &Digest) -> Result<Vec<u8>, Fault> {
        let path = self.of(app).join(chunk.to_string());
        std::fs::read(&path)
            .map_err(|error| Fault::new(FaultCode::Internal, format!("{}: {error}", path.display())))
    }
}

/// Removes each file below that does not have the content of its name; says how many.
fn remove_torn(folder: &Path) -> usize {
    let mut removed = 0;
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => removed += remove_torn(&path),
            Ok(kind) if kind.is_file() && name != MARK => {
                let digest = name.to_str().and_then(|name| name.parse::<Digest>().ok());
                let whole = std::fs::read(&path).is_ok_and(|bytes| Some(Digest::of(&bytes)) == digest);
                if !whole && disk::remove(&path).is_ok() {
                    removed += 1;
                }
            }
            Ok(_) | Err(_) => {}
        }
    }
    removed
}

fn fault(error: &StoreError) -> Fault {
    let message = format!("the chunk could not be kept: {error}");
    if error.is_disk_full() {
        return Fault::new(FaultCode::DiskFull, message).hint("`allod servers prune`, or remove an app");
    }
    Fault::new(FaultCode::Internal, message)
}

/// A chunk of one byte takes a block of the disk all the same.
fn cost(bytes: u64) -> u64 {
    bytes.max(4096)
}

/// How much of what an app sent may be in no release: as much as the largest release has, and half of what would be free
/// without it, because putting a release together takes as much again.
fn quota(free: u64, held: u64) -> u64 {
    limits::UNFINISHED_UPLOADS.min(free.saturating_add(held) / 2)
}

fn over_quota(app: &AppRef, held: u64, quota: u64) -> Fault {
    let message = format!(
        "uploads of {app} that no deploy has used have {} MiB; at most {} MiB are taken now",
        held >> 20,
        quota >> 20
    );
    Fault::new(FaultCode::TooLarge, message).hint(
        "`allod servers prune` frees those that nobody has touched for an hour; or deploy less, or free some space",
    )
}

#[cfg(test)]
mod tests;
