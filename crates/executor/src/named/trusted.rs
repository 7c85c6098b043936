//! Files that only root, or the executor's own user, can have put where they are: every folder, link and file on the way
//! is theirs, and nobody else may write there. Opened one part at a time, so that nothing can be put in its place meanwhile.

use crate::server::is_own;
use rustix::{
    fs::{AtFlags, CWD, FileType, Mode, OFlags, Stat, fstat, openat, readlinkat, statat},
    io::Errno,
};
use std::{
    collections::VecDeque,
    ffi::{OsStr, OsString},
    fs::File,
    io::{self, Read as _},
    os::{
        fd::OwnedFd,
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::{Path, PathBuf},
};

/// How many links may be on the way.
const LINKS: usize = 16;
/// How many parts a path may have, links followed.
const PARTS: usize = 256;

/// Why a file is not trusted.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Untrusted {
    #[error("{} is not there", path.display())]
    Missing { path: PathBuf },
    #[error("{} belongs to uid {uid}, who could put anything there", path.display())]
    Owner { path: PathBuf, uid: u32 },
    #[error("{} may be written by others than its owner (mode {mode:o})", path.display())]
    Writable { path: PathBuf, mode: u32 },
    #[error("{} is not a regular file", path.display())]
    Kind { path: PathBuf },
    #[error("{} has too many links on its way", path.display())]
    Links { path: PathBuf },
    #[error("{} is larger than {most} bytes", path.display())]
    TooLarge { path: PathBuf, most: u64 },
    #[error("{}: {error}", path.display())]
    Io { path: PathBuf, error: io::Error },
}

/// The file, open for reading.
pub(crate) fn open(path: &Path) -> Result<(File, Stat), Untrusted> {
    let (file, facts) = walk(path)?;
    match FileType::from_raw_mode(facts.st_mode) {
        FileType::RegularFile => Ok((file.into(), facts)),
        _ => Err(Untrusted::Kind { path: path.to_owned() }),
    }
}

/// The folder, to look at what is in it.
pub(crate) fn open_folder(path: &Path) -> Result<OwnedFd, Untrusted> {
    let (folder, facts) = walk(path)?;
    match FileType::from_raw_mode(facts.st_mode) {
        FileType::Directory => Ok(folder),
        _ => Err(Untrusted::Kind { path: path.to_owned() }),
    }
}

/// What is in the file, where it is not larger than this.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>, Untrusted> {
    let (file, _) = open(path)?;
    let mut bytes = Vec::new();
    let limit = most.saturating_add(1);
    file.take(limit)
        .read_to_end(&mut bytes)
        .map_err(|error| Untrusted::Io { path: path.to_owned(), error })?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(Untrusted::TooLarge { path: path.to_owned(), most });
    }
    Ok(bytes)
}

fn walk(path: &Path) -> Result<(OwnedFd, Stat), Untrusted> {
    let mut at = Place::root()?;
    let mut left: VecDeque<OsString> = parts(path.as_os_str());
    let (mut links, mut steps) = (0, 0);
    while let Some(part) = left.pop_front() {
        steps += 1;
        let facts = at.look(&part)?;
        let is_link = FileType::from_raw_mode(facts.st_mode) == FileType::Symlink;
        if is_link {
            links += 1;
        }
        if links > LINKS || steps > PARTS {
            return Err(Untrusted::Links { path: path.to_owned() });
        }
        if is_link {
            let target = at.target(&part)?;
            if target.as_bytes().first() == Some(&b'/') {
                at = Place::root()?;
            }
            parts(&target).into_iter().rev().for_each(|part| left.push_front(part));
        } else if left.is_empty() {
            return at.open(&part, &facts);
        } else {
            at = at.enter(&part)?;
        }
    }
    let facts = at.facts()?;
    Ok((at.folder, facts))
}

fn parts(path: &OsStr) -> VecDeque<OsString> {
    let parts = path.as_bytes().split(|byte| *byte == b'/');
    parts
        .filter(|part| !part.is_empty() && *part != b".")
        .map(|part| OsString::from_vec(part.to_vec()))
        .collect()
}

