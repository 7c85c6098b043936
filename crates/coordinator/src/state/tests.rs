use super::*;
use crate::policy::Policy;
use allod_meshproto::{
    DiscoKey,
    control::{Hostinfo, NetInfo, RegisterAuth, RegisterRequest},
};
use proptest::prelude::*;
use ring::rand::SystemRandom;
use std::{collections::BTreeSet, net::Ipv4Addr};

const NOW: Timestamp = Timestamp(1_800_000_000_000);
const HOUR: Duration = Duration::from_secs(3600);

fn machine(number: u8) -> MachineKey {
    MachineKey::new([number; 32])
}

fn key(number: u8) -> NodeKey {
    NodeKey::new([number; 32])
}

fn request(number: u8, join_key: Option<&str>) -> RegisterRequest {
    RegisterRequest {
        node_key: key(number),
        auth: join_key.map(|text| RegisterAuth { auth_key: text.to_owned() }),
        hostinfo: Some(Hostinfo { hostname: "web".to_owned(), ..Hostinfo::default() }),
        ..RegisterRequest::default()
    }
}

fn ask(
    state: &mut State,
    number: u8,
    request: &RegisterRequest,
    now: Timestamp,
) -> Result<Registered, Refusal> {
    let asked = Asked {
        machine: machine(number),
        source: Ipv4Addr::LOCALHOST.into(),
        request,
        fresh_id: format!("id-{number}-{}", state.pending.len()),
    };
    state.register(&asked, now)
}

fn join_key(state: &mut State, spec: JoinKeySpec) -> String {
    let (_, text) = state.create_join_key(spec, NOW, &SystemRandom::new()).unwrap();
    text.as_str().to_owned()
}

fn once() -> JoinKeySpec {
    JoinKeySpec { uses: Some(1), tags: vec!["tag:web".to_owned()], ..JoinKeySpec::default() }
}

