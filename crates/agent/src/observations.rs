//! Reads and refusals on their way to the record: batched, bounded, durable within a second.

use crate::executor_link::ExecutorLink;
use allod_proto::{
    Fault, FaultCode, Timestamp,
    executor::{Action, Observation},
};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::mpsc;

const WAITING: usize = 4096;
const SOURCES: usize = 1024;
const BATCH: usize = 1024;
/// How long reads gather before they go to the executor together.
const GATHER: Duration = Duration::from_millis(10);
const EVERY: Duration = Duration::from_millis(200);
const MINUTE: u64 = 60_000;

/// The queue.
pub(crate) struct Observations {
    queue: mpsc::Sender<Observation>,
    waiting: tokio::sync::Mutex<Waiting>,
    refusals: Mutex<HashMap<(u64, String, &'static str), u64>>,
}

/// What is not recorded yet. What was taken from the queue stays in `batch` until it is, whoever stops waiting.
struct Waiting {
    queue: mpsc::Receiver<Observation>,
    batch: Vec<Observation>,
}

impl Observations {
    pub(crate) fn new() -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
        let waiting = Waiting { queue: waiting, batch: Vec::new() };
        Self { queue, waiting: tokio::sync::Mutex::new(waiting), refusals: Mutex::default() }
    }

    /// A place for one entry, taken before the command runs: what can't be recorded does not happen.
    pub(crate) fn reserve(&self) -> Result<mpsc::OwnedPermit<Observation>, Fault> {
        self.queue.clone().try_reserve_owned().map_err(|_| {
            Fault::new(
                FaultCode::RecordUnavailable,
                "the record does not keep up, so nothing more is answered",
            )
            .hint("try again in a moment; `allod doctor` looks at the disk")
        })
    }

    /// Counts a refusal per source, reason and minute. Beyond a bound of sources they count together.
    pub(crate) fn refused(&self, source: &str, reason: &'static str, now: Timestamp) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let minute = now.0 / MINUTE * MINUTE;
        let mut key = (minute, source.to_owned(), reason);
        if refusals.len() >= SOURCES && !refusals.contains_key(&key) {
            "many".clone_into(&mut key.1);
        }
        *refusals.entry(key).or_insert(0) += 1;
    }

    /// Sends what waits, for ever.
    pub(crate) async fn run(&self, link: &ExecutorLink, now: impl Fn() -> Timestamp) {
        let mut waiting = self.waiting.lock().await;
        let Waiting { queue, batch } = &mut *waiting;
        loop {
            if batch.len() < BATCH {
                let came = tokio::time::timeout(EVERY, queue.recv_many(batch, BATCH)).await;
                if came.is_ok() {
                    tokio::time::sleep(GATHER).await;
                    take_waiting(queue, batch, BATCH);
                }
                batch.extend(self.past_minutes(now()));
            }
            if batch.is_empty() {
                continue;
            }
            // What was answered must be recorded: it is kept until it is.
            match link.ask(Action::Observe(batch.clone())).await {
                Ok(_) => batch.clear(),
                Err(fault) => {
                    tracing::error!(%fault, count = batch.len(), "reads could not be recorded yet");
                    tokio::time::sleep(EVERY).await;
                }
            }
        }
    }

    /// Sends what still waits, at the end of the program.
    pub(crate) async fn flush(&self, link: &ExecutorLink) {
        let mut waiting = self.waiting.lock().await;
        let Waiting { queue, batch } = &mut *waiting;
        take_waiting(queue, batch, usize::MAX);
        batch.extend(self.past_minutes(Timestamp(u64::MAX)));
        if !batch.is_empty()
            && let Err(fault) = link.ask(Action::Observe(std::mem::take(batch))).await
        {
            tracing::error!(%fault, "the last reads could not be recorded");
        }
    }

    /// Counts of minutes that are over.
    fn past_minutes(&self, now: Timestamp) -> Vec<Observation> {
        let this = now.0 / MINUTE * MINUTE;
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let past: Vec<_> = refusals.keys().filter(|key| key.0 < this).cloned().collect();
        past.into_iter()
            .filter_map(|key| {
                let count = refusals.remove(&key)?;
                let (minute, source, reason) = key;
                Some(Observation::Refusals {
                    minute: Timestamp(minute),
                    source,
                    reason: reason.to_owned(),
                    count,
                })
            })
            .collect()
    }
}

fn take_waiting(queue: &mut mpsc::Receiver<Observation>, batch: &mut Vec<Observation>, most: usize) {
    while batch.len() < most
        && let Ok(observation) = queue.try_recv()
    {
        batch.push(observation);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_proto::{Role, executor::Ask};
    use tokio::{
        io::{AsyncBufReadExt as _, BufReader},
        net::UnixStream,
    };

    fn read(number: u64) -> Observation {
        Observation::Read {
            request: format!("request-{number:08}"),
            key: None,
            delegate: None,
            name: "somebody".to_owned(),
            role: Role::Viewer,
            door: "rpc".to_owned(),
            source: None,
            command: "server.status".to_owned(),
            app: None,
            code: None,
            took_ms: number,
        }
    }

    fn queued(count: u64) -> Observations {
        let observations = Observations::new();
        (0..count).for_each(|number| drop(observations.reserve().unwrap().send(read(number))));
        observations
    }

    async fn asked(executor: UnixStream) -> Vec<Observation> {
        let mut line = String::new();
        BufReader::new(executor).read_line(&mut line).await.unwrap();
        match serde_json::from_str::<Ask>(&line).unwrap().action {
            Action::Observe(observed) => observed,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn what_was_taken_from_the_queue_and_not_sent_is_sent_at_the_end() {
        let observations = queued(3);
        let (ours, executor) = UnixStream::pair().unwrap();
        let link = ExecutorLink::new(ours);
        // It is dropped as soon as it waits, with the three in its hand.
        let run = observations.run(&link, || Timestamp(0));
        assert!(tokio::time::timeout(Duration::ZERO, run).await.is_err());
        let (observed, ()) = tokio::join!(asked(executor), observations.flush(&link));
        assert_eq!(observed, [read(0), read(1), read(2)]);
    }

    #[tokio::test]
    async fn reads_that_come_together_go_to_the_executor_together() {
        let observations = queued(20);
        let (ours, executor) = UnixStream::pair().unwrap();
        let link = ExecutorLink::new(ours);
        tokio::select! {
            observed = asked(executor) => assert_eq!(observed.len(), 20),
            () = observations.run(&link, || Timestamp(0)) => {}
        }
    }
}
