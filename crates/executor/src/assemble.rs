//! Putting a release together from chunks that the agent holds. Every byte of them is hostile: each chunk is checked
//! against the digest that names it, and the first of these digests is the one that the deploy request signed.
//! What stands under an artefact's name is whole and on the disk; what a crash leaves has another name.

mod build;
mod chunks;

use crate::{
    artefacts::{self, Artefact, ArtefactRecord},
    failure,
    isolation::Isolation,
    layout::{Layout, artefact_name},
};
use allod_apps::manifest_check;
use allod_proto::{
    AppRef, Digest, Fault, FaultCode, limits,
    manifest::{EntryKind, FORMAT, Manifest, ManifestIndex},
};
use allod_store::disk;
use build::Builder;
use chunks::Chunks;
use rustix::fs::CWD;
use std::{
    fs::File,
    path::{Path, PathBuf},
};

/// Bounds on what is put together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AssembleLimits {
    /// Bytes of all files.
    pub bytes: u64,
    /// Files, folders and links.
    pub entries: usize,
    /// Bytes of the manifest.
    pub manifest: usize,
    /// Bytes that stay free on the disk.
    pub margin: u64,
}

impl Default for AssembleLimits {
    fn default() -> Self {
        Self {
            bytes: limits::RELEASE_BYTES,
            entries: limits::RELEASE_ENTRIES,
            manifest: limits::MANIFEST,
            margin: 64 * 1024 * 1024,
        }
    }
}

/// A release's files, put together.
#[derive(Debug, Clone, PartialEq)]
pub struct Assembled {
    /// Its manifest, checked.
    pub manifest: Manifest,
    /// What names the artefact: the digest of the manifest index.
    pub manifest_digest: Digest,
    /// Where its files are, read-only.
    pub files: PathBuf,
    /// Whether it stood already.
    pub reused: bool,
    /// Bytes of its files.
    pub bytes: u64,
}

/// Puts the artefact together that `index` names, or finds it standing. Blocking; one at a time for each app.
///
/// # Errors
/// `NotFound` naming a chunk that is not there; `Invalid` naming what is wrong with a chunk or the manifest;
/// `DiskFull` before anything is written when there is no room; `Internal` for failures of the machine. Nothing is
/// left behind then.
pub fn assemble(
    layout: &Layout,
    isolation: &Isolation,
    app: &AppRef,
    index: &Digest,
    limits: &AssembleLimits,
) -> Result<Assembled, Fault> {
    if let Some(standing) = artefacts::find(layout, app, index)? {
        return Ok(Assembled {
            manifest: standing.read_manifest()?,
            manifest_digest: *index,
            files: layout.files(app, index),
            reused: true,
            bytes: standing.bytes,
        });
    }
    let chunks = Chunks::of(layout, app);
    let json = read_manifest(&chunks, index, limits)?;
    let manifest = parse_manifest(&json)?;
    let bytes = judge(&manifest, app, limits)?;
    check_room(layout, app, &manifest, bytes, limits)?;
    let building = Building::begin(layout, app, index)?;
    build(layout, isolation, app, &chunks, &manifest, &building.folder)?;
    building.describe(&json, &ArtefactRecord { manifest: *index, bytes })?;
    building.finish(isolation.uid_of(layout, app)?, has_static_units(&manifest))?;
    Ok(Assembled { manifest, manifest_digest: *index, files: layout.files(app, index), reused: false, bytes })
}

fn read_manifest(chunks: &Chunks, index: &Digest, limits: &AssembleLimits) -> Result<Vec<u8>, Fault> {
    let bytes = chunks.read(index)?;
    let index: ManifestIndex = serde_json::from_slice(&bytes)
        .map_err(|error| invalid(format!("the manifest index is not readable: {error}")))?;
    if index.format != FORMAT {
        return Err(Fault::new(
            FaultCode::Version,
            format!("the manifest index has format {}; this server reads {FORMAT}", index.format),
        ));
    }
    let size = usize::try_from(index.size).unwrap_or(usize::MAX);
    if size > limits.manifest {
        return Err(Fault::new(
            FaultCode::TooLarge,
            format!("the manifest has {size} bytes; at most {} are taken", limits.manifest),
        ));
    }
    let mut json = Vec::with_capacity(size);
    for digest in &index.chunks {
        json.extend_from_slice(&chunks.read(digest)?);
        if json.len() > size {
            break;
        }
    }
    if json.len() != size {
        return Err(invalid(format!(
            "the chunks of the manifest are not the {size} bytes that its index says"
        )));
    }
    Ok(json)
}

fn parse_manifest(json: &[u8]) -> Result<Manifest, Fault> {
    let manifest: Manifest = serde_json::from_slice(json)
        .map_err(|error| invalid(format!("the manifest is not readable: {error}")))?;
    if manifest.format == FORMAT {
        Ok(manifest)
    } else {
        Err(Fault::new(
            FaultCode::Version,
            format!("the manifest has format {}; this server reads {FORMAT}", manifest.format),
        ))
    }
}

