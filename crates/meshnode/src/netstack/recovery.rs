//! What smoltcp's sender lacks: it knows one lost segment at a time, and not what the other side says that it has (SACK, RFC 2018), so
//! that two losses in one window cost a timeout. This keeps what is on its way and sends again what was overtaken by what was sent after
//! it, a retransmission too (as RACK does, RFC 8985, by order instead of time), and asks where nothing is heard. How fast is smoltcp's
//! congestion control's to say.

use allod_proto::Timestamp;
use smoltcp::wire::{IpAddress, IpProtocol, IpVersion, Ipv4Packet, Ipv6Packet, TcpPacket, TcpSeqNumber};
use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

/// Segments that are sent after one and arrive before it, and still it may be on its way.
const OVERTAKEN: u64 = 3;
/// How often a segment is sent again from here; after that it is smoltcp's alone.
const TRIES: u8 = 3;
/// Segments that are kept of one connection.
const SEGMENTS: usize = 1_024;
/// Connections of which any are kept.
const FLOWS: usize = 4_096;
/// A segment that smoltcp sends again so soon after it was sent again from here is not sent twice.
const TWICE: Duration = Duration::from_millis(30);

/// How much longer than two round trips nothing may be heard before it is asked: systems are late.
const PROBE: Duration = Duration::from_millis(5);
/// So much where one segment is on its way: its acknowledgement may be held back.
const PROBE_OF_ONE: Duration = Duration::from_millis(50);
/// How often it is asked, each time after twice as long; then it is the timeout's.
const PROBES: u8 = 2;

/// Both ends of a connection, as seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Ends {
    local: (IpAddress, u16),
    remote: (IpAddress, u16),
}

/// A segment that was not acknowledged.
#[derive(Debug)]
struct Segment {
    from: TcpSeqNumber,
    to: TcpSeqNumber,
    packet: Vec<u8>,
    /// When it went the last time, counted in segments.
    order: u64,
    /// When it went the first time.
    sent_at: Timestamp,
    /// Whether the other side says that it has it.
    is_there: bool,
    tries: u8,
    again_at: Option<Timestamp>,
}

#[derive(Debug, Default)]
struct Flow {
    /// By their place in the stream.
    segments: VecDeque<Segment>,
    next: u64,
    /// The last of those that arrived, in the order of sending.
    arrived: u64,
    /// What the newest segment said of the other direction.
    newest: Option<(TcpSeqNumber, u16)>,
    /// How long it takes until a segment is acknowledged, smoothed.
    rtt: Option<Duration>,
    /// When something was sent for the first time or told to be there, the last time.
    moved_at: Timestamp,
    /// How often it was asked since then whether anything arrived.
    probes: u8,
}

/// What is on its way, of all connections.
#[derive(Debug, Default)]
pub(super) struct Recovery {
    flows: HashMap<Ends, Flow>,
    again: Vec<Vec<u8>>,
}

/// A TCP packet, and where its segment begins.
struct Read {
    local: IpAddress,
    remote: IpAddress,
    tcp_at: usize,
}

fn read(packet: &[u8], is_outgoing: bool) -> Option<Read> {
    let (source, target, protocol, tcp_at) = match IpVersion::of_packet(packet).ok()? {
        IpVersion::Ipv4 => {
            let ip = Ipv4Packet::new_checked(packet).ok()?;
            (ip.src_addr().into(), ip.dst_addr().into(), ip.next_header(), usize::from(ip.header_len()))
        }
        IpVersion::Ipv6 => {
            let ip = Ipv6Packet::new_checked(packet).ok()?;
            (ip.src_addr().into(), ip.dst_addr().into(), ip.next_header(), ip.header_len())
        }
    };
    let (local, remote) = if is_outgoing { (source, target) } else { (target, source) };
    (protocol == IpProtocol::Tcp).then_some(Read { local, remote, tcp_at })
}

