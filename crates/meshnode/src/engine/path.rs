//! Which way to a peer: pure choice over what pongs say. A path is trusted for a while after its last pong; a trusted one is left
//! only for one that is clearly better, or when it stops answering and another one answers.

use allod_proto::Timestamp;
use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

/// For so long after its last pong a path is used alone.
pub(super) const TRUST: Duration = Duration::from_millis(6_500);
/// How often a path in use is pinged.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(3);
/// How often all candidates are pinged while no path is trusted.
pub(super) const SEARCH: Duration = Duration::from_secs(2);
/// How often they are while one is, in case that there is a better one.
const WIDEN: Duration = Duration::from_secs(60);
/// A ping that is not answered for so long puts its path in question.
const LATE: Duration = Duration::from_secs(1);
/// What was sent and had nothing come back for so long has its path pinged at once.
const QUIET: Duration = Duration::from_secs(1);
/// A ping that is not answered for so long, or three times as long as the last one took, has the relay used beside its path.
const DOUBT: Duration = Duration::from_millis(500);
/// For so long after its last pong a path is used beside the relay.
const LET_GO: Duration = Duration::from_secs(20);
/// A candidate that no map names is forgotten so long after it was heard of.
const FORGET: Duration = Duration::from_secs(120);
/// Candidates of a peer.
pub(super) const MOST: usize = 64;
/// Of these, those that a map names.
const MOST_NAMED: usize = 32;

/// Which way a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Route {
    /// To this address.
    Direct(SocketAddr),
    /// To this address, which was good until lately or is slow to answer, and through a relay.
    Both(SocketAddr),
    /// Through a relay.
    Relay,
}

/// What to ask, and of whom.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Probe {
    /// Addresses to be pinged.
    pub(super) pings: Vec<SocketAddr>,
    /// Whether to ask the peer, through a relay, to ping too.
    pub(super) call: bool,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    named: bool,
    heard_at: Timestamp,
    pinged_at: Option<Timestamp>,
    unanswered_since: Option<Timestamp>,
    pong: Option<Pong>,
}

#[derive(Debug, Clone, Copy)]
struct Pong {
    at: Timestamp,
    trip: Duration,
}

/// The ways to one peer.
#[derive(Debug, Default)]
pub(super) struct Paths {
    candidates: BTreeMap<SocketAddr, Candidate>,
    best: Option<SocketAddr>,
    /// Since when nothing came back over the best path for what was sent over it.
    silent_since: Option<Timestamp>,
    /// When the peer last sent through a relay.
    relayed_at: Option<Timestamp>,
    searched_at: Option<Timestamp>,
    doubted_at: Option<Timestamp>,
}

impl Paths {
    /// These are the endpoints that the map names. Others that were heard of stay until they age.
    pub(super) fn name(&mut self, now: Timestamp, endpoints: &[SocketAddr]) {
        self.candidates.values_mut().for_each(|candidate| candidate.named = false);
        for at in endpoints.iter().filter(|at| is_sensible(**at)).take(MOST_NAMED) {
            if let Some(candidate) = self.hear(now, *at) {
                candidate.named = true;
            }
        }
    }

    /// The peer pinged from here. What to ping in return.
    pub(super) fn heard_ping(&mut self, now: Timestamp, from: SocketAddr) -> Vec<SocketAddr> {
        let is_new = !self.candidates.contains_key(&from);
        if !is_sensible(from) || self.hear(now, from).is_none() {
            return Vec::new();
        }
        let best = self.trusted_best(now);
        let mut pings = Vec::new();
        if (is_new || best.is_none()) && self.may_ping(now, from) {
            pings.push(from);
        }
        // A peer that pings from somewhere new may have left where it was.
        pings.extend(best.filter(|best| is_new && *best != from && self.may_ping(now, *best)));
        pings
    }

    /// The peer says where it might be reached. What to ping.
    pub(super) fn called(&mut self, now: Timestamp, candidates: &[SocketAddr]) -> Vec<SocketAddr> {
        let sensible = candidates.iter().filter(|at| is_sensible(**at)).take(MOST_NAMED);
        let known: Vec<_> = sensible.copied().filter(|at| self.hear(now, *at).is_some()).collect();
        known.into_iter().filter(|at| self.may_ping(now, *at)).collect()
    }

    /// A ping went there.
    pub(super) fn pinged(&mut self, now: Timestamp, to: SocketAddr) {
        if let Some(candidate) = self.candidates.get_mut(&to) {
            candidate.pinged_at = Some(now);
            candidate.unanswered_since = candidate.unanswered_since.or(Some(now));
        }
    }

