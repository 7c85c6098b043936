//! Synced writes: a temporary file beside the real one, complete and on the disk before it takes the real name.
//! What is not complete never has the real name, and is readable by its owner only.

use crate::{Step, StoreError};
use rustix::fs::{AtFlags, CWD, Mode, OFlags};
use std::{
    ffi::{OsStr, OsString},
    fs::{File, Permissions},
    io::{self, Write as _},
    os::unix::fs::PermissionsExt as _,
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
        std::fs::rename(&temporary, path).map_err(|error| StoreError::io(path, Step::Rename, error))
    });
    if let Err(error) = written {
        // The first error is the one to tell; what is left behind is swept at the next start.
        let _ = std::fs::remove_file(&temporary);
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
    let (temporary, mut file) = create_temporary(path)?;
    let written = file
        .write_all(bytes)
        .map_err(|error| StoreError::io(path, Step::Write, error))
        .and_then(|()| set_mode(&file, mode).map_err(|error| StoreError::io(path, Step::SetMode, error)))
        .and_then(|()| {
            std::fs::rename(&temporary, path).map_err(|error| StoreError::io(path, Step::Rename, error))
        });
    if written.is_err() {
        // The first error is the one to tell; what is left behind is swept at the next start.
        let _ = std::fs::remove_file(&temporary);
    }
    written
}

fn fill(path: &Path, mut file: &File, bytes: &[u8], mode: u32) -> Result<(), StoreError> {
    file.write_all(bytes).map_err(|error| StoreError::io(path, Step::Write, error))?;
    set_mode(file, mode).map_err(|error| StoreError::io(path, Step::SetMode, error))?;
    file.sync_all().map_err(|error| StoreError::io(path, Step::Sync, error))
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
        match create_new(&temporary) {
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

/// Makes a file that was not there, 0600, through no link.
pub(crate) fn create_new(path: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)?.into())
}

/// Writes everything of the file system that holds `folder` to its disk: of many files cheaper than one by one.
///
/// # Errors
/// [`StoreError::Io`] when the folder can't be opened, or the disk refuses.
pub fn sync_file_system(folder: &Path) -> Result<(), StoreError> {
    let open = File::open(folder).map_err(|error| StoreError::io(folder, Step::Open, error))?;
    rustix::fs::syncfs(&open).map_err(|error| StoreError::io(folder, Step::Sync, error))
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
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if name.starts_with(b".") && name.ends_with(TEMPORARY.as_bytes()) {
            let path = entry.path();
            std::fs::remove_file(&path).map_err(|error| StoreError::io(&path, Step::Remove, error))?;
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
    match rustix::fs::mkdirat(CWD, path, Mode::RWXU) {
        Ok(()) => {}
        Err(rustix::io::Errno::EXIST) => {}
        Err(rustix::io::Errno::NOENT) if parent != path => {
            // Somebody else who needs it too may have made it since.
            if !parent.exists() {
                create_folder(parent, mode)?;
            }
            match rustix::fs::mkdirat(CWD, path, Mode::RWXU) {
                Ok(()) | Err(rustix::io::Errno::EXIST) => {}
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
    set_mode(&folder, mode).map_err(|error| StoreError::io(path, Step::SetMode, error))?;
    folder.sync_all().map_err(|error| StoreError::io(path, Step::Sync, error))?;
    sync_folder(parent).map_err(|error| at_folder_step(path, error))
}

/// Removes the file `path`; that it is gone is on the disk before this returns. Says whether it was there.
///
/// # Errors
/// [`StoreError::Io`] with the step that failed.
pub fn remove_file(path: &Path) -> Result<bool, StoreError> {
    match rustix::fs::unlinkat(CWD, path, AtFlags::empty()) {
        Ok(()) => {}
        Err(rustix::io::Errno::NOENT) => return Ok(false),
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
    open.sync_all().map_err(|error| StoreError::io(folder, Step::Sync, error))
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

/// By descriptor, so that nothing can take the file's place in between.
fn set_mode(file: &File, mode: u32) -> io::Result<()> {
    file.set_permissions(Permissions::from_mode(mode & 0o7777))
}

#[cfg(test)]
mod tests;