impl Recovery {
    /// The stack sends a packet. Whether it is to go: what was just sent again from here is not.
    pub(super) fn sent(&mut self, now: Timestamp, packet: &[u8]) -> bool {
        let Some(Read { local, remote, tcp_at }) = read(packet, true) else { return true };
        let Some(tcp) = packet.get(tcp_at..).and_then(|tcp| TcpPacket::new_checked(tcp).ok()) else {
            return true;
        };
        let ends = Ends { local: (local, tcp.src_port()), remote: (remote, tcp.dst_port()) };
        if tcp.syn() || tcp.rst() {
            self.flows.remove(&ends);
            return true;
        }
        let length = tcp.payload().len();
        if length > 0 && self.flows.len() < FLOWS {
            self.flows.entry(ends).or_default();
        }
        let Some(flow) = self.flows.get_mut(&ends) else { return true };
        flow.newest = Some((tcp.ack_number(), tcp.window_len()));
        length == 0 || flow.sent(now, (tcp.seq_number(), tcp.seq_number() + length), packet)
    }

    /// A packet came in for the stack.
    pub(super) fn heard(&mut self, now: Timestamp, packet: &[u8]) {
        if self.flows.is_empty() {
            return;
        }
        let Some(Read { local, remote, tcp_at }) = read(packet, false) else { return };
        let Some(tcp) = packet.get(tcp_at..).and_then(|tcp| TcpPacket::new_checked(tcp).ok()) else { return };
        let ends = Ends { local: (local, tcp.dst_port()), remote: (remote, tcp.src_port()) };
        let Some(flow) = self.flows.get_mut(&ends) else { return };
        if tcp.rst() {
            self.flows.remove(&ends);
            return;
        }
        if !tcp.ack() {
            return;
        }
        flow.acknowledged(now, tcp.ack_number());
        for (from, to) in tcp.selective_ack_ranges().unwrap_or_default().into_iter().flatten() {
            flow.is_there(now, TcpSeqNumber(from.cast_signed()), TcpSeqNumber(to.cast_signed()));
        }
        flow.send_again(now, &mut self.again);
        if flow.segments.is_empty() {
            self.flows.remove(&ends);
        }
    }

    /// Sends the last segment again where nothing was heard for two round trips and more (a tail loss probe, RFC 8985, section 7): what
    /// was lost is the end of what was sent, or the only acknowledgement of it. It would cost a timeout.
    pub(super) fn probe(&mut self, now: Timestamp) {
        for flow in self.flows.values_mut().filter(|flow| flow.probe_at().is_some_and(|at| at <= now)) {
            flow.probe(&mut self.again);
        }
    }

    /// How long until the next of these.
    pub(super) fn delay(&self, now: Timestamp) -> Option<Duration> {
        self.flows.values().filter_map(Flow::probe_at).min().map(|at| at.since(now))
    }

    /// What is to be sent again.
    pub(super) fn take(&mut self) -> Vec<Vec<u8>> {
        std::mem::take(&mut self.again)
    }
}

impl Flow {
    fn order(&mut self) -> u64 {
        self.next = self.next.saturating_add(1);
        self.next
    }

    fn sent(&mut self, now: Timestamp, (from, to): (TcpSeqNumber, TcpSeqNumber), packet: &[u8]) -> bool {
        let is_new = self.segments.back().is_none_or(|last| from >= last.to);
        if !is_new {
            let is_it = |segment: &&Segment| segment.from == from;
            let again_at = self.segments.iter().find(is_it).and_then(|segment| segment.again_at);
            if again_at.is_some_and(|at| now.since(at) < TWICE) {
                return false;
            }
            // smoltcp begins there anew, perhaps with other cuts: what the other side says that it has is its to keep or not (RFC 2018, 8).
            self.segments.retain(|segment| segment.to <= from);
            self.segments.iter_mut().for_each(|segment| segment.is_there = false);
        }
        // A byte before those that count asks whether the other side is there.
        let counts = self.segments.front().is_none_or(|first| from >= first.from);
        if is_new {
            (self.moved_at, self.probes) = (now, 0);
        }
        if counts && self.segments.len() < SEGMENTS {
            let order = self.order();
            let packet = packet.to_vec();
            self.segments.push_back(Segment {
                from,
                to,
                packet,
                order,
                sent_at: now,
                is_there: false,
                tries: 0,
                again_at: None,
            });
        }
        true
    }

