//! The operations that change a disk, each one call of the system. What must last goes through here and nowhere else, so
//! that a test can write down what was done in which order, stop it anywhere, and ask what a power cut leaves
//! (`power_cut`, with the feature `test-support`). Without the feature nothing is written down.

use rustix::{
    fd::AsFd,
    fs::{AtFlags, CWD, Mode, OFlags},
};
use std::{
    fs::{File, Permissions},
    io::{self, Seek as _, Write as _},
    os::unix::fs::{FileExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// An operation on a disk, as it is written down. Paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    /// A folder was made.
    Folder {
        /// Its path.
        path: PathBuf,
    },
    /// A file was made, empty. Nothing, if it was there.
    Create {
        /// Its path.
        path: PathBuf,
    },
    /// Bytes were written to a file.
    Write {
        /// Its path.
        path: PathBuf,
        /// Where they begin.
        at: u64,
        /// The bytes.
        bytes: Vec<u8>,
    },
    /// A file was cut, or grew by zeros.
    Truncate {
        /// Its path.
        path: PathBuf,
        /// Its new length in bytes.
        length: u64,
    },
    /// A file or folder got a mode.
    Mode {
        /// Its path.
        path: PathBuf,
        /// The mode's lowest 12 bits.
        mode: u32,
    },
    /// A file's content, or the names in a folder, are on the disk.
    Sync {
        /// The path.
        path: PathBuf,
    },
    /// Everything is on the disk.
    SyncAll {
        /// A folder of the file system.
        path: PathBuf,
    },
    /// A name was changed; what had the new one has none any more.
    Rename {
        /// The old name.
        from: PathBuf,
        /// The new name.
        to: PathBuf,
    },
    /// A file got a second name.
    Link {
        /// The first.
        from: PathBuf,
        /// The second.
        to: PathBuf,
    },
    /// A symbolic link was made.
    Symlink {
        /// Its path.
        path: PathBuf,
        /// Where it leads.
        to: String,
    },
    /// A name was removed.
    Remove {
        /// The name.
        path: PathBuf,
    },
    /// A folder was removed, with all that was in it.
    RemoveTree {
        /// The folder.
        path: PathBuf,
    },
}

impl Operation {
    /// The path that it is about, or the new one.
    #[must_use]
    pub fn path(&self) -> &Path {
        match self {
            Self::Folder { path }
            | Self::Create { path }
            | Self::Write { path, .. }
            | Self::Truncate { path, .. }
            | Self::Mode { path, .. }
            | Self::Sync { path }
            | Self::SyncAll { path }
            | Self::Symlink { path, .. }
            | Self::Remove { path }
            | Self::RemoveTree { path } => path,
            Self::Rename { to, .. } | Self::Link { to, .. } => to,
        }
    }
}

#[cfg(any(test, feature = "test-support"))]
use crate::power_cut::noted;

#[cfg(not(any(test, feature = "test-support")))]
fn noted<T>(_what: impl FnOnce() -> Operation, act: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    act()
}

/// Makes a file that was not there, 0600, through no link at its name.
///
/// # Errors
/// What the system says.
pub fn create_new(folder: impl AsFd, name: &Path) -> io::Result<File> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let what = || Operation::Create { path: below(&folder, name) };
    noted(what, || Ok(rustix::fs::openat(&folder, name, flags, Mode::RUSR | Mode::WUSR)?.into()))
}

/// Opens a file for reading and writing, and makes it, 0600, if it was not there; through no link at its name.
///
/// # Errors
/// What the system says.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let what = || Operation::Create { path: path.to_owned() };
    noted(what, || Ok(rustix::fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)?.into()))
}

/// Writes all bytes where the file's position is.
///
/// # Errors
/// What the system says; some may have been written then.
pub fn write_all(file: &File, bytes: &[u8]) -> io::Result<()> {
    let mut writer = file;
    let what = || {
        let mut reader = file;
        let at = reader.stream_position().unwrap_or_default();
        Operation::Write { path: path_of(file), at, bytes: bytes.to_vec() }
    };
    noted(what, || writer.write_all(bytes))
}

/// Writes all bytes at `at`.
///
/// # Errors
/// What the system says; some may have been written then.
pub fn write_all_at(file: &File, bytes: &[u8], at: u64) -> io::Result<()> {
    let what = || Operation::Write { path: path_of(file), at, bytes: bytes.to_vec() };
    noted(what, || file.write_all_at(bytes, at))
}

