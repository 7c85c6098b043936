//! How many asks of a kind are under way at once on a connection, until their answers have been taken. So a peer that asks
//! for much and reads nothing fills a bounded piece of memory and then waits for itself.

use allod_proto::executor::Action;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Asks of one connection that are under way, of every kind.
const ALL: usize = 256;
/// Those whose answers tell much of what there is: some 100 KiB each on a busy server.
const BROAD: usize = 32;
/// Those that read through the record: up to 2 MiB each, and a thread.
const LONG: usize = 4;

/// The lanes of one connection.
#[derive(Debug, Clone)]
pub(super) struct Lanes {
    all: Arc<Semaphore>,
    broad: Arc<Semaphore>,
    long: Arc<Semaphore>,
}

/// A place on a lane, and its answer's until that is written.
#[derive(Debug)]
pub(super) struct Place {
    _all: OwnedSemaphorePermit,
    _narrow: Option<OwnedSemaphorePermit>,
}

/// A place among all; which lane it is for is not known before the line is read.
#[derive(Debug)]
pub(super) struct Begun(OwnedSemaphorePermit);

impl Default for Lanes {
    fn default() -> Self {
        let lane = |places| Arc::new(Semaphore::new(places));
        Self { all: lane(ALL), broad: lane(BROAD), long: lane(LONG) }
    }
}

impl Lanes {
    /// Waits until one more ask may be read at all. `None` never comes: the lanes are not closed.
    pub(super) async fn begin(&self) -> Option<Begun> {
        Arc::clone(&self.all).acquire_owned().await.ok().map(Begun)
    }

    /// Waits until this action may begin.
    pub(super) async fn enter(&self, begun: Begun, action: &Action) -> Place {
        let narrow = match lane(action) {
            Lane::Quick => None,
            Lane::Broad => Arc::clone(&self.broad).acquire_owned().await.ok(),
            Lane::Long => Arc::clone(&self.long).acquire_owned().await.ok(),
        };
        Place { _all: begun.0, _narrow: narrow }
    }
}

#[derive(Debug, PartialEq)]
enum Lane {
    Quick,
    Broad,
    Long,
}

fn lane(action: &Action) -> Lane {
    match action {
        Action::RecordRead { .. } | Action::RecordVerify {} | Action::RecordStats {} => Lane::Long,
        Action::Look {}
        | Action::Attach { .. }
        | Action::Keys {}
        | Action::Releases { .. }
        | Action::Secrets { .. }
        | Action::LogList { .. }
        | Action::Commands {}
        | Action::CommandHistory { .. }
        | Action::Runs {} => Lane::Broad,
        Action::Perform(_)
        | Action::InstanceStart { .. }
        | Action::InstanceStop { .. }
        | Action::InstanceCheck { .. }
        | Action::InstanceForget { .. }
        | Action::ReleaseCommand { .. }
        | Action::Promote { .. }
        | Action::Finish { .. }
        | Action::Observe(_)
        | Action::RunRead { .. }
        | Action::RunLeft { .. }
        | Action::GateAsked { .. }
        | Action::LogRead { .. } => Lane::Quick,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_reads_through_the_record_waits_for_its_own_kind_and_for_nothing_else() {
        let lanes = Lanes::default();
        let enter = async |action: Action| {
            let begun = lanes.begin().await.unwrap();
            tokio::time::timeout(std::time::Duration::from_secs(1), lanes.enter(begun, &action)).await.ok()
        };
        let mut long = Vec::new();
        for _ in 0..LONG {
            long.push(enter(Action::RecordVerify {}).await.unwrap());
        }
        assert!(enter(Action::RecordStats {}).await.is_none());
        let broad = enter(Action::Look {}).await;
        assert!(broad.is_some());
        long.pop();
        assert!(enter(Action::RecordStats {}).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn asks_under_way_are_bounded_until_their_answers_are_taken() {
        let lanes = Lanes::default();
        let mut places = Vec::new();
        for _ in 0..ALL {
            places.push(lanes.begin().await.unwrap());
        }
        assert!(tokio::time::timeout(std::time::Duration::from_secs(1), lanes.begin()).await.is_err());
        places.pop();
        assert!(lanes.begin().await.is_some());
    }
}
