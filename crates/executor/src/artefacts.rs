//! Artefacts on the disk: which there are, and taking them away. An artefact is `files/` with `manifest.json` and
//! `artefact.json` beside it; whatever has another name in an app's folder is a leftover of a crash.

use crate::{
    failure,
    layout::{Layout, artefact_name},
};
use allod_proto::{AppRef, Digest, Fault, FaultCode, limits, manifest::Manifest};
use allod_store::{Format, disk};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, CWD, Dir, FileType, Mode, OFlags};
use serde::{Deserialize, Serialize};
use std::{
    fs::File,
    io,
    path::{Path, PathBuf},
};

/// One artefact of an app.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artefact {
    /// What names it: the digest of its manifest index.
    pub manifest: Digest,
    /// Bytes of its files.
    pub bytes: u64,
    /// Its folder.
    pub folder: PathBuf,
}

/// `artefact.json`: which artefact a folder is, whole, because the folder's name has only the digest's beginning.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ArtefactRecord {
    pub(crate) manifest: Digest,
    pub(crate) bytes: u64,
}

impl Format for ArtefactRecord {
    const NAME: &'static str = "artefact";
    const FORMAT: u32 = 1;
}

const RECORD: &str = "artefact.json";
const MANIFEST: &str = "manifest.json";

impl Artefact {
    pub(crate) fn record_path(folder: &Path) -> PathBuf {
        folder.join(RECORD)
    }

    pub(crate) fn manifest_path(folder: &Path) -> PathBuf {
        folder.join(MANIFEST)
    }

    /// Its manifest as it was checked when the artefact was put together.
    ///
    /// # Errors
    /// `Internal` when the file is damaged or not there.
    pub fn read_manifest(&self) -> Result<Manifest, Fault> {
        let doing = "read the manifest of an artefact";
        let bytes = allod_store::read_beneath(&self.folder, Path::new(MANIFEST), limits::MANIFEST)
            .map_err(|error| failure::of_store(doing, &error))?;
        serde_json::from_slice(&bytes)
            .map_err(|error| Fault::new(FaultCode::Internal, format!("can't {doing}: {error}")))
    }
}

/// The artefact of this name, if it stands.
///
/// # Errors
/// `Conflict` when another artefact has the same folder name; `Internal` when it is damaged.
pub fn find(layout: &Layout, app: &AppRef, manifest: &Digest) -> Result<Option<Artefact>, Fault> {
    let folder = layout.artefact(app, manifest);
    match load(folder)? {
        Some(artefact) if artefact.manifest == *manifest => Ok(Some(artefact)),
        Some(other) => Err(Fault::new(
            FaultCode::Conflict,
            format!("{manifest} begins like {}, which is another release", other.manifest),
        )),
        None => Ok(None),
    }
}

/// Every artefact of an app that stands whole.
///
/// # Errors
/// `Internal` when the folder can't be read.
pub fn list(layout: &Layout, app: &AppRef) -> Result<Vec<Artefact>, Fault> {
    let mut found = Vec::new();
    for name in names(&layout.artefacts(app))? {
        if is_leftover(&name) {
            continue;
        }
        if let Some(artefact) = load(layout.artefacts(app).join(&name))?
            && artefact_name(&artefact.manifest) == name
        {
            found.push(artefact);
        }
    }
    Ok(found)
}

/// Takes an artefact away. It is renamed first, so that a crash on the way leaves a leftover and no half artefact.
///
/// # Errors
/// `Internal` when it can't be removed. One that is not there is no error.
pub fn remove(layout: &Layout, app: &AppRef, manifest: &Digest) -> Result<(), Fault> {
    match find(layout, app, manifest)? {
        Some(artefact) => remove_folder(&artefact.folder),
        None => Ok(()),
    }
}

/// Takes away every artefact that is not in `keep`, and says how many bytes their files had.
///
/// # Errors
/// `Internal` when one can't be removed.
pub fn prune(layout: &Layout, app: &AppRef, keep: &[Digest]) -> Result<u64, Fault> {
    let mut bytes = 0_u64;
    for artefact in list(layout, app)? {
        if !keep.contains(&artefact.manifest) {
            remove_folder(&artefact.folder)?;
            bytes = bytes.saturating_add(artefact.bytes);
        }
    }
    Ok(bytes)
}