    /// It was answered from there. Whether this is the first path there is.
    pub(super) fn answered(&mut self, now: Timestamp, from: SocketAddr, sent: Timestamp) -> bool {
        let had = self.trusted_best(now).is_some();
        let Some(candidate) = self.candidates.get_mut(&from) else { return false };
        candidate.heard_at = now;
        candidate.unanswered_since = None;
        self.silent_since = self.silent_since.filter(|_| self.best != Some(from));
        candidate.pong = Some(Pong { at: now, trip: now.since(sent) });
        self.choose(now);
        !had && self.trusted_best(now).is_some()
    }

    /// A packet went to the best path.
    pub(super) fn used(&mut self, now: Timestamp) {
        self.silent_since = self.silent_since.or(Some(now));
    }

    /// An authentic packet came from there.
    pub(super) fn heard(&mut self, from: SocketAddr) {
        self.silent_since = self.silent_since.filter(|_| self.best != Some(from));
    }

    /// An authentic packet came through a relay: for the peer, the path in use may be none.
    pub(super) fn heard_relayed(&mut self, now: Timestamp) {
        self.relayed_at = Some(now);
    }

    /// What is known of the paths may no longer hold: this node's own addresses changed.
    pub(super) fn doubt(&mut self, now: Timestamp) {
        self.doubted_at = Some(now);
        self.searched_at = None;
        self.candidates.values_mut().for_each(|candidate| candidate.unanswered_since = None);
    }

    /// Which way a datagram goes now.
    pub(super) fn route(&self, now: Timestamp) -> Route {
        let Some((at, candidate)) = self.best.and_then(|at| Some((at, self.candidates.get(&at)?))) else {
            return Route::Relay;
        };
        match candidate.pong {
            _ if self.is_trusted(now, candidate) && !self.is_doubtful(now, candidate) => Route::Direct(at),
            Some(pong) if now.since(pong.at) <= LET_GO => Route::Both(at),
            _ => Route::Relay,
        }
    }

    /// The path that answered last, however long ago: what to try where there is no relay.
    pub(super) fn last_resort(&self) -> Option<SocketAddr> {
        self.best
    }

    /// How long the way there and back took last, on the path in use.
    pub(super) fn trip(&self) -> Option<Duration> {
        Some(self.candidates.get(&self.best?)?.pong?.trip)
    }

    /// What to ask now, while there is traffic.
    pub(super) fn due(&mut self, now: Timestamp) -> Probe {
        self.age(now);
        self.choose(now);
        let best = self.trusted_best(now);
        let is_late = best.and_then(|at| self.candidates.get(&at)).is_some_and(|path| is_late(now, path));
        let pause = match (best, is_late) {
            (Some(_), false) => WIDEN,
            _ => SEARCH,
        };
        if self.searched_at.is_none_or(|at| now.since(at) >= pause) {
            return self.search(now);
        }
        let is_doubted =
            best.and_then(|at| self.candidates.get(&at)).is_some_and(|path| self.is_doubtful(now, path));
        let is_quiet = is_doubted || self.silent_since.is_some_and(|since| now.since(since) >= QUIET);
        let pause = if is_quiet { QUIET } else { HEARTBEAT };
        let is_old = |at: &SocketAddr| {
            self.candidates.get(at).and_then(|path| path.pinged_at).is_none_or(|at| now.since(at) >= pause)
        };
        Probe { pings: best.into_iter().filter(is_old).collect(), call: false }
    }

    /// Asks everywhere, unless that was done a moment ago.
    pub(super) fn search(&mut self, now: Timestamp) -> Probe {
        if self.searched_at.is_some_and(|at| now.since(at) < LATE) {
            return Probe::default();
        }
        self.searched_at = Some(now);
        Probe { pings: self.candidates.keys().copied().collect(), call: self.trusted_best(now).is_none() }
    }

    fn trusted_best(&self, now: Timestamp) -> Option<SocketAddr> {
        self.best.filter(|at| self.candidates.get(at).is_some_and(|path| self.is_trusted(now, path)))
    }

    /// Whether the path's ping is slow to be answered, or the peer sent through a relay since it was.
    fn is_doubtful(&self, now: Timestamp, path: &Candidate) -> bool {
        let Some(pong) = path.pong else { return true };
        let patience = DOUBT.max(pong.trip.saturating_mul(3));
        path.unanswered_since.is_some_and(|since| now.since(since) >= patience)
            || self.relayed_at.is_some_and(|at| at > pong.at)
    }

    fn is_trusted(&self, now: Timestamp, candidate: &Candidate) -> bool {
        let holds = |pong: Pong| {
            now.since(pong.at) <= TRUST && self.doubted_at.is_none_or(|doubted| pong.at > doubted)
        };
        candidate.pong.is_some_and(holds)
    }

