//! Killing what a shim left behind when it died. Its program's orphans have fallen to the machine's first process, so
//! they are found by what they carry: their user, and the instance's or run's id in their environment.

use super::record::InstanceRecord;
use crate::shim::{
    order::Running,
    tree::{self, signal_if},
};
use rustix::process::Signal;
use std::{collections::BTreeSet, thread, time::Duration};

/// How often everything is looked through until nothing is found.
const ROUNDS: u32 = 50;

/// Kills the shim itself, if it is the one that was started.
pub(super) fn kill_shim(record: &InstanceRecord) {
    if let Some(shim) = record.shim {
        signal_if(shim.pid, Signal::KILL, |_| is_same(shim));
    }
}

/// Kills whatever is left of an instance whose shim is gone.
pub(super) fn kill(record: &InstanceRecord, boot: &str) {
    if record.boot != boot {
        return;
    }
    let marker = format!("ALLOD_INSTANCE={}", record.instance.id);
    let uid = record.instance.uid.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let main = record.running.filter(|running| is_same(*running));
    let group = main.map(|main| main.pid);
    until_none(|| {
        let ours = |pid: u32| {
            pid != std::process::id()
                && tree::uid(pid) == Some(uid)
                && (main.is_some_and(|main| main.pid == pid && is_same(main))
                    || in_group(pid, group)
                    || carries(pid, |variable| variable == marker))
        };
        kill_all(ours)
    });
}

/// Kills every process of a user that has only an app's processes.
pub(super) fn kill_user(uid: u32) {
    until_none(|| kill_all(|pid| tree::uid(pid) == Some(uid)));
}

/// Kills every process of one of these users.
pub(crate) fn kill_users(uids: &BTreeSet<u32>) {
    until_none(|| kill_all(|pid| tree::uid(pid).is_some_and(|uid| uids.contains(&uid))));
}

/// Kills every process that has one of these variables in its environment, and is this user's where one is named.
pub(crate) fn kill_carriers(markers: &BTreeSet<String>, uid: Option<u32>) {
    until_none(|| {
        kill_all(|pid| {
            pid != std::process::id()
                && uid.is_none_or(|uid| tree::uid(pid) == Some(uid))
                && carries(pid, |variable| markers.contains(variable))
        })
    });
}

fn until_none(mut round: impl FnMut() -> usize) {
    let mut quiet = false;
    for _ in 0..ROUNDS {
        let was_quiet = std::mem::replace(&mut quiet, round() == 0);
        // What was between fork and exec at the first look carries nothing yet.
        if quiet && was_quiet {
            return;
        }
        thread::sleep(Duration::from_millis(10));
    }
    tracing::warn!("processes of an app or a command could not be killed");
}

fn kill_all(ours: impl Fn(u32) -> bool) -> usize {
    let alive = |pid: u32| tree::stat(pid).is_some_and(|stat| !stat.is_dead());
    let pids = tree::all_pids().unwrap_or_default();
    pids.into_iter().filter(|pid| alive(*pid) && ours(*pid) && signal_if(*pid, Signal::KILL, &ours)).count()
}

/// Whether this very process still runs.
pub(super) fn is_same(running: Running) -> bool {
    tree::stat(running.pid).is_some_and(|stat| stat.start == running.start && !stat.is_dead())
}

fn in_group(pid: u32, group: Option<u32>) -> bool {
    group.is_some() && tree::stat(pid).map(|stat| stat.group) == group
}

fn carries(pid: u32, is_it: impl Fn(&str) -> bool) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|byte| *byte == 0).any(|variable| std::str::from_utf8(variable).is_ok_and(&is_it))
}
