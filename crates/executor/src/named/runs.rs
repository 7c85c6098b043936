//! What runs, and what ran lately: the events of each run, in order, for whoever follows it, in bounded memory.

use allod_proto::{
    Fingerprint, NamedCommandName, RunId, Timestamp,
    named::{RunEnd, RunEvent, RunState, RunSummary},
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};

/// How many ended runs are remembered.
pub(super) const ENDED: usize = 200;
/// How many bytes of events of ended runs are kept, of all together.
const KEPT: usize = 32 * 1024 * 1024;

/// How long nobody may look at a run that ends with its client.
const LOOKED_AT: Duration = Duration::from_secs(15);

/// One run.
#[derive(Debug)]
pub(crate) struct Run {
    summary: Mutex<RunSummary>,
    events: Mutex<Vec<RunEvent>>,
    /// How many events there are.
    count: watch::Sender<usize>,
    cancelled: watch::Sender<bool>,
    survives_client: bool,
    /// When somebody last looked at what it does, where it ends when nobody does.
    looked_at: Mutex<Option<Instant>>,
}

impl Run {
    fn new(summary: RunSummary, survives_client: bool) -> Self {
        let (count, cancelled) = (watch::Sender::new(0), watch::Sender::new(false));
        let (summary, events) = (Mutex::new(summary), Mutex::default());
        Self { summary, events, count, cancelled, survives_client, looked_at: Mutex::default() }
    }

    /// Somebody waits for it, and looks again and again: if that ends, so does it.
    pub(crate) fn looked_at(&self) {
        if !self.survives_client {
            *lock(&self.looked_at) = Some(Instant::now());
        }
    }

    /// Whoever waits for it says themselves when they are gone.
    pub(super) fn is_held(&self) {
        *lock(&self.looked_at) = None;
    }

    /// Resolves when nobody has looked for too long.
    pub(super) async fn abandoned(&self) {
        loop {
            tokio::time::sleep(LOOKED_AT / 3).await;
            if lock(&self.looked_at).is_some_and(|at| at.elapsed() > LOOKED_AT) {
                return;
            }
        }
    }

    /// How it stands.
    pub(crate) fn summary(&self) -> RunSummary {
        lock(&self.summary).clone()
    }

    pub(crate) fn id(&self) -> RunId {
        lock(&self.summary).id.clone()
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(lock(&self.summary).state, RunState::Ended(_))
    }

    /// Its events after the first `after`, at most so many bytes of them but one at least.
    pub(crate) fn events(&self, after: usize, most: usize) -> Vec<RunEvent> {
        let events = lock(&self.events);
        let mut bytes = 0_usize;
        let fits = |event: &&RunEvent| {
            let first = bytes == 0;
            bytes = bytes.saturating_add(size(event));
            first || bytes <= most
        };
        events.iter().skip(after).take_while(fits).cloned().collect()
    }

    /// Waits until there are more than `seen` events.
    pub(crate) async fn more_than(&self, seen: usize) {
        let mut count = self.count.subscribe();
        // The sender lives as long as this does.
        let _ = count.wait_for(|count| *count > seen).await;
    }

    /// Waits for its end.
    pub(super) async fn ended(&self) {
        let mut count = self.count.subscribe();
        let _ = count.wait_for(|_| self.has_ended()).await;
    }

    pub(super) fn begin(&self) {
        lock(&self.summary).state = RunState::Running {};
        self.push(RunEvent::Began {});
    }

    pub(super) fn output(&self, event: RunEvent, bytes: u64) {
        lock(&self.summary).output_bytes += bytes;
        self.push(event);
    }

    pub(super) fn end(&self, end: RunEnd) {
        {
            let mut summary = lock(&self.summary);
            summary.output_bytes = end.output_bytes;
            summary.truncated = end.truncated;
            summary.state = RunState::Ended(end.clone());
        }
        self.push(RunEvent::Ended(end));
    }

