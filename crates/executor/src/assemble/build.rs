//! Writing a manifest's entries below one folder. Each parent is opened part by part through no link, each file is made
//! anew, and nothing is opened that was there before: even a manifest that slipped through the check can't write
//! elsewhere.

use super::{chunks::Chunks, invalid};
use crate::{
    artefacts::{Artefact, open_folder},
    failure,
};
use allod_proto::{
    Digest, Fault,
    manifest::{EntryKind, ManifestEntry},
};
use allod_store::disk;
use rustix::{
    fd::OwnedFd,
    fs::{AtFlags, CWD, FileType},
    io::Errno,
};
use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

/// How many older artefacts are looked through for files that have not changed.
const OLDER: usize = 3;

/// What a file is, whatever its name.
type Content = (bool, u64, Vec<Digest>);

pub(super) struct Builder {
    root: OwnedFd,
    /// The parent of the entry before: entries are sorted, so it is mostly the next one's too.
    parent: Option<(String, OwnedFd)>,
    folders: Vec<String>,
    older: HashMap<Content, (usize, String)>,
    older_roots: Vec<OwnedFd>,
}

impl Builder {
    /// Makes the folder that everything goes below.
    pub(super) fn create(folder: &Path) -> Result<Self, Fault> {
        disk::make_folder(CWD, folder).map_err(|error| failure::of_io("begin a release", &error))?;
        let root = open_folder(CWD, folder).map_err(|error| at("the release's folder", error))?;
        Ok(Self { root, parent: None, folders: Vec::new(), older: HashMap::new(), older_roots: Vec::new() })
    }

    /// From now on, files that these artefacts have with the same content are linked instead of written.
    pub(super) fn link_from(&mut self, artefacts: &[Artefact]) {
        for artefact in artefacts.iter().rev().take(OLDER) {
            // An artefact that can't be read only saves nothing.
            let Ok(manifest) = artefact.read_manifest() else { continue };
            let Ok(root) = open_folder(CWD, artefact.folder.join("files")) else { continue };
            let index = self.older_roots.len();
            self.older_roots.push(root);
            for entry in manifest.entries {
                if let EntryKind::File { executable, size, chunks } = entry.what
                    && size > 0
                {
                    self.older.insert((executable, size, chunks), (index, entry.path));
                }
            }
        }
    }

    /// Writes one entry. Its parent must have been added before.
    pub(super) fn add(&mut self, entry: &ManifestEntry, chunks: &Chunks) -> Result<(), Fault> {
        let (folder, name) = entry.path.rsplit_once('/').unwrap_or(("", &entry.path));
        if name.is_empty() || name == "." || name == ".." {
            return Err(invalid(format!("{:?} is not a name", entry.path)));
        }
        self.enter(folder).map_err(|error| at(&entry.path, error))?;
        let parent = self.parent.as_ref().map_or(&self.root, |(_, parent)| parent);
        match &entry.what {
            EntryKind::Folder {} => {
                disk::make_folder(parent, Path::new(name)).map_err(|error| in_making(&entry.path, &error))?;
                self.folders.push(entry.path.clone());
            }
            EntryKind::Link { to } => {
                disk::make_link(to, parent, Path::new(name))
                    .map_err(|error| in_making(&entry.path, &error))?;
            }
            EntryKind::File { executable, size, chunks: digests } => {
                let content = (*executable, *size, digests.clone());
                if !self.link(parent, name, &content) {
                    write(parent, name, &content, chunks).map_err(|fault| named(&entry.path, fault))?;
                }
            }
        }
        Ok(())
    }

    /// No folder can be written in any more, the innermost first.
    pub(super) fn seal(mut self) -> Result<(), Fault> {
        self.parent = None;
        for path in std::mem::take(&mut self.folders).iter().rev() {
            let folder = walk(&self.root, path).map_err(|error| at(path, error))?;
            disk::set_mode(&folder.into(), 0o555).map_err(|error| in_making(path, &error))?;
        }
        let root = open_folder(&self.root, ".").map_err(|error| at("the release's folder", error))?;
        disk::set_mode(&root.into(), 0o555).map_err(|error| in_making("the release's folder", &error))
    }

    fn enter(&mut self, folder: &str) -> Result<(), Errno> {
        if folder.is_empty() {
            self.parent = None;
        } else if self.parent.as_ref().is_none_or(|(path, _)| path != folder) {
            self.parent = Some((folder.to_owned(), walk(&self.root, folder)?));
        }
        Ok(())
    }

    /// Whether an older artefact's file could be linked.
    fn link(&self, parent: &OwnedFd, name: &str, content: &Content) -> bool {
        let Some((index, path)) = self.older.get(content) else { return false };
        let Some(root) = self.older_roots.get(*index) else { return false };
        let (folder, file) = path.rsplit_once('/').unwrap_or(("", path));
        let Ok(folder) = walk(root, folder) else { return false };
        let same = rustix::fs::statat(&folder, file, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|facts| {
            FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile
                && u64::try_from(facts.st_size) == Ok(content.1)
        });
        same && disk::link(&folder, Path::new(file), parent, Path::new(name)).is_ok()
    }
}

/// Opens a folder below `root`, part by part, through no link.
fn walk(root: &OwnedFd, path: &str) -> Result<OwnedFd, Errno> {
    let mut folder = open_folder(root, ".")?;
    for part in path.split('/').filter(|part| !part.is_empty()) {
        if part == "." || part == ".." {
            return Err(Errno::INVAL);
        }
        folder = open_folder(&folder, part)?;
    }
    Ok(folder)
}

fn write(parent: &OwnedFd, name: &str, content: &Content, chunks: &Chunks) -> Result<(), Fault> {
    let (executable, size, digests) = content;
    let file =
        disk::create_new(parent, Path::new(name)).map_err(|error| failure::of_io("make a file", &error))?;
    let mut left = *size;
    for digest in digests {
        let bytes = chunks.read(digest)?;
        let wrong = || invalid("its chunks are not as many bytes as the manifest says".to_owned());
        left =
            u64::try_from(bytes.len()).ok().and_then(|length| left.checked_sub(length)).ok_or_else(wrong)?;
        disk::write_all(&file, &bytes).map_err(|error| failure::of_io("write a file", &error))?;
    }
    if left > 0 {
        return Err(invalid("its chunks are fewer bytes than the manifest says".to_owned()));
    }
    let mode = if *executable { 0o555 } else { 0o444 };
    disk::set_mode(&file, mode).map_err(|error| failure::of_io("make a file read-only", &error))
}

fn named(path: &str, mut fault: Fault) -> Fault {
    fault.message = format!("{path:?}: {}", fault.message);
    fault
}

fn at(path: &str, error: Errno) -> Fault {
    in_making(path, &error.into())
}

fn in_making(path: &str, error: &io::Error) -> Fault {
    failure::of_io(&format!("make {:?}", PathBuf::from(path)), error)
}
