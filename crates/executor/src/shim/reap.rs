//! Collecting and killing: a shim is the one that orphans of its program fall to, so nothing the program starts is lost
//! from sight, and none of it outlives the program unasked.

use super::{
    state::{State, Stop},
    tree,
};
use rustix::process::{Signal, WaitId, WaitIdOptions, WaitOptions, WaitStatus, wait, waitid};
use std::{
    thread,
    time::{Duration, Instant},
};

/// How long what was killed may take to be gone.
const DYING: Duration = Duration::from_secs(10);

impl State {
    /// Waits for the end of the grace, and kills what is left then.
    pub(super) fn kill_when_overdue(&self) {
        if self.wait_stop() == Stop::Overdue {
            self.kill();
        }
    }

    /// SIGKILL to the group and everything below. Who is killed here is collected elsewhere.
    pub(super) fn kill(&self) {
        self.strike_group();
        self.signal_group(Signal::KILL);
        tree::signal_descendants(std::process::id(), Signal::KILL);
    }

    /// Collects processes until the main one and all it started are gone, and says how it ended. What outlives the main
    /// process is killed at once, unless a stop gave it time.
    pub(super) fn collect(&self) -> String {
        let mut ended = None;
        while ended.is_none() {
            // Only waits: collecting is under the state's lock, so that no signal goes to a pid that is free again.
            match waitid(WaitId::All, WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(_) => break,
            }
            self.collect_dead(&mut ended);
        }
        self.set_main_gone();
        self.clear_away(&mut ended);
        ended.map_or_else(|| "unknown".to_owned(), describe)
    }

    fn clear_away(&self, ended: &mut Option<WaitStatus>) {
        let mut killing: Option<Instant> = None;
        let mut pause = Duration::from_millis(1);
        while self.collect_dead(ended) {
            if self.may_kill() {
                self.strike_group();
                tree::signal_descendants(std::process::id(), Signal::KILL);
                if killing.get_or_insert_with(Instant::now).elapsed() > DYING {
                    return;
                }
            }
            thread::sleep(pause);
            pause = pause.saturating_mul(2).min(Duration::from_millis(50));
        }
    }

    /// Collects whatever has ended. Says whether anything is left.
    fn collect_dead(&self, ended: &mut Option<WaitStatus>) -> bool {
        self.collecting(|main| {
            loop {
                match wait(WaitOptions::NOHANG) {
                    Ok(Some((pid, status))) => {
                        if u32::try_from(pid.as_raw_nonzero().get()) == Ok(main.pid) {
                            *ended = Some(status);
                            return (true, true);
                        }
                    }
                    Ok(None) => return (false, true),
                    Err(rustix::io::Errno::INTR) => {}
                    Err(_) => return (false, false),
                }
            }
        })
    }
}

/// How a process ended, in words.
pub(super) fn describe(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => "unknown".to_owned(),
    }
}
