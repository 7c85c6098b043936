use super::*;
use crate::packet::tests::{datagram, echo, ip, segment, unreachable};
use allod_meshproto::control::{FilterRule, PortRange, RuleTarget};
use proptest::prelude::*;

const NOW: Timestamp = Timestamp(1_000_000);
const SYN: u8 = 2;
const ACK: u8 = 16;
const RST: u8 = 4;

fn me() -> IpAddr {
    [100, 64, 0, 1].into()
}

fn peer() -> IpAddr {
    [100, 64, 0, 2].into()
}

fn later(seconds: u64) -> Timestamp {
    NOW.plus(Duration::from_secs(seconds))
}

fn rules(source: &str, ports: PortRange) -> Filter {
    let target = RuleTarget { ip: "100.64.0.1".to_owned(), ports };
    let rule =
        FilterRule { src_ips: vec![source.to_owned()], dst_ports: vec![target], ..FilterRule::default() };
    Filter::new(&[rule]).0
}

fn with(rules: Filter) -> Firewall {
    let mut firewall = Firewall::default();
    firewall.set_rules(rules, |_| None);
    firewall
}

fn comes(firewall: &mut Firewall, now: Timestamp, bytes: &[u8]) -> bool {
    firewall.incoming(now, &Packet::parse(bytes).unwrap(), &Node::default())
}

fn goes(firewall: &mut Firewall, now: Timestamp, bytes: &[u8]) -> bool {
    firewall.outgoing(now, &Packet::parse(bytes).unwrap())
}

