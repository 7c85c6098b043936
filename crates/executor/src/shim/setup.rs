//! What a shim does to itself before it starts anything: it leaves its starter's session, gives up what it inherited,
//! and ties down what its program will inherit.

use super::order::{Order, Task};
use rustix::{
    fs::{Mode, OFlags},
    process::{DumpableBehavior, Resource, Rlimit},
};
use std::io;

/// Closes every descriptor above the three standard ones: a starter that left one open to its children must not hand it
/// to an app. To be called before anything is opened, while there is one thread.
pub(super) fn close_inherited() {
    let mut open: Vec<i32> = Vec::new();
    match std::fs::read_dir("/proc/self/fd") {
        Ok(entries) => {
            let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
            open.extend(names.filter_map(|name| name.parse::<i32>().ok()));
        }
        Err(_) => open.extend(3..1024),
    }
    for descriptor in open.into_iter().filter(|descriptor| *descriptor > 2) {
        // The one the listing itself used is closed already.
        let _ = nix::unistd::close(descriptor);
    }
}

/// The shim's own state, which its program inherits where that is possible.
pub(super) fn confine() -> io::Result<()> {
    // A starter that made the shim a group leader has no session to leave.
    let _ = rustix::process::setsid();
    rustix::process::umask(Mode::RWXG | Mode::RWXO);
    rustix::thread::set_no_new_privs(true)?;
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))?;
    limit(Resource::Core, 0)
}

/// What an order bounds of the program that this one is about to become.
pub(super) fn bound(order: &Order) -> io::Result<()> {
    if let Task::Command(_) = order.task {
        // What a command makes is often for others to read.
        rustix::process::umask(Mode::WGRP | Mode::WOTH);
    }
    if let Some(files) = order.open_files {
        limit(Resource::Nofile, files)?;
    }
    if let Some(processes) = order.processes {
        limit(Resource::Nproc, processes)?;
    }
    Ok(())
}

/// Nobody of the same user may look into the shim's memory or take its descriptors.
pub(super) fn close_to_inspection() -> io::Result<()> {
    Ok(rustix::process::set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// Sets both bounds; what was bounded lower from above stays so.
fn limit(resource: Resource, bound: u64) -> io::Result<()> {
    let highest = rustix::process::getrlimit(resource).maximum;
    let root = rustix::process::geteuid().is_root();
    let bound = if root { bound } else { highest.map_or(bound, |highest| highest.min(bound)) };
    Ok(rustix::process::setrlimit(resource, Rlimit { current: Some(bound), maximum: Some(bound) })?)
}

/// The order has been read and answered: the pipes to the starter are closed.
pub(super) fn let_go_of_stdio() -> io::Result<()> {
    let null = rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    Ok(rustix::stdio::dup2_stderr(&null)?)
}