/// Cuts the file to this many bytes.
///
/// # Errors
/// What the system says.
pub fn set_length(file: &File, length: u64) -> io::Result<()> {
    noted(|| Operation::Truncate { path: path_of(file), length }, || file.set_len(length))
}

/// Gives an open file or folder a mode; by descriptor, so that nothing can take its place in between.
///
/// # Errors
/// What the system says.
pub fn set_mode(open: &File, mode: u32) -> io::Result<()> {
    let mode = mode & 0o7777;
    let what = || Operation::Mode { path: path_of(open), mode };
    noted(what, || open.set_permissions(Permissions::from_mode(mode)))
}

/// Waits until a file, or the names in a folder, are on the disk.
///
/// # Errors
/// What the system says; nobody knows what is on the disk then.
pub fn sync(open: &File) -> io::Result<()> {
    noted(|| Operation::Sync { path: path_of(open) }, || open.sync_all())
}

/// The same without times and the like: content and size.
///
/// # Errors
/// What the system says; nobody knows what is on the disk then.
pub fn sync_content(open: &File) -> io::Result<()> {
    noted(|| Operation::Sync { path: path_of(open) }, || open.sync_data())
}

/// Waits until the whole file system of something open is on the disk.
///
/// # Errors
/// What the system says.
pub fn sync_all(open: impl AsFd) -> io::Result<()> {
    let what = || Operation::SyncAll { path: path_of(&open) };
    noted(what, || sync_file_system_of(&open))
}

#[cfg(target_os = "linux")]
fn sync_file_system_of(open: impl AsFd) -> io::Result<()> {
    Ok(rustix::fs::syncfs(open)?)
}

#[cfg(not(target_os = "linux"))]
fn sync_file_system_of(_open: impl AsFd) -> io::Result<()> {
    // There is no call for one file system.
    rustix::fs::sync();
    Ok(())
}

/// Makes a folder that was not there, 0700 at most.
///
/// # Errors
/// What the system says.
pub fn make_folder(folder: impl AsFd, name: &Path) -> io::Result<()> {
    let what = || Operation::Folder { path: below(&folder, name) };
    noted(what, || Ok(rustix::fs::mkdirat(&folder, name, Mode::RWXU)?))
}

/// Makes a symbolic link.
///
/// # Errors
/// What the system says.
pub fn make_link(to: &str, folder: impl AsFd, name: &Path) -> io::Result<()> {
    let what = || Operation::Symlink { path: below(&folder, name), to: to.to_owned() };
    noted(what, || Ok(rustix::fs::symlinkat(to, &folder, name)?))
}

/// Gives the file `old` in one folder a second name in another.
///
/// # Errors
/// What the system says.
pub fn link(from: impl AsFd, old: &Path, to: impl AsFd, name: &Path) -> io::Result<()> {
    let what = || Operation::Link { from: below(&from, old), to: below(&to, name) };
    noted(what, || Ok(rustix::fs::linkat(&from, old, &to, name, AtFlags::empty())?))
}

/// Gives a file or folder another name in the same folder.
///
/// # Errors
/// What the system says.
pub fn rename(from: &Path, to: &Path) -> io::Result<()> {
    let what = || Operation::Rename { from: from.to_owned(), to: to.to_owned() };
    noted(what, || std::fs::rename(from, to))
}

/// Removes a name that is not a folder's.
///
/// # Errors
/// What the system says.
pub fn remove(path: &Path) -> io::Result<()> {
    let what = || Operation::Remove { path: path.to_owned() };
    noted(what, || Ok(rustix::fs::unlinkat(CWD, path, AtFlags::empty())?))
}

/// Removes a folder and all in it, through no link.
///
/// # Errors
/// What the system says; some of it may be gone then.
pub fn remove_tree(path: &Path) -> io::Result<()> {
    let what = || Operation::RemoveTree { path: path.to_owned() };
    noted(what, || std::fs::remove_dir_all(path))
}

/// Where something open lies.
fn path_of(open: impl AsFd) -> PathBuf {
    use std::os::fd::AsRawFd as _;
    let number = open.as_fd().as_raw_fd();
    std::fs::read_link(format!("/proc/self/fd/{number}")).unwrap_or_default()
}

fn below(folder: impl AsFd, name: &Path) -> PathBuf {
    if name.is_absolute() { name.to_owned() } else { path_of(folder).join(name) }
}
