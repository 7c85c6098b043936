//! Reading below a root whose content somebody less trusted may have arranged: no link, no `..`, no absolute path, and
//! regular files only. Linux does it in one call (openat2); elsewhere, and where that call is filtered, the path is
//! walked one component at a time.

use crate::{Step, StoreError, format::read_regular};
use rustix::{
    fd::{AsFd, OwnedFd},
    fs::{AtFlags, CWD, FileType, Mode, OFlags},
    io::Errno,
};
use std::{
    ffi::OsStr,
    fs::File,
    path::{Component, Path, PathBuf},
};

/// Opens the regular file `relative` below `root` for reading. `root` itself is trusted.
///
/// # Errors
/// [`StoreError::Outside`] when the path is absolute, has `..`, or meets a link; [`StoreError::NotAFile`] for anything
/// but a regular file; [`StoreError::Io`] when it is not there or can't be opened.
pub fn open_beneath(root: &Path, relative: &Path) -> Result<File, StoreError> {
    open_with(root, relative, openat2)
}

/// Reads the regular file `relative` below `root`, as [`open_beneath`] opens it.
///
/// # Errors
/// As [`open_beneath`], and [`StoreError::TooLarge`] when it has more than `limit` bytes.
pub fn read_beneath(root: &Path, relative: &Path, limit: usize) -> Result<Vec<u8>, StoreError> {
    let file = open_beneath(root, relative)?;
    read_regular(&root.join(relative), file, limit)
}

type OneCall = fn(&OwnedFd, &Path) -> Result<OwnedFd, Errno>;

fn open_with(root: &Path, relative: &Path, one_call: OneCall) -> Result<File, StoreError> {
    let whole = root.join(relative);
    let components = plain_components(relative).ok_or_else(|| StoreError::Outside { path: whole.clone() })?;
    let folder = rustix::fs::openat(CWD, root, folder_flags(), Mode::empty())
        .map_err(|error| StoreError::io(root, Step::Open, error))?;
    let opened = match one_call(&folder, &components.iter().collect::<PathBuf>()) {
        // Old kernels do not know the call; filters of containers answer EPERM for calls they do not know.
        Err(Errno::NOSYS | Errno::PERM) => walk(folder, &components),
        other => other,
    };
    let file: File = match opened {
        Ok(file) => file.into(),
        Err(Errno::LOOP | Errno::XDEV) => return Err(StoreError::Outside { path: whole }),
        // A socket, or a device without a driver.
        Err(Errno::NXIO | Errno::NODEV) => return Err(StoreError::NotAFile { path: whole }),
        Err(error) => return Err(StoreError::io(&whole, Step::Open, error)),
    };
    let facts = file.metadata().map_err(|error| StoreError::io(&whole, Step::Inspect, error))?;
    if facts.is_file() { Ok(file) } else { Err(StoreError::NotAFile { path: whole }) }
}

/// The components of a path that stays below its root by its text alone; `None` for any other.
fn plain_components(relative: &Path) -> Option<Vec<&OsStr>> {
    let mut names = Vec::new();
    for component in relative.components() {
        match component {
            Component::Normal(name) => names.push(name),
            Component::CurDir => {}
            Component::ParentDir | Component::RootDir | Component::Prefix(_) => return None,
        }
    }
    (!names.is_empty()).then_some(names)
}

// NONBLOCK: a pipe planted in the file's place must not stop the program.
fn file_flags() -> OFlags {
    OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC
}

fn folder_flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC
}

#[cfg(target_os = "linux")]
fn openat2(folder: &OwnedFd, relative: &Path) -> Result<OwnedFd, Errno> {
    use rustix::fs::ResolveFlags;
    let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_MAGICLINKS;
    rustix::fs::openat2(folder, relative, file_flags(), Mode::empty(), resolve)
}

#[cfg(not(target_os = "linux"))]
fn openat2(_folder: &OwnedFd, _relative: &Path) -> Result<OwnedFd, Errno> {
    Err(Errno::NOSYS)
}

fn walk(mut folder: OwnedFd, components: &[&OsStr]) -> Result<OwnedFd, Errno> {
    let Some((name, above)) = components.split_last() else { return Err(Errno::NOENT) };
    for component in above {
        folder = step(&folder, component, folder_flags() | OFlags::NOFOLLOW)?;
    }
    step(&folder, name, file_flags() | OFlags::NOFOLLOW)
}

fn step(folder: impl AsFd, name: &OsStr, flags: OFlags) -> Result<OwnedFd, Errno> {
    match rustix::fs::openat(&folder, name, flags, Mode::empty()) {
        // A link opened as a folder without following it is "not a folder" on Linux, and EMLINK on some BSDs.
        Err(error @ (Errno::NOTDIR | Errno::MLINK)) => {
            let facts = rustix::fs::statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW)?;
            let is_link = FileType::from_raw_mode(facts.st_mode) == FileType::Symlink;
            Err(if is_link { Errno::LOOP } else { error })
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
