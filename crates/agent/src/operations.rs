//! Operations of this server: running ones with their events as they happen, ended ones as a file each.

use allod_proto::{
    AppRef, Fault, FaultCode, OperationId, Timestamp,
    command::StreamItem,
    executor::OpenOperation,
    operation::{Happening, OperationEvent, OperationState, OperationSummary},
};
use allod_store::Format;
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::sync::{mpsc, watch};

/// How many ended operations are kept.
const KEPT: usize = 200;
/// The most events of one operation.
const EVENTS: usize = 5_000;

/// An ended operation's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct OperationRecord {
    summary: OperationSummary,
    events: Vec<OperationEvent>,
}

impl Format for OperationRecord {
    const NAME: &'static str = "operation";
    const FORMAT: u32 = 1;
}

/// A running operation, as its worker and its followers share it.
pub(crate) struct Running {
    held: Mutex<OperationRecord>,
    grew: watch::Sender<usize>,
    cancel: watch::Sender<bool>,
}

impl Running {
    fn new(summary: OperationSummary) -> Self {
        Self {
            held: Mutex::new(OperationRecord { summary, events: Vec::new() }),
            grew: watch::channel(0).0,
            cancel: watch::channel(false).0,
        }
    }

    /// Something happened.
    pub(crate) fn happened(&self, at: Timestamp, what: Happening) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let last = matches!(what, Happening::Finished { .. });
        if held.events.len() >= EVENTS && !last {
            return;
        }
        let seq = u64::try_from(held.events.len()).unwrap_or(u64::MAX);
        if let Happening::Finished { state, fault, .. } = &what {
            held.summary.state = *state;
            held.summary.fault.clone_from(fault);
            held.summary.ended_at = Some(at);
        }
        held.events.push(OperationEvent { seq, at, what });
        let count = held.events.len();
        drop(held);
        self.grew.send_replace(count);
    }

    /// Asks it to end.
    pub(crate) fn cancel(&self) {
        self.cancel.send_replace(true);
    }

    /// Resolves when somebody asked it to end.
    pub(crate) async fn cancelled(&self) {
        let mut cancel = self.cancel.subscribe();
        if cancel.wait_for(|asked| *asked).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    fn after(&self, index: usize) -> (Vec<OperationEvent>, bool) {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let events = held.events.get(index..).unwrap_or_default().to_vec();
        (events, held.summary.ended_at.is_some())
    }

    fn summary(&self) -> OperationSummary {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).summary.clone()
    }
}

/// All operations.
pub(crate) struct Operations {
    folder: PathBuf,
    running: Mutex<HashMap<OperationId, Arc<Running>>>,
    ended: Mutex<BTreeMap<(Timestamp, OperationId), OperationSummary>>,
    /// Counts beginnings and ends, so that whoever looked before can tell that things have moved on.
    turns: AtomicU64,
}

impl Operations {
    /// Reads the summaries of ended operations. One that can't be read is left out and said so.
    pub(crate) fn load(agent_folder: &Path) -> Result<Self, String> {
        let folder = agent_folder.join("operations");
        allod_store::create_folder(&folder, 0o700).map_err(|error| error.to_string())?;
        let mut ended = BTreeMap::new();
        for entry in std::fs::read_dir(&folder).map_err(|error| error.to_string())?.flatten() {
            match allod_store::load::<OperationRecord>(&entry.path()) {
                Ok(Some(record)) => {
                    ended.insert((record.summary.started_at, record.summary.id.clone()), record.summary);
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "an ended operation can't be read"),
            }
        }
        Ok(Self { folder, running: Mutex::default(), ended: Mutex::new(ended), turns: AtomicU64::new(0) })
    }

    /// An operation begins.
    pub(crate) fn begin(&self, open: &OpenOperation) -> Arc<Running> {
        let summary = OperationSummary {
            id: open.id.clone(),
            app: open.app.clone(),
            command: open.command.clone(),
            by: open.by.clone(),
            started_at: open.at,
            ended_at: None,
            state: OperationState::Running,
            release: open.release().cloned(),
            fault: None,
        };
        let running = Arc::new(Running::new(summary));
        let mut all = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        all.insert(open.id.clone(), Arc::clone(&running));
        drop(all);
        self.turns.fetch_add(1, Ordering::SeqCst);
        running
    }

    /// It has ended: written down, and the oldest forgotten.
    pub(crate) fn end(&self, running: &Running) {
        let record = running.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let id = record.summary.id.clone();
        if let Err(error) = allod_store::save(&self.file(&id), &record, 0o600) {
            tracing::warn!(%error, "an ended operation could not be written down");
        }
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.insert((record.summary.started_at, id.clone()), record.summary);
        while ended.len() > KEPT {
            let Some(((_, oldest), _)) = ended.pop_first() else { break };
            let _ = std::fs::remove_file(self.file(&oldest));
        }
        drop(ended);
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        self.turns.fetch_add(1, Ordering::SeqCst);
    }

    /// Changes whenever an operation begins or ends.
    pub(crate) fn turn(&self) -> u64 {
        self.turns.load(Ordering::SeqCst)
    }

    /// Newest first.
    pub(crate) fn list(&self) -> Vec<OperationSummary> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = running.values().map(|running| running.summary()).collect();
        drop(running);
        all.extend(self.ended.lock().unwrap_or_else(PoisonError::into_inner).values().cloned());
        all.sort_by_key(|summary| std::cmp::Reverse(summary.started_at));
        all
    }

    /// What is being done to an app.
    pub(crate) fn of_app(&self, app: &AppRef) -> Option<OperationSummary> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.values().map(|running| running.summary()).find(|summary| summary.app == *app)
    }

    pub(crate) fn running(&self, id: &OperationId) -> Option<Arc<Running>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned()
    }

    /// Which app an operation is about.
    pub(crate) fn app_of(&self, id: &OperationId) -> Option<AppRef> {
        self.list().into_iter().find(|summary| summary.id == *id).map(|summary| summary.app)
    }

    /// Its events after the given one, to its end.
    pub(crate) fn attach(
        &self,
        id: &OperationId,
        after: Option<u64>,
    ) -> Result<mpsc::Receiver<StreamItem>, Fault> {
        let first = after
            .map_or(0, |after| usize::try_from(after).map_or(usize::MAX, |after| after.saturating_add(1)));
        let (send, receive) = mpsc::channel(64);
        if let Some(running) = self.running(id) {
            tokio::spawn(follow(running, first, send));
            return Ok(receive);
        }
        let record =
            allod_store::load::<OperationRecord>(&self.file(id)).ok().flatten().ok_or_else(|| unknown(id))?;
        tokio::spawn(async move {
            for event in record.events.into_iter().skip(first) {
                if send.send(StreamItem::Operation(event)).await.is_err() {
                    return;
                }
            }
        });
        Ok(receive)
    }

    fn file(&self, id: &OperationId) -> PathBuf {
        self.folder.join(format!("{id}.json"))
    }
}

pub(crate) fn unknown(id: &OperationId) -> Fault {
    Fault::new(FaultCode::NotFound, format!("there is no operation {id}")).hint("`allod ops list` shows them")
}

async fn follow(running: Arc<Running>, mut index: usize, send: mpsc::Sender<StreamItem>) {
    let mut grew = running.grew.subscribe();
    loop {
        let (events, ended) = running.after(index);
        index = index.saturating_add(events.len());
        for event in events {
            if send.send(StreamItem::Operation(event)).await.is_err() {
                return;
            }
        }
        if ended {
            return;
        }
        tokio::select! {
            changed = grew.changed() => if changed.is_err() { return },
            () = send.closed() => return,
        }
    }
}
