//! Who may make this node compute a handshake: so many from one source a second, and past so many from all only those that prove
//! their address with a cookie.

use allod_meshproto::NodeKey;
use allod_proto::Timestamp;
use boringtun::{
    noise::{TunnResult, rate_limiter::RateLimiter},
    x25519,
};
use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

/// Handshakes a second from one source: an IPv4 address, an IPv6 network of 64 bits, a node behind a relay.
const FROM_ONE: u32 = 20;
/// Handshakes a second from all sources, before cookies are asked for.
const FROM_ALL: u64 = 200;
/// Sources that are counted apart. Those past them share one count.
const SOURCES: usize = 1_024;

/// What becomes of a WireGuard message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It may be opened.
    Pass,
    /// It is refused; this goes back to where it came from.
    Cookie(Vec<u8>),
    /// It is refused.
    Refused,
}

pub(super) struct Admission {
    limiter: RateLimiter,
    window: Option<Timestamp>,
    sources: HashMap<IpAddr, u32>,
    others: u32,
}

impl Admission {
    pub(super) fn new(own: NodeKey) -> Self {
        let limiter = RateLimiter::new(&x25519::PublicKey::from(*own.as_bytes()), FROM_ALL);
        Self { limiter, window: None, sources: HashMap::new(), others: 0 }
    }

    pub(super) fn tick(&mut self, now: Timestamp) {
        self.limiter.reset_count();
        if self.window.is_none_or(|since| now.distance(since) >= Duration::from_secs(1)) {
            self.window = Some(now);
            self.sources.clear();
            self.others = 0;
        }
    }

    /// Judges a message before anything is computed for it but a hash.
    pub(super) fn judge(&mut self, source: IpAddr, message: &[u8]) -> Verdict {
        let is_handshake = matches!(message.first(), Some(1 | 2));
        if is_handshake && !self.counts(network(source)) {
            return Verdict::Refused;
        }
        let mut cookie = [0; 64];
        match self.limiter.verify_packet(Some(source), message, &mut cookie) {
            Ok(_) => Verdict::Pass,
            Err(TunnResult::WriteToNetwork(reply)) => Verdict::Cookie(reply.to_vec()),
            Err(_) => Verdict::Refused,
        }
    }

    fn counts(&mut self, source: IpAddr) -> bool {
        let is_full = self.sources.len() >= SOURCES;
        let count = match self.sources.get_mut(&source) {
            Some(count) => count,
            None if is_full => &mut self.others,
            None => self.sources.entry(source).or_insert(0),
        };
        *count = count.saturating_add(1);
        *count <= FROM_ONE
    }
}

/// Stands for a node behind a relay, where there is no address: in no network that routes.
pub(super) fn behind_relay(node: NodeKey) -> IpAddr {
    let [a, b, c, d, e, f, g, h, ..] = *node.as_bytes();
    let low = u64::from_be_bytes([a, b, c, d, e, f, g, h]);
    IpAddr::V6(Ipv6Addr::from_bits((u128::from(low) << 64) | 1))
}

fn network(source: IpAddr) -> IpAddr {
    match source {
        IpAddr::V4(_) => source,
        IpAddr::V6(ip) => IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn admission() -> Admission {
        Admission::new(NodeKey::new([9; 32]))
    }

    #[test]
    fn a_handshake_that_does_not_name_this_node_is_refused() {
        let mut init = vec![0; 148];
        init[0] = 1;
        assert_eq!(admission().judge([192, 0, 2, 1].into(), &init), Verdict::Refused);
    }

    #[test]
    fn one_source_is_cut_off_and_another_is_not() {
        let mut admission = admission();
        admission.tick(NOW);
        let (one, other) = ([192, 0, 2, 1].into(), [192, 0, 2, 2].into());
        assert_eq!((0..100).filter(|_| admission.counts(one)).count(), FROM_ONE as usize);
        assert!(admission.counts(other));
        admission.tick(NOW.plus(Duration::from_secs(1)));
        assert!(admission.counts(one));
    }

    #[test]
    fn the_addresses_of_one_network_are_one_source() {
        let mut admission = admission();
        let passed = (0..100_u16).filter(|low| {
            admission.counts(network(Ipv6Addr::new(0x2001, 0xdb8, 0, 1, 0, 0, 0, *low).into()))
        });
        assert_eq!(passed.count(), FROM_ONE as usize);
    }

    #[test]
    fn sources_without_number_take_no_memory_without_bound() {
        let mut admission = admission();
        for ip in 0..100_000_u32 {
            admission.counts(IpAddr::V4(ip.into()));
        }
        assert_eq!(admission.sources.len(), SOURCES);
        assert!(!admission.counts([203, 0, 113, 1].into()), "those past the bound share one count");
    }
}