/// Whether this manifest may be built here for this app; how many bytes it has.
fn judge(manifest: &Manifest, app: &AppRef, limits: &AssembleLimits) -> Result<u64, Fault> {
    if manifest.spec.app != *app {
        return Err(invalid(format!("the manifest is of {}, not of {app}", manifest.spec.app)));
    }
    let here = std::env::consts::ARCH;
    if let Some(built_for) = manifest.architecture.as_deref()
        && built_for != here
    {
        return Err(invalid(format!("the release is for {built_for:?}, this server is {here}"))
            .hint(format!("build it for {here}")));
    }
    if manifest.entries.len() > limits.entries {
        return Err(Fault::new(
            FaultCode::TooLarge,
            format!(
                "the release has {} entries; at most {} are taken",
                manifest.entries.len(),
                limits.entries
            ),
        ));
    }
    manifest_check::check(manifest)
        .map_err(|problem| invalid(format!("the manifest is refused: {problem}")))?;
    let sizes = manifest.entries.iter().map(|entry| match &entry.what {
        EntryKind::File { size, .. } => *size,
        EntryKind::Folder {} | EntryKind::Link { .. } => 0,
    });
    match sizes.into_iter().try_fold(0_u64, u64::checked_add) {
        Some(bytes) if bytes <= limits.bytes => Ok(bytes),
        _ => {
            Err(Fault::new(FaultCode::TooLarge, format!("the release has more than {} bytes", limits.bytes)))
        }
    }
}

fn check_room(
    layout: &Layout,
    app: &AppRef,
    manifest: &Manifest,
    bytes: u64,
    limits: &AssembleLimits,
) -> Result<(), Fault> {
    let folder = layout.releases();
    let free = allod_store::free_bytes(&folder)
        .map_err(|error| failure::of_store("look how much room there is", &error))?;
    // Half a block is lost at the end of each file, on average; a whole one is the careful guess.
    let blocks = u64::try_from(manifest.entries.len()).unwrap_or(u64::MAX).saturating_mul(4096);
    let needed = bytes.saturating_add(blocks).saturating_add(limits.margin);
    if free >= needed {
        return Ok(());
    }
    Err(Fault::new(
        FaultCode::DiskFull,
        format!("the release of {app} needs {needed} bytes with a margin; {free} are free"),
    )
    .hint("free some space: `allod servers prune`, or remove an app"))
}

fn build(
    layout: &Layout,
    isolation: &Isolation,
    app: &AppRef,
    chunks: &Chunks,
    manifest: &Manifest,
    folder: &Path,
) -> Result<(), Fault> {
    let mut builder = Builder::create(&folder.join("files"))?;
    // Only where apps can't write to their releases is the content of an older one still what its manifest says.
    if matches!(isolation, Isolation::OwnUids { .. }) {
        builder.link_from(&artefacts::list(layout, app)?);
    }
    for entry in &manifest.entries {
        builder.add(entry, chunks)?;
    }
    builder.seal()
}

fn has_static_units(manifest: &Manifest) -> bool {
    manifest.spec.processes().count() < manifest.spec.units.len()
}

/// The folder that becomes the artefact. Dropped unfinished, it is gone again.
struct Building {
    folder: PathBuf,
    target: PathBuf,
    finished: bool,
}

impl Building {
    fn begin(layout: &Layout, app: &AppRef, index: &Digest) -> Result<Self, Fault> {
        let doing = format!("begin a release of {app}");
        let parent = layout.artefacts(app);
        for folder in [parent.parent().unwrap_or(&parent), &parent] {
            allod_store::create_folder(folder, 0o711).map_err(|error| failure::of_store(&doing, &error))?;
        }
        let folder = parent.join(format!("{}.building-{}", artefact_name(index), std::process::id()));
        artefacts::destroy(&folder).map_err(|error| failure::of_io(&doing, &error))?;
        disk::make_folder(CWD, &folder).map_err(|error| failure::of_io(&doing, &error))?;
        Ok(Self { folder, target: layout.artefact(app, index), finished: false })
    }

    fn describe(&self, json: &[u8], record: &ArtefactRecord) -> Result<(), Fault> {
        let doing = "write a release's manifest";
        allod_store::write_atomic(&Artefact::manifest_path(&self.folder), json, 0o400)
            .and_then(|()| allod_store::save(&Artefact::record_path(&self.folder), record, 0o400))
            .map_err(|error| failure::of_store(doing, &error))
    }

    /// Everything to the disk, then the name. An app without static units has its files to itself; those of static
    /// units are for the proxy, and so for whoever knows the artefact's digest.
    fn finish(mut self, group: Option<u32>, for_all: bool) -> Result<(), Fault> {
        let doing = "finish a release";
        let failed = |error: rustix::io::Errno| failure::of_io(doing, &error.into());
        let open: File = artefacts::open_folder(CWD, &self.folder).map_err(failed)?.into();
        if let Some(group) = group {
            rustix::fs::fchown(&open, None, Some(rustix::fs::Gid::from_raw(group))).map_err(failed)?;
        }
        let mode = if for_all || group.is_none() { 0o755 } else { 0o750 };
        // One call for the whole file system: with many small files far cheaper than one for each of them.
        disk::set_mode(&open, mode)
            .and_then(|()| disk::sync_all(&open))
            .and_then(|()| disk::rename(&self.folder, &self.target))
            .map_err(|error| failure::of_io(doing, &error))?;
        self.finished = true;
        let parent = self.target.parent().unwrap_or(&self.target);
        allod_store::sync_folder(parent).map_err(|error| failure::of_store(doing, &error))
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        if !self.finished {
            // What can't be removed now is swept at the next start.
            let _ = artefacts::destroy(&self.folder);
        }
    }
}

fn invalid(message: String) -> Fault {
    Fault::new(FaultCode::Invalid, message)
}
