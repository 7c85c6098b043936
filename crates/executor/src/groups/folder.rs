//! One control group, as a folder that was opened once: everything is done from its descriptor, with names that Allod made,
//! and no link is followed. What is not on a file system of control groups is not opened at all.

use super::places::Version;
use crate::shim::tree;
use rustix::{
    fs::{
        AtFlags, CWD, Dir, FileType, Mode, OFlags, ResolveFlags, fgetxattr, fstatfs, mkdirat, openat,
        openat2, unlinkat,
    },
    io::Errno,
    process::Signal,
};
use std::{
    fs::File,
    io::{self, Read as _, Write as _},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

/// `f_type` of the two file systems, statfs(2).
const MAGIC: [(Version, i64); 2] = [(Version::One, 0x0027_e0eb), (Version::Two, 0x6367_7270)];
/// The most that is read of one file of the kernel's.
const MOST: u64 = 4 * 1024 * 1024;
/// How deep groups below a run's own are looked for. Only a program with root's rights can make any.
const DEPTH: u32 = 16;

/// An open group.
#[derive(Debug)]
pub(super) struct Folder {
    fd: OwnedFd,
    pub(super) path: PathBuf,
    pub(super) version: Version,
}

impl Folder {
    /// Opens a group by its absolute path.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let fd = openat2(CWD, path, flags(), Mode::empty(), ResolveFlags::NO_SYMLINKS)?;
        let kind = i128::from(fstatfs(&fd)?.f_type);
        let version = MAGIC.iter().find(|(_, magic)| i128::from(*magic) == kind).map(|(version, _)| *version);
        let version = version.ok_or_else(|| io::Error::other("no control group"))?;
        Ok(Self { fd, path: path.to_path_buf(), version })
    }

    /// A group below this one; empty is itself.
    pub(super) fn below(&self, relative: &Path) -> io::Result<Self> {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let name = if relative.as_os_str().is_empty() { Path::new(".") } else { relative };
        let fd = openat2(&self.fd, name, flags(), Mode::empty(), resolve)?;
        Ok(Self { fd, path: self.path.join(relative), version: self.version })
    }

    /// Makes a group below this one, where it is not there yet.
    pub(super) fn make(&self, name: &str) -> io::Result<Self> {
        match mkdirat(&self.fd, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(Errno::EXIST) => self.below(Path::new(name)),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a group below this one, and what was made in it. Nothing may run there any more.
    pub(super) fn remove(&self, name: &str) -> io::Result<()> {
        self.remove_to(name, DEPTH)
    }

    /// Removes a group below this one if nothing is in it, not even another group.
    pub(super) fn remove_empty(&self, name: &str) -> io::Result<()> {
        Ok(unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    fn remove_to(&self, name: &str, depth: u32) -> io::Result<()> {
        match unlinkat(&self.fd, name, AtFlags::REMOVEDIR) {
            Ok(()) | Err(Errno::NOENT) => return Ok(()),
            Err(Errno::BUSY | Errno::NOTEMPTY) if depth > 0 => {}
            Err(error) => return Err(error.into()),
        }
        let inner = self.below(Path::new(name))?;
        for child in inner.children()? {
            inner.remove_to(&child, depth.saturating_sub(1))?;
        }
        Ok(unlinkat(&self.fd, name, AtFlags::REMOVEDIR)?)
    }

    /// The names of the groups directly below; one that is no text was not made by Allod, and is left out.
    pub(super) fn children(&self) -> io::Result<Vec<String>> {
        let mut names = Vec::new();
        for entry in Dir::read_from(&self.fd)? {
            let entry = entry?;
            let name = entry.file_name().to_str().unwrap_or(".");
            if entry.file_type() == FileType::Directory && !matches!(name, "." | "..") {
                names.push(name.to_owned());
            }
        }
        Ok(names)
    }

    /// Whether the kernel has this file here.
    pub(super) fn has(&self, file: &str) -> bool {
        rustix::fs::statat(&self.fd, file, AtFlags::SYMLINK_NOFOLLOW).is_ok()
    }

    pub(super) fn read(&self, file: &str) -> io::Result<String> {
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mut text = String::new();
        File::from(openat(&self.fd, file, flags, Mode::empty())?).take(MOST).read_to_string(&mut text)?;
        Ok(text)
    }

    pub(super) fn write(&self, file: &str, text: &str) -> io::Result<()> {
        let flags = OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        File::from(openat(&self.fd, file, flags, Mode::empty())?).write_all(text.as_bytes())
    }

    /// The number after a word in one of the kernel's files of words and numbers.
    pub(super) fn count(&self, file: &str, word: &str) -> Option<u64> {
        let text = self.read(file).ok()?;
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(word)?.strip_prefix(' ')?.trim().parse().ok())
    }

    /// Whether somebody has handed this group, and what is below, to who runs in it: systemd's `Delegate=`.
    pub(super) fn is_delegated(&self) -> bool {
        ["user.delegate", "trusted.delegate"].iter().any(|name| {
            let mut value = [0_u8; 8];
            fgetxattr(&self.fd, *name, &mut value)
                .is_ok_and(|size| value.get(..size).is_some_and(|value| value == b"1"))
        })
    }

    /// Puts a process here, with all its threads.
    pub(super) fn take(&self, pid: u32) -> io::Result<()> {
        self.write("cgroup.procs", &pid.to_string())
    }

    /// Every process here and below. One of another pid namespace has no number here, and is 0.
    pub(super) fn pids(&self) -> io::Result<Vec<u32>> {
        let mut found = Vec::new();
        self.collect_pids(&mut found, DEPTH)?;
        found.retain(|pid| *pid != 0);
        Ok(found)
    }

    /// Those directly here.
    pub(super) fn own_pids(&self) -> io::Result<Vec<u32>> {
        let text = self.read("cgroup.procs")?;
        Ok(text.lines().filter_map(|line| line.trim().parse().ok()).collect())
    }

    fn collect_pids(&self, found: &mut Vec<u32>, depth: u32) -> io::Result<()> {
        found.extend(self.own_pids()?);
        for child in if depth > 0 { self.children()? } else { Vec::new() } {
            // One that is gone has nobody in it.
            if let Ok(child) = self.below(Path::new(&child)) {
                child.collect_pids(found, depth.saturating_sub(1))?;
            }
        }
        Ok(())
    }

    /// SIGKILL to all here and below, each checked again once its number can't be another's.
    pub(super) fn signal_all(&self) {
        let me = std::process::id();
        for pid in self.pids().unwrap_or_default() {
            let still = |pid: u32| self.pids().is_ok_and(|pids| pids.contains(&pid));
            if pid != me {
                tree::signal_if(pid, Signal::KILL, still);
            }
        }
    }
}

fn flags() -> OFlags {
    OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC
}
