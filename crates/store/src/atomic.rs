//! Synced writes: a temporary file beside the real one, complete and on the disk before it takes the real name.
//! What is not complete never has the real name, and is readable by its owner only.

mod together;

pub use together::write_together;

use crate::{Step, StoreError, disk};
use rustix::fs::{CWD, Mode, OFlags};
use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

const TEMPORARY: &str = ".allod-new";
const ATTEMPTS: u32 = 100;

/// Writes `bytes` to `path` so that after a power cut either the old or the new content is there, whole.
///
/// The file has mode 0600 from birth and `mode` (its lowest 12 bits) when it gets its name. A link at `path` is
/// replaced, not followed. On an error before the rename the old file is untouched and the temporary one is gone; on an
/// error of the last step ([`Step::SyncFolder`]) either content may be there after a power cut.
///
/// # Errors
/// [`StoreError::Io`] with the step that failed.
pub fn write_atomic(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
    let (temporary, file) = create_temporary(path)?;
    let written = fill(path, &file, bytes, mode).and_then(|()| {
        disk::rename(&temporary, path).map_err(|error| StoreError::io(path, Step::Rename, error))
    });
    if let Err(error) = written {
        // The first error is the one to tell; what is left behind is swept at the next start.
        let _ = disk::remove(&temporary);
        return Err(error);
    }
    sync_folder(folder_of(path)).map_err(|error| at_folder_step(path, error))
}

/// As [`write_atomic`] for other programs, but not for a power cut: nothing is synced, and afterwards anything may stand
/// under the name. For what is checked again before it is believed.
///
/// # Errors
/// [`StoreError::Io`] with the step that failed.
pub fn write_unsynced(path: &Path, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
    let (temporary, file) = create_temporary(path)?;
    let written = write(path, &file, bytes, mode).and_then(|()| {
        disk::rename(&temporary, path).map_err(|error| StoreError::io(path, Step::Rename, error))
    });
    if written.is_err() {
        // The first error is the one to tell; what is left behind is swept at the next start.
        let _ = disk::remove(&temporary);
    }
    written
}

fn fill(path: &Path, file: &File, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
    write(path, file, bytes, mode)?;
    disk::sync(file).map_err(|error| StoreError::io(path, Step::Sync, error))
}

fn write(path: &Path, file: &File, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
    disk::write_all(file, bytes).map_err(|error| StoreError::io(path, Step::Write, error))?;
    disk::set_mode(file, mode).map_err(|error| StoreError::io(path, Step::SetMode, error))
}

fn create_temporary(path: &Path) -> Result<(PathBuf, File), StoreError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path
        .file_name()
        .ok_or_else(|| StoreError::io(path, Step::Create, io::Error::from(io::ErrorKind::InvalidInput)))?;
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for _ in 0..ATTEMPTS {
        let count = COUNTER.fetch_add(1, Ordering::Relaxed);
        let temporary = path.with_file_name(temporary_name(name, std::process::id(), count));
        match disk::create_new(CWD, &temporary) {
            Ok(file) => return Ok((temporary, file)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(StoreError::io(path, Step::Create, error)),
        }
    }
    Err(StoreError::io(path, Step::Create, last))
}

fn temporary_name(name: &OsStr, process: u32, count: u64) -> OsString {
    let mut temporary = OsString::from(".");
    temporary.push(name);
    temporary.push(format!(".{process}-{count}{TEMPORARY}"));
    temporary
}

/// Writes everything of the file system that holds `folder` to its disk: of many files cheaper than one by one.
///
/// # Errors
/// [`StoreError::Io`] when the folder can't be opened, or the disk refuses.
pub fn sync_file_system(folder: &Path) -> Result<(), StoreError> {
    let open = File::open(folder).map_err(|error| StoreError::io(folder, Step::Open, error))?;
    disk::sync_all(&open).map_err(|error| StoreError::io(folder, Step::Sync, error))
}

/// For a program that starts on a folder that is its own: what an earlier life left unsynced is made durable before it is
/// believed, and what that was writing when it ended is swept, in all folders below too. Says how many it swept.
///
/// # Errors
/// [`StoreError::Io`] when a folder can't be read, a file can't be removed, or the disk refuses.
pub fn settle(folder: &Path) -> Result<usize, StoreError> {
    sync_file_system(folder)?;
    let mut swept = 0;
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        swept += sweep_temporaries(&folder)?;
        let inspect = |error| StoreError::io(&folder, Step::Inspect, error);
        for entry in std::fs::read_dir(&folder).map_err(inspect)? {
            let entry = entry.map_err(inspect)?;
            if entry.file_type().map_err(inspect)?.is_dir() {
                folders.push(entry.path());
            }
        }
    }
    Ok(swept)
}

