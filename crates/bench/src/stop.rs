//! Ctrl-C and SIGTERM set a flag; whatever waits looks at it and gives up, and what was started is ended on the way out.

use anyhow::{Context as _, Result};
use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};
use tokio::signal::unix::{SignalKind, signal};

static REQUESTED: AtomicBool = AtomicBool::new(false);
/// How often a wait looks at the flag.
pub(crate) const TICK: Duration = Duration::from_millis(10);

/// Somebody pressed Ctrl-C.
#[derive(Debug)]
struct Stopped;

impl std::fmt::Display for Stopped {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stopped")
    }
}

impl std::error::Error for Stopped {}

/// From now on signals set the flag instead of ending the program.
pub(crate) fn heed_signals() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (mut interrupt, mut terminate) = {
        let _inside = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    let heed = move || {
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {} _ = terminate.recv() => {} }
            REQUESTED.store(true, Ordering::SeqCst);
        });
    };
    thread::Builder::new().name("signals".to_owned()).spawn(heed).context("a thread for signals")?;
    Ok(())
}

/// Fails once a stop was asked for.
pub(crate) fn check() -> Result<()> {
    if REQUESTED.load(Ordering::SeqCst) { Err(Stopped.into()) } else { Ok(()) }
}

/// Whether this is what [`check`] fails with.
pub(crate) fn is(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.is::<Stopped>())
}

/// Does what may take long, and gives it up when a stop is asked for.
pub(crate) async fn unless_asked<T>(does: impl Future<Output = Result<T>>) -> Result<T> {
    let asked = async {
        while check().is_ok() {
            tokio::time::sleep(TICK).await;
        }
    };
    tokio::select! {
        done = does => done,
        () = asked => Err(Stopped.into()),
    }
}

/// Waits, unless a stop is asked for.
pub(crate) fn pause(how_long: Duration) -> Result<()> {
    let begun = Instant::now();
    while let Some(left) = how_long.checked_sub(begun.elapsed()).filter(|left| !left.is_zero()) {
        check()?;
        thread::sleep(left.min(TICK));
    }
    check()
}
