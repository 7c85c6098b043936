//! Keeping an instance: its two streams go to its log, its processes are collected, and when its main process ends,
//! whatever else it started ends too. The exit is told, and kept until somebody says that it is known.

use super::{
    launcher::Launched,
    log::{Log, Stream},
    notify::Notify,
    order::Order,
    state::State,
    tree,
};
use crate::groups::Group;
use allod_daemon::clock::Clock;
use rustix::process::Signal;
use std::{
    io,
    os::unix::net::UnixListener,
    sync::{Arc, mpsc},
    time::{Duration, Instant},
};

/// How long an exit is kept for somebody to ask.
const KEPT: Duration = Duration::from_secs(24 * 60 * 60);
/// How long the last lines may take to be in the log.
const LAST_LINES: Duration = Duration::from_secs(2);

/// An instance, as all threads of its shim see it.
pub(super) struct Kept {
    pub(super) state: State,
    pub(super) log: Log,
}

/// Everything an instance needs around it, running.
pub(super) struct Keeper {
    kept: Arc<Kept>,
    clock: Clock,
    streams: mpsc::Receiver<()>,
    socket: Option<std::path::PathBuf>,
}

impl Keeper {
    /// Starts the threads of an instance.
    pub(super) fn begin(
        launched: Launched,
        log: std::path::PathBuf,
        notify: Option<Notify>,
        listener: UnixListener,
        order: &Order,
    ) -> io::Result<Self> {
        let clock = Clock::start();
        let Launched { running, out, err } = launched;
        let kept = Arc::new(Kept {
            state: State::new(running).in_group(Group::find(&order.group)),
            log: Log::new(log, clock),
        });
        let (done, streams) = mpsc::channel();
        for (stream, source) in [(Stream::Out, out), (Stream::Err, err)] {
            let (kept, done) = (kept.clone(), done.clone());
            super::spawn("log", move || {
                kept.log.follow(stream, source);
                let _ = done.send(());
            })?;
        }
        if let Some(notify) = notify {
            let kept = kept.clone();
            super::spawn("notify", move || {
                if notify.wait_ready().is_ok() {
                    kept.state.set_ready();
                }
            })?;
        }
        let socket = listener.local_addr().ok().and_then(|address| Some(address.as_pathname()?.to_owned()));
        let (serving, executor_uid) = (kept.clone(), order.executor_uid);
        super::spawn("control", move || super::control::serve(&serving, &listener, executor_uid))?;
        Ok(Self { kept, clock, streams, socket })
    }

    /// Stays until the instance is gone and somebody knows how it ended.
    pub(super) fn stay(self, order: &Order) {
        let exit = self.kept.state.collect();
        let end = Instant::now().checked_add(LAST_LINES);
        for _ in 0..2 {
            let left = end.map_or(LAST_LINES, |end| end.saturating_duration_since(Instant::now()));
            if self.streams.recv_timeout(left).is_err() {
                break;
            }
        }
        // What the app left there is the app's own; a failure to remove it harms nobody else.
        let _ = std::fs::remove_dir_all(&order.tmp);
        self.kept.state.set_exit(exit, self.clock.now().0);
        // Where the socket is gone, such as with the whole state folder, nobody will come to ask.
        self.kept.state.wait_bye(KEPT, || {
            self.socket.as_ref().is_none_or(|path| !matches!(path.try_exists(), Ok(false)))
        });
    }

    /// What can't be kept is not left running.
    pub(super) fn abandon(running: super::order::Running) {
        if let Some(group) = i32::try_from(running.pid).ok().and_then(rustix::process::Pid::from_raw) {
            let _ = rustix::process::kill_process_group(group, Signal::KILL);
        }
        tree::signal_descendants(std::process::id(), Signal::KILL);
    }
}
