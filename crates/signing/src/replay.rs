//! The window in which a signed request is good, once. Pure and bounded: it refuses when full and never forgets a nonce
//! whose request could still be fresh.

use crate::verify::Verified;
use allod_proto::{Epoch, Fingerprint, Nonce, Timestamp, limits::FRESHNESS};
use std::collections::{BTreeSet, HashMap, HashSet};

/// Why a request that is otherwise good must not be done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReplayError {
    /// It was signed for another life of the agent.
    #[error("it was signed for another epoch")]
    StaleEpoch,
    /// It was signed too long ago, or in the future.
    #[error("its time is more than 60 s from the server's, which is {server}")]
    Clock {
        /// The server's time.
        server: Timestamp,
    },
    /// Its nonce was used before.
    #[error("it was done before")]
    Replayed,
    /// This key, or all together, used as many nonces as can be remembered.
    #[error("too many requests within the window")]
    Full,
}

/// The nonces of one epoch.
#[derive(Debug)]
pub struct Window {
    epoch: Epoch,
    capacity_per_key: usize,
    capacity_total: usize,
    seen: HashMap<Fingerprint, HashSet<Nonce>>,
    /// The same, by the time each request was signed.
    by_time: BTreeSet<(Timestamp, Fingerprint, Nonce)>,
    /// The latest time seen. A clock that goes back must not make fresh again what was forgotten.
    latest: Timestamp,
}

impl Window {
    /// An empty window. One key can fill `capacity_per_key`, all together `capacity_total`.
    #[must_use]
    pub fn new(epoch: Epoch, capacity_per_key: usize, capacity_total: usize) -> Self {
        Self {
            epoch,
            capacity_per_key,
            capacity_total,
            seen: HashMap::new(),
            by_time: BTreeSet::new(),
            latest: Timestamp(0),
        }
    }

    /// The epoch it is for.
    #[must_use]
    pub fn epoch(&self) -> &Epoch {
        &self.epoch
    }

    /// How many nonces it holds.
    #[must_use]
    pub fn len(&self) -> usize {
        self.by_time.len()
    }

    /// Whether it holds none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.by_time.is_empty()
    }

    /// Spends a verified request's nonce. `now` is of a clock that never goes back; if it does, the latest time counts.
    ///
    /// # Errors
    /// [`ReplayError`] when the request must not be done. Nothing is spent then.
    pub fn admit(&mut self, verified: &Verified, now: Timestamp) -> Result<(), ReplayError> {
        let request = (verified.fingerprint(), verified.nonce(), verified.timestamp());
        self.spend(request, verified.epoch(), now)
    }

    fn spend(
        &mut self,
        (key, nonce, signed_at): (&Fingerprint, &Nonce, Timestamp),
        epoch: &Epoch,
        now: Timestamp,
    ) -> Result<(), ReplayError> {
        if *epoch != self.epoch {
            return Err(ReplayError::StaleEpoch);
        }
        self.latest = self.latest.max(now);
        if signed_at.distance(self.latest) > FRESHNESS {
            return Err(ReplayError::Clock { server: self.latest });
        }
        self.forget();
        let of_key = self.seen.get(key);
        if of_key.is_some_and(|nonces| nonces.contains(nonce)) {
            return Err(ReplayError::Replayed);
        }
        if self.by_time.len() >= self.capacity_total
            || of_key.map_or(0, HashSet::len) >= self.capacity_per_key
        {
            return Err(ReplayError::Full);
        }
        self.insert(key, nonce, signed_at);
        Ok(())
    }

    /// Remembers a nonce that was spent before, such as one read back from the record. Capacity does not refuse it:
    /// it is spent.
    pub fn remember(&mut self, key: &Fingerprint, nonce: &Nonce, signed_at: Timestamp) {
        self.insert(key, nonce, signed_at);
    }

    /// Begins a new epoch: requests of the one before are stale, so its nonces are needed no more.
    pub fn renew(&mut self, epoch: Epoch) {
        if epoch != self.epoch {
            *self = Self::new(epoch, self.capacity_per_key, self.capacity_total);
        }
    }

    fn insert(&mut self, key: &Fingerprint, nonce: &Nonce, signed_at: Timestamp) {
        if self.seen.entry(key.clone()).or_default().insert(nonce.clone()) {
            self.by_time.insert((signed_at, key.clone(), nonce.clone()));
        }
    }

    /// Forgets what can't be fresh any more, counted from when each request says it was signed and not from when it
    /// came: one dated ahead stays longer.
    fn forget(&mut self) {
        while self.by_time.first().is_some_and(|(signed_at, ..)| signed_at.plus(FRESHNESS) < self.latest) {
            let Some((_, key, nonce)) = self.by_time.pop_first() else { return };
            if let Some(nonces) = self.seen.get_mut(&key) {
                nonces.remove(&nonce);
                if nonces.is_empty() {
                    self.seen.remove(&key);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
