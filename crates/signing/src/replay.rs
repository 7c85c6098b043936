//! The window in which a signed request is good, once. Pure and bounded: it refuses when full and never forgets a nonce
//! whose request could still be fresh.

use crate::verify::Verified;
use allod_proto::{Digest, Epoch, Fingerprint, Nonce, Timestamp, limits::FRESHNESS};
use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

/// A key and its nonce, as the first half of their digest: what is remembered is as small for a long nonce as for a short.
type Spent = [u8; 16];

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
    seen: HashSet<Spent>,
    /// The same, by the time each request was signed, and whose it was.
    by_time: BTreeSet<(Timestamp, Spent, Arc<Fingerprint>)>,
    /// How many are of each key.
    of_key: HashMap<Arc<Fingerprint>, usize>,
    /// The latest time seen. A clock that goes back must not make fresh again what was forgotten.
    latest: Timestamp,
}

impl Window {
    /// An empty window. One key can fill `capacity_per_key`, all together `capacity_total`; a key that used no more than
    /// a thousandth of that is let in even then, so that a few can't shut out the others.
    #[must_use]
    pub fn new(epoch: Epoch, capacity_per_key: usize, capacity_total: usize) -> Self {
        Self {
            epoch,
            capacity_per_key,
            capacity_total,
            seen: HashSet::new(),
            by_time: BTreeSet::new(),
            of_key: HashMap::new(),
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
        let spent = spent(key, nonce);
        if self.seen.contains(&spent) {
            return Err(ReplayError::Replayed);
        }
        let of_key = self.of_key.get(key).copied().unwrap_or(0);
        let is_full = self.by_time.len() >= self.capacity_total && of_key >= self.capacity_total / 1000;
        if is_full || of_key >= self.capacity_per_key {
            return Err(ReplayError::Full);
        }
        self.insert(key, spent, signed_at);
        Ok(())
    }

    /// Remembers a nonce that was spent before, such as one read back from the record. Capacity does not refuse it:
    /// it is spent.
    pub fn remember(&mut self, key: &Fingerprint, nonce: &Nonce, signed_at: Timestamp) {
        self.insert(key, spent(key, nonce), signed_at);
    }

    /// Begins a new epoch: requests of the one before are stale, so its nonces are needed no more.
    pub fn renew(&mut self, epoch: Epoch) {
        if epoch != self.epoch {
            *self = Self::new(epoch, self.capacity_per_key, self.capacity_total);
        }
    }

    fn insert(&mut self, key: &Fingerprint, spent: Spent, signed_at: Timestamp) {
        if !self.seen.insert(spent) {
            return;
        }
        let known = self.of_key.get_key_value(key).map(|(known, _)| Arc::clone(known));
        let key = known.unwrap_or_else(|| Arc::new(key.clone()));
        let count = self.of_key.entry(Arc::clone(&key)).or_insert(0);
        *count = count.saturating_add(1);
        self.by_time.insert((signed_at, spent, key));
    }

    /// Forgets what can't be fresh any more, counted from when each request says it was signed and not from when it
    /// came: one dated ahead stays longer.
    fn forget(&mut self) {
        while self.by_time.first().is_some_and(|(signed_at, ..)| signed_at.plus(FRESHNESS) < self.latest) {
            let Some((_, spent, key)) = self.by_time.pop_first() else { return };
            self.seen.remove(&spent);
            if let Some(count) = self.of_key.get_mut(&key) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.of_key.remove(&key);
                }
            }
        }
    }
}

fn spent(key: &Fingerprint, nonce: &Nonce) -> Spent {
    // Neither has a newline.
    let digest = Digest::of(format!("{key}\n{nonce}"));
    digest.as_bytes().first_chunk().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests;
