//! Operations of this server: running ones with their events as they happen, ended ones as a file each.

use allod_proto::{
    AppRef, Fault, FaultCode, OperationId, Timestamp,
    command::StreamItem,
    executor::OpenOperation,
    operation::{Happening, OperationEvent, OperationState, OperationSummary},
};
use allod_store::{Format, disk};
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
/// How far apart the numbers of events of two lives of the agent are at least.
const NUMBERS: u64 = 10_000;

/// An ended operation's file.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct OperationRecord {
    summary: OperationSummary,
    events: Vec<OperationEvent>,
}

impl OperationRecord {
    fn add(&mut self, first: u64, at: Timestamp, what: Happening) {
        if self.events.len() >= EVENTS && !matches!(what, Happening::Finished { .. }) {
            return;
        }
        let seq = first.saturating_add(u64::try_from(self.events.len()).unwrap_or(u64::MAX));
        if let Happening::Finished { state, fault, .. } = &what {
            self.summary.state = *state;
            self.summary.fault.clone_from(fault);
            self.summary.ended_at = Some(at);
        }
        self.events.push(OperationEvent { seq, at, what });
    }
}

impl Format for OperationRecord {
    const NAME: &'static str = "operation";
    const FORMAT: u32 = 1;
}

/// A running operation, as its worker and its followers share it.
pub(crate) struct Running {
    held: Mutex<OperationRecord>,
    grew: watch::Sender<usize>,
    /// The number of the first event.
    first: u64,
    cancel: watch::Sender<bool>,
}

impl Running {
    fn new(summary: OperationSummary, first: u64) -> Self {
        Self {
            first,
            held: Mutex::new(OperationRecord { summary, events: Vec::new() }),
            grew: watch::channel(0).0,
            cancel: watch::channel(false).0,
        }
    }

