use super::*;
use allod_meshproto::{
    DiscoKey, MachineKey, NodeKey,
    control::Hostinfo,
    filter::{self, Begin, Filter},
};
use allod_proto::Timestamp;
use proptest::prelude::*;
use std::{collections::BTreeSet, net::Ipv4Addr};

const NOW: Timestamp = Timestamp(1_000_000);

fn node(number: u8, name: &str, tags: &[&str]) -> Arc<NodeRecord> {
    Arc::new(NodeRecord {
        id: NodeId(number.into()),
        machine: MachineKey::new([number; 32]),
        key: NodeKey::new([number; 32]),
        disco: DiscoKey::default(),
        name: name.to_owned(),
        v4: Ipv4Addr::new(100, 64, 0, number),
        v6: (0xfd7a_115c_a1e0_u128 << 80 | u128::from(number)).into(),
        tags: tags.iter().map(|tag| (*tag).to_owned()).collect(),
        join_key: None,
        ephemeral: false,
        created: NOW,
        expiry: None,
        last_seen: None,
        version: 130,
        host: Hostinfo::default(),
        endpoints: Vec::new(),
        home: 0,
    })
}

fn nodes() -> BTreeMap<NodeId, Arc<NodeRecord>> {
    let all = [
        node(1, "laptop", &[]),
        node(2, "web1", &["tag:web"]),
        node(3, "web2", &["tag:web"]),
        node(4, "db", &["tag:db"]),
    ];
    all.into_iter().map(|node| (node.id, node)).collect()
}

fn compiled(text: &str) -> Compiled {
    Compiled::new(&Arc::new(Policy::parse(text).unwrap()), &nodes(), None, NOW)
}

fn may(compiled: &Compiled, from: i64, to: i64, port: u16) -> bool {
    let rules = compiled.filter(NodeId(to));
    let (filter, complaints) = Filter::new(&rules);
    assert_eq!(complaints, []);
    let nodes = nodes();
    let address = |id| nodes[&NodeId(id)].addresses();
    let allows = |v: usize| {
        let packet = Begin { protocol: filter::TCP, source: address(from)[v], target: address(to)[v], port };
        filter.allows(&packet, |_| false)
    };
    assert_eq!(allows(0), allows(1), "both families");
    allows(0)
}

#[test]
fn without_a_rule_nobody_sees_or_reaches_anybody() {
    let compiled = compiled("{}");
    for (one, other) in [(1, 2), (2, 3), (2, 2)] {
        assert!(!compiled.see_each_other(NodeId(one), NodeId(other)));
        assert!(!may(&compiled, one, other, 22));
    }
}

