//! Paused apps. Their new requests wait in a bounded queue until the app is resumed or their patience ends.

use allod_proto::{AppRef, routes::PausedApp};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::sync::watch;

#[derive(Debug, Default)]
pub(crate) struct Pauses {
    paused: Mutex<HashMap<AppRef, Arc<Pause>>>,
    // So that an unpaused proxy takes no lock.
    count: AtomicUsize,
}

#[derive(Debug)]
pub(crate) struct Pause {
    patience: Duration,
    waiting: AtomicUsize,
    over: watch::Sender<bool>,
}

/// Why a waiting request is answered without having reached its app.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum WaitError {
    QueueFull,
    TooLong,
}

impl Pauses {
    /// Pauses an app. A second pause changes the patience of later requests only.
    pub(crate) fn pause(&self, app: AppRef, patience: Duration) {
        let mut paused = self.lock();
        let over = match paused.remove(&app) {
            Some(before) => before.over.clone(),
            None => watch::Sender::new(false),
        };
        paused.insert(app, Arc::new(Pause { patience, waiting: AtomicUsize::new(0), over }));
        self.count.store(paused.len(), Ordering::SeqCst);
    }

    /// The paused apps.
    pub(crate) fn all(&self) -> Vec<PausedApp> {
        let patience = |pause: &Pause| u64::try_from(pause.patience.as_millis()).unwrap_or(u64::MAX);
        let paused = self.lock();
        paused
            .iter()
            .map(|(app, pause)| PausedApp { app: app.clone(), timeout_ms: patience(pause) })
            .collect()
    }

    /// Lets the app's requests go on.
    pub(crate) fn resume(&self, app: &AppRef) {
        let mut paused = self.lock();
        if let Some(pause) = paused.remove(app) {
            pause.over.send_replace(true);
        }
        self.count.store(paused.len(), Ordering::SeqCst);
    }

    /// The pause that a request of this app must wait for.
    pub(crate) fn of(&self, app: &AppRef) -> Option<Arc<Pause>> {
        if self.count.load(Ordering::SeqCst) == 0 {
            return None;
        }
        self.lock().get(app).cloned()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<AppRef, Arc<Pause>>> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pause {
    /// Waits for the end of the pause.
    pub(crate) async fn wait(&self, queue: usize) -> Result<(), WaitError> {
        let _place = Place::take(&self.waiting, queue).ok_or(WaitError::QueueFull)?;
        let mut over = self.over.subscribe();
        let ended = over.wait_for(|over| *over);
        match tokio::time::timeout(self.patience, ended).await {
            Ok(_) => Ok(()),
            Err(_) => Err(WaitError::TooLong),
        }
    }
}

struct Place<'p>(&'p AtomicUsize);

impl<'p> Place<'p> {
    fn take(waiting: &'p AtomicUsize, most: usize) -> Option<Self> {
        let place = Self(waiting);
        (waiting.fetch_add(1, Ordering::SeqCst) < most).then_some(place)
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> AppRef {
        "blog".parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_beyond_the_queue_is_refused_and_one_beyond_its_patience_gives_up() {
        let pauses = Pauses::default();
        pauses.pause(app(), Duration::from_secs(5));
        let pause = pauses.of(&app()).unwrap();
        assert_eq!(pause.wait(0).await, Err(WaitError::QueueFull));
        assert_eq!(pause.wait(1).await, Err(WaitError::TooLong));
        assert_eq!(pause.waiting.load(Ordering::SeqCst), 0, "who gave up waits no more");
    }

    #[tokio::test(start_paused = true)]
    async fn a_resumed_app_lets_all_of_its_requests_go_on() {
        let pauses = Pauses::default();
        pauses.pause(app(), Duration::from_secs(5));
        let early = pauses.of(&app()).unwrap();
        pauses.pause(app(), Duration::from_secs(9));
        let late = pauses.of(&app()).unwrap();
        let (first, second, ()) = tokio::join!(early.wait(9), late.wait(9), async { pauses.resume(&app()) });
        assert_eq!((first, second), (Ok(()), Ok(())));
        assert!(pauses.of(&app()).is_none());
    }
}
