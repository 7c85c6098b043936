//! What a client remembers of a server between runs: the epoch, so that one round trip is enough, and the highest
//! head of its record, so that a cut tail is noticed.

use allod_proto::{
    Epoch, Fingerprint,
    record::{Head, SignedHead},
};
use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

/// Something the person should hear of although the call went on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Notice {
    /// The two clocks differ by more than requests may; the server's minus ours, in milliseconds.
    ClockDiffers {
        /// Which server.
        server: String,
        /// Positive when the server is ahead.
        ahead_ms: i64,
    },
    /// The connection was lost and the same request is sent again.
    TryingAgain {
        /// Which server.
        server: String,
        /// Why.
        why: String,
    },
    /// A key could not be used, and the next is tried.
    KeyPassedOver {
        /// Why.
        why: String,
    },
    /// The server is too old for what this key signs under, and the next key is tried.
    NoDelegations {
        /// Which server.
        server: String,
    },
    /// The server sent something that only a newer client understands.
    NewerFrame {
        /// Which server.
        server: String,
    },
}

/// What a client remembers of servers. Kept by identity; shared by the clients of one person.
pub trait Memory: Send {
    /// The last epoch seen.
    fn epoch(&self, identity: &Fingerprint) -> Option<Epoch>;

    /// The newest protocol version that the server spoke in the epoch that is remembered.
    fn newest(&self, identity: &Fingerprint) -> Option<u32> {
        let _ = identity;
        None
    }

    /// `hello` claimed this newest version for this epoch. Nothing signs it: too low a number costs a newer feature, too
    /// high a one is refused by the server and asked for again.
    fn greeted(&mut self, identity: &Fingerprint, epoch: &Epoch, newest: u32) {
        let _ = (identity, epoch, newest);
    }

    /// The server has another identity now, which the old one named: what is remembered and pinned of the old one is the
    /// new one's.
    fn succeeded(&mut self, server: &str, old: &Fingerprint, new: &Fingerprint) {
        let _ = (server, old, new);
    }

    /// The highest head seen.
    fn head(&self, identity: &Fingerprint) -> Option<Head>;

    /// A verified reply carried these. A head that is not higher than the one remembered must not replace it.
    fn learn(&mut self, identity: &Fingerprint, epoch: &Epoch, head: &SignedHead);

    /// Tell the person.
    fn notice(&mut self, notice: Notice) {
        let _ = notice;
    }
}

/// Remembers for as long as it lives.
#[derive(Debug, Default)]
pub struct Forgetful(Mutex<HashMap<Fingerprint, (Epoch, Head)>>, Mutex<HashMap<Fingerprint, (Epoch, u32)>>);

impl Memory for Forgetful {
    fn epoch(&self, identity: &Fingerprint) -> Option<Epoch> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(identity).map(|(epoch, _)| epoch.clone())
    }

    fn head(&self, identity: &Fingerprint) -> Option<Head> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(identity).map(|(_, head)| *head)
    }

    fn newest(&self, identity: &Fingerprint) -> Option<u32> {
        let epoch = self.epoch(identity);
        let greeted = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        greeted.get(identity).filter(|(of, _)| epoch.as_ref() == Some(of)).map(|(_, newest)| *newest)
    }

    fn greeted(&mut self, identity: &Fingerprint, epoch: &Epoch, newest: u32) {
        let mut greeted = self.1.lock().unwrap_or_else(PoisonError::into_inner);
        greeted.insert(identity.clone(), (epoch.clone(), newest));
    }

    fn learn(&mut self, identity: &Fingerprint, epoch: &Epoch, head: &SignedHead) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let entry = known.entry(identity.clone()).or_insert_with(|| (epoch.clone(), head.head));
        entry.0 = epoch.clone();
        if head.head.seq > entry.1.seq {
            entry.1 = head.head;
        }
    }
}
