//! Visitors who keep coming while something is done, and who remember every request that failed.

use super::raw::{self, Answer};
use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use tokio::task::JoinSet;

const VISITORS: usize = 4;
const REASONS: usize = 5;

/// What the visitors met with.
#[derive(Debug, Clone, Default)]
pub(super) struct Visits {
    /// Requests answered with 200.
    pub(super) answered: u64,
    /// Requests that were not, with the first reasons.
    pub(super) failed: u64,
    pub(super) reasons: Vec<String>,
    /// Answers by version.
    pub(super) versions: BTreeMap<String, u64>,
}

impl Visits {
    fn count(&mut self, answer: io::Result<Answer>) {
        match answer {
            Ok(answer) if answer.status == 200 => {
                self.answered += 1;
                let version = answer.header("x-version").unwrap_or("none").to_owned();
                *self.versions.entry(version).or_default() += 1;
            }
            other => {
                self.failed += 1;
                if self.reasons.len() < REASONS {
                    self.reasons.push(match other {
                        Ok(answer) => format!("status {}", answer.status),
                        Err(error) => error.to_string(),
                    });
                }
            }
        }
    }
}

/// Visitors of the proxy's port.
pub(super) struct Load {
    visits: Arc<Mutex<Visits>>,
    over: Arc<AtomicBool>,
    visitors: JoinSet<()>,
}

impl Load {
    /// They begin to come.
    pub(super) fn begin(port: u16) -> Self {
        let (visits, over) = (Arc::<Mutex<Visits>>::default(), Arc::<AtomicBool>::default());
        let mut visitors = JoinSet::new();
        for _ in 0..VISITORS {
            visitors.spawn(visit(port, Arc::clone(&visits), Arc::clone(&over)));
        }
        Self { visits, over, visitors }
    }

    /// No more come; the last are waited for.
    pub(super) async fn end(self) -> Visits {
        self.over.store(true, Ordering::Relaxed);
        self.visitors.join_all().await;
        self.visits.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn visit(port: u16, visits: Arc<Mutex<Visits>>, over: Arc<AtomicBool>) {
    while !over.load(Ordering::Relaxed) {
        let answer = raw::get(port, "/").await;
        visits.lock().unwrap_or_else(PoisonError::into_inner).count(answer);
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