/// What it is, what went out before, what comes in, whether it passes.
type Row = (&'static str, Option<Vec<u8>>, Vec<u8>, bool);

/// What comes in, after what went out, under a rule for port 22.
#[test]
fn the_matrix() {
    let from_me = |to: u16, flags| segment(me(), 50_000, peer(), to, flags);
    let to_me = |from: u16, port: u16, flags| segment(peer(), from, me(), port, flags);
    let other: IpAddr = [100, 64, 0, 3].into();
    let table: [Row; 22] = [
        ("a connection to the port", None, to_me(9, 22, SYN), true),
        ("one to another port", None, to_me(9, 23, SYN), false),
        ("one of somebody else", None, segment(other, 9, me(), 22, SYN), false),
        ("a segment of no connection, to the port", None, to_me(9, 22, ACK), true),
        ("a segment of no connection, elsewhere", None, to_me(80, 50_000, ACK), false),
        ("SYN and ACK of no connection", None, to_me(80, 50_000, SYN | ACK), false),
        ("a reset of no connection", None, to_me(80, 50_000, RST), false),
        ("the reply to a connection", Some(from_me(80, SYN)), to_me(80, 50_000, SYN | ACK), true),
        ("the reset of one", Some(from_me(80, SYN)), to_me(80, 50_000, RST), true),
        ("a connection back on its ports", Some(from_me(80, SYN)), to_me(80, 50_000, SYN), false),
        ("a connection back to another port", Some(from_me(80, SYN)), to_me(80, 50_001, SYN), false),
        ("a reply from another port", Some(from_me(80, SYN)), to_me(81, 50_000, SYN | ACK), false),
        (
            "a reply of somebody else",
            Some(from_me(80, SYN)),
            segment(other, 80, me(), 50_000, SYN | ACK),
            false,
        ),
        ("a reply to a segment of no connection", Some(from_me(80, ACK)), to_me(80, 50_000, ACK), false),
        ("a datagram", None, datagram(peer(), 9, me(), 53, b"x"), false),
        (
            "a datagram's reply",
            Some(datagram(me(), 5, peer(), 53, b"x")),
            datagram(peer(), 53, me(), 5, b"x"),
            true,
        ),
        ("an echo, of who may reach a port", None, echo(peer(), me(), 1, false), true),
        ("an echo, of who may not", None, echo(other, me(), 1, false), false),
        ("a reply to no echo", None, echo(peer(), me(), 1, true), false),
        ("a reply to an echo", Some(echo(me(), peer(), 1, false)), echo(peer(), me(), 1, true), true),
        (
            "an error about a connection",
            Some(from_me(80, SYN)),
            unreachable(peer(), me(), &from_me(80, SYN)),
            true,
        ),
        ("an error about none", None, unreachable(peer(), me(), &from_me(80, SYN)), false),
    ];
    for (what, first, then, passes) in table {
        let mut firewall = with(rules("100.64.0.2", PortRange::only(22)));
        if let Some(first) = first {
            assert!(goes(&mut firewall, NOW, &first));
        }
        assert_eq!(comes(&mut firewall, NOW, &then), passes, "{what}");
    }
}

#[test]
fn without_rules_nothing_comes_in() {
    let mut firewall = Firewall::default();
    for bytes in [
        segment(peer(), 9, me(), 22, SYN),
        datagram(peer(), 9, me(), 53, b"x"),
        echo(peer(), me(), 1, false),
        ip(peer(), me(), 47, &[0; 8]),
    ] {
        assert!(!comes(&mut firewall, NOW, &bytes));
    }
}

#[test]
fn an_error_that_quotes_anothers_packet_is_refused() {
    let mut firewall = with(Filter::default());
    let own = segment(me(), 50_000, peer(), 80, SYN);
    assert!(goes(&mut firewall, NOW, &own));
    let alias: IpAddr = [100, 64, 0, 8].into();
    assert!(!comes(&mut firewall, NOW, &unreachable(peer(), alias, &own)));
}

#[test]
fn a_jailed_peer_begins_nothing_and_is_answered_all_the_same() {
    let mut firewall = with(rules("*", PortRange::ALL));
    let jailed = Node { is_jailed: true, ..Node::default() };
    let comes = |firewall: &mut Firewall, bytes: &[u8]| {
        firewall.incoming(NOW, &Packet::parse(bytes).unwrap(), &jailed)
    };
    assert!(!comes(&mut firewall, &segment(peer(), 9, me(), 22, SYN)));
    assert!(goes(&mut firewall, NOW, &segment(me(), 50_000, peer(), 80, SYN)));
    assert!(comes(&mut firewall, &segment(peer(), 80, me(), 50_000, SYN | ACK)));
}

#[test]
fn a_rule_that_is_taken_away_ends_what_it_allowed() {
    let mut firewall = with(rules("*", PortRange::only(22)));
    assert!(comes(&mut firewall, NOW, &segment(peer(), 9, me(), 22, SYN)));
    assert!(goes(&mut firewall, NOW, &segment(me(), 50_000, peer(), 80, SYN)));
    let node = Node::default();
    firewall.set_rules(rules("*", PortRange::only(23)), |_| Some(&node));
    assert!(!comes(&mut firewall, NOW, &segment(peer(), 9, me(), 22, ACK)));
    assert!(
        comes(&mut firewall, NOW, &segment(peer(), 80, me(), 50_000, ACK)),
        "what this node began goes on"
    );
}

#[test]
fn what_is_silent_is_forgotten() {
    let reply = datagram(peer(), 53, me(), 5, b"x");
    let mut firewall = with(Filter::default());
    goes(&mut firewall, NOW, &datagram(me(), 5, peer(), 53, b"x"));
    assert!(!comes(&mut firewall, later(61), &reply), "unanswered for a minute");
    goes(&mut firewall, later(62), &datagram(me(), 5, peer(), 53, b"x"));
    assert!(comes(&mut firewall, later(63), &reply));
    assert!(comes(&mut firewall, later(183), &reply));
    assert!(!comes(&mut firewall, later(304), &reply), "silent for two");
    assert!(firewall.flows.is_empty());
}

#[test]
fn a_peer_that_begins_without_end_is_bounded_and_leaves_room_for_others() {
    let mut firewall = with(rules("*", PortRange::ALL));
    let passed =
        (1..=u16::MAX).filter(|from| comes(&mut firewall, NOW, &segment(peer(), *from, me(), 22, SYN)));
    assert_eq!(passed.count(), FROM_ONE);
    assert!(comes(&mut firewall, NOW, &segment([100, 64, 0, 3].into(), 9, me(), 22, SYN)));
    assert!(goes(&mut firewall, NOW, &segment(me(), 50_000, peer(), 80, SYN)));
    assert!(comes(&mut firewall, later(61), &segment(peer(), 9, me(), 22, SYN)), "and is let in again later");
}

#[test]
fn what_this_node_begins_is_bounded() {
    let mut firewall = with(Filter::default());
    let passed =
        (1..=u16::MAX).filter(|from| goes(&mut firewall, NOW, &segment(me(), *from, peer(), 80, SYN)));
    assert_eq!(passed.count(), FLOWS);
}

fn any_packet() -> impl Strategy<Value = (bool, Vec<u8>)> {
    let flags = prop_oneof![Just(SYN), Just(ACK), Just(SYN | ACK), Just(RST | ACK), Just(ACK | 1)];
    (any::<bool>(), 0..3_u8, 1..4_u16, 1..4_u16, flags).prop_map(|(out, kind, here, there, flags)| {
        let (source, target) = if out { (me(), peer()) } else { (peer(), me()) };
        let (from, to) = if out { (here, there) } else { (there, here) };
        let bytes = match kind {
            0 => segment(source, from, target, to, flags),
            1 => datagram(source, from, target, to, b"x"),
            _ => echo(source, target, here, flags & ACK != 0),
        };
        (out, bytes)
    })
}

proptest! {
    /// Under no rules: what comes in was asked for.
    #[test]
    fn nothing_comes_in_that_this_node_did_not_begin(packets in proptest::collection::vec(any_packet(), 1..60)) {
        let mut firewall = Firewall::default();
        let mut begun = std::collections::HashSet::new();
        for (is_out, bytes) in packets {
            let packet = Packet::parse(&bytes).unwrap();
            if is_out {
                firewall.outgoing(NOW, &packet);
                begun.extend(of(&packet, true).filter(|(_, begins)| *begins).map(|(flow, _)| flow));
            } else if firewall.incoming(NOW, &packet, &Node::default()) {
                let (flow, _) = of(&packet, false).unwrap();
                prop_assert!(begun.contains(&flow));
                let opens = matches!(packet.kind, Kind::Tcp { step: Step::Open, .. });
                prop_assert!(!opens, "no new connection comes back");
            }
        }
    }

    #[test]
    fn the_counts_are_those_of_the_table(packets in proptest::collection::vec((any_packet(), 0..90_u64), 1..60)) {
        let mut firewall = with(rules("*", PortRange::only(2)));
        let mut now = NOW;
        for ((is_out, bytes), wait) in packets {
            now = now.plus(Duration::from_secs(wait));
            if is_out { goes(&mut firewall, now, &bytes) } else { comes(&mut firewall, now, &bytes) };
            let counted = firewall.begun_here + firewall.begun_there.values().sum::<usize>();
            prop_assert_eq!(counted, firewall.flows.len());
        }
    }
}
