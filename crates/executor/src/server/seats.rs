//! Who is connected: a few who have not said yet that they are the agent, and the agent, of which there is one. Whoever
//! is in the way of somebody newer is told to go: of those who wait the oldest, and the agent by its next life.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// How many may be connected without having attached.
pub(super) const WAITING: usize = 64;

/// All places.
#[derive(Debug, Default)]
pub(super) struct Seats {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    next: u64,
    waiting: VecDeque<Place>,
    agent: Option<Place>,
}

/// Dropping it tells its connection to end.
#[derive(Debug)]
struct Place {
    id: u64,
    _end: oneshot::Sender<()>,
}

/// One connection's place. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Seat {
    id: u64,
    seats: Arc<Seats>,
}

/// Resolves, as an error because nothing is ever sent, when the connection must end.
pub(super) type End = oneshot::Receiver<()>;

impl Seats {
    /// Whether the next one to come in makes another go.
    pub(super) fn are_taken(&self) -> bool {
        self.hold().waiting.len() >= WAITING
    }

    /// A place for somebody who just came in.
    pub(super) fn take(self: &Arc<Self>) -> (Seat, End) {
        let (sender, end) = oneshot::channel();
        let mut taken = self.hold();
        taken.next = taken.next.wrapping_add(1);
        let id = taken.next;
        if taken.waiting.len() >= WAITING {
            taken.waiting.pop_front();
        }
        taken.waiting.push_back(Place { id, _end: sender });
        (Seat { id, seats: Arc::clone(self) }, end)
    }

    // What a panicking thread left is whole: each change under this lock is one insertion or removal.
    fn hold(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// Which place it is: no other of this life has the number.
    pub(super) fn id(&self) -> u64 {
        self.id
    }

    /// Its connection is the agent's from now on; the one that was before goes. `false` when it has lost its place.
    pub(super) fn attach(&self) -> bool {
        let mut taken = self.seats.hold();
        if taken.agent.as_ref().is_some_and(|agent| agent.id == self.id) {
            return true;
        }
        let Some(at) = taken.waiting.iter().position(|place| place.id == self.id) else { return false };
        taken.agent = taken.waiting.remove(at);
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.hold();
        taken.waiting.retain(|place| place.id != self.id);
        taken.agent.take_if(|agent| agent.id == self.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Sitting = (Seat, End);

    fn is_lost((_, end): &mut Sitting) -> bool {
        end.try_recv() == Err(oneshot::error::TryRecvError::Closed)
    }

    #[test]
    fn of_those_who_wait_the_oldest_goes_when_there_is_no_place() {
        let seats = Arc::new(Seats::default());
        let mut waiting: Vec<Sitting> = (0..WAITING).map(|_| seats.take()).collect();
        assert!(seats.are_taken() && !waiting.iter_mut().any(is_lost));
        let mut newest = seats.take();
        let lost: Vec<bool> = waiting.iter_mut().map(is_lost).collect();
        assert_eq!(lost.iter().position(|lost| *lost), Some(0));
        assert_eq!(lost.iter().filter(|lost| **lost).count(), 1);
        assert!(!is_lost(&mut newest));
        assert!(!waiting[0].0.attach(), "who lost its place can't become the agent");
        drop(waiting);
        assert!(!seats.are_taken(), "places are given back");
    }

    #[test]
    fn a_crowd_takes_no_place_from_the_agent() {
        let seats = Arc::new(Seats::default());
        let mut agent = seats.take();
        assert!(agent.0.attach());
        let crowd: Vec<Sitting> = (0..WAITING * 3).map(|_| seats.take()).collect();
        assert!(!is_lost(&mut agent) && agent.0.attach());
        assert_eq!(crowd.len(), WAITING * 3);
    }

    #[test]
    fn the_next_life_of_the_agent_ends_the_connection_of_the_one_before() {
        let seats = Arc::new(Seats::default());
        let (mut first, mut second) = (seats.take(), seats.take());
        assert!(first.0.attach() && second.0.attach());
        assert!(is_lost(&mut first) && !is_lost(&mut second));
        assert!(!first.0.attach());
        drop(first);
        assert!(second.0.attach(), "the end of the first takes nothing from the second");
    }
}
