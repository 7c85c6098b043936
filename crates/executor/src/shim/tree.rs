//! The processes of an instance, as `/proc` tells them. A pid found there may belong to another process a moment later,
//! so signals go through descriptors of processes, checked again after opening.

use rustix::{
    io::Errno,
    process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    os::unix::fs::MetadataExt as _,
};

/// What `/proc/<pid>/stat` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stat {
    pub(crate) state: char,
    pub(crate) parent: u32,
    pub(crate) group: u32,
    /// Clock ticks after boot.
    pub(crate) start: u64,
}

impl Stat {
    /// Whether it only waits to be collected.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

/// What there is of a process; `None` when there is no such process.
pub(crate) fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &[u8]) -> Option<Stat> {
    // The name in parentheses may itself have spaces and parentheses; the last one ends it.
    let end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(end.checked_add(1)?..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let group = fields.next()?.parse().ok()?;
    // Field 22 of proc_pid_stat(5); the state is field 3.
    let start = fields.nth(16)?.parse().ok()?;
    Some(Stat { state, parent, group, start })
}

/// The uid of a process: of the owner of its folder, which is root's for one that may not be inspected.
pub(crate) fn uid(pid: u32) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_ascii_whitespace().next()?.parse().ok()
}

/// Every process of the machine.
pub(crate) fn all_pids() -> io::Result<Vec<u32>> {
    let names = fs::read_dir("/proc")?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter_map(|name| name.parse().ok()).collect())
}

/// The children of a process, of all its threads; dead ones that nobody collected yet among them. `None` where the
/// kernel does not list children.
fn children(pid: u32) -> Option<Vec<u32>> {
    let mut found = Vec::new();
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Some(found) };
    for thread in threads.filter_map(Result::ok) {
        match fs::read_to_string(thread.path().join("children")) {
            Ok(text) => found.extend(text.split_ascii_whitespace().filter_map(|pid| pid.parse::<u32>().ok())),
            // The thread has ended, or no thread has such a list.
            Err(_) if thread.path().exists() => return None,
            Err(_) => {}
        }
    }
    Some(found)
}

/// Parent and children, of the whole machine.
fn families() -> BTreeMap<u32, Vec<u32>> {
    let mut families: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for pid in all_pids().unwrap_or_default() {
        if let Some(stat) = stat(pid) {
            families.entry(stat.parent).or_default().push(pid);
        }
    }
    families
}

/// Everything below a process that lives, not itself.
pub(crate) fn descendants(pid: u32) -> BTreeSet<u32> {
    let mut families_at_once = None;
    let mut children = |pid: u32| {
        children(pid).unwrap_or_else(|| {
            families_at_once.get_or_insert_with(families).get(&pid).cloned().unwrap_or_default()
        })
    };
    let mut found = BTreeSet::new();
    let mut open = children(pid);
    while let Some(next) = open.pop() {
        if found.insert(next) {
            open.extend(children(next));
        }
    }
    found.retain(|pid| stat(*pid).is_some_and(|stat| !stat.is_dead()));
    found
}

/// Sends a signal to a process, if `still` holds for it once its pid can't be reused any more.
/// Says whether the signal was sent.
pub(crate) fn signal_if(pid: u32, signal: Signal, still: impl Fn(u32) -> bool) -> bool {
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else { return false };
    match pidfd_open(raw, PidfdFlags::empty()) {
        Ok(process) => still(pid) && pidfd_send_signal(&process, signal).is_ok(),
        // A kernel before 5.3 or a filter: the moment between look and kill is all there is.
        Err(Errno::NOSYS | Errno::PERM) => still(pid) && rustix::process::kill_process(raw, signal).is_ok(),
        Err(_) => false,
    }
}

/// Sends a signal to everything below `root`. Says how many got it.
pub(crate) fn signal_descendants(root: u32, signal: Signal) -> usize {
    let found = descendants(root);
    // A descendant's parent is `root` or another descendant; one that has found another parent is none of ours.
    let ours = |pid: u32| stat(pid).is_some_and(|stat| stat.parent == root || found.contains(&stat.parent));
    found.iter().filter(|pid| signal_if(**pid, signal, ours)).count()
}

/// The inodes of the sockets a process has open; none when it may not be inspected.
pub(crate) fn socket_inodes(pid: u32) -> Vec<u64> {
    let Ok(entries) = fs::read_dir(format!("/proc/{pid}/fd")) else { return Vec::new() };
    let inode = |entry: io::Result<fs::DirEntry>| {
        let target = fs::read_link(entry.ok()?.path()).ok()?;
        target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
    };
    entries.filter_map(inode).collect()
}

/// Whether a path is a regular file that somebody may run.
pub(crate) fn is_program(path: &std::path::Path) -> bool {
    fs::metadata(path).is_ok_and(|facts| facts.is_file() && facts.mode() & 0o111 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_parentheses_and_spaces_does_not_shift_the_fields() {
        let line = b"42 (a) S 1 (b) x) R 7 8 9 0 -1 4194304 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
        assert_eq!(parse_stat(line), Some(Stat { state: 'R', parent: 7, group: 8, start: 987_654 }));
        assert_eq!(parse_stat(b"42 (a"), None);
        assert_eq!(parse_stat(b"42 (a) R 1"), None);
        assert_eq!(parse_stat(b""), None);
    }

    #[test]
    fn a_signal_is_not_sent_to_a_process_that_is_not_the_expected_one() {
        let me = std::process::id();
        assert!(!signal_if(me, Signal::KILL, |_| false));
        assert!(!signal_if(0, Signal::KILL, |_| true));
        assert!(!signal_if(u32::MAX, Signal::KILL, |_| true));
    }

    #[test]
    fn a_process_knows_itself() {
        let me = std::process::id();
        assert!(all_pids().unwrap().contains(&me));
        assert!(!stat(me).unwrap().is_dead());
        assert_eq!(uid(me), Some(rustix::process::getuid().as_raw()));
    }
}
