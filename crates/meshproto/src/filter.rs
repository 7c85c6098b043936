//! What packet-filter rules mean (tailscale.com/wgengine/filter): texts to ranges of addresses, ports and protocols, and whether they
//! allow a packet that begins something. Keeping track of what has begun belongs to the node.

use crate::{
    control::{FilterRule, PortRange},
    prefix::Prefix,
};
use std::net::{IpAddr, Ipv6Addr};

/// ICMP for IPv4.
pub const ICMP: u8 = 1;
/// TCP.
pub const TCP: u8 = 6;
/// UDP.
pub const UDP: u8 = 17;
/// ICMP for IPv6.
pub const ICMP_V6: u8 = 58;
/// SCTP.
pub const SCTP: u8 = 132;
/// What a rule means that names no protocol.
pub const DEFAULT_PROTOCOLS: [u8; 4] = [TCP, UDP, ICMP, ICMP_V6];

/// Addresses from one to another of the same family, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

impl AddressRange {
    /// From `first` to `last`, unless they are of two families or the wrong way round.
    #[must_use]
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Self { first, last })
    }

    /// Whether it holds `address`.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.first.is_ipv4() && self.first <= address && address <= self.last
    }
}

impl From<Prefix> for AddressRange {
    fn from(prefix: Prefix) -> Self {
        let first = prefix.masked().address();
        let last = match first {
            IpAddr::V4(ip) => {
                let rest = u32::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
                IpAddr::V4((ip.to_bits() | rest).into())
            }
            IpAddr::V6(ip) => {
                let rest = u128::MAX.checked_shr(prefix.length().into()).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(ip.to_bits() | rest))
            }
        };
        Self { first, last }
    }
}

/// Where a packet may come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// From these addresses.
    Addresses(AddressRange),
    /// From a node that has this capability.
    Capability(String),
}

/// One rule, as meant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Which protocols.
    pub protocols: Vec<u8>,
    /// From where.
    pub sources: Vec<Source>,
    /// To where.
    pub targets: Vec<(AddressRange, PortRange)>,
}

/// A text in a rule that means nothing. It allows nothing; the rest of the rule stands.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("rule {rule}: `{text}` names no addresses")]
pub struct Complaint {
    /// Which rule, from 0.
    pub rule: usize,
    /// The text, 64 characters of it at most.
    pub text: String,
}

/// A packet that begins something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// The number of its IP protocol.
    pub protocol: u8,
    /// Its source.
    pub source: IpAddr,
    /// Its destination.
    pub target: IpAddr,
    /// Its destination port; 0 where the protocol has none.
    pub port: u16,
}

/// All rules of a map, as meant. Whatever none of them allows is refused; one without rules refuses everything.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Filter {
    matches: Vec<Match>,
}

impl Filter {
    /// Gives rules their meaning, and tells which texts have none.
    #[must_use]
    pub fn new<'a>(rules: impl IntoIterator<Item = &'a FilterRule>) -> (Self, Vec<Complaint>) {
        let mut complaints = Vec::new();
        let matches =
            rules.into_iter().enumerate().map(|(at, rule)| meaning(at, rule, &mut complaints)).collect();
        (Self { matches }, complaints)
    }

    /// The rules.
    #[must_use]
    pub fn matches(&self) -> &[Match] {
        &self.matches
    }

    /// Whether a packet may begin what it begins. `has` tells whether the node at the source has a capability.
    #[must_use]
    pub fn allows(&self, packet: &Begin, has: impl Fn(&str) -> bool) -> bool {
        self.matches.iter().any(|rule| rule.allows(packet, &has))
    }
}

impl Match {
    fn allows(&self, packet: &Begin, has: &impl Fn(&str) -> bool) -> bool {
        let is_target = |(addresses, ports): &(AddressRange, PortRange)| {
            addresses.contains(packet.target) && self.reaches(packet, *ports)
        };
        let is_source = |source: &Source| match source {
            Source::Addresses(addresses) => addresses.contains(packet.source),
            Source::Capability(name) => has(name),
        };
        self.targets.iter().any(is_target) && self.sources.iter().any(is_source)
    }

