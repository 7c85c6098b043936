//! Which hierarchies of control groups there are, and where in each this process is: `/proc/self/cgroup` and
//! `/proc/self/mountinfo`, read totally. Both may name anything; what does not fit together is passed over.
//! The forms: cgroups(7), proc_pid_mountinfo(5).

use std::{
    ffi::OsStr,
    os::unix::ffi::{OsStrExt as _, OsStringExt as _},
    path::{Component, Path, PathBuf},
};

/// Which of the two interfaces a hierarchy has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Version {
    /// One hierarchy a controller, or for a few together.
    One,
    /// One for all.
    Two,
}

/// A hierarchy that is mounted where this process can see its own group in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) version: Version,
    /// The controllers of a hierarchy of version 1. Those of version 2 are in its files.
    pub(super) controllers: Vec<String>,
    /// Where it is mounted.
    pub(super) mount: PathBuf,
    /// This process's own group, below `mount`; empty where it is at the top of what is mounted.
    pub(super) own: PathBuf,
}

/// One line of `/proc/self/cgroup`.
#[derive(Debug, PartialEq, Eq)]
struct Membership {
    controllers: Vec<String>,
    path: PathBuf,
}

/// One line of `/proc/self/mountinfo`, of a hierarchy of control groups.
#[derive(Debug, PartialEq, Eq)]
struct Mount {
    version: Version,
    root: PathBuf,
    point: PathBuf,
    options: Vec<String>,
}

/// Every hierarchy that this process is in and can reach, in the order of `/proc/self/cgroup`.
pub(super) fn parse(cgroup: &[u8], mountinfo: &[u8]) -> Vec<Place> {
    let mounts: Vec<Mount> = lines(mountinfo).filter_map(mount).collect();
    lines(cgroup).filter_map(membership).filter_map(|member| place(&member, &mounts)).collect()
}

fn place(member: &Membership, mounts: &[Mount]) -> Option<Place> {
    let version = if member.controllers.is_empty() { Version::Two } else { Version::One };
    let fits = |mount: &&Mount| {
        mount.version == version && member.controllers.iter().all(|name| mount.options.contains(name))
    };
    // Of several, the one that was mounted last: it may hide the others.
    mounts.iter().rev().filter(fits).find_map(|mount| {
        let own = member.path.strip_prefix(&mount.root).ok()?.to_path_buf();
        let (mount, controllers) = (mount.point.clone(), member.controllers.clone());
        Some(Place { version, controllers, mount, own })
    })
}

fn lines(text: &[u8]) -> impl Iterator<Item = &[u8]> {
    text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty())
}

/// `id:controllers:path`; a path may have a colon in it.
fn membership(line: &[u8]) -> Option<Membership> {
    let mut parts = line.splitn(3, |byte| *byte == b':');
    let id = number(parts.next()?)?;
    let controllers = std::str::from_utf8(parts.next()?).ok()?;
    let path = absolute(parts.next()?.to_vec())?;
    let controllers: Vec<String> =
        controllers.split(',').filter(|name| !name.is_empty()).map(str::to_owned).collect();
    // Version 2 is hierarchy 0, and only that has no controllers here.
    ((id == 0) == controllers.is_empty()).then_some(Membership { controllers, path })
}

/// `id parent major:minor root point options optional… - type source options`.
fn mount(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    number(fields.next()?)?;
    number(fields.next()?)?;
    fields.next()?;
    let root = absolute(unescape(fields.next()?))?;
    let point = absolute(unescape(fields.next()?))?;
    fields.next()?;
    fields.find(|field| *field == b"-")?;
    let version = match fields.next()? {
        b"cgroup" => Version::One,
        b"cgroup2" => Version::Two,
        _ => return None,
    };
    fields.next()?;
    let options = std::str::from_utf8(fields.next()?).ok()?;
    Some(Mount { version, root, point, options: options.split(',').map(str::to_owned).collect() })
}

fn number(text: &[u8]) -> Option<u32> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// Absolute, and nothing in it leads up: a group outside what this process may see is told as `/../elsewhere`, and one that
/// was removed has ` (deleted)` at its end.
fn absolute(bytes: Vec<u8>) -> Option<PathBuf> {
    let path = PathBuf::from(std::ffi::OsString::from_vec(bytes));
    let plain = path.components().all(|part| matches!(part, Component::RootDir | Component::Normal(_)));
    let deleted = path.as_os_str().as_bytes().ends_with(b" (deleted)");
    (path.is_absolute() && plain && !deleted && !path.as_os_str().as_bytes().contains(&0)).then_some(path)
}

/// `\040` is a space.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\').and_then(octal);
        out.push(octal.unwrap_or(*first));
        rest = if octal.is_some() { after.get(3..).unwrap_or_default() } else { after };
    }
    out
}

fn octal(digits: &[u8]) -> Option<u8> {
    let text = std::str::from_utf8(digits).ok()?;
    text.bytes().all(|digit| (b'0'..=b'7').contains(&digit)).then(|| u8::from_str_radix(text, 8).ok())?
}

/// A path of control groups as people write it, `/allod`: below where the hierarchy is mounted.
pub(super) fn below_mount(path: &Path) -> Option<PathBuf> {
    let path = absolute(OsStr::as_bytes(path.as_os_str()).to_vec())?;
    path.strip_prefix("/").ok().map(Path::to_path_buf)
}

#[cfg(test)]
mod tests;