/// Takes away everything of an app's artefacts, and its folder.
///
/// # Errors
/// `Internal` when something can't be removed.
pub fn remove_all(layout: &Layout, app: &AppRef) -> Result<(), Fault> {
    let folder = layout.artefacts(app);
    for name in names(&folder)? {
        remove_folder(&folder.join(name))?;
    }
    // Absent, or still used by nothing that matters: the rest of the removal must go on.
    match allod_store::remove_folder(&folder) {
        Ok(_) => Ok(()),
        Err(error) => Err(failure::of_store("remove the artefacts of an app", &error)),
    }
}

/// Takes away what crashes left behind, of every app. At the executor's start, before anything is put together.
///
/// # Errors
/// `Internal` when something can't be removed.
pub fn sweep(layout: &Layout) -> Result<usize, Fault> {
    let mut swept = 0_usize;
    let releases = layout.releases();
    for app in names(&releases)? {
        for env in names(&releases.join(&app))? {
            let folder = releases.join(&app).join(env);
            for name in names(&folder)?.iter().filter(|name| is_leftover(name)) {
                destroy(&folder.join(name)).map_err(|error| failure::of_io("remove a leftover", &error))?;
                swept = swept.saturating_add(1);
            }
        }
    }
    Ok(swept)
}

fn load(folder: PathBuf) -> Result<Option<Artefact>, Fault> {
    let record: Option<ArtefactRecord> = allod_store::load(&Artefact::record_path(&folder))
        .map_err(|error| failure::of_store("read an artefact", &error))?;
    Ok(record.map(|record| Artefact { manifest: record.manifest, bytes: record.bytes, folder }))
}

fn is_leftover(name: &str) -> bool {
    name.contains('.')
}

/// Names in a folder; none when it is not there. Ours are all UTF-8, others are nothing of ours.
fn names(folder: &Path) -> Result<Vec<String>, Fault> {
    let failed = |error| failure::of_io("list artefacts", &error);
    let entries = match std::fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}

fn remove_folder(folder: &Path) -> Result<(), Fault> {
    let doing = "remove an artefact";
    let mut leaving = folder.as_os_str().to_owned();
    leaving.push(format!(".removing-{}", std::process::id()));
    let leaving = PathBuf::from(leaving);
    disk::rename(folder, &leaving).map_err(|error| failure::of_io(doing, &error))?;
    if let Some(parent) = folder.parent() {
        allod_store::sync_folder(parent).map_err(|error| failure::of_store(doing, &error))?;
    }
    destroy(&leaving).map_err(|error| failure::of_io(doing, &error))?;
    folder.parent().map_or(Ok(()), allod_store::sync_folder).map_err(|error| failure::of_store(doing, &error))
}

/// Removes a folder and all in it, read-only folders too, through no link.
pub(crate) fn destroy(folder: &Path) -> io::Result<()> {
    let open = match open_folder(CWD, folder) {
        Ok(open) => open,
        Err(rustix::io::Errno::NOENT) => return Ok(()),
        // Not a folder: a file or link that has no business here.
        Err(rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => return disk::remove(folder),
        Err(error) => return Err(error.into()),
    };
    make_writable(open)?;
    disk::remove_tree(folder)
}

fn make_writable(folder: OwnedFd) -> io::Result<()> {
    let folder = File::from(folder);
    disk::set_mode(&folder, 0o700)?;
    for entry in Dir::read_from(&folder)? {
        let entry = entry?;
        let name = entry.file_name();
        if name == c"." || name == c".." {
            continue;
        }
        let facts = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
        if FileType::from_raw_mode(facts.st_mode) == FileType::Directory {
            make_writable(open_folder(&folder, name)?)?;
        }
    }
    Ok(())
}

pub(crate) fn open_folder(at: impl AsFd, name: impl rustix::path::Arg) -> rustix::io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(at, name, flags, Mode::empty())
}

#[cfg(test)]
mod tests;