    /// As stock clients have it: whoever may reach any port of an address may ping it, and a protocol without ports is allowed
    /// by a rule for all ports only.
    fn reaches(&self, packet: &Begin, ports: PortRange) -> bool {
        let is_named = self.protocols.contains(&packet.protocol);
        match packet.protocol {
            ICMP | ICMP_V6 => true,
            TCP | UDP | SCTP => is_named && ports.contains(packet.port),
            _ => is_named && ports == PortRange::ALL,
        }
    }
}

fn meaning(at: usize, rule: &FilterRule, complaints: &mut Vec<Complaint>) -> Match {
    let mut complain =
        |text: &str| complaints.push(Complaint { rule: at, text: text.chars().take(64).collect() });
    let mut sources = Vec::new();
    for text in &rule.src_ips {
        match (text.strip_prefix("cap:"), addresses(text)) {
            (Some(capability), _) => sources.push(Source::Capability(capability.to_owned())),
            (None, Some(ranges)) => sources.extend(ranges.into_iter().map(Source::Addresses)),
            (None, None) => complain(text),
        }
    }
    let mut targets = Vec::new();
    for target in &rule.dst_ports {
        match addresses(&target.ip) {
            Some(ranges) => targets.extend(ranges.into_iter().map(|range| (range, target.ports))),
            None => complain(&target.ip),
        }
    }
    let named = rule.ip_proto.iter().filter_map(|number| u8::try_from(*number).ok()).collect();
    let protocols = if rule.ip_proto.is_empty() { DEFAULT_PROTOCOLS.to_vec() } else { named };
    Match { protocols, sources, targets }
}

