//! Keeps the programs running while something else is awaited, and stops them in order. It starts nothing itself: how a
//! program is started is [`Launch`]'s to know.

mod replacing;

use super::{interrupts::Interrupts, program::Program, restarts::Restarts};
use replacing::{Replacing, Step};
use rustix::process::{Pid, Signal, kill_process_group};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::{Future, poll_fn},
    io,
    process::ExitStatus,
    rc::Rc,
    task::Poll,
    time::Duration,
};
use tokio::{process::Child, time::Instant};

/// How long an agent whose executor died may take to end.
const REPLACED: Duration = Duration::from_millis(1500);
/// How often it is looked whether what a program needs is there.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// How long killed programs may take to be gone.
const KILLED: Duration = Duration::from_secs(5);

/// Starts programs.
pub(super) trait Launch {
    /// Starts `program` as the leader of a process group of its own.
    fn launch(&mut self, program: Program) -> io::Result<Child>;

    /// From now on starts the binary as it is now.
    fn renew(&mut self) -> io::Result<()>;

    /// Whether what it needs is there. Until it is, it is not started, and nobody is told.
    fn may_start(&self, program: Program) -> bool;
}

/// What a person may want to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Event {
    /// It runs.
    Started {
        program: Program,
        pid: u32,
        /// Whether it ran before.
        again: bool,
    },
    /// It ended without being asked to.
    Ended { program: Program, how: String, again_in: Duration },
    /// It could not be started.
    CouldNotStart { program: Program, why: String, again_in: Duration },
    /// Another process does its work from now on; the old one ends when it has served what it has.
    Replaced { program: Program, pid: u32, retiring: Option<u32> },
    /// Another process was to do its work, and won't: the old one goes on.
    NotReplaced { program: Program, why: String },
    /// One that was replaced has ended.
    Retired { program: Program, how: String },
    /// It is being stopped.
    Stopping { program: Program },
    /// It did not end by itself.
    Killed { program: Program },
}

/// The process ids of what runs, for others to look at while the supervisor is busy.
pub(super) type Pids = Rc<RefCell<BTreeMap<Program, u32>>>;

/// The programs and how each stands.
pub(super) struct Supervisor<L> {
    launch: L,
    parts: Vec<Part>,
    pids: Pids,
    tell: Box<dyn FnMut(Event)>,
    replacing: Option<Replacing>,
}

struct Part {
    program: Program,
    state: State,
    restarts: Restarts,
    ran_before: bool,
}

enum State {
    Running {
        child: Box<Child>,
        since: Instant,
        /// It was told to end because it must be started anew, and is killed at this moment.
        replaced_by: Option<Instant>,
    },
    Waiting {
        until: Instant,
    },
    Stopped,
}

impl<L: Launch> Supervisor<L> {
    /// With nothing started yet.
    pub(super) fn new(launch: L, programs: &[Program], tell: impl FnMut(Event) + 'static) -> Self {
        let part = |program: &Program| Part {
            program: *program,
            state: State::Waiting { until: Instant::now() },
            restarts: Restarts::default(),
            ran_before: false,
        };
        Self {
            launch,
            parts: programs.iter().map(part).collect(),
            pids: Pids::default(),
            tell: Box::new(tell),
            replacing: None,
        }
    }

    /// What starts the programs.
    pub(super) fn launcher(&self) -> &L {
        &self.launch
    }

    /// The process ids of what runs, kept up to date.
    pub(super) fn pids(&self) -> Pids {
        Rc::clone(&self.pids)
    }

    /// The process ids of what runs now.
    pub(super) fn running(&self) -> Vec<(Program, u32)> {
        self.parts.iter().filter_map(|part| Some((part.program, part.pid()?))).collect()
    }

    /// Keeps everything running until `until` is done.
    pub(super) async fn run_until<T>(&mut self, until: impl Future<Output = T>) -> T {
        tokio::pin!(until);
        loop {
            self.start_what_is_due();
            self.kill_what_is_overdue();
            let next = self.next_moment();
            tokio::select! {
                biased;
                done = &mut until => return done,
                (index, status) = next_end(&mut self.parts) => self.ended(index, &status),
                step = next_step(&mut self.replacing) => self.replace(step),
                () = tokio::time::sleep_until(next) => {}
            }
        }
    }

    fn start_what_is_due(&mut self) {
        let now = Instant::now();
        for index in 0..self.parts.len() {
            let may_start = self.parts.get(index).is_some_and(|part| self.may_start(part.program));
            let Some(part) = self.parts.get_mut(index) else { return };
            let is_due = matches!(part.state, State::Waiting { until } if until <= now);
            if !is_due || !may_start {
                continue;
            }
            match self.launch.launch(part.program) {
                Ok(child) => {
                    let pid = child.id().unwrap_or_default();
                    self.pids.borrow_mut().insert(part.program, pid);
                    part.state = State::Running { child: Box::new(child), since: now, replaced_by: None };
                    let again = std::mem::replace(&mut part.ran_before, true);
                    (self.tell)(Event::Started { program: part.program, pid, again });
                }
                Err(error) => {
                    let again_in = part.restarts.wait_after(Duration::ZERO);
                    part.state = State::Waiting { until: now + again_in };
                    let why = error.to_string();
                    (self.tell)(Event::CouldNotStart { program: part.program, why, again_in });
                }
            }
        }
    }

    /// An agent without an executor has nobody to talk to; it follows as soon as there is one.
    fn may_start(&self, program: Program) -> bool {
        let executor_runs =
            || self.parts.iter().any(|part| part.program == Program::Executor && part.pid().is_some());
        self.launch.may_start(program) && (program != Program::Agent || executor_runs())
    }

