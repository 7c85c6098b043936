//! Shims that wait for a run, each with its launcher in a control group of its own. Making one takes a dozen milliseconds,
//! most of it the kernel's for moving a process; so that is done while nothing runs, once a first run has shown that
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
    time::{Duration, Instant},
};
use tokio::process::{Child, Command};

/// How many wait.
const READY: usize = 2;
/// How long after a run the next ones are prepared.
const QUIET: Duration = Duration::from_millis(15);

/// What is done next so that enough wait.
enum Next {
    Make,
    Wait,
    End,
}

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
    /// Somebody sees to it that there are enough.
    is_refilled: bool,
    /// When a run last needed one, or ended.
    used_at: Option<Instant>,
    closed: bool,
}

impl Ready {
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// One that waits and lives. Those that somebody has killed meanwhile are left to be ended.
    fn pop(&self) -> (Option<Prepared>, Vec<Prepared>) {
        let mut shelf = self.lock();
        shelf.used_at = Some(Instant::now());
        let mut dead = Vec::new();
        while let Some(mut prepared) = shelf.waiting.pop_front() {
            if matches!(prepared.shim.try_wait(), Ok(None)) {
                return (Some(prepared), dead);
            }
            dead.push(prepared);
        }
        (None, dead)
    }

    /// A run has ended. Whether nobody sees to it yet that there are enough for the next.
    fn begins(&self) -> bool {
        let mut shelf = self.lock();
        shelf.used_at = Some(Instant::now());
        !std::mem::replace(&mut shelf.is_refilled, true)
    }

    /// What whoever sees to it does next. With the end they let go of it.
    fn next(&self) -> Next {
        let mut shelf = self.lock();
        if shelf.closed || shelf.waiting.len() >= READY {
            shelf.is_refilled = false;
            return Next::End;
        }
        if shelf.used_at.is_some_and(|at| at.elapsed() < QUIET) { Next::Wait } else { Next::Make }
    }

    /// Puts down what was made; gives it back where it is not wanted any more.
    fn put(&self, made: Prepared) -> Option<Prepared> {
        let mut shelf = self.lock();
        if shelf.closed {
            return Some(made);
        }
        shelf.waiting.push_back(made);
        None
    }

    /// None can be made now; the next run tries again.
    fn give_up(&self) {
        self.lock().is_refilled = false;
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

/// A run has ended: makes as many as are missing, once nothing ran for a moment. While a process is moved to another group, the
/// kernel lets none begin or end.
pub(super) fn refill(executor: &Arc<Executor>) {
    if !executor.named().ready.begins() {
        return;
    }
    let executor = Arc::clone(executor);
    tokio::spawn(async move {
        let ready = &executor.named().ready;
        loop {
            match ready.next() {
                Next::End => return,
                Next::Wait => tokio::time::sleep(QUIET).await,
                Next::Make => match prepare(&executor).await {
                    Ok(made) => {
                        if let Some(late) = ready.put(made) {
                            end(late).await;
                        }
                    }
                    Err(fault) => {
                        tracing::warn!(%fault, "no shim could be prepared; the next run makes its own");
                        return ready.give_up();
                    }
                },
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
