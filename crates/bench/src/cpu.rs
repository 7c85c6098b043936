//! What processes cost, from `/proc`: processor time and resident memory of a process and all below it.

use anyhow::{Context as _, Result};
use std::{collections::BTreeSet, fs, time::Duration};

/// `/proc` counts in hundredths of a second on every architecture (`USER_HZ`, proc(5)).
const TICK: Duration = Duration::from_millis(10);

/// The numbers after the name in `/proc/PID/stat`: the first is field 3, the state.
fn fields(pid: u32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name may hold spaces and parentheses.
    let (_, rest) = text.rsplit_once(')')?;
    Some(rest.split_ascii_whitespace().map(str::to_owned).collect())
}

fn number(fields: &[String], field: usize) -> u64 {
    fields.get(field - 3).and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn ticks(count: u64) -> Duration {
    TICK.saturating_mul(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The process and everything that descends from it.
pub(crate) fn tree(root: u32) -> BTreeSet<u32> {
    let all: Vec<(u32, u32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid| Some((pid, u32::try_from(number(&fields(pid)?, 4)).ok()?)))
        .collect();
    let mut found = BTreeSet::from([root]);
    loop {
        let more: Vec<u32> = all
            .iter()
            .filter(|(pid, parent)| found.contains(parent) && !found.contains(pid))
            .map(|(pid, _)| *pid)
            .collect();
        if more.is_empty() {
            return found;
        }
        found.extend(more);
    }
}

/// Processor time that these processes have used, user and system, without children that have ended.
pub(crate) fn used(pids: &BTreeSet<u32>) -> Duration {
    let of = |pid: &u32| fields(*pid).map(|all| number(&all, 14) + number(&all, 15)).unwrap_or(0);
    ticks(pids.iter().map(of).sum())
}

/// Processor time of children of this program that have ended and were waited for.
pub(crate) fn used_by_ended_children() -> Result<Duration> {
    let all = fields(std::process::id()).context("/proc/self/stat")?;
    Ok(ticks(number(&all, 16) + number(&all, 17)))
}

/// Processor time of this program.
pub(crate) fn used_here() -> Duration {
    used(&BTreeSet::from([std::process::id()]))
}

/// The most memory that a process has had so far, in bytes (`VmHWM`); 0 once it has ended.
pub(crate) fn most_memory(pid: u32) -> u64 {
    kibibytes(&format!("/proc/{pid}/status"), "VmHWM:") * 1024
}

fn kibibytes(file: &str, field: &str) -> u64 {
    let text = fs::read_to_string(file).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix(field));
    line.and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// As people read them: whole kibibytes are exact.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    f64::from(u32::try_from(bytes / 1024).unwrap_or(u32::MAX)) / 1024.0
}

/// Bytes of memory that are these processes' own or their share of what is shared (`Pss`).
pub(crate) fn memory(pids: &BTreeSet<u32>) -> u64 {
    pids.iter().map(|pid| kibibytes(&format!("/proc/{pid}/smaps_rollup"), "Pss:") * 1024).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_that_is_not_there_costs_nothing() {
        let nobody = BTreeSet::from([u32::MAX]);
        assert_eq!((used(&nobody), memory(&nobody)), (Duration::ZERO, 0));
        assert_eq!(most_memory(u32::MAX), 0);
    }

    #[test]
    fn this_program_is_in_its_own_tree_and_has_memory() {
        let own = tree(std::process::id());
        assert!(own.contains(&std::process::id()));
        assert!(memory(&own) > 100_000);
        let here = std::process::id();
        assert!(most_memory(here) > 100_000);
    }
}