    fn kill_what_is_overdue(&mut self) {
        let now = Instant::now();
        for part in &mut self.parts {
            if matches!(part.state, State::Running { replaced_by: Some(at), .. } if at <= now) {
                part.signal(Signal::KILL);
            }
        }
    }

    fn next_moment(&self) -> Instant {
        let far = Instant::now() + Duration::from_secs(3600);
        let moments = self.parts.iter().filter_map(|part| match part.state {
            // Nobody tells when it is there.
            State::Waiting { .. } if !self.launch.may_start(part.program) => {
                Some(Instant::now() + LOOK_AGAIN)
            }
            State::Waiting { .. } if !self.may_start(part.program) => None,
            State::Waiting { until } => Some(until),
            State::Running { replaced_by, .. } => replaced_by,
            State::Stopped => None,
        });
        // What was killed and is not gone yet is looked at again a little later, not at once.
        let soon = Instant::now() + Duration::from_millis(20);
        moments.min().unwrap_or(far).max(soon.min(far))
    }

    fn ended(&mut self, index: usize, status: &io::Result<ExitStatus>) {
        let Some(part) = self.parts.get_mut(index) else { return };
        let (lived, replaced) = match &part.state {
            State::Running { since, replaced_by, .. } => (since.elapsed(), replaced_by.is_some()),
            State::Waiting { .. } | State::Stopped => return,
        };
        let program = part.program;
        self.pids.borrow_mut().remove(&program);
        let again_in = if replaced { Duration::ZERO } else { part.restarts.wait_after(lived) };
        part.state = State::Waiting { until: Instant::now() + again_in };
        (self.tell)(Event::Ended { program, how: in_words(status), again_in });
        if program == Program::Executor {
            self.replace_agent();
        }
    }

    /// The agent's connection leads nowhere now. It is told to end and gets a fresh one.
    fn replace_agent(&mut self) {
        for part in self.parts.iter_mut().filter(|part| part.program == Program::Agent) {
            part.signal(Signal::TERM);
            if let State::Running { replaced_by, .. } = &mut part.state {
                *replaced_by = Some(Instant::now() + REPLACED);
            }
        }
    }

    /// Stops everything in order. A second interrupt kills what is left at once.
    pub(super) async fn stop(&mut self, interrupts: &Interrupts) {
        for part in &mut self.parts {
            if matches!(part.state, State::Waiting { .. }) {
                part.state = State::Stopped;
            }
        }
        for program in Program::LAST_TO_FIRST {
            if self.parts.iter().any(|part| part.program == program && part.pid().is_some()) {
                (self.tell)(Event::Stopping { program });
                self.stop_one(program, interrupts).await;
            }
        }
    }

    async fn stop_one(&mut self, program: Program, interrupts: &Interrupts) {
        let before = self.replacing.as_mut().filter(|_| program == Program::Proxy).map(Replacing::take_all);
        let mut before = before.unwrap_or_default();
        before.iter().for_each(|child| signal_group(child.id(), Signal::TERM));
        let Some(part) = self.parts.iter_mut().find(|part| part.program == program) else { return };
        part.signal(Signal::TERM);
        let State::Running { child, .. } = &mut part.state else { return };
        let ended = tokio::select! {
            () = all_end(child, &mut before) => true,
            () = tokio::time::sleep(program.grace()) => false,
            () = interrupts.at_least(2) => false,
        };
        if !ended {
            part.signal(Signal::KILL);
            before.iter().for_each(|child| signal_group(child.id(), Signal::KILL));
            (self.tell)(Event::Killed { program });
        }
        if let State::Running { child, .. } = &mut part.state {
            // A process that even SIGKILL can't end hangs in the kernel; nothing is gained by hanging with it.
            let _ = tokio::time::timeout(KILLED, all_end(child, &mut before)).await;
        }
        part.state = State::Stopped;
    }
}

impl Part {
    /// The process id, until its end has been seen.
    fn pid(&self) -> Option<u32> {
        match &self.state {
            State::Running { child, .. } => child.id(),
            State::Waiting { .. } | State::Stopped => None,
        }
    }

    /// Signals the program and what it started in its group. Its id can't be another's: the end has not been seen yet.
    fn signal(&self, signal: Signal) {
        signal_group(self.pid(), signal);
    }
}

fn signal_group(pid: Option<u32>, signal: Signal) {
    if let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()).and_then(Pid::from_raw) {
        // It may have ended this moment.
        let _ = kill_process_group(pid, signal);
    }
}

/// Returns when the program and those that it replaced have ended.
async fn all_end(child: &mut Child, before: &mut [Child]) {
    // Whatever the status, it has ended.
    let _ = child.wait().await.is_ok();
    for child in before {
        let _ = child.wait().await.is_ok();
    }
}

async fn next_step(replacing: &mut Option<Replacing>) -> Step {
    match replacing {
        Some(replacing) => poll_fn(|cx| replacing.poll(cx)).await,
        None => std::future::pending().await,
    }
}

/// The next of the running programs to end.
async fn next_end(parts: &mut [Part]) -> (usize, io::Result<ExitStatus>) {
    poll_fn(|cx| {
        for (index, part) in parts.iter_mut().enumerate() {
            if let State::Running { child, .. } = &mut part.state {
                let waiting = std::pin::pin!(child.wait());
                if let Poll::Ready(status) = waiting.poll(cx) {
                    return Poll::Ready((index, status));
                }
            }
        }
        Poll::Pending
    })
    .await
}

fn in_words(status: &io::Result<ExitStatus>) -> String {
    use std::os::unix::process::ExitStatusExt as _;
    match status {
        Ok(status) => match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, Some(signal)) => format!("signal {signal}"),
            (None, None) => "an unknown status".to_owned(),
        },
        Err(error) => error.to_string(),
    }
}

#[cfg(test)]
mod tests;