fn joined(state: &mut State, number: u8) -> NodeId {
    let text = join_key(state, once());
    match ask(state, number, &request(number, Some(&text)), NOW) {
        Ok(Registered::In(id)) => id,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_join_key_that_is_wrong_used_up_expired_or_revoked_lets_nobody_in() {
    let mut state = State::default();
    let good = join_key(&mut state, once());
    let (id, secret) = good.split_once('.').unwrap();
    let other = join_key(&mut state, once());
    let other_id = other.split_once('.').unwrap().0;
    for bad in
        ["", "x", ".", &format!("{id}."), &format!("{id}.{secret}x"), &format!("{other_id}.{secret}"), id]
    {
        let result = ask(
            &mut state,
            1,
            &RegisterRequest { auth: Some(RegisterAuth { auth_key: bad.to_owned() }), ..request(1, None) },
            NOW,
        );
        assert!(!matches!(result, Ok(Registered::In(_))), "{bad}");
    }
    let expiring = join_key(&mut state, JoinKeySpec { expiry: Some(NOW.plus(HOUR)), ..once() });
    assert_eq!(ask(&mut state, 1, &request(1, Some(&expiring)), NOW.plus(HOUR)), Err(Refusal::JoinKey));
    state.revoke_join_key(other_id).unwrap();
    assert_eq!(ask(&mut state, 1, &request(1, Some(&other)), NOW), Err(Refusal::JoinKey));
    assert!(matches!(ask(&mut state, 1, &request(1, Some(&good)), NOW), Ok(Registered::In(_))));
    assert_eq!(ask(&mut state, 2, &request(2, Some(&good)), NOW), Err(Refusal::JoinKey), "used up");
    assert_eq!(state.nodes().len(), 1);
}

#[test]
fn a_key_that_may_be_used_once_survives_a_lost_reply() {
    let mut state = State::default();
    let text = join_key(&mut state, once());
    let first = ask(&mut state, 1, &request(1, Some(&text)), NOW).unwrap();
    assert_eq!(ask(&mut state, 1, &request(1, Some(&text)), NOW).unwrap(), first);
    let new_key = RegisterRequest { node_key: key(9), ..request(1, Some(&text)) };
    assert_eq!(ask(&mut state, 1, &new_key, NOW).unwrap(), first, "the same machine with a fresh node key");
    assert_eq!(state.join_keys().next().unwrap().uses_left, Some(0));
    assert_eq!(ask(&mut state, 2, &request(2, Some(&text)), NOW), Err(Refusal::JoinKey));
}

#[test]
fn a_used_up_key_brings_back_neither_a_deleted_nor_an_expired_node() {
    let mut state = State::default();
    let text = join_key(&mut state, once());
    let Registered::In(id) = ask(&mut state, 1, &request(1, Some(&text)), NOW).unwrap() else { panic!() };
    state.set_expiry(id, Some(NOW)).unwrap();
    let new_key = RegisterRequest { node_key: key(9), ..request(1, Some(&text)) };
    assert_eq!(ask(&mut state, 1, &new_key, NOW), Err(Refusal::JoinKey));
    state.delete(id).unwrap();
    assert_eq!(ask(&mut state, 1, &request(1, Some(&text)), NOW), Err(Refusal::JoinKey));
}

#[test]
fn a_node_is_acted_on_by_its_own_machine_only() {
    let mut state = State::default();
    let id = joined(&mut state, 1);
    let before = state.nodes()[&id].clone();
    let stolen = join_key(&mut state, once());
    let logout = Some(Timestamp(1));
    let as_two = |request: RegisterRequest, state: &mut State| ask(state, 2, &request, NOW);
    for bad in [
        request(1, None),
        request(1, Some(&stolen)),
        RegisterRequest { expiry: logout, ..request(1, None) },
        RegisterRequest { old_node_key: key(3), ..request(1, None) },
    ] {
        assert_eq!(as_two(bad, &mut state), Err(Refusal::ForeignKey));
    }
    let rotate = RegisterRequest { old_node_key: key(1), ..request(7, None) };
    assert!(matches!(as_two(rotate, &mut state), Ok(Registered::Approve(_))), "as good as a stranger");
    let map = MapRequest { node_key: key(1), disco_key: DiscoKey::new([5; 32]), ..MapRequest::default() };
    assert_eq!(state.hear(machine(2), &map, 900), Err(Refusal::NoNode));
    assert_eq!(state.nodes()[&id], before);
}

#[test]
fn who_is_known_with_both_keys_is_in_without_showing_anything() {
    let mut state = State::default();
    let id = joined(&mut state, 1);
    let addresses = state.nodes()[&id].addresses();
    state.take_rows();
    assert_eq!(ask(&mut state, 1, &request(1, None), NOW).unwrap(), Registered::In(id));
    assert_eq!(ask(&mut state, 1, &request(1, Some("nonsense")), NOW).unwrap(), Registered::In(id));
    assert_eq!(state.take_rows(), [], "nothing to store");
    assert_eq!(state.nodes()[&id].addresses(), addresses);
}

#[test]
fn a_node_changes_its_key_by_the_old_one_and_stays_what_it_is() {
    let mut state = State::default();
    let id = joined(&mut state, 1);
    state.set_expiry(id, Some(NOW.plus(HOUR))).unwrap();
    let rotate = RegisterRequest { old_node_key: key(1), ..request(7, None) };
    assert_eq!(ask(&mut state, 1, &rotate, NOW).unwrap(), Registered::In(id));
    assert_eq!(ask(&mut state, 1, &rotate, NOW).unwrap(), Registered::In(id), "again, after a lost reply");
    let node = &state.nodes()[&id];
    assert_eq!((node.key, node.expiry), (key(7), Some(NOW.plus(HOUR))), "its stay is no longer");
    assert!(state.node_by_key(key(1)).is_none());
    let late = RegisterRequest { old_node_key: key(7), ..request(8, None) };
    assert!(matches!(ask(&mut state, 1, &late, NOW.plus(HOUR)).unwrap(), Registered::Approve(_)), "expired");
}

#[test]
fn an_expired_node_is_told_so_and_comes_back_with_a_new_key() {
    let mut state = State::default();
    let id = joined(&mut state, 1);
    let logout = RegisterRequest { expiry: Some(Timestamp(1)), ..request(1, None) };
    assert_eq!(ask(&mut state, 1, &logout, NOW).unwrap(), Registered::Expired);
    assert_eq!(ask(&mut state, 1, &request(1, None), NOW).unwrap(), Registered::Expired);
    let text = join_key(&mut state, once());
    assert_eq!(
        ask(&mut state, 1, &request(1, Some(&text)), NOW).unwrap(),
        Registered::Expired,
        "same node key"
    );
    assert_eq!(ask(&mut state, 1, &request(2, Some(&text)), NOW).unwrap(), Registered::In(id), "same node");
}

#[test]
fn numbers_and_addresses_are_never_given_again() {
    let mut state = State::default();
    let mut seen = BTreeSet::new();
    for number in 1..=20 {
        let id = joined(&mut state, number);
        let node = state.nodes()[&id].clone();
        assert!(seen.insert((node.id.0, node.v4, node.v6)));
        state.delete(id).unwrap();
    }
    assert_eq!(seen.iter().map(|(id, ..)| *id).collect::<BTreeSet<_>>().len(), 20);
    assert_eq!(seen.iter().map(|(_, v4, _)| *v4).collect::<BTreeSet<_>>().len(), 20);
}

#[test]
fn names_are_unique_labels_and_one_of_the_policy_is_given_by_an_administrator_only() {
    let mut state = State::default();
    let rule = r#"{"allow":[{"from":["laptop"],"to":["*"],"ports":["*"]}]}"#;
    state.set_policy(Policy::parse(rule).unwrap()).unwrap();
    let text = join_key(&mut state, JoinKeySpec::default());
    let impostor = Hostinfo { hostname: "Laptop.local".to_owned(), ..Hostinfo::default() };
    let asked = RegisterRequest { hostinfo: Some(impostor), ..request(1, Some(&text)) };
    let Registered::In(id) = ask(&mut state, 1, &asked, NOW).unwrap() else { panic!() };
    assert_eq!(state.nodes()[&id].name, "laptop-1");
    let (web, second) = (joined(&mut state, 2), joined(&mut state, 3));
    assert_eq!(state.nodes()[&web].name, "web");
    assert_eq!(state.nodes()[&second].name, "web-1");
    assert_eq!(state.rename(second, "web"), Err(Refusal::NameTaken));
    assert_eq!(state.rename(second, "We b"), Err(Refusal::Name));
    state.rename(second, "laptop").unwrap();
}

#[test]
fn an_ephemeral_node_goes_when_it_is_away_too_long_and_no_other_does() {
    let mut state = State::default();
    let text = join_key(&mut state, JoinKeySpec { ephemeral: true, ..once() });
    let Registered::In(id) = ask(&mut state, 1, &request(1, Some(&text)), NOW).unwrap() else { panic!() };
    let lasting = joined(&mut state, 2);
    let late = NOW.plus(EPHEMERAL_GRACE);
    state.tidy(|_| true, NOW, late);
    state.tidy(|_| false, NOW, Timestamp(late.0 - 1));
    state.tidy(|_| false, late, Timestamp(late.0 + 1));
    assert!(state.nodes().contains_key(&id));
    state.tidy(|_| false, NOW, late);
    assert_eq!(state.nodes().keys().copied().collect::<Vec<_>>(), [lasting]);
}

#[test]
fn who_shows_nothing_waits_under_one_id_and_is_let_in_by_an_administrator_only() {
    let mut state = State::default();
    let Registered::Approve(id) = ask(&mut state, 1, &request(1, None), NOW).unwrap() else { panic!() };
    assert_eq!(ask(&mut state, 1, &request(1, None), NOW).unwrap(), Registered::Approve(id.clone()));
    assert_eq!(state.nodes().len(), 0);
    assert_eq!(state.approve("another", Vec::new(), None, NOW), Err(Refusal::NotWaiting));
    assert_eq!(state.approve(&id, vec!["web".to_owned()], None, NOW), Err(Refusal::Tag));
    assert_eq!(state.approve(&id, Vec::new(), None, NOW.plus(APPROVAL_WAIT)), Err(Refusal::NotWaiting));
    let Registered::Approve(id) = ask(&mut state, 1, &request(1, None), NOW).unwrap() else { panic!() };
    let node = state.approve(&id, Vec::new(), Some("laptop".to_owned()), NOW).unwrap();
    assert_eq!(ask(&mut state, 1, &request(1, None), NOW).unwrap(), Registered::In(node));
    assert_eq!(state.nodes()[&node].name, "laptop");
    assert_eq!(state.approve(&id, Vec::new(), None, NOW), Err(Refusal::NotWaiting), "once");
}

#[test]
fn machines_that_wait_are_bounded_from_one_address_and_in_all() {
    let mut state = State::default();
    for number in 1..=16 {
        assert!(ask(&mut state, number, &request(number, None), NOW).is_ok());
    }
    assert_eq!(ask(&mut state, 17, &request(17, None), NOW), Err(Refusal::TooManyWait));
    for number in 1..=16 {
        for from in 0..17_u8 {
            let name = [number, from, 1].repeat(11)[..32].try_into().unwrap();
            let request = RegisterRequest { node_key: NodeKey::new(name), ..RegisterRequest::default() };
            let source = Ipv4Addr::new(10, 0, 0, from).into();
            let fresh_id = format!("{number}-{from}");
            let asked = Asked { machine: MachineKey::new(name), source, request: &request, fresh_id };
            drop(state.register(&asked, NOW));
        }
    }
    assert_eq!(state.pending().count(), 256);
    assert!(ask(&mut state, 17, &request(17, None), NOW.plus(APPROVAL_WAIT)).is_ok(), "room again");
}

#[test]
fn what_a_node_says_of_itself_is_cut() {
    let mut state = State::default();
    let id = joined(&mut state, 1);
    let long = || "ä\u{7}".repeat(10_000);
    let host = Hostinfo {
        hostname: long(),
        os: long(),
        ssh_host_keys: vec![long()],
        net_info: Some(NetInfo { preferred_derp: 77, ..NetInfo::default() }),
        ..Hostinfo::default()
    };
    let endpoints = (1..60).map(|port| (Ipv4Addr::LOCALHOST, port).into()).collect();
    let map = MapRequest { node_key: key(1), hostinfo: Some(host), endpoints, ..MapRequest::default() };
    state.hear(machine(1), &map, 900).unwrap();
    let node = &state.nodes()[&id];
    assert_eq!((node.host.os.as_str(), node.endpoints.len(), node.home), ("ä".repeat(32).as_str(), 24, 0));
    assert!(serde_json::to_vec(node.as_ref()).unwrap().len() < 3_000);
}

#[test]
fn a_stream_without_endpoints_keeps_those_that_were_told() {
    let mut state = State::default();
    let id = joined(&mut state, 1);
    let told = MapRequest {
        node_key: key(1),
        endpoints: vec!["192.0.2.1:1".parse().unwrap()],
        ..MapRequest::default()
    };
    state.hear(machine(1), &told, 900).unwrap();
    state
        .hear(machine(1), &MapRequest { stream: true, node_key: key(1), ..MapRequest::default() }, 900)
        .unwrap();
    assert_eq!(state.nodes()[&id].endpoints, told.endpoints);
    state.hear(machine(1), &MapRequest { node_key: key(1), ..MapRequest::default() }, 900).unwrap();
    assert!(state.nodes()[&id].endpoints.is_empty());
}

proptest! {
    #[test]
    fn whatever_is_asked_in_whatever_order_no_two_nodes_share_anything(
        steps in proptest::collection::vec((0..6_u8, 1..5_u8, 1..5_u8, 1..5_u8), 0..60)
    ) {
        let mut state = State::default();
        let text = join_key(&mut state, JoinKeySpec { uses: Some(3), ..JoinKeySpec::default() });
        let mut highest = 0;
        for (kind, who, node, old) in steps {
            let mut asked = request(node, (kind < 3).then_some(text.as_str()));
            match kind {
                3 => asked.old_node_key = key(old),
                4 => asked.expiry = Some(Timestamp(1)),
                5 => { let _ = state.delete(NodeId(node.into())); continue }
                _ => {}
            }
            let _ = ask(&mut state, who, &asked, NOW);
            let nodes = state.nodes();
            let distinct = |field: &dyn Fn(&NodeRecord) -> String| {
                nodes.values().map(|node| field(node)).collect::<BTreeSet<_>>().len() == nodes.len()
            };
            prop_assert!(distinct(&|node| node.key.to_string()));
            prop_assert!(distinct(&|node| node.machine.to_string()));
            prop_assert!(distinct(&|node| node.name.clone()));
            prop_assert!(distinct(&|node| node.v4.to_string()) && distinct(&|node| node.v6.to_string()));
            let last = nodes.keys().next_back().map_or(0, |id| id.0);
            prop_assert!(nodes.len() <= 4 && last < state.counters.next_node && highest <= state.counters.next_node);
            highest = state.counters.next_node;
            for node in nodes.values() {
                prop_assert_eq!(state.node_by_key(node.key).map(|found| found.id), Some(node.id));
                prop_assert_eq!(state.node_of_machine(node.machine).map(|found| found.id), Some(node.id));
            }
        }
    }
}
