//! The record at work: who writes the next batch, what is told to whom, and the thread that keeps the deadlines.

use crate::{
    batch::{Kind, LATER, Pending, Queue, Slot},
    entry::Entry,
    error::RecordError,
    head::{HeadKeeper, sign},
    line::{Line, tail},
    pen::Pen,
    read::Reader,
    record::Clock,
};
use allod_proto::{
    Timestamp,
    record::{Head, SignedHead},
};
use allod_signing::Signer;
use std::{
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// The signed head is written down this long after a line at the latest, and no more often.
const HEAD_EVERY: Duration = Duration::from_secs(1);

pub(crate) struct Shared {
    queue: Mutex<Queue>,
    /// A batch is done.
    done: Condvar,
    /// The keeper has something new to wait for.
    wake: Condvar,
    pen: Mutex<Pen>,
    published: Mutex<Published>,
    signed: Mutex<Option<SignedHead>>,
    reader: Reader,
    keeper: Arc<HeadKeeper>,
    signer: Arc<dyn Signer>,
    clock: Clock,
}

/// What readers may see.
#[derive(Clone)]
struct Published {
    head: Head,
    segments: Vec<u64>,
    trouble: Option<String>,
}

/// What became of a batch.
struct Written {
    /// What nobody waits for and was not written.
    later: Vec<Pending>,
    failure: Option<RecordError>,
    advanced: bool,
}

impl Shared {
    pub(crate) fn new(pen: Pen, clock: Clock) -> Self {
        Self {
            queue: Mutex::new(Queue::default()),
            done: Condvar::new(),
            wake: Condvar::new(),
            published: Mutex::new(Published {
                head: pen.head,
                segments: pen.segments.clone(),
                trouble: pen.trouble.clone(),
            }),
            signed: Mutex::new(None),
            reader: Reader::new(Arc::clone(&pen.disk)),
            keeper: Arc::clone(&pen.keeper),
            signer: Arc::clone(&pen.signer),
            pen: Mutex::new(pen),
            clock,
        }
    }

    pub(crate) fn push(&self, entry: &Entry, slot: Option<Arc<Slot>>) -> Result<(), RecordError> {
        let (tail, kind) = (tail(entry)?, Kind::of(entry));
        let is_later = slot.is_none();
        let mut queue = lock(&self.queue);
        // Under the lock, so that the times of the lines do not run backwards.
        let (at, boot) = (self.clock)();
        queue.push(Pending { tail, at, boot, kind, slot })?;
        if is_later && queue.later_due.is_none() {
            queue.later_due = Some(Instant::now() + LATER);
            self.wake.notify_one();
        }
        Ok(())
    }

    pub(crate) fn wait_for(&self, slot: &Slot) -> Result<Head, RecordError> {
        let mut queue = lock(&self.queue);
        loop {
            if let Some(result) = slot.get() {
                return result.clone();
            }
            queue = if queue.leading { wait(&self.done, queue) } else { self.lead(queue).0 };
        }
    }

    pub(crate) fn flush(&self) -> Result<(), RecordError> {
        let mut queue = lock(&self.queue);
        loop {
            if queue.leading {
                queue = wait(&self.done, queue);
                continue;
            }
            if queue.is_empty() {
                return Ok(());
            }
            let (guard, failure) = self.lead(queue);
            if let Some(error) = failure {
                return Err(error);
            }
            queue = guard;
        }
    }

    /// Writes the next batch for all who wait.
    fn lead<'a>(&'a self, mut queue: MutexGuard<'a, Queue>) -> (MutexGuard<'a, Queue>, Option<RecordError>) {
        queue.leading = true;
        let leading = Leading(self);
        if std::mem::take(&mut queue.is_shared) {
            // Those whom the last batch has just woken are about to come back: they should share this one too.
            drop(queue);
            std::thread::yield_now();
            queue = lock(&self.queue);
        }
        let batch = queue.take(Instant::now());
        queue.is_shared = batch.len() > 1;
        drop(queue);
        let written = self.write(batch);
        drop(leading);
        let mut queue = lock(&self.queue);
        let now = Instant::now();
        queue.put_back(written.later, now);
        if written.advanced && queue.head_due.is_none() {
            queue.head_due = Some(now + HEAD_EVERY);
            self.wake.notify_one();
        }
        (queue, written.failure)
    }

    fn write(&self, batch: Vec<Pending>) -> Written {
        let Ok(mut pen) = self.pen.lock() else {
            let failure = Some(RecordError::Refusing("its writer failed".to_owned()));
            return Written { later: Vec::new(), failure, advanced: false };
        };
        let before = pen.head;
        let results = pen.write(&batch);
        let (later, failure) = settle(&mut pen, batch, results);
        let trouble = failure.as_ref().map(ToString::to_string).or_else(|| pen.trouble.take());
        let advanced = pen.head != before;
        *lock(&self.published) = Published { head: pen.head, segments: pen.segments.clone(), trouble };
        Written { later, failure, advanced }
    }

    /// The newest durable head, signed once for each head that is asked for.
    pub(crate) fn signed_head(&self) -> Result<SignedHead, RecordError> {
        let mut signed = lock(&self.signed);
        let head = lock(&self.published).head;
        if let Some(signed) = signed.as_ref().filter(|signed| signed.head == head) {
            return Ok(signed.clone());
        }
        let fresh = sign(self.signer.as_ref(), head, (self.clock)().0)?;
        *signed = Some(fresh.clone());
        Ok(fresh)
    }

    /// Writes the newest durable head down. The pen is free while the disk works.
    pub(crate) fn write_head_down(&self) -> Result<(), RecordError> {
        let record = {
            let pen = self.pen.lock().map_err(|_| RecordError::Refusing("its writer failed".to_owned()))?;
            pen.head_record(sign(self.signer.as_ref(), pen.head, (self.clock)().0)?)
        };
        self.keeper.save(&record)
    }

    pub(crate) fn read(&self, from: u64, limit: usize) -> Result<Vec<String>, RecordError> {
        let Published { head, segments, .. } = lock(&self.published).clone();
        self.reader.read(&segments, head, from, limit)
    }

    pub(crate) fn oldest(&self) -> u64 {
        lock(&self.published).segments.first().copied().unwrap_or(1)
    }

    pub(crate) fn first_since(&self, at: Timestamp) -> Result<u64, RecordError> {
        let Published { head, segments, .. } = lock(&self.published).clone();
        for first in segments.iter().rev() {
            let lines = self.reader.read(&segments, head, *first, 1)?;
            let line = lines.first().and_then(|line| Line::parse(line).ok());
            if line.is_some_and(|line| line.seq == *first && line.at < at) {
                return Ok(*first);
            }
        }
        Ok(self.oldest())
    }

    pub(crate) fn trouble(&self) -> Option<String> {
        lock(&self.published).trouble.clone()
    }

    /// Takes no more entries and ends the keeper. Says whether this was the first call.
    pub(crate) fn stop(&self) -> bool {
        let mut queue = lock(&self.queue);
        let first = !std::mem::replace(&mut queue.closed, true);
        self.wake.notify_all();
        self.done.notify_all();
        first
    }

    pub(crate) fn trim(&self) {
        if let Ok(mut pen) = self.pen.lock() {
            pen.trim();
        }
    }

    /// Keeps the deadlines until told to stop: entries that nobody waits for, and the signed head.
    pub(crate) fn keep(&self) {
        let mut queue = lock(&self.queue);
        while !queue.closed {
            let now = Instant::now();
            if queue.later_due.is_some_and(|due| due <= now) {
                queue = if queue.leading { wait(&self.done, queue) } else { self.lead(queue).0 };
                continue;
            }
            if queue.head_due.is_some_and(|due| due <= now) {
                queue.head_due = None;
                drop(queue);
                let failure = self.write_head_down().err().map(|error| error.to_string());
                queue = lock(&self.queue);
                if failure.is_some() {
                    lock(&self.published).trouble = failure;
                    queue.head_due = Some(Instant::now() + HEAD_EVERY);
                }
                continue;
            }
            let due = queue.later_due.into_iter().chain(queue.head_due).min();
            queue = match due {
                None => wait(&self.wake, queue),
                Some(due) => {
                    let span = due.saturating_duration_since(now);
                    self.wake.wait_timeout(queue, span).unwrap_or_else(PoisonError::into_inner).0
                }
            };
        }
    }
}

