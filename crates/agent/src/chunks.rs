//! Chunks that clients sent, per app, waiting to be put together by the executor. It trusts none of them.

use crate::executor_link::unexpected;
use allod_proto::{
    AppRef, Digest, Fault, FaultCode,
    executor::Release,
    limits,
    manifest::{EntryKind, Manifest, ManifestIndex},
};
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

/// What must stay free on the disk.
const RESERVE: u64 = 64 * 1024 * 1024;

/// The folder of chunks.
#[derive(Debug, Clone)]
pub(crate) struct Chunks {
    folder: PathBuf,
}

impl Chunks {
    pub(crate) fn new(agent_folder: &Path) -> Self {
        Self { folder: agent_folder.join("chunks") }
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

    /// Keeps one, durably.
    pub(crate) fn keep(&self, app: &AppRef, chunk: &Digest, bytes: &[u8]) -> Result<(), Fault> {
        let folder = self.of(app);
        let path = folder.join(chunk.to_string());
        if path.is_file() {
            return Ok(());
        }
        allod_store::create_folder(&folder, 0o700).map_err(|error| fault(&error))?;
        let free = allod_store::free_bytes(&folder).map_err(|error| fault(&error))?;
        let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        if free < size.saturating_add(RESERVE) {
            return Err(Fault::new(
                FaultCode::DiskFull,
                format!("only {} MiB are free on the server", free >> 20),
            )
            .hint("`allod servers prune`, or remove an app"));
        }
        allod_store::write_atomic(&path, bytes, 0o600).map_err(|error| fault(&error))
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

fn fault(error: &allod_store::StoreError) -> Fault {
    let code = if error.is_disk_full() { FaultCode::DiskFull } else { FaultCode::Internal };
    Fault::new(code, format!("the chunk could not be kept: {error}"))
}