/// `*`, a prefix without further bits, `first-last`, or an address.
fn addresses(text: &str) -> Option<Vec<AddressRange>> {
    if text == "*" {
        return Some(vec![Prefix::ALL_V4.into(), Prefix::ALL_V6.into()]);
    }
    if text.contains('/') {
        let prefix: Prefix = text.parse().ok()?;
        return (prefix == prefix.masked()).then(|| vec![prefix.into()]);
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    Some(vec![AddressRange::new(first.parse().ok()?, last.parse().ok()?)?])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::RuleTarget;
    use proptest::prelude::*;

    fn rule(sources: &[&str], target: &str, ports: PortRange) -> FilterRule {
        FilterRule {
            src_ips: sources.iter().map(|text| (*text).to_owned()).collect(),
            dst_ports: vec![RuleTarget { ip: target.to_owned(), ports }],
            ..FilterRule::default()
        }
    }

    fn packet(protocol: u8, source: &str, target: &str, port: u16) -> Begin {
        Begin { protocol, source: source.parse().unwrap(), target: target.parse().unwrap(), port }
    }

    fn allows(rule: FilterRule, packet: Begin) -> bool {
        Filter::new(&[rule]).0.allows(&packet, |_| false)
    }

    #[test]
    fn without_a_rule_everything_is_refused() {
        assert!(!Filter::default().allows(&packet(TCP, "100.64.0.1", "100.64.0.2", 22), |_| true));
        assert!(!allows(FilterRule::default(), packet(TCP, "100.64.0.1", "100.64.0.2", 22)));
    }

    #[test]
    fn a_rule_for_one_port_from_one_node_allows_just_that() {
        let only = || rule(&["100.64.0.1"], "100.64.0.2", PortRange::only(22));
        assert!(allows(only(), packet(TCP, "100.64.0.1", "100.64.0.2", 22)));
        for (protocol, source, target, port) in [
            (TCP, "100.64.0.3", "100.64.0.2", 22),
            (TCP, "100.64.0.1", "100.64.0.3", 22),
            (TCP, "100.64.0.1", "100.64.0.2", 23),
            (TCP, "100.64.0.2", "100.64.0.1", 22),
            (TCP, "::ffff:100.64.0.1", "100.64.0.2", 22),
            (SCTP, "100.64.0.1", "100.64.0.2", 22),
            (47, "100.64.0.1", "100.64.0.2", 0),
            (ICMP, "100.64.0.3", "100.64.0.2", 0),
        ] {
            assert!(
                !allows(only(), packet(protocol, source, target, port)),
                "{protocol} {source} {target} {port}"
            );
        }
    }

    #[test]
    fn who_may_reach_a_port_may_ping() {
        let tcp =
            FilterRule { ip_proto: vec![6], ..rule(&["100.64.0.1"], "100.64.0.2", PortRange::only(22)) };
        assert!(allows(tcp.clone(), packet(ICMP, "100.64.0.1", "100.64.0.2", 0)));
        assert!(!allows(tcp, packet(UDP, "100.64.0.1", "100.64.0.2", 22)));
    }

    #[test]
    fn a_protocol_without_ports_needs_a_rule_for_all_ports() {
        let gre = |ports| FilterRule { ip_proto: vec![47, 999, -1], ..rule(&["*"], "*", ports) };
        assert!(allows(gre(PortRange::ALL), packet(47, "fd7a::1", "fd7a::2", 0)));
        assert!(!allows(gre(PortRange { first: 0, last: 9 }), packet(47, "fd7a::1", "fd7a::2", 0)));
    }

    #[test]
    fn a_capability_is_asked_of_the_source() {
        let (filter, complaints) = Filter::new(&[rule(&["cap:x/y"], "*", PortRange::ALL)]);
        assert!(complaints.is_empty());
        let packet = packet(UDP, "100.64.0.1", "100.64.0.2", 1);
        assert!(filter.allows(&packet, |name| name == "x/y"));
        assert!(!filter.allows(&packet, |name| name == "x"));
    }

    #[test]
    fn a_text_without_meaning_allows_nothing_and_is_told() {
        let bad =
            ["", "a", "10.0.0.1/8", "10.0.0.2-10.0.0.1", "10.0.0.1-::1", "1-2-3", "**", "10.0.0.1/", "cap"];
        for text in bad {
            let (filter, complaints) = Filter::new(&[rule(&["100.64.0.9", text], "*", PortRange::ALL)]);
            assert_eq!(complaints, [Complaint { rule: 0, text: text.to_owned() }]);
            assert!(filter.allows(&packet(TCP, "100.64.0.9", "::1", 1), |_| false), "the rest stands");
            assert!(!allows(rule(&["*"], text, PortRange::ALL), packet(TCP, "10.0.0.1", "10.0.0.1", 1)));
        }
        let (filter, complaints) = Filter::new(&[rule(&["*"], "cap:x", PortRange::ALL)]);
        assert_eq!((complaints.len(), filter.matches()[0].targets.len()), (1, 0));
    }

    #[test]
    fn ports_the_wrong_way_round_are_none() {
        assert!(!allows(rule(&["*"], "*", PortRange { first: 9, last: 8 }), packet(TCP, "::1", "::2", 9)));
    }

    #[test]
    fn a_range_has_both_its_ends() {
        let range = || rule(&["10.0.0.5-10.0.0.9"], "*", PortRange::ALL);
        for (source, is_in) in
            [("10.0.0.4", false), ("10.0.0.5", true), ("10.0.0.9", true), ("10.0.0.10", false)]
        {
            assert_eq!(allows(range(), packet(TCP, source, "10.0.0.1", 1)), is_in, "{source}");
        }
    }

    proptest! {
        #[test]
        fn a_prefix_and_its_range_hold_the_same(bits in any::<u32>(), length in 0..=32_u8, other in any::<u32>(), near in any::<bool>()) {
            let prefix = Prefix::new(IpAddr::V4(bits.into()), length).unwrap();
            let other = if near { bits ^ (other >> 24) } else { other };
            let other = IpAddr::V4(other.into());
            prop_assert_eq!(AddressRange::from(prefix).contains(other), prefix.contains(other));
        }

        #[test]
        fn no_text_is_a_panic(text in "[0-9a-f:./*-]{0,40}") {
            let _ = Filter::new(&[rule(&[&text], &text, PortRange::ALL)]);
        }
    }
}
