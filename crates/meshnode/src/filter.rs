//! The stateful packet filter: whatever no rule allows is refused, but for the replies to what this node began. So a rule has one
//! direction: who may be reached may not reach back.

use crate::packet::{Kind, Packet, Step};
use allod_meshproto::{
    control::Node,
    filter::{Begin, Filter, TCP},
};
use allod_proto::Timestamp;
use std::{collections::HashMap, net::IpAddr, time::Duration};

/// Flows that this node began, and as many that others began.
const FLOWS: usize = 16_384;
/// Of these, from one address.
const FROM_ONE: usize = 2_048;
/// How long a flow is remembered that was not answered, or is over.
const BRIEF: Duration = Duration::from_secs(60);
/// How long one that is silent, if it is not TCP.
const SILENT: Duration = Duration::from_secs(120);
/// How long a silent one of TCP. Streams of this node say something every 30 seconds.
const SILENT_TCP: Duration = Duration::from_secs(3_600);
/// How often old ones are looked for.
const SWEEP: Duration = Duration::from_secs(1);

/// Two ends that talk, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Flow {
    protocol: u8,
    local: IpAddr,
    local_port: u16,
    remote: IpAddr,
    remote_port: u16,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Only who began it has spoken.
    Begun,
    /// Both have.
    Going,
    /// One has ended it.
    Over,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    began_here: bool,
    seen_at: Timestamp,
    state: State,
}

/// The rules, and what has begun.
#[derive(Debug, Default)]
pub(crate) struct Firewall {
    rules: Filter,
    flows: HashMap<Flow, Entry>,
    begun_here: usize,
    begun_there: HashMap<IpAddr, usize>,
    swept_at: Option<Timestamp>,
}

impl Firewall {
    /// Other rules. What a peer began and may not begin any more ends here; `who` knows the peers.
    pub(crate) fn set_rules<'a>(&mut self, rules: Filter, who: impl Fn(IpAddr) -> Option<&'a Node>) {
        if self.rules == rules {
            return;
        }
        self.rules = rules;
        let rules = &self.rules;
        self.flows.retain(|flow, entry| {
            let begin = Begin {
                protocol: flow.protocol,
                source: flow.remote,
                target: flow.local,
                port: flow.local_port,
            };
            entry.began_here || who(flow.remote).is_some_and(|node| may_begin(rules, &begin, node))
        });
        self.recount();
    }

    /// A packet that this node sends. Whether it may: what it begins is remembered, so there may be too much of it.
    pub(crate) fn outgoing(&mut self, now: Timestamp, packet: &Packet) -> bool {
        self.sweep(now);
        let Some((flow, begins)) = of(packet, true) else { return true };
        if let Some(entry) = self.flows.get_mut(&flow) {
            entry.speak(now, packet, true);
            return true;
        }
        if !begins {
            return true;
        }
        let fits = self.begun_here < FLOWS;
        if fits {
            self.begun_here = self.begun_here.saturating_add(1);
            self.flows.insert(flow, Entry { began_here: true, seen_at: now, state: State::Begun });
        }
        fits
    }

    /// A packet from a peer, that proved to be its sender. Whether it may come in.
    pub(crate) fn incoming(&mut self, now: Timestamp, packet: &Packet, peer: &Node) -> bool {
        self.sweep(now);
        if let Kind::Error(quoted) = packet.kind {
            let flow = Flow {
                protocol: quoted.protocol,
                local: quoted.source,
                local_port: quoted.from,
                remote: quoted.target,
                remote_port: quoted.to,
            };
            return quoted.source == packet.target && self.flows.contains_key(&flow);
        }
        let Some((flow, begins)) = of(packet, false) else { return self.allows(packet, 0, peer) };
        match self.flows.get_mut(&flow) {
            // A new connection on the ports of one of this node's own is a new one all the same.
            Some(entry) if !begins || !entry.began_here || flow.protocol != TCP => {
                entry.speak(now, packet, false);
                true
            }
            Some(_) => false,
            None if matches!(packet.kind, Kind::Echo { is_reply: true, .. }) => false,
            None => self.allows(packet, flow.local_port, peer) && (!begins || self.remember(now, flow)),
        }
    }

    fn allows(&self, packet: &Packet, port: u16, peer: &Node) -> bool {
        let begin = Begin { protocol: packet.protocol, source: packet.source, target: packet.target, port };
        may_begin(&self.rules, &begin, peer)
    }

    fn remember(&mut self, now: Timestamp, flow: Flow) -> bool {
        let total = self.flows.len().saturating_sub(self.begun_here);
        let count = self.begun_there.get(&flow.remote).copied().unwrap_or(0);
        let fits = total < FLOWS && count < FROM_ONE;
        if fits {
            self.begun_there.insert(flow.remote, count.saturating_add(1));
            self.flows.insert(flow, Entry { began_here: false, seen_at: now, state: State::Begun });
        }
        fits
    }

    fn sweep(&mut self, now: Timestamp) {
        if self.swept_at.is_some_and(|at| now.distance(at) < SWEEP) {
            return;
        }
        self.swept_at = Some(now);
        let before = self.flows.len();
        self.flows.retain(|flow, entry| now.since(entry.seen_at) <= entry.lasts(flow.protocol));
        if self.flows.len() != before {
            self.recount();
        }
    }

    fn recount(&mut self) {
        self.begun_here = self.flows.values().filter(|entry| entry.began_here).count();
        self.begun_there.clear();
        for (flow, _) in self.flows.iter().filter(|(_, entry)| !entry.began_here) {
            let count = self.begun_there.entry(flow.remote).or_default();
            *count = count.saturating_add(1);
        }
    }
}

impl Entry {
    /// One of the two says something.
    fn speak(&mut self, now: Timestamp, packet: &Packet, is_here: bool) {
        self.seen_at = now;
        self.state = match (packet.kind, self.state) {
            (Kind::Tcp { step: Step::Reset | Step::End, .. }, _) => State::Over,
            (Kind::Tcp { step: Step::Open, .. }, State::Over) => State::Begun,
            (_, State::Begun) if is_here != self.began_here => State::Going,
            (_, state) => state,
        };
    }

    fn lasts(&self, protocol: u8) -> Duration {
        match self.state {
            // One side may end long before the other.
            State::Over if protocol == TCP => SILENT,
            State::Begun | State::Over => BRIEF,
            State::Going if protocol == TCP => SILENT_TCP,
            State::Going => SILENT,
        }
    }
}

fn may_begin(rules: &Filter, begin: &Begin, peer: &Node) -> bool {
    !peer.is_jailed && rules.allows(begin, |name| peer.has_capability(name))
}

/// The flow that a packet is of, and whether it can begin one; `None` for what has none.
fn of(packet: &Packet, is_outgoing: bool) -> Option<(Flow, bool)> {
    let (from, to, begins) = match packet.kind {
        Kind::Tcp { from, to, step } => (from, to, step == Step::Open),
        Kind::Udp { from, to } => (from, to, true),
        // An echo is of a flow only for who asked: a request that comes in has none, nor has the reply to it.
        Kind::Echo { id, is_reply } if is_reply != is_outgoing => (id, id, !is_reply),
        Kind::Echo { .. } | Kind::Error(_) | Kind::Other => return None,
    };
    let Packet { source, target, protocol, .. } = *packet;
    let (local, local_port, remote, remote_port) =
        if is_outgoing { (source, from, target, to) } else { (target, to, source, from) };
    Some((Flow { protocol, local, local_port, remote, remote_port }, begins))
}

#[cfg(test)]
mod tests;