    fn may_ping(&self, now: Timestamp, to: SocketAddr) -> bool {
        let pinged_at = self.candidates.get(&to).and_then(|candidate| candidate.pinged_at);
        pinged_at.is_none_or(|at| now.since(at) >= LATE)
    }

    /// The candidate, new if need be; `None` when there are too many that matter more.
    fn hear(&mut self, now: Timestamp, at: SocketAddr) -> Option<&mut Candidate> {
        if !self.candidates.contains_key(&at) {
            if self.candidates.len() >= MOST {
                self.make_room()?;
            }
            let new = Candidate {
                named: false,
                heard_at: now,
                pinged_at: None,
                unanswered_since: None,
                pong: None,
            };
            self.candidates.insert(at, new);
        }
        let candidate = self.candidates.get_mut(&at)?;
        candidate.heard_at = now;
        Some(candidate)
    }

    /// Forgets the one that was heard of the longest ago and never answered.
    fn make_room(&mut self) -> Option<()> {
        let best = self.best;
        let unproven =
            self.candidates.iter().filter(|(at, it)| !it.named && it.pong.is_none() && Some(**at) != best);
        let oldest = unproven.min_by_key(|(_, it)| it.heard_at).map(|(at, _)| *at)?;
        self.candidates.remove(&oldest).map(|_| ())
    }

    fn age(&mut self, now: Timestamp) {
        let best = self.best;
        self.candidates.retain(|at, it| {
            let pong_at = it.pong.map_or(it.heard_at, |pong| pong.at.max(it.heard_at));
            it.named || Some(*at) == best && now.since(pong_at) <= FORGET || now.since(pong_at) <= FORGET
        });
        if self.best.is_some_and(|at| !self.candidates.contains_key(&at)) {
            self.best = None;
        }
    }

    fn choose(&mut self, now: Timestamp) {
        let trusted = self.candidates.iter().filter(|(_, path)| self.is_trusted(now, path));
        let Some((at, other)) = trusted.min_by_key(|(at, path)| cost(**at, path)) else { return };
        let (at, other) = (*at, *other);
        let current = self.best.and_then(|at| Some((at, *self.candidates.get(&at)?)));
        let leaves = match current {
            Some((best, _)) if best == at => false,
            Some((best, path)) if self.is_trusted(now, &path) => {
                cost(at, &other).saturating_mul(10) < cost(best, &path).saturating_mul(7)
            }
            _ => true,
        };
        if leaves {
            self.best = Some(at);
        }
        self.leave_silent(now);
    }

    /// Away from a path whose ping is late, to the best of those that answered since.
    fn leave_silent(&mut self, now: Timestamp) {
        let Some(path) = self.best.and_then(|at| self.candidates.get(&at)) else { return };
        let (true, Some(since)) = (is_late(now, path), path.unanswered_since) else { return };
        let answered = |path: &Candidate| path.pong.is_some_and(|pong| pong.at >= since);
        let others = self.candidates.iter().filter(|(_, path)| self.is_trusted(now, path) && answered(path));
        if let Some((at, _)) = others.min_by_key(|(at, path)| cost(**at, path)) {
            self.best = Some(*at);
        }
    }
}

fn is_late(now: Timestamp, path: &Candidate) -> bool {
    path.unanswered_since.is_some_and(|since| now.since(since) >= LATE)
}

/// Lower is better: tenths of a millisecond there and back, and something for leaving the own network and for IPv4, so that equals
/// are told apart.
fn cost(at: SocketAddr, path: &Candidate) -> u128 {
    let trip = path.pong.map_or(u128::MAX / 1_000, |pong| pong.trip.as_millis().saturating_mul(10));
    let near = match at.ip() {
        IpAddr::V4(ip) => ip.is_private() || ip.is_loopback() || ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_loopback() || ip.is_unicast_link_local(),
    };
    trip.saturating_add(20).saturating_add(if near { 0 } else { 20 }).saturating_add(if at.is_ipv6() {
        0
    } else {
        5
    })
}

/// Whether a datagram may go there at all: peers name what they like.
pub(super) fn is_sensible(at: SocketAddr) -> bool {
    let ip = at.ip();
    let broadcast = matches!(ip, IpAddr::V4(ip) if ip.is_broadcast());
    // A path through the mesh to the mesh would carry itself.
    let inside = matches!(ip, IpAddr::V6(ip) if ip.segments().starts_with(&[0xfd7a, 0x115c, 0xa1e0]));
    at.port() != 0 && !ip.is_unspecified() && !ip.is_multicast() && !broadcast && !inside
}

#[cfg(test)]
mod tests;