/// Whether a file of this name is one that is being written, or was when its writer ended.
#[must_use]
pub fn is_temporary(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b".") && name.ends_with(TEMPORARY.as_bytes())
}

/// Removes the temporary files that a crash left in `folder`, and says how many. Only for the folder's one owner
/// (see [`crate::Lock`]): another program's write in progress would be disturbed.
///
/// # Errors
/// [`StoreError::Io`] when the folder can't be read or a file can't be removed.
pub fn sweep_temporaries(folder: &Path) -> Result<usize, StoreError> {
    let inspect = |error| StoreError::io(folder, Step::Inspect, error);
    let mut swept = 0;
    for entry in std::fs::read_dir(folder).map_err(inspect)? {
        let entry = entry.map_err(inspect)?;
        if is_temporary(&entry.file_name()) {
            let path = entry.path();
            disk::remove(&path).map_err(|error| StoreError::io(&path, Step::Remove, error))?;
            swept += 1;
        }
    }
    Ok(swept)
}

/// Makes the folder `path`, and the ones above it that are missing, each with `mode`; each is on the disk before this
/// returns. A folder that is there already gets `mode` too, except those above `path`. A link at `path` is refused.
///
/// # Errors
/// [`StoreError::Io`] with the step that failed; `NotADirectory` when something else has the name.
pub fn create_folder(path: &Path, mode: u32) -> Result<(), StoreError> {
    let parent = folder_of(path);
    match disk::make_folder(CWD, path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound && parent != path => {
            // Somebody else who needs it too may have made it since.
            if !parent.exists() {
                create_folder(parent, mode)?;
            }
            match disk::make_folder(CWD, path) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(StoreError::io(path, Step::Create, error)),
            }
        }
        Err(error) => return Err(StoreError::io(path, Step::Create, error)),
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let folder: File = rustix::fs::openat(CWD, path, flags, Mode::empty())
        .map_err(|error| StoreError::io(path, Step::Open, error))?
        .into();
    // A umask applies to mkdir, so the mode is set on the open folder.
    disk::set_mode(&folder, mode).map_err(|error| StoreError::io(path, Step::SetMode, error))?;
    disk::sync(&folder).map_err(|error| StoreError::io(path, Step::Sync, error))?;
    sync_folder(parent).map_err(|error| at_folder_step(path, error))
}

/// Removes the file `path`; that it is gone is on the disk before this returns. Says whether it was there.
///
/// # Errors
/// [`StoreError::Io`] with the step that failed.
pub fn remove_file(path: &Path) -> Result<bool, StoreError> {
    match disk::remove(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StoreError::io(path, Step::Remove, error)),
    }
    sync_folder(folder_of(path)).map_err(|error| at_folder_step(path, error))?;
    Ok(true)
}

/// Removes the folder `path` and all in it; that it is gone is on the disk before this returns. Says whether it was there.
/// One that somebody writes in at the same time, or with read-only folders in it, may be left in part.
///
/// # Errors
/// [`StoreError::Io`] with the step that failed.
pub fn remove_folder(path: &Path) -> Result<bool, StoreError> {
    match disk::remove_tree(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(StoreError::io(path, Step::Remove, error)),
    }
    sync_folder(folder_of(path)).map_err(|error| at_folder_step(path, error))?;
    Ok(true)
}

/// Waits until the names in `folder` are on the disk.
///
/// # Errors
/// [`StoreError::Io`] when it can't be opened or synced.
pub fn sync_folder(folder: &Path) -> Result<(), StoreError> {
    let open = File::open(folder).map_err(|error| StoreError::io(folder, Step::Open, error))?;
    disk::sync(&open).map_err(|error| StoreError::io(folder, Step::Sync, error))
}

fn at_folder_step(path: &Path, error: StoreError) -> StoreError {
    match error {
        StoreError::Io { source, .. } => StoreError::io(path, Step::SyncFolder, source),
        other => other,
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

#[cfg(test)]
mod tests;
