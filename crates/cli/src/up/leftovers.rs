//! What outlives the program that started it becomes a child of the supervisor, which collects the dead and, at the end,
//! leaves nothing behind.

use rustix::process::{Pid, Signal, WaitOptions, kill_process, set_child_subreaper, waitpid};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use tokio::signal::unix::{SignalKind, signal};

const ROUNDS: u32 = 100;
const BETWEEN: Duration = Duration::from_millis(20);

/// From now on orphans of our programs are ours, not those of process 1.
pub(super) fn adopt() -> rustix::io::Result<()> {
    set_child_subreaper(Some(rustix::process::getpid()))
}

/// Collects dead orphans as they come. Only those of other sessions: a shim leads its own, and our own children, which
/// are waited for elsewhere, are in ours.
pub(super) async fn keep_collecting() {
    let (Ok(mut deaths), Ok(session)) = (signal(SignalKind::child()), rustix::process::getsid(None)) else {
        return;
    };
    let session = u32::try_from(session.as_raw_nonzero().get()).unwrap_or_default();
    while deaths.recv().await.is_some() {
        collect(session);
    }
}

fn collect(our_session: u32) {
    let ours = std::process::id();
    for process in processes() {
        if process.parent == ours
            && process.is_dead
            && process.session != our_session
            && let Some(pid) = as_pid(process.pid)
        {
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
    }
}

/// Kills everything that descends from this process, and says how many there were.
pub(super) async fn kill_all() -> usize {
    let mut killed = BTreeSet::new();
    for _ in 0..ROUNDS {
        let left = descendants(&processes(), std::process::id());
        if left.is_empty() {
            break;
        }
        for process in &left {
            let Some(pid) = as_pid(process.pid) else { continue };
            if process.is_dead {
                let _ = waitpid(Some(pid), WaitOptions::NOHANG);
            } else if kill_process(pid, Signal::KILL).is_ok() {
                killed.insert(process.pid);
            }
        }
        tokio::time::sleep(BETWEEN).await;
    }
    killed.len()
}

fn as_pid(pid: u32) -> Option<Pid> {
    i32::try_from(pid).ok().and_then(Pid::from_raw)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Process {
    pid: u32,
    parent: u32,
    session: u32,
    is_dead: bool,
}

fn processes() -> Vec<Process> {
    let Ok(entries) = std::fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| {
            let pid = entry.ok()?.file_name().to_str()?.parse().ok()?;
            parse_stat(pid, &std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
        })
        .collect()
}

/// proc_pid_stat(5): the name stands in parentheses and may itself contain some.
fn parse_stat(pid: u32, stat: &str) -> Option<Process> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    let is_dead = matches!(fields.next()?, "Z" | "X");
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some(Process { pid, parent, session, is_dead })
}

fn descendants(all: &[Process], root: u32) -> Vec<Process> {
    let mut children: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
    for process in all {
        children.entry(process.parent).or_default().push(*process);
    }
    let mut found = Vec::new();
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        for child in children.remove(&parent).unwrap_or_default() {
            open.push(child.pid);
            found.push(child);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_made_to_confuse_does_not() {
        let odd = "77 (a) S 1 ) Z 42 77 78 0";
        assert_eq!(parse_stat(77, odd), Some(Process { pid: 77, parent: 42, session: 78, is_dead: true }));
        assert_eq!(parse_stat(1, "1 (systemd"), None);
        assert_eq!(parse_stat(1, ""), None);
    }

    #[test]
    fn descendants_are_found_through_generations_and_nobody_else() {
        let process = |pid, parent| Process { pid, parent, session: 1, is_dead: false };
        let all = [process(1, 0), process(2, 1), process(3, 2), process(4, 3), process(5, 1), process(6, 5)];
        let mut found: Vec<u32> = descendants(&all, 2).iter().map(|process| process.pid).collect();
        found.sort_unstable();
        assert_eq!(found, [3, 4]);
    }
}
