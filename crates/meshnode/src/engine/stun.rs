//! Which of its addresses the world sees, as several servers say, and which region answers soonest.

use allod_meshproto::stun::Transaction;
use allod_proto::Timestamp;
use std::{collections::HashMap, net::SocketAddr, time::Duration};

/// How often is asked. Routers forget a mapping after 30 s at the soonest.
pub(super) const PERIOD: Duration = Duration::from_secs(25);
/// How soon it may be asked again while a path is searched for: the router may be another one.
const AGAIN: Duration = Duration::from_secs(8);
/// An answer holds for so long: two may be lost.
const HOLDS: Duration = Duration::from_secs(80);
/// An answer that takes longer is none.
const LATE: Duration = Duration::from_secs(5);
/// Servers that are asked in all, and in one region.
const MOST: usize = 32;
const MOST_IN_REGION: usize = 2;

/// Where to ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) region: u32,
    pub(super) at: SocketAddr,
}

#[derive(Debug, Clone, Copy)]
struct Answer {
    source: SocketAddr,
    trip: Duration,
    at: Timestamp,
}

#[derive(Debug, Default)]
pub(super) struct Stun {
    servers: Vec<Server>,
    asked: HashMap<Transaction, (SocketAddr, Timestamp)>,
    answers: HashMap<SocketAddr, Answer>,
    asked_at: Option<Timestamp>,
}

impl Stun {
    /// Whether they are others than before.
    pub(super) fn set_servers(&mut self, servers: impl IntoIterator<Item = Server>) -> bool {
        let mut new: Vec<Server> = Vec::new();
        for server in servers {
            let in_region = new.iter().filter(|other| other.region == server.region).count();
            if new.len() < MOST && in_region < MOST_IN_REGION && !new.contains(&server) {
                new.push(server);
            }
        }
        if new == self.servers {
            return false;
        }
        self.answers.retain(|at, _| new.iter().any(|server| server.at == *at));
        self.servers = new;
        true
    }

    /// What was answered from another interface says nothing.
    pub(super) fn forget_answers(&mut self) {
        self.answers.clear();
        self.asked.clear();
    }

    pub(super) fn is_due(&self, now: Timestamp) -> bool {
        !self.servers.is_empty() && self.asked_at.is_none_or(|at| now.since(at) >= PERIOD)
    }

    /// Whether it is worth asking before it is due, because somebody is to be told where this node is.
    pub(super) fn is_worth_asking(&self, now: Timestamp) -> bool {
        !self.servers.is_empty() && self.asked_at.is_none_or(|at| now.since(at) >= AGAIN)
    }

    /// Whom to ask now.
    pub(super) fn ask(&mut self, now: Timestamp) -> Vec<SocketAddr> {
        self.asked_at = Some(now);
        self.asked.retain(|_, (_, at)| now.since(*at) <= LATE);
        self.servers.iter().map(|server| server.at).collect()
    }

    /// That one was asked with this.
    pub(super) fn asked(&mut self, now: Timestamp, server: SocketAddr, transaction: Transaction) {
        if self.asked.len() < MOST.saturating_mul(8) {
            self.asked.insert(transaction, (server, now));
        }
    }

    /// An answer came. It counts once, and only from whom was asked.
    pub(super) fn answered(
        &mut self,
        now: Timestamp,
        from: SocketAddr,
        transaction: Transaction,
        source: SocketAddr,
    ) {
        if self.asked.get(&transaction).is_none_or(|(server, _)| *server != from) {
            return;
        }
        let Some((_, sent)) = self.asked.remove(&transaction) else { return };
        if now.since(sent) <= LATE && super::path::is_sensible(source) {
            self.answers.insert(from, Answer { source, trip: now.since(sent), at: now });
        }
    }

    /// The addresses that the world sees. Several of one family mean a router that maps by destination; they are told all the same,
    /// since a peer without one may be reached.
    pub(super) fn public(&self, now: Timestamp) -> Vec<SocketAddr> {
        let mut seen: Vec<_> = self.fresh(now).map(|(_, answer)| answer.source).collect();
        seen.sort_unstable();
        seen.dedup();
        seen.truncate(8);
        seen
    }

    /// The region that answers soonest; `current` unless another one is clearly nearer.
    pub(super) fn nearest(&self, now: Timestamp, current: u32) -> Option<u32> {
        let trip = |region: u32| self.fresh(now).filter(|(at, _)| *at == region).map(|(_, it)| it.trip).min();
        let (nearest, best) =
            self.fresh(now).map(|(region, it)| (region, it.trip)).min_by_key(|(id, trip)| (*trip, *id))?;
        let stays = trip(current)
            .is_some_and(|trip| best.saturating_add(Duration::from_millis(10)) >= trip.mul_f32(0.7));
        Some(if stays { current } else { nearest })
    }

    fn fresh(&self, now: Timestamp) -> impl Iterator<Item = (u32, &Answer)> {
        let answers =
            self.servers.iter().filter_map(|server| Some((server.region, self.answers.get(&server.at)?)));
        answers.filter(move |(_, answer)| now.since(answer.at) <= HOLDS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_000_000);

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn asked() -> Stun {
        let mut stun = Stun::default();
        stun.set_servers(
            [(1, "192.0.2.1:3478"), (2, "192.0.2.2:3478")].map(|(region, it)| Server { region, at: at(it) }),
        );
        for (byte, server) in (1..).zip(stun.ask(NOW)) {
            stun.asked(NOW, server, [byte; 12]);
        }
        stun
    }

    #[test]
    fn an_answer_that_nobody_asked_for_counts_for_nothing() {
        let mut stun = asked();
        stun.answered(NOW, at("192.0.2.2:3478"), [1; 12], at("203.0.113.1:1"));
        stun.answered(NOW, at("192.0.2.1:3478"), [9; 12], at("203.0.113.1:1"));
        stun.answered(NOW, at("192.0.2.1:3478"), [1; 12], at("0.0.0.0:1"));
        stun.answered(NOW, at("192.0.2.1:3478"), [1; 12], at("203.0.113.1:1"));
        assert!(stun.public(NOW).is_empty(), "each transaction counts once");
    }

    #[test]
    fn while_a_path_is_searched_for_it_is_asked_more_often() {
        let stun = asked();
        assert!(!stun.is_worth_asking(NOW.plus(Duration::from_millis(7_999))));
        assert!(stun.is_worth_asking(NOW.plus(AGAIN)) && !stun.is_due(NOW.plus(AGAIN)));
        assert!(!Stun::default().is_worth_asking(NOW), "there is nobody to ask");
    }

    #[test]
    fn an_answer_holds_for_a_while() {
        let mut stun = asked();
        stun.answered(NOW, at("192.0.2.1:3478"), [1; 12], at("203.0.113.1:1"));
        assert_eq!(stun.public(NOW.plus(HOLDS)), [at("203.0.113.1:1")]);
        assert!(stun.public(NOW.plus(HOLDS).plus(Duration::from_millis(1))).is_empty());
    }

    #[test]
    fn home_is_the_nearest_region_and_stays_while_it_is_nearly_so() {
        let mut stun = asked();
        let later = |ms| NOW.plus(Duration::from_millis(ms));
        stun.answered(later(50), at("192.0.2.1:3478"), [1; 12], at("203.0.113.1:1"));
        assert_eq!(stun.nearest(later(50), 0), Some(1));
        stun.answered(later(45), at("192.0.2.2:3478"), [2; 12], at("203.0.113.1:1"));
        assert_eq!((stun.nearest(later(50), 1), stun.nearest(later(50), 0)), (Some(1), Some(2)));
    }
}
