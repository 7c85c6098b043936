//! Who may stay connected. A full house shows out who has proved nothing, from the peer that holds most, so that neither
//! slow heads nor a crowd keeps an honest caller outside. Whose request is being answered is never shown out.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::Notify;

/// The places for connections.
#[derive(Debug)]
pub(super) struct Seats {
    all: usize,
    per_peer: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    /// By the order of coming.
    guests: BTreeMap<u64, Guest>,
    peers: HashMap<IpAddr, usize>,
    next: u64,
}

#[derive(Debug)]
struct Guest {
    peer: IpAddr,
    proven: bool,
    /// Requests that are being answered: one, or none.
    busy: usize,
    leave: Arc<Notify>,
}

/// One connection's place; dropping it gives it back.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    number: u64,
    leave: Arc<Notify>,
}

/// While this is held, the connection's request is being answered.
#[derive(Debug)]
pub(super) struct Busy(Arc<Seat>);

impl Seats {
    pub(super) fn new(all: usize, per_peer: usize) -> Arc<Self> {
        Arc::new(Self { all, per_peer, taken: Mutex::default() })
    }

    /// A place for a new connection, if need be that of a lesser one.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Option<Seat> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.of(peer) >= self.per_peer {
            let victim = taken.least(self.all, |guest| guest.peer == peer)?;
            taken.show_out(victim);
        } else if taken.guests.len() >= self.all {
            let victim = taken.least(self.all, |_| true)?;
            taken.show_out(victim);
        }
        let (number, leave) = (taken.next, Arc::new(Notify::new()));
        taken.next = taken.next.saturating_add(1);
        *taken.peers.entry(peer).or_insert(0) += 1;
        taken.guests.insert(number, Guest { peer, proven: false, busy: 0, leave: Arc::clone(&leave) });
        Some(Seat { seats: Arc::clone(self), number, leave })
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Guest)) {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guest) = taken.guests.get_mut(&number) {
            change(guest);
        }
    }
}

impl Taken {
    fn of(&self, peer: IpAddr) -> usize {
        self.peers.get(&peer).copied().unwrap_or(0)
    }

    /// Who goes first: of a peer that holds a great part of all; who has proved nothing; of whoever holds most; who
    /// came first.
    fn least(&self, all: usize, among: impl Fn(&Guest) -> bool) -> Option<u64> {
        let rank = |(number, guest): (&u64, &Guest)| {
            let held = self.of(guest.peer);
            ((held <= all / 16, guest.proven, Reverse(held), *number), *number)
        };
        let idle = self.guests.iter().filter(|(_, guest)| guest.busy == 0 && among(guest));
        idle.map(rank).min().map(|(_, number)| number)
    }

    fn show_out(&mut self, number: u64) {
        if let Some(guest) = self.remove(number) {
            guest.leave.notify_one();
        }
    }

    fn remove(&mut self, number: u64) -> Option<Guest> {
        let guest = self.guests.remove(&number)?;
        if let Some(held) = self.peers.get_mut(&guest.peer) {
            *held = held.saturating_sub(1);
            if *held == 0 {
                self.peers.remove(&guest.peer);
            }
        }
        Some(guest)
    }
}

impl Seat {
    /// Waits until somebody else needs the place more.
    pub(super) async fn is_wanted(&self) {
        self.leave.notified().await;
    }

    /// A request of this connection was signed by a key that is enrolled, and is being answered.
    pub(super) fn answer(self: &Arc<Self>) -> Busy {
        self.seats.change(self.number, |guest| {
            guest.proven = true;
            guest.busy = guest.busy.saturating_add(1);
        });
        Busy(Arc::clone(self))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.seats.change(self.0.number, |guest| guest.busy = guest.busy.saturating_sub(1));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.seats.taken.lock().unwrap_or_else(PoisonError::into_inner).remove(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::task::{Context, Poll, Waker};

    fn peer(last: u8) -> IpAddr {
        [100, 64, 0, last].into()
    }

    fn was_shown_out(seat: &Seat) -> bool {
        let waiting = std::pin::pin!(seat.is_wanted());
        matches!(waiting.poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(()))
    }

    fn enter(seats: &Arc<Seats>, last: u8) -> Arc<Seat> {
        Arc::new(seats.enter(peer(last)).unwrap())
    }

    #[test]
    fn a_house_full_of_answered_requests_has_no_place() {
        let seats = Seats::new(2, 2);
        let held: Vec<_> = (1..3).map(|last| enter(&seats, last)).collect();
        let busy: Vec<_> = held.iter().map(Seat::answer).collect();
        assert!(seats.enter(peer(9)).is_none());
        drop(busy);
        assert!(seats.enter(peer(9)).is_some(), "kept alive and idle: it can be opened again");
        assert!(was_shown_out(&held[0]) && !was_shown_out(&held[1]));
    }

    #[test]
    fn who_proved_nothing_goes_before_who_did() {
        let seats = Seats::new(3, 3);
        let proven = enter(&seats, 1);
        drop(proven.answer());
        let (slow, slower) = (enter(&seats, 2), enter(&seats, 3));
        let _new = enter(&seats, 4);
        assert!(was_shown_out(&slow) && !was_shown_out(&slower) && !was_shown_out(&proven));
    }

    #[test]
    fn a_crowd_from_one_peer_makes_room_for_the_single_caller_of_another() {
        let seats = Seats::new(64, 60);
        let single = enter(&seats, 1);
        let crowd: Vec<_> = (0..60).map(|_| enter(&seats, 2)).collect();
        let others: Vec<_> = (3..60).map(|last| enter(&seats, last)).collect();
        assert!(!was_shown_out(&single), "it came first, and is not who holds most");
        assert!(crowd.iter().filter(|seat| was_shown_out(seat)).count() >= 54);
        drop(others);
    }

    #[test]
    fn a_peer_at_its_bound_loses_its_own_oldest_place_only() {
        let seats = Seats::new(100, 2);
        let other = enter(&seats, 1);
        let (first, second) = (enter(&seats, 2), enter(&seats, 2));
        let _third = enter(&seats, 2);
        assert!(was_shown_out(&first) && !was_shown_out(&second) && !was_shown_out(&other));
    }

    #[test]
    fn keys_that_hold_idle_connections_by_the_hundred_do_not_push_out_newcomers() {
        let seats = Seats::new(32, 16);
        let hoard: Vec<_> = (0..32).map(|n| enter(&seats, 1 + n / 16)).collect();
        for seat in &hoard {
            drop(seat.answer());
        }
        let (one, two) = (enter(&seats, 8), enter(&seats, 9));
        assert!(!was_shown_out(&one) && !was_shown_out(&two));
        assert_eq!(hoard.iter().filter(|seat| was_shown_out(seat)).count(), 2);
    }

    #[test]
    fn what_leaves_is_counted_once() {
        let seats = Seats::new(1, 1);
        let (first, mut kept) = (enter(&seats, 1), Vec::new());
        for last in 2..20 {
            kept.push(enter(&seats, last));
        }
        drop((first, kept));
        let taken = seats.taken.lock().unwrap();
        assert!(taken.guests.is_empty() && taken.peers.is_empty());
    }
}
