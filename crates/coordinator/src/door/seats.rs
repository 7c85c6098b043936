//! Seats for connections: so many in all, so many for one key. When the house is full, whoever sat longest makes room: an honest
//! guest stays briefly, one that only wants to sit loses its seat to the next.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::sync::oneshot;

/// The seats.
#[derive(Debug)]
pub(crate) struct Seats<K> {
    inner: Mutex<Inner<K>>,
    most: usize,
    most_of_one: usize,
}

#[derive(Debug)]
struct Inner<K> {
    next: u64,
    taken: BTreeMap<u64, (K, oneshot::Sender<()>)>,
    by_key: HashMap<K, VecDeque<u64>>,
}

/// A seat, free again when this is dropped.
#[derive(Debug)]
pub(crate) struct Seat<K: Eq + Hash + Clone> {
    number: u64,
    seats: Arc<Seats<K>>,
    lost: oneshot::Receiver<()>,
}

impl<K: Eq + Hash + Clone> Seats<K> {
    pub(crate) fn new(most: usize, most_of_one: usize) -> Arc<Self> {
        let inner = Inner { next: 0, taken: BTreeMap::new(), by_key: HashMap::new() };
        Arc::new(Self { inner: Mutex::new(inner), most, most_of_one })
    }

    /// Takes a seat; when there is none, from who sits longest: of the same key if that has its share, otherwise of all.
    pub(crate) fn take(self: &Arc<Self>, key: K) -> Seat<K> {
        let (sender, lost) = oneshot::channel();
        let mut inner = self.lock();
        let number = inner.next;
        inner.next = number.wrapping_add(1);
        if inner.by_key.get(&key).is_some_and(|own| own.len() >= self.most_of_one) {
            let oldest = inner.by_key.get(&key).and_then(|own| own.front().copied());
            oldest.into_iter().for_each(|oldest| inner.free(oldest));
        }
        if inner.taken.len() >= self.most {
            let oldest = inner.taken.keys().next().copied();
            oldest.into_iter().for_each(|oldest| inner.free(oldest));
        }
        inner.by_key.entry(key.clone()).or_default().push_back(number);
        inner.taken.insert(number, (key, sender));
        Seat { number, seats: Arc::clone(self), lost }
    }

    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.lock().taken.len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner<K>> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Inner<K> {
    fn free(&mut self, number: u64) {
        let Some((key, sender)) = self.taken.remove(&number) else { return };
        drop(sender);
        if let Some(own) = self.by_key.get_mut(&key) {
            own.retain(|other| *other != number);
            if own.is_empty() {
                self.by_key.remove(&key);
            }
        }
    }
}

impl<K: Eq + Hash + Clone> Seat<K> {
    /// Resolves when the seat went to another.
    pub(crate) async fn lost(&mut self) {
        let _ = (&mut self.lost).await;
    }
}

impl<K: Eq + Hash + Clone> Drop for Seat<K> {
    fn drop(&mut self) {
        self.seats.lock().free(self.number);
    }
}

/// What counts as one source: an IPv4 address, or the 64 bits that one IPv6 subscriber has at least.
pub(crate) fn source(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_now::is_ready;

    mod futures_now {
        use std::{
            future::Future,
            pin::pin,
            task::{Context, Waker},
        };

        pub(super) fn is_ready(future: impl Future) -> bool {
            pin!(future).poll(&mut Context::from_waker(Waker::noop())).is_ready()
        }
    }

    #[test]
    fn the_share_of_one_is_its_own_to_fill() {
        let seats = Seats::new(10, 2);
        let mut other = seats.take("b");
        let mut all: Vec<_> = (0..5).map(|_| seats.take("a")).collect();
        let lost: Vec<bool> = all.iter_mut().map(|seat| is_ready(seat.lost())).collect();
        assert_eq!(lost, [true, true, true, false, false]);
        assert!(!is_ready(other.lost()), "another's seat is not touched");
        drop(all);
        assert_eq!(seats.taken(), 1);
    }

    #[test]
    fn a_full_house_makes_room_by_who_sat_longest() {
        let seats = Seats::new(100, 100);
        let mut all: Vec<_> = (0..10_000).map(|key| seats.take(key)).collect();
        assert_eq!(seats.taken(), 100);
        assert!(is_ready(all[9_899].lost()) && !is_ready(all[9_900].lost()));
        drop(all);
        assert_eq!((seats.taken(), seats.lock().by_key.len()), (0, 0));
    }

    #[test]
    fn a_subscriber_of_ipv6_is_one_source() {
        let source = |text: &str| source(text.parse().unwrap());
        assert_eq!(source("2001:db8::1"), source("2001:db8::ffff:1"));
        assert_ne!(source("2001:db8::1"), source("2001:db8:0:1::1"));
        assert_eq!(source("::ffff:192.0.2.1"), source("192.0.2.1"));
        assert_ne!(source("192.0.2.1"), source("192.0.2.2"));
    }
}
