//! Processes by id, as `/proc` tells them: who descends from whom, and making sure that all are gone.

use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use std::{
    collections::BTreeSet,
    time::{Duration, Instant},
};

/// How long anything that is awaited may take on a slow shared machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

fn as_pid(pid: u32) -> Pid {
    Pid::from_raw(i32::try_from(pid).unwrap()).unwrap()
}

/// Sends a signal to exactly this process.
pub(crate) fn signal(pid: u32, signal: Signal) {
    // One that is gone already needs no signal.
    let _ = kill_process(as_pid(pid), signal);
}

/// Whether the process is there and not only waiting to be collected.
pub(crate) fn is_alive(pid: u32) -> bool {
    let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else { return false };
    let state =
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().next()).map(str::to_owned);
    test_kill_process(as_pid(pid)) != Err(rustix::io::Errno::SRCH)
        && !matches!(state.as_deref(), Some("Z" | "X"))
}

/// Every process that descends from this one.
pub(crate) fn descendants(root: u32) -> BTreeSet<u32> {
    let all: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .unwrap()
        .filter_map(|entry| {
            let pid: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            let parent = stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(1)?.parse().ok()?;
            Some((pid, parent))
        })
        .collect();
    let mut found = BTreeSet::new();
    let mut open = vec![root];
    while let Some(parent) = open.pop() {
        for (pid, _) in all.iter().filter(|(_, of)| *of == parent) {
            if found.insert(*pid) {
                open.push(*pid);
            }
        }
    }
    found
}

/// Every process of this program whose first argument is this word.
pub(crate) fn running(program: &str, word: &str) -> Vec<u32> {
    let is_it = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let mut words = line.split(|byte| *byte == 0);
        words.next() == Some(program.as_bytes()) && words.next() == Some(word.as_bytes()) && is_alive(*pid)
    };
    let all = std::fs::read_dir("/proc").unwrap();
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(is_it).collect()
}

/// Kills what is left of these, and says which needed it.
pub(crate) fn kill_left(pids: &BTreeSet<u32>) -> Vec<u32> {
    let left: Vec<u32> = pids.iter().copied().filter(|pid| is_alive(*pid)).collect();
    for pid in &left {
        signal(*pid, Signal::KILL);
    }
    left
}

/// Tries until there is something, or panics with what was awaited.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    within(PATIENCE, what, async || look().await).await
}

/// The same within a bound that is itself what is tested.
pub(crate) async fn within<T>(bound: Duration, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begin.elapsed() < bound, "not within {bound:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