#[test]
fn a_rule_allows_one_direction_and_its_ports_alone() {
    let compiled = compiled(r#"{"allow":[{"from":["laptop"],"to":["tag:web"],"ports":["22","8000-8010"]}]}"#);
    for (from, to, port, is_allowed) in [
        (1, 2, 22, true),
        (1, 3, 8010, true),
        (1, 3, 8011, false),
        (1, 4, 22, false),
        (2, 1, 22, false),
        (2, 3, 22, false),
    ] {
        assert_eq!(may(&compiled, from, to, port), is_allowed, "{from} to {to}:{port}");
    }
    assert!(compiled.see_each_other(NodeId(2), NodeId(1)), "who is reached must know who comes");
    assert!(!compiled.see_each_other(NodeId(2), NodeId(3)));
}

#[test]
fn an_expired_node_is_no_member() {
    let mut nodes = nodes();
    let mut gone = nodes[&NodeId(2)].as_ref().clone();
    gone.expiry = Some(NOW);
    nodes.insert(gone.id, Arc::new(gone));
    let policy = Arc::new(Policy::parse(r#"{"allow":[{"from":["*"],"to":["*"],"ports":["*"]}]}"#).unwrap());
    let compiled = Compiled::new(&policy, &nodes, None, NOW);
    assert!(!compiled.see_each_other(NodeId(1), NodeId(2)) && compiled.see_each_other(NodeId(1), NodeId(3)));
    assert_eq!(compiled.filter(NodeId(2)), []);
}

#[test]
fn a_policy_that_cant_be_meant_is_refused() {
    for bad in [
        "",
        "[]",
        r#"{"alow":[]}"#,
        r#"{"allow":[{"from":["*"],"to":["*"]}]}"#,
        r#"{"allow":[{"from":["We b"],"to":["*"],"ports":["*"]}]}"#,
        r#"{"allow":[{"from":["*"],"to":["*"],"ports":["0"]}]}"#,
        r#"{"allow":[{"from":["*"],"to":["*"],"ports":["9-8"]}]}"#,
        r#"{"allow":[{"from":["100.64.0.1/10"],"to":["*"],"ports":["*"]}]}"#,
        r#"{"allow":[{"from":["*"],"to":["*"],"ports":["65536"]}]}"#,
    ] {
        assert!(Policy::parse(bad).is_err(), "{bad}");
    }
    let empty = Policy::parse(r#"{"allow":[{"from":[],"to":["*"],"ports":["*"]}]}"#).unwrap();
    assert_eq!(empty.check(&nodes()), Err(PolicyError::EmptyRule(1)));
}

#[test]
fn what_cant_be_read_is_told_with_its_line() {
    let broken = Policy::parse("{\n  \"allow\": [],\n  \"alow\": []\n}").unwrap_err();
    assert!(matches!(broken, PolicyError::Unreadable { line: 3, .. }), "{broken:?}");
}

#[test]
fn whoever_has_a_tag_is_no_machine_of_a_persons_own() {
    let compiled = compiled(r#"{"allow":[{"from":["autogroup:member"],"to":["*"],"ports":["*"]}]}"#);
    assert!(!may(&compiled, 2, 1, 22) && !may(&compiled, 2, 3, 22) && !may(&compiled, 4, 2, 22));
    assert!(may(&compiled, 1, 2, 22) && may(&compiled, 1, 4, 9844));
    let case = |from: &str, expect: &str| {
        let text = format!(
            r#"{{"allow":[{{"from":["autogroup:member"],"to":["tag:web"],"ports":["22"]}}],
                "tests":[{{"from":"{from}","to":"tag:web","port":22,"expect":"{expect}"}}]}}"#
        );
        Policy::parse(&text).unwrap().check(&nodes())
    };
    for (from, expect) in [
        ("tag:db", "deny"),
        ("db", "deny"),
        ("nobody", "deny"),
        ("100.64.0.99", "deny"),
        ("autogroup:member", "allow"),
        ("laptop", "allow"),
    ] {
        assert_eq!(case(from, expect), Ok(()), "{from}");
    }
}

#[test]
fn a_policy_is_taken_only_while_its_cases_hold() {
    let with = |case: &str| {
        let text = format!(
            r#"{{"allow":[{{"from":["laptop"],"to":["tag:web"],"ports":["22"]}}],"tests":[{case}]}}"#
        );
        Policy::parse(&text).unwrap().check(&nodes())
    };
    assert_eq!(with(r#"{"from":"laptop","to":"web1","port":22,"expect":"allow"}"#), Ok(()));
    assert_eq!(with(r#"{"from":"100.64.0.1","to":"tag:web","port":22,"expect":"allow"}"#), Ok(()));
    assert_eq!(with(r#"{"from":"web1","to":"laptop","port":22,"expect":"deny"}"#), Ok(()));
    assert_eq!(with(r#"{"from":"nobody","to":"web1","port":22,"expect":"deny"}"#), Ok(()));
    assert_eq!(with(r#"{"from":"laptop","to":"web1","port":22,"protocol":"sctp","expect":"deny"}"#), Ok(()));
    let error = with(r#"{"from":"laptop","to":"db","port":22,"expect":"allow"}"#).unwrap_err();
    assert_eq!(error.to_string(), "case 1 does not hold: laptop to db port 22 would be refused");
    assert!(matches!(
        with(r#"{"from":"laptop","to":"web1","port":22,"expect":"deny"}"#),
        Err(PolicyError::Case { .. })
    ));
    assert_eq!(
        with(r#"{"from":"*","to":"web1","port":22,"expect":"deny"}"#),
        Err(PolicyError::CaseOfMany(1))
    );
}

fn sights(one: &Compiled, other: &Compiled) -> Option<BTreeSet<NodeId>> {
    let mut nodes = BTreeSet::new();
    one.other_sights(other, &mut nodes).then_some(nodes)
}

#[test]
fn what_did_not_change_is_the_same_value() {
    let policy = Arc::new(
        Policy::parse(r#"{"allow":[{"from":["tag:web"],"to":["tag:db"],"ports":["5432"]}]}"#).unwrap(),
    );
    let first = Compiled::new(&policy, &nodes(), None, NOW);
    let mut more = nodes();
    more.insert(NodeId(5), node(5, "phone", &[]));
    let second = Compiled::new(&policy, &more, Some(&first), NOW);
    assert_eq!(sights(&first, &second), Some(BTreeSet::new()));
    assert!(first.has_same_filter(&second, NodeId(4)));
    more.insert(NodeId(6), node(6, "web3", &["tag:web"]));
    let third = Compiled::new(&policy, &more, Some(&second), NOW);
    assert_eq!(sights(&third, &second), Some(BTreeSet::from([NodeId(6)])));
    let other = Arc::new(Policy::parse(r#"{"allow":[]}"#).unwrap());
    assert_eq!(sights(&Compiled::new(&other, &more, None, NOW), &third), None);
    assert!(!third.has_same_filter(&second, NodeId(4)));
    assert!(third.has_same_filter(&second, NodeId(1)), "no rule is about the laptop");
}

fn selectors() -> impl Strategy<Value = Vec<Selector>> {
    let one = proptest::sample::select(vec![
        "*",
        "autogroup:member",
        "laptop",
        "web1",
        "tag:web",
        "tag:db",
        "100.64.0.2/31",
        "fd7a:115c:a1e0::4",
    ]);
    proptest::collection::vec(one.prop_map(|text| text.parse().unwrap()), 1..3)
}

proptest! {
    #[test]
    fn what_the_filter_allows_is_what_the_policy_says(
        rules in proptest::collection::vec((selectors(), selectors(), 1..4_u16, proptest::option::of(any::<bool>())), 0..4)
    ) {
        let rule = |(from, to, port, protocol): (Vec<Selector>, Vec<Selector>, u16, Option<bool>)| Rule {
            from, to,
            ports: vec![port.to_string().parse().unwrap()],
            protocols: protocol.map(|udp| if udp { Protocol::Udp } else { Protocol::Tcp }).into_iter().collect(),
        };
        let policy = Arc::new(Policy { allow: rules.into_iter().map(rule).collect(), tests: Vec::new() });
        let nodes = nodes();
        let compiled = Compiled::new(&policy, &nodes, None, NOW);
        for from in nodes.values() {
            for to in nodes.values().filter(|to| to.id != from.id) {
                let rules = compiled.filter(to.id);
                let filter = Filter::new(&rules).0;
                let mut is_any = false;
                for (protocol, number) in [(Protocol::Tcp, 6), (Protocol::Udp, 17), (Protocol::Icmp, 1), (Protocol::Sctp, 132)] {
                    for port in 1..4 {
                        let said = policy.allows_nodes(from, to, protocol, port);
                        let packet = Begin { protocol: number, source: from.v4.into(), target: to.v4.into(), port };
                        prop_assert_eq!(filter.allows(&packet, |_| false), said);
                        is_any |= said;
                    }
                }
                prop_assert!(!is_any || compiled.see_each_other(from.id, to.id));
            }
        }
        let text = serde_json::to_string(policy.as_ref()).unwrap();
        prop_assert_eq!(&Policy::parse(&text).unwrap(), policy.as_ref());
    }
}
