//! Room set aside: a file of really allocated blocks that is given up when the disk is full, so that the commands which
//! free the disk can still write their record.

use crate::{Step, StoreError, sync_folder};
use std::{
    fs::File,
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

const NAME: &str = "reserve";

/// Room set aside in a folder, on the disk that the state is on. Whether it is held is read from the disk each time,
/// so that every process sees the same.
#[derive(Debug, Clone)]
pub struct Reserve {
    path: PathBuf,
    size: u64,
}

impl Reserve {
    /// How much is set aside.
    pub const SIZE: u64 = 16 * 1024 * 1024;

    /// The reserve in `folder`. Nothing is allocated before [`Reserve::restore`].
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self::with_size(folder, Self::SIZE)
    }

    /// The same with another size in bytes.
    #[must_use]
    pub fn with_size(folder: &Path, size: u64) -> Self {
        Self { path: folder.join(NAME), size }
    }

    /// Gives the room back to the disk. Says whether there was any. When it returns, the room can be used.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the file can't be removed.
    pub fn spend(&self) -> Result<bool, StoreError> {
        self.remove()
    }

    /// Sets the room aside (again). Does nothing when it is set aside already.
    ///
    /// A caller that restores as soon as there is room just for the reserve has a full disk again at once: look at
    /// [`crate::free_bytes`] first.
    ///
    /// # Errors
    /// [`StoreError::Io`] when there is no room; nothing is left behind then.
    pub fn restore(&self) -> Result<(), StoreError> {
        if !self.is_spent()? {
            return Ok(());
        }
        self.remove()?;
        let file =
            File::create_new(&self.path).map_err(|error| StoreError::io(&self.path, Step::Create, error))?;
        let allocated = allocate(&file, self.size)
            .map_err(|error| StoreError::io(&self.path, Step::Allocate, error))
            .and_then(|()| file.sync_all().map_err(|error| StoreError::io(&self.path, Step::Sync, error)));
        if let Err(error) = allocated {
            let _ = self.remove();
            return Err(error);
        }
        self.path.parent().map_or(Ok(()), sync_folder)
    }

    // Not by `disk`: after a power cut it is looked at anew, so no state of it is wrong.
    fn remove(&self) -> Result<bool, StoreError> {
        match std::fs::remove_file(&self.path) {
            Ok(()) => self.path.parent().map_or(Ok(()), sync_folder).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(StoreError::io(&self.path, Step::Remove, error)),
        }
    }

    /// Whether less than the whole room is set aside.
    ///
    /// # Errors
    /// [`StoreError::Io`] when the disk does not say.
    pub fn is_spent(&self) -> Result<bool, StoreError> {
        match std::fs::symlink_metadata(&self.path) {
            // A file can have the size and no blocks; only blocks are room. `blocks` counts 512 bytes each.
            Ok(facts) => Ok(!facts.is_file() || facts.blocks().saturating_mul(512) < self.size),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(StoreError::io(&self.path, Step::Inspect, error)),
        }
    }
}

fn allocate(file: &File, size: u64) -> io::Result<()> {
    match fallocate(file, size) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => fill(file, size),
        done => done,
    }
}

#[cfg(target_os = "linux")]
fn fallocate(file: &File, size: u64) -> io::Result<()> {
    Ok(rustix::fs::fallocate(file, rustix::fs::FallocateFlags::empty(), 0, size)?)
}

#[cfg(not(target_os = "linux"))]
fn fallocate(_file: &File, _size: u64) -> io::Result<()> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Writes bytes that a compressing file system can't make smaller (xorshift64*, not for secrets).
fn fill(mut file: &File, size: u64) -> io::Result<()> {
    let mut state: u64 = 0x9e37_79b9_7f4a_7c15;
    let mut left = size;
    let mut block = Vec::with_capacity(64 * 1024);
    while left > 0 {
        block.clear();
        while block.len() < 64 * 1024 {
            state ^= state >> 12;
            state ^= state << 25;
            state ^= state >> 27;
            block.extend_from_slice(&state.wrapping_mul(0x2545_f491_4f6c_dd1d).to_le_bytes());
        }
        block.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        file.write_all(&block)?;
        left = left.saturating_sub(u64::try_from(block.len()).unwrap_or(left));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
