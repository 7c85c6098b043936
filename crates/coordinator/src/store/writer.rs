//! The thread that writes. Changes come to it in a queue and are tried in order, each on a copy; those that came together are
//! stored in one transaction. Who asked is answered once it is durable, and told when it is not.

use super::{Database, StoreFault};
use crate::{keys::Keys, state::State};
use std::{path::PathBuf, sync::Arc, thread::JoinHandle};
use tokio::sync::{mpsc, oneshot};

/// Changes that wait, at most: who comes then waits for room.
const QUEUE: usize = 256;
/// Changes that share one transaction, at most.
const TOGETHER: usize = 64;

/// What a change changes.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) state: State,
    pub(crate) keys: Arc<Keys>,
}

type Publish = Box<dyn Fn(&Draft, bool) + Send>;
type Answer = Box<dyn FnOnce(Result<(), String>) + Send>;
type Change = Box<dyn FnOnce(&mut Draft) -> (bool, Answer) + Send>;

enum Job {
    Change(Change),
    Backup(PathBuf, oneshot::Sender<Result<(), StoreFault>>),
}

/// The way to that thread. When the last copy is dropped, the thread stores what it has and ends.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    jobs: mpsc::Sender<Job>,
}

impl Store {
    /// Starts the thread; `publish` is told of each state that has been stored.
    pub(crate) fn start(
        database: Database,
        draft: Draft,
        publish: impl Fn(&Draft, bool) + Send + 'static,
    ) -> Result<(Self, JoinHandle<()>), StoreFault> {
        let (jobs, queue) = mpsc::channel(QUEUE);
        let writer = Writer { database, stored: draft, publish: Box::new(publish) };
        let thread = std::thread::Builder::new()
            .name("coordinator-store".to_owned())
            .spawn(move || writer.run(queue))
            .map_err(|source| StoreFault::Io { path: PathBuf::from("a thread"), source })?;
        Ok((Self { jobs }, thread))
    }

    /// Makes a change. `Ok` means that it is stored; an `Err` of the change itself means that nothing changed.
    pub(crate) async fn change<T, E>(
        &self,
        change: impl FnOnce(&mut Draft) -> Result<T, E> + Send + 'static,
    ) -> Result<Result<T, E>, StoreFault>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        let (sender, receiver) = oneshot::channel();
        let job: Change = Box::new(move |draft| {
            let outcome = change(draft);
            let is_kept = outcome.is_ok();
            (is_kept, Box::new(move |stored| drop(sender.send((outcome, stored)))))
        });
        self.jobs.send(Job::Change(job)).await.map_err(|_| StoreFault::Ended)?;
        match receiver.await.map_err(|_| StoreFault::Ended)? {
            (Ok(value), Ok(())) => Ok(Ok(value)),
            (Ok(_), Err(problem)) => Err(StoreFault::NotStored(problem)),
            (Err(refusal), _) => Ok(Err(refusal)),
        }
    }

    /// Writes a backup.
    pub(crate) async fn backup(&self, path: PathBuf) -> Result<(), StoreFault> {
        let (sender, receiver) = oneshot::channel();
        self.jobs.send(Job::Backup(path, sender)).await.map_err(|_| StoreFault::Ended)?;
        receiver.await.map_err(|_| StoreFault::Ended)?
    }
}

struct Writer {
    database: Database,
    stored: Draft,
    publish: Publish,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<Job>) {
        let mut later = None;
        while let Some(job) = later.take().or_else(|| queue.blocking_recv()) {
            match job {
                Job::Backup(path, answer) => drop(answer.send(self.database.backup(&path))),
                Job::Change(first) => {
                    let mut changes = vec![first];
                    while changes.len() < TOGETHER {
                        match queue.try_recv() {
                            Ok(Job::Change(change)) => changes.push(change),
                            Ok(backup) => {
                                later = Some(backup);
                                break;
                            }
                            Err(_) => break,
                        }
                    }
                    self.make(changes);
                }
            }
        }
    }

    fn make(&mut self, changes: Vec<Change>) {
        let mut next = self.stored.clone();
        let (mut kept, mut refused) = (Vec::new(), Vec::new());
        for change in changes {
            let mut trial = next.clone();
            let (is_kept, answer) = change(&mut trial);
            if is_kept {
                next = trial;
                kept.push(answer);
            } else {
                refused.push(answer);
            }
        }
        refused.into_iter().for_each(|answer| answer(Ok(())));
        if kept.is_empty() {
            return;
        }
        let rows = next.state.take_rows();
        let new_keys = (!Arc::ptr_eq(&next.keys, &self.stored.keys)).then_some(next.keys.as_ref());
        let written =
            if rows.is_empty() && new_keys.is_none() { Ok(()) } else { self.database.write(&rows, new_keys) };
        match &written {
            Ok(()) => {
                self.stored = next;
                (self.publish)(&self.stored, true);
            }
            Err(fault) => {
                tracing::error!(error = fault as &dyn std::error::Error, "a change could not be stored");
                (self.publish)(&self.stored, false);
            }
        }
        let outcome = written.map_err(|fault| fault.to_string());
        kept.into_iter().for_each(|answer| answer(outcome.clone()));
    }
}