/// A folder on the way, whose owner is trusted.
struct Place {
    folder: OwnedFd,
    path: PathBuf,
}

impl Place {
    fn root() -> Result<Self, Untrusted> {
        let path = PathBuf::from("/");
        let folder = openat(CWD, "/", OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(|error| Untrusted::Io { path: path.clone(), error: error.into() })?;
        let place = Self { folder, path };
        // In a user namespace the root may seem to be nobody's: what matters is who may write there.
        let facts = place.facts()?;
        is_closed(&facts, &place.path, true)?;
        Ok(place)
    }

    fn failed(&self, part: &OsStr, error: Errno) -> Untrusted {
        let path = self.path.join(part);
        match error {
            Errno::NOENT | Errno::NOTDIR => Untrusted::Missing { path },
            error => Untrusted::Io { path, error: error.into() },
        }
    }

    fn facts(&self) -> Result<Stat, Untrusted> {
        fstat(&self.folder).map_err(|error| Untrusted::Io { path: self.path.clone(), error: error.into() })
    }

    /// What a part is, without following it. Its owner is trusted, or it is refused.
    fn look(&self, part: &OsStr) -> Result<Stat, Untrusted> {
        let facts = statat(&self.folder, part, AtFlags::SYMLINK_NOFOLLOW)
            .map_err(|error| self.failed(part, error))?;
        if !is_own(facts.st_uid) {
            return Err(Untrusted::Owner { path: self.path.join(part), uid: facts.st_uid });
        }
        Ok(facts)
    }

    fn target(&self, part: &OsStr) -> Result<OsString, Untrusted> {
        let target = readlinkat(&self.folder, part, Vec::new()).map_err(|error| self.failed(part, error))?;
        Ok(OsString::from_vec(target.into_bytes()))
    }

    /// Goes into a folder, and looks at it again once it is open.
    fn enter(&self, part: &OsStr) -> Result<Self, Untrusted> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let folder =
            openat(&self.folder, part, flags, Mode::empty()).map_err(|error| self.failed(part, error))?;
        let path = self.path.join(part);
        let place = Self { folder, path };
        let facts = place.facts()?;
        is_ours(&facts, &place.path)?;
        // In a folder that everybody may write in, as /tmp is, nobody may replace what is somebody else's.
        is_closed(&facts, &place.path, true)?;
        Ok(place)
    }

    /// Opens the last part, and looks at it again once it is open.
    fn open(&self, part: &OsStr, seen: &Stat) -> Result<(OwnedFd, Stat), Untrusted> {
        let path = self.path.join(part);
        // What is neither could do something when it is opened.
        if !matches!(FileType::from_raw_mode(seen.st_mode), FileType::RegularFile | FileType::Directory) {
            return Err(Untrusted::Kind { path });
        }
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
        let open =
            openat(&self.folder, part, flags, Mode::empty()).map_err(|error| self.failed(part, error))?;
        let facts =
            fstat(&open).map_err(|error| Untrusted::Io { path: path.clone(), error: error.into() })?;
        is_ours(&facts, &path)?;
        is_closed(&facts, &path, false)?;
        Ok((open, facts))
    }
}

fn is_ours(facts: &Stat, path: &Path) -> Result<(), Untrusted> {
    if is_own(facts.st_uid) {
        Ok(())
    } else {
        Err(Untrusted::Owner { path: path.to_owned(), uid: facts.st_uid })
    }
}

/// Nobody but its owner may write there; `sticky` says whether it is enough that nobody may replace what others have.
fn is_closed(facts: &Stat, path: &Path, sticky: bool) -> Result<(), Untrusted> {
    let mode = Mode::from_raw_mode(facts.st_mode);
    let open = mode.intersects(Mode::WGRP | Mode::WOTH);
    if open && !(sticky && mode.contains(Mode::SVTX)) {
        return Err(Untrusted::Writable { path: path.to_owned(), mode: facts.st_mode & 0o7777 });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
