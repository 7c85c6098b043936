//! How often strangers were refused, per source, bounded: a source that floods is answered without a look.

use allod_proto::Timestamp;
use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
    time::Duration,
};

const SOURCES: usize = 4096;
const BURST: u32 = 300;
const WINDOW: Duration = Duration::from_secs(60);

/// Refusals per source within the last minute. IPv6 sources count per /64.
#[derive(Debug, Default)]
pub struct Strangers(Mutex<HashMap<IpAddr, (Timestamp, u32)>>);

impl Strangers {
    /// Counts a refusal.
    pub fn count(&self, source: IpAddr, now: Timestamp) {
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= SOURCES {
            sources.retain(|_, (since, _)| now.since(*since) < WINDOW);
        }
        let source = network(source);
        if sources.len() >= SOURCES && !sources.contains_key(&source) {
            return;
        }
        let entry = sources.entry(source).or_insert((now, 0));
        if now.since(entry.0) >= WINDOW {
            *entry = (now, 0);
        }
        entry.1 = entry.1.saturating_add(1);
    }

    /// Whether the source has been refused too often of late.
    pub fn is_tiresome(&self, source: IpAddr, now: Timestamp) -> bool {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sources
            .get(&network(source))
            .is_some_and(|(since, count)| *count > BURST && now.since(*since) < WINDOW)
    }
}

fn network(source: IpAddr) -> IpAddr {
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

    #[test]
    fn a_source_that_floods_is_tiresome_for_a_minute_and_others_are_not() {
        let strangers = Strangers::default();
        let (loud, quiet): (IpAddr, IpAddr) = ([100, 64, 0, 1].into(), [100, 64, 0, 2].into());
        for _ in 0..=BURST {
            strangers.count(loud, Timestamp(1000));
        }
        assert!(strangers.is_tiresome(loud, Timestamp(1000)));
        assert!(!strangers.is_tiresome(quiet, Timestamp(1000)));
        assert!(!strangers.is_tiresome(loud, Timestamp(62_000)));
    }

    #[test]
    fn the_number_of_sources_is_bounded() {
        let strangers = Strangers::default();
        for n in 0..u32::try_from(SOURCES).unwrap() * 2 {
            strangers.count(IpAddr::from(n.to_be_bytes()), Timestamp(1000));
        }
        assert!(strangers.0.lock().unwrap().len() <= SOURCES);
    }
}
