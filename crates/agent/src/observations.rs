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
const BATCH: usize = 256;
const EVERY: Duration = Duration::from_millis(200);
const MINUTE: u64 = 60_000;

/// The queue.
pub(crate) struct Observations {
    queue: mpsc::Sender<Observation>,
    waiting: tokio::sync::Mutex<mpsc::Receiver<Observation>>,
    refusals: Mutex<HashMap<(u64, String, &'static str), u64>>,
}

impl Observations {
    pub(crate) fn new() -> Self {
        let (queue, waiting) = mpsc::channel(WAITING);
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
        let mut batch = Vec::new();
        loop {
            if batch.len() < BATCH {
                let _ = tokio::time::timeout(EVERY, waiting.recv_many(&mut batch, BATCH)).await;
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
        let mut batch = Vec::new();
        let mut waiting = self.waiting.lock().await;
        while let Ok(observation) = waiting.try_recv() {
            batch.push(observation);
        }
        batch.extend(self.past_minutes(Timestamp(u64::MAX)));
        if !batch.is_empty()
            && let Err(fault) = link.ask(Action::Observe(batch)).await
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
