//! How often each source or key may ask. Who asks faster is made to wait, in the order of asking, rather than locked
//! out: an office behind one address, or the programs of one machine, share a place with whoever floods from there.

use allod_proto::Timestamp;
use std::{
    collections::HashMap,
    hash::Hash,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

/// How many are told apart; all others share one allowance.
const KNOWN: usize = 4096;

/// An allowance.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// At once, after a silence.
    pub burst: u32,
    /// In the long run.
    pub per_second: u32,
    /// The longest that a request waits for its turn; it is refused where that is not enough.
    pub patience: Duration,
}

/// The allowances of many, each of the same size. Bounded, and pure: `now` is given.
#[derive(Debug)]
pub(super) struct Rates<K> {
    rate: Rate,
    turns: Mutex<Turns<K>>,
}

#[derive(Debug)]
struct Turns<K> {
    /// When everything asked so far will have had its turn, in microseconds.
    of: HashMap<K, u64>,
    of_others: u64,
}

impl<K: Hash + Eq> Rates<K> {
    pub(super) fn new(rate: Rate) -> Self {
        Self { rate, turns: Mutex::new(Turns { of: HashMap::new(), of_others: 0 }) }
    }

    /// Takes a turn, and says how long to wait for it. `None` where the wait would be too long: no turn is taken then.
    pub(super) fn take(&self, key: K, now: Timestamp) -> Option<Duration> {
        let now = now.0.saturating_mul(1000);
        let mut turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        if turns.of.len() >= KNOWN && !turns.of.contains_key(&key) {
            // Who has been silent for long enough has nothing to be remembered for.
            turns.of.retain(|_, until| *until > now);
        }
        let full = turns.of.len() >= KNOWN && !turns.of.contains_key(&key);
        let until = if full { &mut turns.of_others } else { turns.of.entry(key).or_insert(0) };
        let step = 1_000_000 / u64::from(self.rate.per_second.max(1));
        let ahead = (*until).max(now).saturating_add(step);
        let allowed = now.saturating_add(step.saturating_mul(u64::from(self.rate.burst)));
        let wait = Duration::from_micros(ahead.saturating_sub(allowed));
        if wait > self.rate.patience {
            return None;
        }
        *until = ahead;
        Some(wait)
    }
}

/// Whom a source address counts as: IPv6 networks are given out whole, so a /64 is one.
pub(super) fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            IpAddr::from([a, b, c, d, 0, 0, 0, 0])
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RATE: Rate = Rate { burst: 5, per_second: 10, patience: Duration::from_secs(1) };

    fn taken(rates: &Rates<u8>, key: u8, now: u64) -> u32 {
        (0..1000).map_while(|_| rates.take(key, Timestamp(now))).count().try_into().unwrap()
    }

    #[test]
    fn who_asks_too_often_is_refused_and_others_are_not() {
        let rates = Rates::new(RATE);
        assert_eq!(taken(&rates, 1, 1000), 15, "five at once, and ten that wait for up to a second");
        assert_eq!(rates.take(1, Timestamp(1000)), None);
        assert_eq!(rates.take(2, Timestamp(1000)), Some(Duration::ZERO));
    }

    #[test]
    fn each_waits_for_its_turn_in_the_order_of_asking() {
        let rates = Rates::new(RATE);
        let waits: Vec<_> = (0..8).map(|_| rates.take(1, Timestamp(1000)).unwrap().as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 100, 200, 300]);
    }

    #[test]
    fn a_silence_gives_the_allowance_back_and_no_more_than_it() {
        let rates = Rates::new(RATE);
        assert_eq!(taken(&rates, 1, 1000), 15);
        assert_eq!(taken(&rates, 1, 1100), 1);
        assert_eq!(taken(&rates, 1, 1_000_000), 15);
    }

    #[test]
    fn a_refused_request_takes_no_turn() {
        let rates = Rates::new(RATE);
        assert_eq!(taken(&rates, 1, 1000), 15);
        for _ in 0..1000 {
            assert_eq!(rates.take(1, Timestamp(1000)), None);
        }
        assert_eq!(rates.take(1, Timestamp(1100)), Some(Duration::from_secs(1)));
    }

    #[test]
    fn the_number_of_those_told_apart_is_bounded_and_the_rest_share() {
        let rates = Rates::new(RATE);
        let many = u32::try_from(KNOWN).unwrap();
        let given = (0..many * 2).filter(|key| rates.take(*key, Timestamp(1000)).is_some()).count();
        assert_eq!(given, KNOWN + 15);
        assert_eq!(rates.turns.lock().unwrap().of.len(), KNOWN);
        // When those have been silent, there is room again.
        assert_eq!(rates.take(many + 7, Timestamp(9000)), Some(Duration::ZERO));
        assert_eq!(rates.turns.lock().unwrap().of.len(), 1);
    }

    #[test]
    fn addresses_of_one_ipv6_network_count_as_one() {
        let one: IpAddr = "fd7a:115c:a1e0::1".parse().unwrap();
        let two: IpAddr = "fd7a:115c:a1e0::ffff:2".parse().unwrap();
        let other: IpAddr = "fd7a:115c:a1e0:1::1".parse().unwrap();
        assert_eq!(network(one), network(two));
        assert_ne!(network(one), network(other));
        assert_ne!(network([100, 64, 0, 1].into()), network([100, 64, 0, 2].into()));
    }
}
