//! Chunks that clients sent, per app, waiting to be put together by the executor. It trusts none of them. They are not
//! synced one by one, which would take longer than sending them: while some are not on the disk, a mark is, and after the
//! machine went down with it every chunk is read again. A torn one is then not there, and is asked for again.

use crate::executor_link::unexpected;
use allod_proto::{
    AppRef, Digest, Fault, FaultCode,
    executor::Release,
    limits,
    manifest::{EntryKind, Manifest, ManifestIndex},
};
use allod_store::StoreError;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
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
}

impl Chunks {
    /// Those of an agent. When the machine went down before the last ones were on the disk, torn ones are removed.
    pub(crate) fn open(agent_folder: &Path, boot: &str) -> Result<Self, StoreError> {
        let folder = agent_folder.join("chunks");
        let marked = std::fs::read_to_string(folder.join(MARK)).ok();
        let chunks = Self { folder, boot: boot.to_owned(), is_marked: RwLock::new(marked.is_some()) };
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

    /// Which of these are not there.
    pub(crate) fn missing(&self, app: &AppRef, chunks: &[Digest]) -> Result<Vec<Digest>, Fault> {
        if chunks.len() > limits::MISSING_HASHES {
            let message = format!("at most {} chunks can be asked for at once", limits::MISSING_HASHES);
            return Err(Fault::new(FaultCode::Invalid, message));
        }
        let folder = self.of(app);
        let mut asked = HashSet::new();
        let missing =
            chunks.iter().filter(|chunk| asked.insert(**chunk) && !folder.join(chunk.to_string()).is_file());
        Ok(missing.copied().collect())
    }

    /// Keeps one; it is durable after [`Chunks::sync`].
    pub(crate) fn keep(&self, app: &AppRef, chunk: &Digest, bytes: &[u8]) -> Result<(), Fault> {
        let folder = self.of(app);
        let path = folder.join(chunk.to_string());
        if path.is_file() {
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
        self.write(&path, bytes).map_err(|error| fault(&error))
    }

    /// Removes what none of these releases is made of. What can't be read keeps everything.
    pub(crate) fn prune(&self, app: &AppRef, releases: &[&Release]) -> Result<u64, Fault> {
        let folder = self.of(app);
        let mut keep = HashSet::new();
        for release in releases {
            keep.extend(self.chunks_of(app, &release.manifest)?);
        }
        let Ok(entries) = std::fs::read_dir(&folder) else { return Ok(0) };
        let mut freed = 0;
        for entry in entries.flatten() {
            let name = entry.file_name();
            let digest = name.to_str().and_then(|name| name.parse::<Digest>().ok());
            if digest.is_some_and(|digest| !keep.contains(&digest)) {
                freed += entry.metadata().map_or(0, |metadata| metadata.len());
                let _ = std::fs::remove_file(entry.path());
            }
        }
        Ok(freed)
    }

    /// Removes all chunks of an app.
    pub(crate) fn forget(&self, app: &AppRef) {
        let _ = std::fs::remove_dir_all(self.of(app));
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
                if !whole && std::fs::remove_file(&path).is_ok() {
                    removed += 1;
                }
            }
            Ok(_) | Err(_) => {}
        }
    }
    removed
}

fn fault(error: &StoreError) -> Fault {
    let code = if error.is_disk_full() { FaultCode::DiskFull } else { FaultCode::Internal };
    Fault::new(code, format!("the chunk could not be kept: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEFORE: &str = "life-1";
    const AFTER: &str = "life-2";

    fn app() -> AppRef {
        "blog".parse().unwrap()
    }

    fn tear(chunks: &Chunks, digest: &Digest) {
        std::fs::write(chunks.of(&app()).join(digest.to_string()), b"").unwrap();
    }

    #[test]
    fn a_chunk_that_a_power_cut_tore_is_asked_for_again() {
        let folder = tempfile::tempdir().unwrap();
        let (torn, whole) = (Digest::of("torn"), Digest::of("whole"));
        let chunks = Chunks::open(folder.path(), BEFORE).unwrap();
        chunks.keep(&app(), &torn, b"torn").unwrap();
        chunks.keep(&app(), &whole, b"whole").unwrap();
        tear(&chunks, &torn);
        let chunks = Chunks::open(folder.path(), AFTER).unwrap();
        assert_eq!(chunks.missing(&app(), &[torn, whole]).unwrap(), [torn]);
        chunks.keep(&app(), &torn, b"torn").unwrap();
        assert!(chunks.missing(&app(), &[torn, whole]).unwrap().is_empty());
    }

    #[test]
    fn a_life_of_the_machine_that_is_not_known_counts_as_another() {
        let folder = tempfile::tempdir().unwrap();
        let torn = Digest::of("torn");
        let chunks = Chunks::open(folder.path(), "").unwrap();
        chunks.keep(&app(), &torn, b"torn").unwrap();
        tear(&chunks, &torn);
        assert_eq!(Chunks::open(folder.path(), "").unwrap().missing(&app(), &[torn]).unwrap(), [torn]);
    }

    #[test]
    fn what_is_on_the_disk_is_not_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let chunk = Digest::of("chunk");
        let chunks = Chunks::open(folder.path(), BEFORE).unwrap();
        chunks.keep(&app(), &chunk, b"chunk").unwrap();
        assert!(folder.path().join("chunks").join(MARK).exists());
        chunks.sync().unwrap();
        assert!(!folder.path().join("chunks").join(MARK).exists());
        // The executor would notice; here it shows that nobody looked.
        tear(&chunks, &chunk);
        assert!(Chunks::open(folder.path(), AFTER).unwrap().missing(&app(), &[chunk]).unwrap().is_empty());
    }

    #[test]
    fn an_agent_that_starts_again_on_a_machine_that_stayed_up_keeps_the_mark() {
        let folder = tempfile::tempdir().unwrap();
        let chunk = Digest::of("chunk");
        Chunks::open(folder.path(), BEFORE).unwrap().keep(&app(), &chunk, b"chunk").unwrap();
        let chunks = Chunks::open(folder.path(), BEFORE).unwrap();
        assert!(folder.path().join("chunks").join(MARK).exists());
        chunks.sync().unwrap();
        assert!(!folder.path().join("chunks").join(MARK).exists());
    }
}
