//! What a power cut may leave. A [`Journal`] writes down what the operations in [`crate::disk`] do below one folder, can
//! stop them at any one (the program is killed), and makes every state that a disk may be in when the power goes there.
//! [`survives`] tells a store's story and looks at each of these states. For tests; Linux only.

mod model;
mod story;

pub use story::{Story, survives, survives_kills, survives_samples};

use crate::disk::Operation;
use model::{Choices, Model};
use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
};

static WATCHING: AtomicUsize = AtomicUsize::new(0);
static JOURNALS: Mutex<Vec<Arc<Inner>>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    before: Model,
    written: Mutex<Written>,
}

#[derive(Debug, Default)]
struct Written {
    operations: Vec<Operation>,
    /// From this one on, all are refused.
    stop: Option<usize>,
}

/// What was done below a folder, in order, until dropped.
#[derive(Debug)]
pub struct Journal(Arc<Inner>);

impl Journal {
    /// From now on, what is done below `root` is written down. What is there already counts as on the disk.
    ///
    /// # Errors
    /// When the folder can't be read.
    pub fn begin(root: &Path) -> io::Result<Self> {
        let root = root.canonicalize()?;
        let before = Model::of(&root)?;
        let inner = Arc::new(Inner { root, before, written: Mutex::default() });
        lock(&JOURNALS).push(Arc::clone(&inner));
        WATCHING.fetch_add(1, Ordering::SeqCst);
        Ok(Self(inner))
    }

    /// How many operations there were.
    #[must_use]
    pub fn len(&self) -> usize {
        lock(&self.0.written).operations.len()
    }

    /// Whether there were none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Refuses every operation from the given one on; `None` lets them through again.
    pub fn stop_at(&self, operation: Option<usize>) {
        lock(&self.0.written).stop = operation;
    }

    /// What was done around an operation, for whoever reads a failure.
    #[must_use]
    pub fn around(&self, operation: usize) -> String {
        let written = lock(&self.0.written);
        let first = operation.saturating_sub(4);
        let near = written.operations.iter().enumerate().skip(first).take(6);
        near.map(|(number, it)| format!("\n  {number} {}", brief(it))).collect()
    }

    /// Makes in `into` what a power cut before the given operation leaves. Each choice decides about one unsynced thing:
    /// 0 loses it, 255 keeps it, a file's bytes may be torn or zeros between; they are used again and again.
    ///
    /// # Errors
    /// When it can't be made, or something was done that is not modelled.
    pub fn power_cut(&self, before: usize, choices: &[u8], into: &Path) -> io::Result<()> {
        let model = self.model(before)?;
        model.make(into, &mut Choices::new(choices))
    }

    /// Whether the journal knows all that is on the disk. What it does not know was made without [`crate::disk`].
    ///
    /// # Errors
    /// A sentence with what is not known or not the same. Locks, sockets and the reserve last for nobody.
    pub fn is_complete(&self) -> Result<(), String> {
        let known = self.model(usize::MAX).map_err(|error| error.to_string())?;
        let there = Model::of(&self.0.root).map_err(|error| error.to_string())?;
        known.differs(&there).map_or(Ok(()), |path| {
            Err(format!("{} is not on the disk as it was written down", path.display()))
        })
    }

    fn model(&self, before: usize) -> io::Result<Model> {
        let mut model = self.0.before.clone();
        for operation in lock(&self.0.written).operations.iter().take(before) {
            model.apply(&self.0.root, operation)?;
        }
        Ok(model)
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        lock(&JOURNALS).retain(|inner| !Arc::ptr_eq(inner, &self.0));
        WATCHING.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Does something to the disk and writes it down, where somebody watches.
pub(crate) fn noted<T>(
    what: impl FnOnce() -> Operation,
    act: impl FnOnce() -> io::Result<T>,
) -> io::Result<T> {
    if WATCHING.load(Ordering::SeqCst) == 0 {
        return act();
    }
    let operation = what();
    let watched = lock(&JOURNALS).iter().find(|inner| operation.path().starts_with(&inner.root)).cloned();
    let Some(inner) = watched else { return act() };
    // Held over the operation: the order here is the order there.
    let mut written = lock(&inner.written);
    if written.stop.is_some_and(|stop| written.operations.len() >= stop) {
        return Err(io::Error::other("the program was stopped here"));
    }
    let done = act()?;
    written.operations.push(operation);
    Ok(done)
}

fn brief(operation: &Operation) -> String {
    match operation {
        Operation::Write { path, at, bytes } => {
            format!("Write {} bytes at {at} to {}", bytes.len(), path.display())
        }
        other => format!("{other:?}"),
    }
}

#[cfg(test)]
mod tests;