/// Tells everybody who waits what became of their entry. Gives back what nobody waits for and was not written, and why.
fn settle(
    pen: &mut Pen,
    batch: Vec<Pending>,
    results: Vec<Result<Head, RecordError>>,
) -> (Vec<Pending>, Option<RecordError>) {
    let mut failure = None;
    let (mut waiting, mut later) = (Vec::new(), Vec::new());
    for (pending, result) in batch.into_iter().zip(results) {
        match result {
            Ok(head) => pending.settle(Ok(head)),
            Err(error) => {
                failure.get_or_insert(error);
                if pending.slot.is_some() { waiting.push(pending) } else { later.push(pending) }
            }
        }
    }
    // On a full disk, what somebody waits for may fit where the whole batch did not.
    let results = match &failure {
        Some(_) if !later.is_empty() => pen.write(&waiting),
        Some(error) => waiting.iter().map(|_| Err(error.clone())).collect(),
        None => Vec::new(),
    };
    waiting.iter().zip(results).for_each(|(pending, result)| pending.settle(result));
    (later, failure)
}

/// The right to write the next batch. Given back even by a writer that panics, so that nobody waits for ever.
struct Leading<'a>(&'a Shared);

impl Drop for Leading<'_> {
    fn drop(&mut self) {
        lock(&self.0.queue).leading = false;
        self.0.done.notify_all();
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn wait<'a, T>(condition: &Condvar, guard: MutexGuard<'a, T>) -> MutexGuard<'a, T> {
    condition.wait(guard).unwrap_or_else(PoisonError::into_inner)
}
