//! Shims that wait for a run, each with its launcher in a control group of its own. Making one takes a dozen milliseconds,
//! most of it the kernel's for moving a process; so that is done while nobody waits for it, once a first run has shown that
//! commands are run here.

use super::bounded;
use crate::{Executor, failure, groups::Group, shim::order::settle};
use allod_proto::Fault;
use std::{
    collections::VecDeque,
    io,
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::Stdio,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::process::{Child, Command};

/// How many wait.
const READY: usize = 2;

/// A shim that waits for its order. Dropped, it is killed.
#[derive(Debug)]
pub(super) struct Prepared {
    pub(super) shim: Child,
    /// Where it takes the sealed program from.
    pub(super) programs: UnixStream,
    pub(super) group: Option<Arc<Group>>,
}

/// Those that wait.
#[derive(Debug, Default)]
pub(super) struct Ready(Mutex<Shelf>);

#[derive(Debug, Default)]
struct Shelf {
    waiting: VecDeque<Prepared>,
    making: usize,
    closed: bool,
}

impl Ready {
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that waits and lives. Those that somebody has killed meanwhile are left to be ended.
    fn pop(&self) -> (Option<Prepared>, Vec<Prepared>) {
        let mut shelf = self.lock();
        let mut dead = Vec::new();
        while let Some(mut prepared) = shelf.waiting.pop_front() {
            if matches!(prepared.shim.try_wait(), Ok(None)) {
                return (Some(prepared), dead);
            }
            dead.push(prepared);
        }
        (None, dead)
    }

    /// Whether another one is to be made now, which is counted.
    fn begins_another(&self) -> bool {
        let mut shelf = self.lock();
        let wanted = !shelf.closed && shelf.waiting.len().saturating_add(shelf.making) < READY;
        shelf.making = shelf.making.saturating_add(usize::from(wanted));
        wanted
    }

    /// Puts down what was made; gives it back where it is not wanted any more.
    fn put(&self, made: Option<Prepared>) -> Option<Prepared> {
        let mut shelf = self.lock();
        shelf.making = shelf.making.saturating_sub(1);
        if shelf.closed {
            return made;
        }
        shelf.waiting.extend(made);
        None
    }

    /// Ends those that wait. No other one is made.
    pub(super) async fn close(&self) {
        let left: Vec<Prepared> = {
            let mut shelf = self.lock();
            shelf.closed = true;
            shelf.waiting.drain(..).collect()
        };
        for prepared in left {
            end(prepared).await;
        }
    }
}

/// One that waits, or a new one.
///
/// # Errors
/// What the kernel refuses.
pub(super) async fn take(executor: &Executor) -> Result<Prepared, Fault> {
    let (found, dead) = executor.named().ready.pop();
    for prepared in dead {
        end(prepared).await;
    }
    match found {
        Some(prepared) => Ok(prepared),
        None => prepare(executor).await,
    }
}

/// Makes as many as are missing, beside whatever else goes on.
pub(super) fn refill(executor: &Arc<Executor>) {
    if !executor.named().ready.begins_another() {
        return;
    }
    let executor = Arc::clone(executor);
    tokio::spawn(async move {
        loop {
            let made = prepare(&executor).await;
            let failed = made.is_err();
            if let Err(fault) = &made {
                tracing::warn!(%fault, "no shim could be prepared; the next run makes its own");
            }
            if let Some(late) = executor.named().ready.put(made.ok()) {
                end(late).await;
            }
            if failed || !executor.named().ready.begins_another() {
                return;
            }
        }
    });
}

/// Ends one that is not needed.
pub(super) async fn end(prepared: Prepared) {
    let Prepared { shim, programs, group } = prepared;
    drop((shim, programs));
    bounded::end(group).await;
}

async fn prepare(executor: &Executor) -> Result<Prepared, Fault> {
    let group = bounded::make(executor).await?;
    match start(executor, group.as_ref()).await {
        Ok((shim, programs)) => Ok(Prepared { shim, programs, group }),
        Err(fault) => {
            bounded::end(group).await;
            Err(fault)
        }
    }
}

async fn start(executor: &Executor, group: Option<&Arc<Group>>) -> Result<(Child, UnixStream), Fault> {
    let failed = |error: io::Error| failure::of_io("start a shim", &error);
    let (programs, theirs) = UnixStream::pair().map_err(failed)?;
    let binary = std::env::current_exe().map_err(failed)?;
    let mut shim = Command::new(binary)
        .arg("shim")
        .env_clear()
        .current_dir("/")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::from(OwnedFd::from(theirs)))
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)?;
    settle(&mut shim, executor.groups(), group).await?;
    Ok((shim, programs))
}