    /// Something happened.
    pub(crate) fn happened(&self, at: Timestamp, what: Happening) {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.add(self.first, at, what);
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
    /// Reads the summaries of ended operations. One that can't be read is left out and said so; one that is still open
    /// goes on, whatever was written ahead.
    pub(crate) fn load(agent_folder: &Path, open: &[OpenOperation]) -> Result<Self, String> {
        let folder = agent_folder.join("operations");
        allod_store::create_folder(&folder, 0o700).map_err(|error| error.to_string())?;
        let mut ended = BTreeMap::new();
        allod_store::sweep_temporaries(&folder).map_err(|error| error.to_string())?;
        for entry in std::fs::read_dir(&folder).map_err(|error| error.to_string())?.flatten() {
            match allod_store::load::<OperationRecord>(&entry.path()) {
                Ok(Some(record)) if open.iter().any(|open| open.id == record.summary.id) => {}
                Ok(Some(record)) => {
                    ended.insert((record.summary.started_at, record.summary.id.clone()), record.summary);
                }
                Ok(None) => {}
                Err(error) => tracing::warn!(%error, "an ended operation can't be read"),
            }
        }
        Ok(Self { folder, running: Mutex::default(), ended: Mutex::new(ended), turns: AtomicU64::new(0) })
    }

    /// An operation begins; or goes on, if an earlier life of the agent left it, from `resumed` on. `None` if somebody is
    /// at work on it already.
    pub(crate) fn begin(&self, open: &OpenOperation, resumed: Option<Timestamp>) -> Option<Arc<Running>> {
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
        let running = Arc::new(Running::new(summary, resumed.map_or(0, |at| first_number(open.at, at))));
        let mut all = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if all.contains_key(&open.id) {
            return None;
        }
        all.insert(open.id.clone(), Arc::clone(&running));
        drop(all);
        self.turns.fetch_add(1, Ordering::SeqCst);
        Some(running)
    }

    /// Writes down how an operation is about to end, before the executor forgets that it was open: whoever asks after a
    /// crash in between is told.
    pub(crate) fn write_ahead(&self, running: &Running, at: Timestamp, finished: Happening) {
        let mut record = running.held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        record.add(running.first, at, finished);
        if let Err(error) = allod_store::save(&self.file(&record.summary.id), &record, 0o600) {
            tracing::warn!(%error, "the end of an operation could not be written ahead");
        }
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
            let _ = disk::remove(&self.file(&oldest));
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
        let is_new = move |event: &OperationEvent| after.is_none_or(|after| event.seq > after);
        let (send, receive) = mpsc::channel(64);
        if let Some(running) = self.running(id) {
            tokio::spawn(follow(running, is_new, send));
            return Ok(receive);
        }
        let record =
            allod_store::load::<OperationRecord>(&self.file(id)).ok().flatten().ok_or_else(|| unknown(id))?;
        tokio::spawn(async move {
            for event in record.events.into_iter().filter(is_new) {
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

/// The number of the first event of a later life: above any that an earlier life gave, so that whoever followed it hears
/// of all that is new. Lives are at least 100 ms apart ([`EVENTS`] bounds each).
fn first_number(opened: Timestamp, resumed: Timestamp) -> u64 {
    let apart = u64::try_from(resumed.since(opened).as_millis()).unwrap_or(u64::MAX);
    NUMBERS.saturating_add(apart.saturating_mul(NUMBERS / 100))
}

async fn follow(
    running: Arc<Running>,
    is_new: impl Fn(&OperationEvent) -> bool + Send,
    send: mpsc::Sender<StreamItem>,
) {
    let mut index = 0;
    let mut grew = running.grew.subscribe();
    loop {
        let (events, ended) = running.after(index);
        index = index.saturating_add(events.len());
        for event in events.into_iter().filter(|event| is_new(event)) {
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

#[cfg(test)]
mod tests {
    use super::*;
    use allod_proto::{Digest, executor::Goal};

    fn open() -> OpenOperation {
        OpenOperation {
            id: OperationId::of(&Digest::of("one")),
            app: "blog".parse().unwrap(),
            command: "app.stop".to_owned(),
            by: "owner".to_owned(),
            at: Timestamp(1_000),
            goal: Goal::Stop {},
            promoted: false,
        }
    }

    fn note(text: &str) -> Happening {
        Happening::Note { text: text.to_owned() }
    }

    async fn texts(mut events: mpsc::Receiver<StreamItem>, count: usize) -> Vec<(u64, String)> {
        let mut found = Vec::new();
        while found.len() < count {
            let Some(StreamItem::Operation(event)) = events.recv().await else { break };
            let Happening::Note { text } = event.what else { continue };
            found.push((event.seq, text));
        }
        found
    }

    #[tokio::test]
    async fn who_followed_an_earlier_life_of_the_agent_hears_all_that_the_next_one_says() {
        let folder = tempfile::tempdir().unwrap();
        let (open, mut seen) = (open(), None);
        // Each life says less than the one before, and they follow each other as fast as they can.
        for (life, resumed) in [None, Some(Timestamp(1_100)), Some(Timestamp(1_200))].into_iter().enumerate()
        {
            let operations = Operations::load(folder.path(), &[]).unwrap();
            let running = operations.begin(&open, resumed).unwrap();
            let said: Vec<_> = (0..3 - life).map(|number| format!("{life}.{number}")).collect();
            said.iter().for_each(|text| running.happened(Timestamp(2_000), note(text)));
            let heard = texts(operations.attach(&open.id, seen).unwrap(), said.len()).await;
            assert_eq!(heard.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>(), said);
            seen = heard.last().map(|(seq, _)| *seq);
        }
    }

    #[tokio::test]
    async fn an_ended_operation_tells_only_what_was_not_heard_yet() {
        let folder = tempfile::tempdir().unwrap();
        let operations = Operations::load(folder.path(), &[]).unwrap();
        let running = operations.begin(&open(), Some(Timestamp(1_500))).unwrap();
        ["a", "b", "c"].into_iter().for_each(|text| running.happened(Timestamp(2_000), note(text)));
        operations.end(&running);
        let all = texts(operations.attach(&open().id, None).unwrap(), 9).await;
        assert_eq!(all.len(), 3);
        let rest = texts(operations.attach(&open().id, Some(all[0].0)).unwrap(), 9).await;
        assert_eq!(rest, all[1..]);
        assert!(texts(operations.attach(&open().id, Some(all[2].0)).unwrap(), 9).await.is_empty());
    }

    #[test]
    fn an_operation_that_somebody_is_at_work_on_is_not_begun_again() {
        let folder = tempfile::tempdir().unwrap();
        let operations = Operations::load(folder.path(), &[]).unwrap();
        let running = operations.begin(&open(), None).unwrap();
        assert!(operations.begin(&open(), Some(Timestamp(2_000))).is_none());
        operations.end(&running);
        assert!(operations.begin(&open(), None).is_some());
    }

    #[tokio::test]
    async fn an_end_that_was_written_ahead_is_told_after_a_crash_unless_the_operation_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let operations = Operations::load(folder.path(), &[]).unwrap();
        let running = operations.begin(&open(), None).unwrap();
        running.happened(Timestamp(2_000), note("at work"));
        let end = Happening::Finished { state: OperationState::Done, fault: None, serving: None };
        operations.write_ahead(&running, Timestamp(3_000), end);
        assert_eq!(operations.list()[0].state, OperationState::Running, "it is not ended yet");
        let next = Operations::load(folder.path(), &[open()]).unwrap();
        assert!(next.list().is_empty(), "it goes on");
        let next = Operations::load(folder.path(), &[]).unwrap();
        assert_eq!(next.list()[0].state, OperationState::Done);
        let mut events = next.attach(&open().id, Some(0)).unwrap();
        let Some(StreamItem::Operation(event)) = events.recv().await else { panic!("nothing is told") };
        assert!(event.seq == 1 && matches!(event.what, Happening::Finished { .. }), "{event:?}");
    }

    #[test]
    fn numbers_of_lives_that_are_100_ms_apart_can_not_meet() {
        let numbers = [0, 100, 200, 300].map(|ms| first_number(Timestamp(1_000), Timestamp(1_000 + ms)));
        let most = u64::try_from(EVENTS).unwrap() + 1;
        assert!(numbers[0] > most);
        assert!(numbers.windows(2).all(|pair| pair[1] - pair[0] > most), "{numbers:?}");
        assert_eq!(first_number(Timestamp(1_000), Timestamp(0)), NUMBERS, "a clock that went back");
    }
}