    fn push(&self, event: RunEvent) {
        let count = {
            let mut events = lock(&self.events);
            events.push(event);
            events.len()
        };
        self.count.send_replace(count);
    }

    /// Asks it to end.
    pub(crate) fn cancel(&self) {
        self.cancelled.send_replace(true);
    }

    /// Whoever asked for it is gone.
    pub(crate) fn left(&self) {
        if !self.survives_client && !self.has_ended() {
            self.cancel();
        }
    }

    /// Resolves when it was asked to end.
    pub(super) async fn asked_to_end(&self) {
        let mut cancelled = self.cancelled.subscribe();
        let _ = cancelled.wait_for(|cancelled| *cancelled).await;
    }

    fn kept(&self) -> usize {
        lock(&self.events).iter().map(size).sum()
    }

    fn forget_output(&self) {
        let mut events = lock(&self.events);
        let before = events.len();
        events.retain(|event| !matches!(event, RunEvent::Output { .. }));
        lock(&self.summary).output_gone |= events.len() < before;
    }
}

fn size(event: &RunEvent) -> usize {
    match event {
        RunEvent::Output { bytes, .. } => bytes.len().saturating_add(64),
        RunEvent::Began {} | RunEvent::Ended(_) => 256,
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whose a run is.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    pub(super) name: String,
    pub(super) key: Option<Fingerprint>,
}

/// All runs, oldest first.
#[derive(Debug, Default)]
pub(super) struct Runs(Mutex<VecDeque<Arc<Run>>>);

impl Runs {
    /// Makes room, and begins one.
    pub(super) fn add(
        &self,
        id: RunId,
        name: &NamedCommandName,
        owner: &Owner,
        at: Timestamp,
        survives_client: bool,
    ) -> Arc<Run> {
        let summary = RunSummary {
            id,
            name: name.clone(),
            by: owner.name.clone(),
            key: owner.key.clone(),
            at,
            state: RunState::Waiting {},
            output_bytes: 0,
            truncated: false,
            output_gone: false,
        };
        let run = Arc::new(Run::new(summary, survives_client));
        let mut runs = lock(&self.0);
        runs.push_back(Arc::clone(&run));
        make_room(&mut runs);
        run
    }

    /// Takes back runs of an earlier life, oldest first: how each ended is known, and nothing that it printed.
    pub(super) fn restore(&self, past: Vec<RunSummary>) {
        let mut runs = lock(&self.0);
        for summary in past {
            let RunState::Ended(end) = summary.state.clone() else { continue };
            let run = Run::new(summary, true);
            run.push(RunEvent::Ended(end));
            runs.push_back(Arc::new(run));
        }
        make_room(&mut runs);
    }

    /// The run of this id.
    pub(super) fn get(&self, id: &RunId) -> Option<Arc<Run>> {
        lock(&self.0).iter().rev().find(|run| run.id() == *id).cloned()
    }

    /// All of them, newest first.
    pub(super) fn all(&self) -> Vec<Arc<Run>> {
        lock(&self.0).iter().rev().cloned().collect()
    }
}

/// Of those that ended, the oldest go; before that, the output of the oldest.
fn make_room(runs: &mut VecDeque<Arc<Run>>) {
    let ended = |runs: &VecDeque<Arc<Run>>| runs.iter().filter(|run| run.has_ended()).count();
    while ended(runs) > ENDED {
        let oldest = runs.iter().position(|run| run.has_ended());
        drop(oldest.and_then(|at| runs.remove(at)));
    }
    let mut kept: usize = runs.iter().filter(|run| run.has_ended()).map(|run| run.kept()).sum();
    for run in runs.iter().filter(|run| run.has_ended()) {
        if kept <= KEPT {
            return;
        }
        let before = run.kept();
        run.forget_output();
        kept = kept.saturating_sub(before.saturating_sub(run.kept()));
    }
}
