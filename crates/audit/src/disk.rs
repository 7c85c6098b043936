//! The few things that the record asks of a disk, so that a test can put in one that fails at any of them, and forgets
//! what was not synced.

use allod_store::{Lock, StoreError, create_folder, disk, remove_file, sweep_temporaries, write_atomic};
use rustix::fs::{CWD, Mode, OFlags};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
};

#[cfg(test)]
pub(crate) mod faulty;

/// A folder of files.
pub(crate) trait Disk: Send + Sync {
    /// The names of the files.
    fn names(&self) -> io::Result<Vec<String>>;
    /// Up to `length` bytes from `offset`; fewer only at the end.
    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>>;
    /// How long a file is, in bytes.
    fn size(&self, name: &str) -> io::Result<u64>;
    /// Opens a file for writing; makes it, durably, if it is not there.
    fn segment(&self, name: &str) -> io::Result<Box<dyn Segment>>;
    /// Gives a file this content, durably: the old or the new is there, whole.
    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()>;
    /// Removes a file, durably.
    fn remove(&self, name: &str) -> io::Result<()>;
}

/// A file that is being written.
pub(crate) trait Segment: Send {
    /// Sets room aside beyond the end without changing the size.
    fn allocate(&mut self, offset: u64, length: u64) -> io::Result<()>;
    /// Writes all bytes at `offset`, or fails having written some.
    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the file to `length`, and gives back room that was set aside.
    fn truncate(&mut self, length: u64) -> io::Result<()>;
    /// Waits until content and size are on the disk.
    fn sync(&mut self) -> io::Result<()>;
}

/// A real folder. With the lock, its one writer; without, a reader.
pub(crate) struct Folder {
    path: PathBuf,
    _lock: Option<Lock>,
}

impl Folder {
    pub(crate) fn to_write(path: &Path) -> Result<Self, StoreError> {
        create_folder(path, 0o700)?;
        let lock = Lock::take(path)?;
        sweep_temporaries(path)?;
        Ok(Self { path: path.to_owned(), _lock: Some(lock) })
    }

    pub(crate) fn to_read(path: &Path) -> Self {
        Self { path: path.to_owned(), _lock: None }
    }

    fn open(&self, name: &str, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::openat(CWD, self.path.join(name), flags, Mode::RUSR | Mode::WUSR)?.into())
    }
}

impl Disk for Folder {
    fn names(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&self.path)? {
            // A name that is no text is none of ours.
            names.extend(entry?.file_name().into_string());
        }
        Ok(names)
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        let file = self.open(name, OFlags::RDONLY)?;
        let left = file.metadata()?.len().saturating_sub(offset);
        let length = length.min(usize::try_from(left).unwrap_or(usize::MAX));
        let mut bytes = vec![0; length];
        let mut filled = 0;
        while let Some(rest) = bytes.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match file.read_at(rest, offset.saturating_add(u64::try_from(filled).unwrap_or(u64::MAX))) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        bytes.truncate(filled);
        Ok(bytes)
    }

    fn size(&self, name: &str) -> io::Result<u64> {
        Ok(self.open(name, OFlags::RDONLY)?.metadata()?.len())
    }

    fn segment(&self, name: &str) -> io::Result<Box<dyn Segment>> {
        let file = disk::open_or_create(&self.path.join(name))?;
        allod_store::sync_folder(&self.path).map_err(io_of)?;
        Ok(Box::new(OpenFile(file)))
    }

    fn replace(&self, name: &str, bytes: &[u8]) -> io::Result<()> {
        write_atomic(&self.path.join(name), bytes, 0o600).map_err(io_of)
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        remove_file(&self.path.join(name)).map_err(io_of).map(drop)
    }
}

fn io_of(error: StoreError) -> io::Error {
    match error {
        StoreError::Io { source, .. } => source,
        other => io::Error::other(other),
    }
}

struct OpenFile(File);

impl Segment for OpenFile {
    #[cfg(target_os = "linux")]
    fn allocate(&mut self, offset: u64, length: u64) -> io::Result<()> {
        Ok(rustix::fs::fallocate(&self.0, rustix::fs::FallocateFlags::KEEP_SIZE, offset, length)?)
    }

    #[cfg(not(target_os = "linux"))]
    fn allocate(&mut self, _offset: u64, _length: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        disk::write_all_at(&self.0, bytes, offset)
    }

    fn truncate(&mut self, length: u64) -> io::Result<()> {
        disk::set_length(&self.0, length)
    }

    fn sync(&mut self) -> io::Result<()> {
        disk::sync_content(&self.0)
    }
}
