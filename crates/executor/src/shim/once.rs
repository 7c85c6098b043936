//! Running a command to its end: a release command or a health check. It ends with its time, or with the executor that
//! asked for it.

use super::{
    keep::Keeper,
    launcher::Launched,
    log::{Lines, Log, Stream},
    order::{Order, Ran},
    state::State,
};
use crate::groups::Group;
use allod_daemon::clock::Clock;
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, Read},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::{Duration, Instant},
};

/// How many of the last lines are kept.
const TAIL: usize = 40;
/// How much of each line is kept, in bytes.
const TAIL_LINE: usize = 2000;
/// How long the last lines may take to come.
pub(super) const LAST_LINES: Duration = Duration::from_secs(2);

#[derive(Default)]
struct Tail(Mutex<VecDeque<String>>);

impl Tail {
    fn push(&self, line: &[u8]) {
        let mut tail = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if tail.len() == TAIL {
            tail.pop_front();
        }
        let line = line.get(..TAIL_LINE).unwrap_or(line);
        tail.push_back(String::from_utf8_lossy(line).into_owned());
    }

    fn follow(&self, stream: Stream, mut source: impl Read, log: Option<&Log>) {
        let mut lines = Lines::default();
        let mut part = vec![0; 16 * 1024];
        let take = |line: &[u8]| {
            self.push(line);
            if let Some(log) = log {
                log.write(stream, &[line.to_vec()]);
            }
        };
        loop {
            match source.read(&mut part) {
                Ok(0) => break,
                Ok(size) => lines.push(part.get(..size).unwrap_or_default(), take),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
        lines.finish(take);
    }
}

/// Waits for the end of a launched command. When `lifeline` ends, nobody waits for the answer any more.
pub(super) fn finish(
    launched: Launched,
    order: &Order,
    timeout: Duration,
    log: Option<PathBuf>,
    lifeline: File,
) -> Result<Ran, String> {
    let Launched { running, out, err } = launched;
    let clock = Clock::start();
    let log = log.map(|path| Arc::new(Log::new(path, clock)));
    let state = Arc::new(State::new(running).in_group(Group::find(&order.group)));
    let begin = || -> io::Result<_> {
        let tail = Arc::new(Tail::default());
        let (done, streams) = mpsc::channel();
        for (stream, source) in [(Stream::Out, out), (Stream::Err, err)] {
            let (tail, done, log) = (tail.clone(), done.clone(), log.clone());
            super::spawn("tail", move || {
                tail.follow(stream, source, log.as_deref());
                let _ = done.send(());
            })?;
        }
        watch(&state, timeout, lifeline)?;
        Ok((tail, streams))
    };
    let (tail, streams) = match begin() {
        Ok(begun) => begun,
        Err(error) => {
            Keeper::abandon(running);
            return Err(format!("can't watch the command: {error}"));
        }
    };
    let exit = state.collect();
    for _ in 0..2 {
        if streams.recv_timeout(LAST_LINES).is_err() {
            break;
        }
    }
    let _ = std::fs::remove_dir_all(&order.tmp);
    let exit = if state.was_overdue() { "timeout".to_owned() } else { exit };
    let tail = std::mem::take(&mut *tail.0.lock().unwrap_or_else(PoisonError::into_inner));
    Ok(Ran { ok: exit == "exit status 0", exit, tail: tail.into() })
}

pub(super) fn watch(state: &Arc<State>, timeout: Duration, mut lifeline: File) -> io::Result<()> {
    let overdue = state.clone();
    let now = Instant::now();
    super::spawn("timeout", move || {
        overdue.ask_end(now.checked_add(timeout).unwrap_or(now));
        overdue.kill_when_overdue();
    })?;
    let orphan = state.clone();
    super::spawn("lifeline", move || {
        let mut byte = [0_u8; 1];
        while lifeline.read(&mut byte).is_ok_and(|size| size > 0) {}
        orphan.ask_end(now);
        orphan.kill();
    })?;
    Ok(())
}
