//! Something scarce that many keys want: so many in all, and so many for each key. What is held is given back by
//! dropping it.

use allod_proto::Fingerprint;
use std::{
    collections::HashMap,
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// What is there to share.
#[derive(Debug)]
pub(super) struct Shares {
    total: usize,
    each: usize,
    held: Mutex<HashMap<Fingerprint, usize>>,
    freed: Notify,
}

/// One of it, held by a key.
#[derive(Debug)]
pub(super) struct Share {
    of: Arc<Shares>,
    key: Fingerprint,
}

impl Shares {
    pub(super) fn new(total: usize, each: usize) -> Arc<Self> {
        Arc::new(Self { total, each, held: Mutex::default(), freed: Notify::new() })
    }

    /// One for this key, if there is one now.
    pub(super) fn try_take(self: &Arc<Self>, key: &Fingerprint) -> Option<Share> {
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, own) = (held.values().sum::<usize>(), held.get(key).copied().unwrap_or(0));
        if all >= self.total || own >= self.each {
            return None;
        }
        held.insert(key.clone(), own.saturating_add(1));
        Some(Share { of: Arc::clone(self), key: key.clone() })
    }

    /// One for this key, waiting for it this long.
    pub(super) async fn take(self: &Arc<Self>, key: &Fingerprint, patience: Duration) -> Option<Share> {
        let taking = async {
            loop {
                let mut freed = pin!(self.freed.notified());
                // From here on nothing that is given back is missed.
                freed.as_mut().enable();
                if let Some(share) = self.try_take(key) {
                    return share;
                }
                freed.await;
            }
        };
        tokio::time::timeout(patience, taking).await.ok()
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut held = self.of.held.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = held.get_mut(&self.key) {
            *own = own.saturating_sub(1);
            if *own == 0 {
                held.remove(&self.key);
            }
        }
        drop(held);
        self.of.freed.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: u8) -> Fingerprint {
        format!("SHA256:{}", char::from(b'A' + name).to_string().repeat(43)).parse().unwrap()
    }

    #[test]
    fn one_key_gets_no_more_than_its_part_and_all_no_more_than_there_is() {
        let shares = Shares::new(3, 2);
        let held: Vec<_> = (0..2).map(|_| shares.try_take(&key(0)).unwrap()).collect();
        assert!(shares.try_take(&key(0)).is_none());
        let last = shares.try_take(&key(1)).unwrap();
        assert!(shares.try_take(&key(2)).is_none());
        drop(held);
        drop(last);
        assert!(shares.try_take(&key(2)).is_some());
        assert!(shares.held.lock().unwrap().is_empty(), "who holds nothing is forgotten");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_gets_what_is_given_back_or_gives_up() {
        let shares = Shares::new(1, 1);
        let held = shares.try_take(&key(0)).unwrap();
        assert!(shares.take(&key(1), Duration::from_secs(5)).await.is_none());
        let other = Arc::clone(&shares);
        let waiting =
            tokio::spawn(async move { other.take(&key(1), Duration::from_secs(5)).await.is_some() });
        tokio::task::yield_now().await;
        drop(held);
        assert!(waiting.await.unwrap());
    }
}
