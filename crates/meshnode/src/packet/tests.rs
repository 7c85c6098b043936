use super::*;
use proptest::prelude::*;

/// A packet with this body.
pub(crate) fn ip(source: IpAddr, target: IpAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
    match (source, target) {
        (IpAddr::V4(source), IpAddr::V4(target)) => {
            let length = u16::try_from(20 + body.len()).unwrap().to_be_bytes();
            let mut bytes = vec![0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0];
            bytes.extend(source.octets());
            bytes.extend(target.octets());
            bytes.extend(body);
            bytes
        }
        (IpAddr::V6(source), IpAddr::V6(target)) => {
            let length = u16::try_from(body.len()).unwrap().to_be_bytes();
            let mut bytes = vec![0x60, 0, 0, 0, length[0], length[1], protocol, 64];
            bytes.extend(source.octets());
            bytes.extend(target.octets());
            bytes.extend(body);
            bytes
        }
        _ => panic!("two families"),
    }
}

/// A UDP datagram with this payload.
pub(crate) fn datagram(source: IpAddr, from: u16, target: IpAddr, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut body = [from.to_be_bytes(), to.to_be_bytes()].concat();
    body.extend(u16::try_from(8 + payload.len()).unwrap().to_be_bytes());
    body.extend([0, 0]);
    body.extend(payload);
    ip(source, target, UDP, &body)
}

/// A TCP segment with these flags and nothing in it.
pub(crate) fn segment(source: IpAddr, from: u16, target: IpAddr, to: u16, flags: u8) -> Vec<u8> {
    let mut body = [from.to_be_bytes(), to.to_be_bytes()].concat();
    body.extend([0; 8]);
    body.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
    ip(source, target, TCP, &body)
}

/// An echo request, or its reply.
pub(crate) fn echo(source: IpAddr, target: IpAddr, id: u16, is_reply: bool) -> Vec<u8> {
    let (protocol, kind) = match (source.is_ipv4(), is_reply) {
        (true, false) => (ICMP, 8),
        (true, true) => (ICMP, 0),
        (false, false) => (ICMP_V6, 128),
        (false, true) => (ICMP_V6, 129),
    };
    let id = id.to_be_bytes();
    ip(source, target, protocol, &[kind, 0, 0, 0, id[0], id[1], 0, 1])
}

/// An ICMP error about `packet`.
pub(crate) fn unreachable(source: IpAddr, target: IpAddr, packet: &[u8]) -> Vec<u8> {
    let mut body = vec![3, 1, 0, 0, 0, 0, 0, 0];
    body.extend(packet);
    ip(source, target, ICMP, &body)
}

fn a() -> IpAddr {
    [100, 64, 0, 1].into()
}

fn b() -> IpAddr {
    [100, 64, 0, 2].into()
}

#[test]
fn a_fragment_and_whatever_is_odd_is_refused() {
    let good = segment(a(), 1, b(), 2, SYN);
    assert!(Packet::parse(&good).is_some());
    let change = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let odd = [
        ("more fragments", change(6, 0x20)),
        ("a later fragment", change(7, 1)),
        ("options", change(0, 0x46)),
        ("longer than it is", change(3, 41)),
        ("shorter than it is", change(3, 39)),
        ("another version", change(0, 0x75)),
        ("ICMPv6 in IPv4", change(9, ICMP_V6)),
        ("a data offset past its end", change(32, 0x60)),
        ("a data offset inside the header", change(32, 0x40)),
        ("SYN and FIN", change(33, SYN | FIN)),
        ("SYN and RST", change(33, SYN | RST)),
        ("no flags", change(33, 0)),
        ("FIN alone", change(33, FIN)),
        ("from itself", segment(a(), 1, a(), 2, SYN)),
        ("from nowhere", segment([0, 0, 0, 0].into(), 1, b(), 2, SYN)),
        ("from many", segment([224, 0, 0, 1].into(), 1, b(), 2, SYN)),
        ("an extension header", ip("fd7a::1".parse().unwrap(), "fd7a::2".parse().unwrap(), 44, &[0; 40])),
        ("a datagram of another length", ip(a(), b(), UDP, &[0, 1, 0, 2, 0, 9, 0, 0])),
        ("nothing", Vec::new()),
    ];
    for (what, bytes) in odd {
        assert_eq!(Packet::parse(&bytes), None, "{what}");
    }
    for end in 0..good.len() {
        assert_eq!(Packet::parse(&good[..end]), None, "cut at {end}");
    }
}

#[test]
fn a_packet_says_what_it_is() {
    let kind = |bytes: &[u8]| Packet::parse(bytes).unwrap().kind;
    assert_eq!(kind(&segment(a(), 7, b(), 9, SYN)), Kind::Tcp { from: 7, to: 9, step: Step::Open });
    assert_eq!(kind(&segment(a(), 7, b(), 9, SYN | ACK)), Kind::Tcp { from: 7, to: 9, step: Step::Within });
    assert_eq!(kind(&segment(a(), 7, b(), 9, RST)), Kind::Tcp { from: 7, to: 9, step: Step::Reset });
    assert_eq!(kind(&datagram(a(), 7, b(), 9, b"x")), Kind::Udp { from: 7, to: 9 });
    assert_eq!(kind(&echo(a(), b(), 7, true)), Kind::Echo { id: 7, is_reply: true });
    let six = echo("fd7a::1".parse().unwrap(), "fd7a::2".parse().unwrap(), 7, false);
    assert_eq!(kind(&six), Kind::Echo { id: 7, is_reply: false });
    let quoted = Quoted { source: b(), target: a(), protocol: TCP, from: 9, to: 7 };
    assert_eq!(kind(&unreachable(a(), b(), &segment(b(), 9, a(), 7, ACK))), Kind::Error(quoted));
}

proptest! {
    #[test]
    fn no_bytes_are_a_panic(first in prop_oneof![Just(0x45_u8), Just(0x60), any::<u8>()], rest in proptest::collection::vec(any::<u8>(), 0..120)) {
        let bytes = [&[first][..], &rest].concat();
        let _ = Packet::parse(&bytes);
    }
}
