//! Who runs now and who waits: so many of a command at once, so many waiting, and so many calls of one caller a minute.

use allod_proto::{Fault, FaultCode, NamedCommandName, Timestamp, named::Definition};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// How many commands run at once, of all names.
const ALL: u32 = 64;
/// How many calls one caller makes within a minute, of all commands that say nothing else.
const CALLS: usize = 600;
/// How many callers and commands are told apart in counting calls.
const COUNTED: usize = 20_000;

/// A minute, in milliseconds.
const MINUTE: u64 = 60_000;

/// Who holds it runs. The next one's turn comes when it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    turns: Arc<Turns>,
    name: NamedCommandName,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.turns.end(&self.name);
    }
}

/// Who waits for a turn. Given up when it is dropped.
#[derive(Debug)]
pub(super) struct Waiting(oneshot::Receiver<Turn>);

impl Waiting {
    /// Resolves when it is one's turn.
    pub(super) async fn turn(&mut self) -> Result<Turn, Fault> {
        (&mut self.0).await.map_err(|_| Fault::new(FaultCode::Internal, "the queue ended"))
    }
}

#[derive(Debug, Default)]
struct Inner {
    of: HashMap<NamedCommandName, Queue>,
    all: u32,
    calls: HashMap<(String, Option<NamedCommandName>), VecDeque<Timestamp>>,
}

#[derive(Debug, Default)]
struct Queue {
    running: u32,
    at_once: u32,
    waiting: VecDeque<oneshot::Sender<Turn>>,
}

/// All turns of one server.
#[derive(Debug, Default)]
pub(super) struct Turns(Mutex<Inner>);

impl Turns {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a call of this caller.
    ///
    /// # Errors
    /// `TooMany` when there were as many within a minute as there may be.
    pub(super) fn count(&self, caller: &str, definition: &Definition, now: Timestamp) -> Result<(), Fault> {
        let mut inner = self.lock();
        if inner.calls.len() >= COUNTED {
            inner.calls.retain(|_, calls| calls.back().is_some_and(|at| is_recent(*at, now)));
        }
        let (name, most) = match definition.per_minute {
            Some(most) => (Some(definition.name.clone()), usize::try_from(most).unwrap_or(usize::MAX)),
            None => (None, CALLS),
        };
        let what = name.as_ref().map_or("commands".to_owned(), ToString::to_string);
        let calls = inner.calls.entry((caller.to_owned(), name)).or_default();
        while calls.front().is_some_and(|at| !is_recent(*at, now)) {
            calls.pop_front();
        }
        if calls.len() >= most {
            let message = format!("{most} calls of {what} within a minute");
            return Err(Fault::new(FaultCode::TooMany, message).hint("wait a minute"));
        }
        calls.push_back(now);
        Ok(())
    }

    /// Stands in line.
    ///
    /// # Errors
    /// `Busy` when as many wait as may.
    pub(super) fn stand(self: &Arc<Self>, definition: &Definition) -> Result<Waiting, Fault> {
        let (give, take) = oneshot::channel();
        let mut inner = self.lock();
        let full = inner.all >= ALL;
        let queue = inner.of.entry(definition.name.clone()).or_default();
        queue.at_once = definition.concurrency;
        // Who gave up waits no more.
        queue.waiting.retain(|waiting| !waiting.is_closed());
        if queue.running < queue.at_once && queue.waiting.is_empty() && !full {
            queue.running += 1;
            inner.all += 1;
            drop(inner);
            let _ = give.send(Turn { turns: Arc::clone(self), name: definition.name.clone() });
            return Ok(Waiting(take));
        }
        let places = usize::try_from(definition.queue).unwrap_or(usize::MAX);
        if queue.waiting.len() >= places {
            let message =
                format!("{} of {} run, and {} wait", queue.running, definition.name, queue.waiting.len());
            return Err(Fault::new(FaultCode::Busy, message).hint("try again later"));
        }
        queue.waiting.push_back(give);
        Ok(Waiting(take))
    }

    fn end(self: &Arc<Self>, name: &NamedCommandName) {
        {
            let mut inner = self.lock();
            inner.all = inner.all.saturating_sub(1);
            if let Some(queue) = inner.of.get_mut(name) {
                queue.running = queue.running.saturating_sub(1);
            }
        }
        self.go_on();
    }

    /// Gives turns to whoever may have one now.
    fn go_on(self: &Arc<Self>) {
        loop {
            let mut inner = self.lock();
            if inner.all >= ALL {
                return;
            }
            let next = inner.of.iter_mut().find_map(|(name, queue)| {
                while queue.running < queue.at_once {
                    let give = queue.waiting.pop_front()?;
                    if !give.is_closed() {
                        queue.running += 1;
                        return Some((name.clone(), give));
                    }
                }
                None
            });
            inner.of.retain(|_, queue| queue.running > 0 || !queue.waiting.is_empty());
            let Some((name, give)) = next else { return };
            inner.all += 1;
            drop(inner);
            // If nobody takes it, it is dropped here, and ends by that.
            drop(give.send(Turn { turns: Arc::clone(self), name }));
        }
    }
}

fn is_recent(at: Timestamp, now: Timestamp) -> bool {
    now.0.saturating_sub(at.0) < MINUTE
}

#[cfg(test)]
mod tests {
    use super::*;

    fn definition(more: &str) -> Definition {
        let text = format!("summary = \"s\"\nexec = [\"/bin/true\"]\n{more}");
        allod_commands::registry::parse(&NamedCommandName::new("x").unwrap(), &text).unwrap()
    }

    #[tokio::test]
    async fn x14_of_an_exclusive_command_one_runs_so_many_wait_and_the_rest_are_refused() {
        let turns = Arc::new(Turns::default());
        let exclusive = definition("queue = 2");
        let mut waiting: Vec<Waiting> = (0..3).map(|_| turns.stand(&exclusive).unwrap()).collect();
        assert_eq!(turns.stand(&exclusive).unwrap_err().code, FaultCode::Busy);
        let first = waiting.remove(0).turn().await.unwrap();
        assert!(waiting[0].0.try_recv().is_err());
        drop(waiting.remove(0));
        drop(first);
        assert!(waiting[0].turn().await.is_ok(), "whoever gave up is passed over");
    }

    #[tokio::test]
    async fn a_turn_that_nobody_takes_is_the_next_ones() {
        let turns = Arc::new(Turns::default());
        let first = turns.stand(&definition("")).unwrap();
        let mut second = turns.stand(&definition("")).unwrap();
        drop(first);
        assert!(second.turn().await.is_ok());
    }

    #[test]
    fn calls_are_counted_for_each_caller_and_command_and_forgotten_after_a_minute() {
        let turns = Turns::default();
        let rare = definition("per_minute = 2");
        for _ in 0..2 {
            turns.count("a", &rare, Timestamp(1_000)).unwrap();
        }
        assert_eq!(turns.count("a", &rare, Timestamp(1_000)).unwrap_err().code, FaultCode::TooMany);
        assert!(turns.count("b", &rare, Timestamp(1_000)).is_ok());
        assert!(turns.count("a", &rare, Timestamp(61_000)).is_ok());
    }
}
