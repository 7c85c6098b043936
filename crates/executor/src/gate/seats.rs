//! How many requests may be open at the gate: all together, and of one key. One caller leaves room for the others.

use allod_proto::Fingerprint;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// All together.
const ALL: usize = 64;
/// Of one key.
const ONE: usize = 16;

/// All places.
#[derive(Debug, Default)]
pub(super) struct Seats {
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    keys: HashMap<Fingerprint, usize>,
}

/// One request's place. Dropping it gives it back.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Arc<Seats>,
    key: Option<Fingerprint>,
}

impl Seats {
    /// A place, if there is one.
    pub(super) fn take(self: &Arc<Self>) -> Option<Seat> {
        let mut taken = self.hold();
        if taken.all >= ALL {
            return None;
        }
        taken.all = taken.all.saturating_add(1);
        Some(Seat { seats: Arc::clone(self), key: None })
    }

    // What a panicking thread left is whole: each change under this lock is one step.
    fn hold(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seat {
    /// It is this key's from now on; `false` when the key has as many as one may have.
    pub(super) fn belongs_to(&mut self, key: &Fingerprint) -> bool {
        let mut taken = self.seats.hold();
        let count = taken.keys.entry(key.clone()).or_default();
        if *count >= ONE {
            return false;
        }
        *count = count.saturating_add(1);
        self.key = Some(key.clone());
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.seats.hold();
        taken.all = taken.all.saturating_sub(1);
        if let Some(key) = &self.key
            && let Some(count) = taken.keys.get_mut(key)
        {
            *count = count.saturating_sub(1);
            if *count == 0 {
                taken.keys.remove(key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(letter: char) -> Fingerprint {
        Fingerprint::new(format!("SHA256:{}", letter.to_string().repeat(43))).unwrap()
    }

    #[test]
    fn one_key_leaves_room_for_another_and_all_together_have_a_bound() {
        let seats = Arc::new(Seats::default());
        let mut sitting = Vec::new();
        for _ in 0..ONE {
            let mut seat = seats.take().unwrap();
            assert!(seat.belongs_to(&key('a')));
            sitting.push(seat);
        }
        let mut more = seats.take().unwrap();
        assert!(!more.belongs_to(&key('a')) && more.belongs_to(&key('b')));
        sitting.push(more);
        while let Some(seat) = seats.take() {
            sitting.push(seat);
        }
        assert_eq!(sitting.len(), ALL);
        drop(sitting);
        let taken = seats.hold();
        assert_eq!((taken.all, taken.keys.len()), (0, 0), "all are given back");
    }
}
