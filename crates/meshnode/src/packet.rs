//! What an IP packet says of itself, read strictly: fragments, options, extension headers and flags that no stack sends are
//! refused, so that filter and stack can't read one packet in two ways.

use allod_meshproto::filter::{ICMP, ICMP_V6, TCP, UDP};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// A packet, by its headers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) source: IpAddr,
    pub(crate) target: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) kind: Kind,
}

/// What is in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// TCP.
    Tcp { from: u16, to: u16, step: Step },
    /// UDP.
    Udp { from: u16, to: u16 },
    /// An ICMP echo.
    Echo { id: u16, is_reply: bool },
    /// An ICMP error about a packet that the receiver sent.
    Error(Quoted),
    /// A protocol without ports.
    Other,
}

/// What a TCP segment does to its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Asks for one.
    Open,
    /// Is part of one.
    Within,
    /// Ends one side of it.
    End,
    /// Ends it.
    Reset,
}

/// The packet that an ICMP error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quoted {
    pub(crate) source: IpAddr,
    pub(crate) target: IpAddr,
    pub(crate) protocol: u8,
    pub(crate) from: u16,
    pub(crate) to: u16,
}

struct Head<'a> {
    source: IpAddr,
    target: IpAddr,
    protocol: u8,
    length: usize,
    body: &'a [u8],
}

impl Packet {
    /// Reads one; `None` for whatever is cut short, too long, a fragment, or odd.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        let head = head(bytes).filter(|head| head.length == bytes.len())?;
        let kind = match (head.protocol, head.source.is_ipv4()) {
            (TCP, _) => tcp(head.body)?,
            (UDP, _) => udp(head.body)?,
            (ICMP, true) => icmp(head.body, (8, 0), &[3, 11, 12])?,
            (ICMP_V6, false) => icmp(head.body, (128, 129), &[1, 2, 3, 4])?,
            // The other family's ICMP, and IPv6's extension headers: hop-by-hop, routing, fragment, ESP, AH, options and others.
            (ICMP | ICMP_V6 | 0 | 43 | 44 | 50 | 51 | 60 | 135 | 139 | 140 | 253 | 254, _) => return None,
            _ => Kind::Other,
        };
        let odd = head.source == head.target || head.source.is_multicast() || head.source.is_unspecified();
        (!odd).then_some(Self { source: head.source, target: head.target, protocol: head.protocol, kind })
    }
}

fn head(bytes: &[u8]) -> Option<Head<'_>> {
    match bytes.first()? >> 4 {
        4 => head_v4(bytes),
        6 => head_v6(bytes),
        _ => None,
    }
}

fn head_v4(bytes: &[u8]) -> Option<Head<'_>> {
    let (head, body) = bytes.split_first_chunk::<20>()?;
    let [first, _, l1, l2, _, _, f1, f2, _, protocol, _, _, s1, s2, s3, s4, t1, t2, t3, t4] = *head;
    let fragment = u16::from_be_bytes([f1, f2]) & 0x3fff;
    // Five words: no options.
    (first == 0x45 && fragment == 0).then_some(Head {
        source: Ipv4Addr::new(s1, s2, s3, s4).into(),
        target: Ipv4Addr::new(t1, t2, t3, t4).into(),
        protocol,
        length: u16::from_be_bytes([l1, l2]).into(),
        body,
    })
}

fn head_v6(bytes: &[u8]) -> Option<Head<'_>> {
    let (head, body) = bytes.split_first_chunk::<40>()?;
    let (fixed, addresses) = head.split_first_chunk::<8>()?;
    let [_, _, _, _, l1, l2, protocol, _] = *fixed;
    let (source, target) = addresses.split_first_chunk::<16>()?;
    Some(Head {
        source: Ipv6Addr::from(*source).into(),
        target: Ipv6Addr::from(*target.first_chunk::<16>()?).into(),
        protocol,
        length: usize::from(u16::from_be_bytes([l1, l2])).saturating_add(40),
        body,
    })
}

fn tcp(body: &[u8]) -> Option<Kind> {
    let [f1, f2, t1, t2, _, _, _, _, _, _, _, _, offset, flags, ..] = *body.first_chunk::<20>()?;
    let length = usize::from(offset >> 4).saturating_mul(4);
    if length < 20 || length > body.len() {
        return None;
    }
    let step = match (flags & SYN != 0, flags & FIN != 0, flags & RST != 0, flags & ACK != 0) {
        (true, false, false, false) => Step::Open,
        (true, false, false, true) => Step::Within,
        (true, _, _, _) | (false, true, true, _) => return None,
        (false, false, true, _) => Step::Reset,
        (false, true, false, true) => Step::End,
        (false, false, false, true) => Step::Within,
        // Everything but the first segment acknowledges something.
        (false, _, false, false) => return None,
    };
    Some(Kind::Tcp { from: u16::from_be_bytes([f1, f2]), to: u16::from_be_bytes([t1, t2]), step })
}

fn udp(body: &[u8]) -> Option<Kind> {
    let [f1, f2, t1, t2, l1, l2, _, _] = *body.first_chunk::<8>()?;
    let fits = usize::from(u16::from_be_bytes([l1, l2])) == body.len();
    fits.then_some(Kind::Udp { from: u16::from_be_bytes([f1, f2]), to: u16::from_be_bytes([t1, t2]) })
}

fn icmp(body: &[u8], (request, reply): (u8, u8), errors: &[u8]) -> Option<Kind> {
    let (head, rest) = body.split_first_chunk::<8>()?;
    let [kind, code, _, _, i1, i2, _, _] = *head;
    let id = u16::from_be_bytes([i1, i2]);
    match kind {
        _ if code == 0 && kind == request => Some(Kind::Echo { id, is_reply: false }),
        _ if code == 0 && kind == reply => Some(Kind::Echo { id, is_reply: true }),
        _ if errors.contains(&kind) => {
            let quoted = self::head(rest)?;
            let [f1, f2, t1, t2] = *quoted.body.first_chunk::<4>()?;
            let (from, to) = (u16::from_be_bytes([f1, f2]), u16::from_be_bytes([t1, t2]));
            let Head { source, target, protocol, .. } = quoted;
            Some(Kind::Error(Quoted { source, target, protocol, from, to }))
        }
        _ => None,
    }
}

#[cfg(test)]
pub(crate) mod tests;
