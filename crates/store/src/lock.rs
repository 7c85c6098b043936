//! One owner of a folder at a time: an advisory lock on a file in it, that the system gives back when the owner dies.

use crate::{Step, StoreError};
use rustix::fs::{CWD, FlockOperation, Mode, OFlags};
use std::{
    fs::File,
    io::{Read as _, Seek as _, Write as _},
    path::{Path, PathBuf},
};

const NAME: &str = "lock";

/// The right to write in a folder, held until dropped. The lock file stays: removing it would let two owners in.
#[derive(Debug)]
pub struct Lock {
    _file: File,
    folder: PathBuf,
}

impl Lock {
    /// Takes the lock of `folder` without waiting.
    ///
    /// # Errors
    /// [`StoreError::Locked`] with the owner's process id; [`StoreError::Io`] when the lock file can't be used.
    pub fn take(folder: &Path) -> Result<Self, StoreError> {
        let path = folder.join(NAME);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut file: File = rustix::fs::openat(CWD, &path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|error| StoreError::io(&path, Step::Open, error))?
            .into();
        match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => {
                return Err(StoreError::Locked { path: folder.to_owned(), holder: holder(&mut file) });
            }
            Err(error) => return Err(StoreError::io(&path, Step::Lock, error)),
        }
        // Only a courtesy to whoever is refused, so it may fail: on a full disk the owner must still start.
        let _ = file.set_len(0).and_then(|()| file.rewind());
        let _ = writeln!(file, "{}", std::process::id());
        Ok(Self { _file: file, folder: folder.to_owned() })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn holder(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(16).read_to_string(&mut text).ok()?;
    text.trim_end().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_is_refused_with_the_first_ones_process_id() {
        let folder = tempfile::tempdir().unwrap();
        let _held = Lock::take(folder.path()).unwrap();
        match Lock::take(folder.path()) {
            Err(StoreError::Locked { holder, path }) => {
                assert_eq!(holder, Some(std::process::id()));
                assert_eq!(path, folder.path());
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_lock_file_that_is_a_link_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let victim = folder.path().join("victim");
        std::fs::write(&victim, "kept").unwrap();
        std::os::unix::fs::symlink(&victim, folder.path().join(NAME)).unwrap();
        assert!(Lock::take(folder.path()).is_err());
        assert_eq!(std::fs::read_to_string(victim).unwrap(), "kept");
    }

    #[test]
    fn a_lock_that_was_given_back_can_be_taken() {
        let folder = tempfile::tempdir().unwrap();
        drop(Lock::take(folder.path()).unwrap());
        let again = Lock::take(folder.path()).unwrap();
        assert_eq!(again.folder(), folder.path());
    }
}