    fn acknowledged(&mut self, now: Timestamp, to: TcpSeqNumber) {
        while let Some(first) = self.segments.pop_front_if(|first| first.to <= to) {
            self.arrived = self.arrived.max(first.order);
            (self.moved_at, self.probes) = (now, 0);
            // Of one that went twice nobody knows which was acknowledged (Karn).
            if first.tries == 0 && !first.is_there {
                let took = now.since(first.sent_at);
                self.rtt = Some(self.rtt.map_or(took, |rtt| rtt.saturating_mul(7).saturating_add(took) / 8));
            }
        }
    }

    fn is_there(&mut self, now: Timestamp, from: TcpSeqNumber, to: TcpSeqNumber) {
        let in_range = |segment: &&mut Segment| from <= segment.from && segment.to <= to;
        for segment in self.segments.iter_mut().filter(in_range).filter(|segment| !segment.is_there) {
            segment.is_there = true;
            self.arrived = self.arrived.max(segment.order);
            (self.moved_at, self.probes) = (now, 0);
        }
    }

    /// When to ask whether anything arrived.
    fn probe_at(&self) -> Option<Timestamp> {
        let wait = self.rtt?.saturating_mul(2).saturating_add(match self.segments.len() {
            0 => return None,
            1 => PROBE_OF_ONE,
            _ => PROBE,
        });
        (self.probes < PROBES).then(|| self.moved_at.plus(wait.saturating_mul(1 << self.probes)))
    }

    /// Asks, with the last segment that may not be there: what went before it, so much earlier, was overtaken when it arrives.
    fn probe(&mut self, again: &mut Vec<Vec<u8>>) {
        self.probes = self.probes.saturating_add(1);
        self.next = self.next.saturating_add(OVERTAKEN);
        let (order, newest) = (self.next, self.newest);
        let Some(last) = self.segments.iter_mut().rev().find(|segment| !segment.is_there) else { return };
        (last.order, last.tries) = (order, last.tries.max(1));
        let mut packet = last.packet.clone();
        if renew(&mut packet, newest).is_some() {
            again.push(packet);
        }
    }

    /// What was overtaken goes again, as it was but for what it says of the other direction.
    fn send_again(&mut self, now: Timestamp, again: &mut Vec<Vec<u8>>) {
        let (arrived, newest) = (self.arrived, self.newest);
        for segment in &mut self.segments {
            let is_lost = !segment.is_there && segment.order.saturating_add(OVERTAKEN) <= arrived;
            if !is_lost || segment.tries >= TRIES {
                continue;
            }
            segment.tries = segment.tries.saturating_add(1);
            segment.again_at = Some(now);
            self.next = self.next.saturating_add(1);
            segment.order = self.next;
            let mut packet = segment.packet.clone();
            if renew(&mut packet, newest).is_some() {
                again.push(packet);
            }
        }
    }
}

/// Has a packet acknowledge what the newest one did.
fn renew(packet: &mut [u8], newest: Option<(TcpSeqNumber, u16)>) -> Option<()> {
    let Read { local, remote, tcp_at } = read(packet, true)?;
    let mut tcp = TcpPacket::new_checked(packet.get_mut(tcp_at..)?).ok()?;
    let (ack, window) = newest?;
    tcp.set_ack_number(ack);
    tcp.set_window_len(window);
    tcp.fill_checksum(&local, &remote);
    Some(())
}

#[cfg(test)]
mod tests;
