//! What all threads of a shim share: how its program stands, and a bell that rings whenever that changes.

use super::order::{Running, Status};
use crate::groups::Group;
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    sync::{Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often it is looked whether anybody could still come.
const LOOK: Duration = Duration::from_secs(2);

pub(super) struct State {
    inner: Mutex<Inner>,
    bell: Condvar,
    /// The program's control group, where this shim may kill it.
    group: Group,
}

struct Inner {
    status: Status,
    /// Counts the changes, so that none is missed between looking and waiting.
    changes: u64,
    main_gone: bool,
    stop_at: Option<Instant>,
    /// A stop was asked: until `stop_at` nothing is killed.
    gentle: bool,
    overdue: bool,
    bye: bool,
}

/// What a wait ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The main process is gone.
    Gone,
    /// The time to kill has come.
    Overdue,
}

impl State {
    pub(super) fn new(running: Running) -> Self {
        let status = Status { running, ready: false, exit: None, ended_at: None, dropped_lines: 0 };
        let inner = Inner {
            status,
            changes: 0,
            main_gone: false,
            stop_at: None,
            gentle: false,
            overdue: false,
            bye: false,
        };
        Self { inner: Mutex::new(inner), bell: Condvar::new(), group: Group::find(&[]) }
    }

    /// The same, with the program in a control group.
    pub(super) fn in_group(self, group: Group) -> Self {
        Self { group, ..self }
    }

    /// SIGKILL to whatever is in the program's control group.
    pub(super) fn strike_group(&self) {
        self.group.strike();
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        change(&mut inner);
        inner.changes = inner.changes.wrapping_add(1);
        self.bell.notify_all();
    }

    pub(super) fn status(&self, dropped_lines: u64) -> (Status, u64) {
        let inner = self.lock();
        (Status { dropped_lines, ..inner.status.clone() }, inner.changes)
    }

    pub(super) fn set_ready(&self) {
        self.change(|inner| inner.status.ready = true);
    }

    pub(super) fn set_main_gone(&self) {
        self.change(|inner| inner.main_gone = true);
    }

    /// Rings the bell.
    pub(super) fn ring(&self) {
        self.change(|_| {});
    }

    /// Does something that may collect the main process, and says whether it did. Under the lock, so that
    /// [`Self::signal_group`] never meets a group that belongs to somebody else by now.
    pub(super) fn collecting<T>(&self, collect: impl FnOnce(Running) -> (bool, T)) -> T {
        let mut inner = self.lock();
        let (main_gone, result) = collect(inner.status.running);
        inner.main_gone |= main_gone;
        result
    }

    /// Sends a signal to the program's process group, unless its main process is gone.
    pub(super) fn signal_group(&self, signal: Signal) {
        let inner = self.lock();
        let group = i32::try_from(inner.status.running.pid).ok().and_then(Pid::from_raw);
        if let (false, Some(group)) = (inner.main_gone, group) {
            // Gone already is as good.
            let _ = kill_process_group(group, signal);
        }
    }

    pub(super) fn set_exit(&self, exit: String, at: u64) {
        self.change(|inner| {
            inner.status.exit = Some(exit);
            inner.status.ended_at = Some(at);
        });
    }

    /// Says bye, which counts only after the exit. Says whether it counted.
    pub(super) fn say_bye(&self) -> bool {
        let mut counted = false;
        self.change(|inner| {
            inner.bye = inner.bye || inner.status.exit.is_some();
            counted = inner.bye;
        });
        counted
    }

    /// Asks for an end at `at`, or earlier if that was asked before. Says whether this is the first to ask.
    pub(super) fn ask_stop(&self, at: Instant) -> bool {
        let mut first = false;
        self.change(|inner| {
            first = inner.stop_at.is_none();
            inner.stop_at = Some(inner.stop_at.map_or(at, |earlier| earlier.min(at)));
            inner.gentle = true;
        });
        first
    }

    /// The program may run until `at`, or until an earlier end; there is no gentle stop.
    pub(super) fn ask_end(&self, at: Instant) {
        self.change(|inner| inner.stop_at = Some(inner.stop_at.map_or(at, |earlier| earlier.min(at))));
    }

    /// Whether the program ran into its end.
    pub(super) fn was_overdue(&self) -> bool {
        self.lock().overdue
    }

    /// Whether whatever is left may be killed now: nobody asked for a gentle stop, or its time is over.
    pub(super) fn may_kill(&self) -> bool {
        let inner = self.lock();
        !inner.gentle || inner.stop_at.is_none_or(|at| at <= Instant::now())
    }

    /// Waits until the main process is gone or the time to kill has come.
    pub(super) fn wait_stop(&self) -> Stop {
        let mut inner = self.lock();
        loop {
            if inner.main_gone {
                return Stop::Gone;
            }
            let left = inner.stop_at.map(|at| at.saturating_duration_since(Instant::now()));
            match left {
                Some(Duration::ZERO) => {
                    inner.overdue = true;
                    return Stop::Overdue;
                }
                left => inner = self.sleep(inner, left.unwrap_or(Duration::from_secs(3600))),
            }
        }
    }

    /// Waits for a change after `seen`.
    pub(super) fn wait_change(&self, seen: u64) {
        let mut inner = self.lock();
        while inner.changes == seen {
            inner = self.sleep(inner, Duration::from_secs(3600));
        }
    }

    /// Waits for bye, but no longer than `longest`, and no longer than anybody could come to say it.
    pub(super) fn wait_bye(&self, longest: Duration, reachable: impl Fn() -> bool) {
        let end = Instant::now().checked_add(longest);
        let mut inner = self.lock();
        while !inner.bye && reachable() {
            let left = end.map_or(longest, |end| end.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return;
            }
            inner = self.sleep(inner, left.min(LOOK));
        }
    }

    fn sleep<'a>(&self, inner: MutexGuard<'a, Inner>, longest: Duration) -> MutexGuard<'a, Inner> {
        self.bell.wait_timeout(inner, longest).unwrap_or_else(PoisonError::into_inner).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state() -> State {
        State::new(Running { pid: 1, start: 1 })
    }

    #[test]
    fn bye_before_the_exit_is_not_heeded() {
        let state = state();
        assert!(!state.say_bye());
        state.set_exit("exit status 0".to_owned(), 5);
        assert!(state.say_bye());
        state.wait_bye(Duration::from_secs(3600), || true);
    }

    #[test]
    fn an_end_without_a_stop_gives_no_time_to_what_is_left_over() {
        let state = state();
        state.ask_end(Instant::now() + Duration::from_secs(3600));
        assert!(state.may_kill());
        assert!(!state.was_overdue());
    }

    #[test]
    fn a_later_stop_may_shorten_the_grace_and_never_lengthen_it() {
        let state = state();
        let now = Instant::now();
        assert!(state.may_kill(), "nobody asked for a gentle end");
        assert!(state.ask_stop(now + Duration::from_secs(3600)));
        assert!(!state.may_kill());
        assert!(!state.ask_stop(now));
        assert!(!state.ask_stop(now + Duration::from_secs(7200)));
        assert!(state.may_kill());
        assert_eq!(state.wait_stop(), Stop::Overdue);
        state.set_main_gone();
        assert_eq!(state.wait_stop(), Stop::Gone);
    }

    #[test]
    fn a_change_between_looking_and_waiting_is_not_missed() {
        let state = state();
        let (_, seen) = state.status(0);
        state.set_ready();
        state.wait_change(seen);
        assert!(state.status(7).0.ready);
        assert_eq!(state.status(7).0.dropped_lines, 7);
    }
}
