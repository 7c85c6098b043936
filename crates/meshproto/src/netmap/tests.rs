use super::*;
use crate::{
    control::{MapResponse, PeerChange},
    filter::{Begin, TCP},
    limits,
};
use proptest::prelude::*;
use std::time::Duration;

const NOW: Timestamp = Timestamp(1_795_348_800_000);

fn node(id: i64) -> Node {
    let byte = u8::try_from(id).unwrap();
    Node {
        id: NodeId(id),
        key: NodeKey::new([byte; 32]),
        name: format!("n{id}.mesh."),
        addresses: vec![Prefix::host([100, 64, 0, byte].into())],
        ..Node::default()
    }
}

fn first(peers: impl IntoIterator<Item = i64>) -> MapResponse {
    MapResponse {
        node: Some(Box::new(node(1))),
        peers: peers.into_iter().map(node).collect(),
        domain: "mesh".to_owned(),
        ..MapResponse::default()
    }
}

fn map(peers: impl IntoIterator<Item = i64>) -> NetMap {
    merged(None, &first(peers), Place::First).unwrap()
}

fn merged(former: Option<&NetMap>, response: &MapResponse, place: Place) -> Result<NetMap, Refusal> {
    match NetMap::merge(former, response, place, NOW)? {
        Outcome::Map(map) => Ok(*map),
        Outcome::Alive => panic!("alive"),
    }
}

fn later(former: &NetMap, response: &MapResponse) -> Result<NetMap, Refusal> {
    merged(Some(former), response, Place::Later)
}

fn changed(peer: Node) -> MapResponse {
    MapResponse { peers_changed: vec![peer], ..MapResponse::default() }
}

fn patched(change: PeerChange) -> MapResponse {
    MapResponse { peers_changed_patch: vec![change], ..MapResponse::default() }
}

fn ids(map: &NetMap) -> Vec<i64> {
    map.peers.keys().map(|id| id.0).collect()
}

#[test]
fn a_map_without_the_node_itself_is_refused() {
    assert_eq!(merged(None, &MapResponse::default(), Place::First), Err(Refusal::NoSelf));
    assert_eq!(merged(None, &first([2]), Place::Later), Err(Refusal::NoSelf));
}

#[test]
fn two_peers_with_one_key_are_refused_however_they_come() {
    let former = map([2, 3]);
    let twin = Node { key: NodeKey::new([2; 32]), ..node(4) };
    assert_eq!(later(&former, &changed(twin)), Err(Refusal::SameKey(NodeId(2), NodeId(4))));
    let change = PeerChange { node_id: NodeId(3), key: Some(NodeKey::new([2; 32])), ..PeerChange::default() };
    assert_eq!(later(&former, &patched(change)), Err(Refusal::SameKey(NodeId(2), NodeId(3))));
    let own = Node { key: NodeKey::new([1; 32]), ..node(4) };
    assert_eq!(later(&former, &changed(own)), Err(Refusal::SameKey(NodeId(4), NodeId(1))));
}

#[test]
fn two_nodes_with_one_number_are_refused() {
    let mut twice = first([2]);
    twice.peers.push(Node { key: NodeKey::new([9; 32]), addresses: Vec::new(), ..node(2) });
    assert_eq!(merged(None, &twice, Place::First), Err(Refusal::SameId(NodeId(2))));
    let own = Node { key: NodeKey::new([9; 32]), addresses: Vec::new(), ..node(1) };
    assert_eq!(later(&map([2]), &changed(own)), Err(Refusal::SameId(NodeId(1))));
}

#[test]
fn a_node_without_a_number_or_a_key_is_refused() {
    let keyless = Node { key: NodeKey::default(), ..node(4) };
    assert_eq!(later(&map([2]), &changed(keyless)), Err(Refusal::Nameless(NodeId(4))));
    let numberless = Node { id: NodeId(0), ..node(4) };
    assert_eq!(later(&map([2]), &changed(numberless)), Err(Refusal::Nameless(NodeId(0))));
}

#[test]
fn a_peer_with_anothers_address_is_refused() {
    let former = map([2, 3]);
    let address = node(2).addresses[0];
    let thief = Node { addresses: vec![address], ..node(4) };
    assert_eq!(later(&former, &changed(thief)), Err(Refusal::SameAddress(NodeId(2), NodeId(4), address)));
    let own = Node { addresses: node(1).addresses, ..node(4) };
    assert!(matches!(later(&former, &changed(own)), Err(Refusal::SameAddress(..))));
    let sender = Node { allowed_ips: Some(vec![address]), ..node(4) };
    assert_eq!(later(&former, &changed(sender)), Err(Refusal::SameAddress(NodeId(2), NodeId(4), address)));
    let wide = Node { addresses: vec!["100.64.0.0/16".parse().unwrap()], ..node(4) };
    assert!(matches!(later(&former, &changed(wide)), Err(Refusal::NotOneAddress(NodeId(4), _))));
}

#[test]
fn a_route_that_holds_anothers_address_is_no_contradiction() {
    let exit = Node { allowed_ips: Some(vec![node(4).addresses[0], Prefix::ALL_V4]), ..node(4) };
    assert_eq!(ids(&later(&map([2, 3]), &changed(exit)).unwrap()), [2, 3, 4]);
}

#[test]
fn a_refused_response_leaves_the_former_map_as_it_was() {
    let former = map([2, 3]);
    let before = former.clone();
    let mut bad = changed(Node { key: NodeKey::new([2; 32]), ..node(4) });
    bad.domain = "other".to_owned();
    bad.online_change = [(NodeId(2), true)].into();
    assert!(later(&former, &bad).is_err());
    assert_eq!(former, before);
}

#[test]
fn more_peers_than_a_map_may_have_are_refused() {
    let peer = |id: usize| Node {
        id: NodeId(i64::try_from(id).unwrap()),
        key: NodeKey::new(std::array::from_fn(|at| id.to_be_bytes().get(at).copied().unwrap_or(1))),
        ..Node::default()
    };
    let mut response = first([]);
    response.peers = (2..limits::PEERS + 2).map(peer).collect();
    let full = merged(None, &response, Place::First).unwrap();
    assert_eq!(later(&full, &changed(peer(limits::PEERS + 2))), Err(Refusal::TooMany("peers")));
}

#[test]
fn a_sign_of_life_changes_nothing() {
    let outcome = NetMap::merge(None, &MapResponse::alive(), Place::Later, NOW);
    assert_eq!(outcome, Ok(Outcome::Alive));
}

#[test]
fn no_peers_mean_none_at_first_and_unchanged_later() {
    let former = map([2, 3]);
    assert_eq!(ids(&later(&former, &first([])).unwrap()), [2, 3]);
    assert!(ids(&merged(Some(&former), &first([]), Place::First).unwrap()).is_empty());
    assert_eq!(ids(&later(&former, &first([5])).unwrap()), [5]);
}

#[test]
fn peers_come_change_and_go() {
    let mut response = changed(Node { name: "new.mesh.".to_owned(), ..node(3) });
    response.peers_changed.push(node(4));
    response.peers_removed = vec![NodeId(2), NodeId(99)];
    let map = later(&map([2, 3]), &response).unwrap();
    assert_eq!(ids(&map), [3, 4]);
    assert_eq!(map.peers[&NodeId(3)].name, "new.mesh.");
}

#[test]
fn two_peers_may_change_keys_with_each_other_in_one_response() {
    let mut response = changed(Node { key: NodeKey::new([3; 32]), ..node(2) });
    response.peers_changed.push(Node { key: NodeKey::new([2; 32]), ..node(3) });
    let map = later(&map([2, 3]), &response).unwrap();
    assert_eq!(map.peer_by_key(NodeKey::new([3; 32])).unwrap().id, NodeId(2));
}

#[test]
fn a_patch_changes_what_it_names_and_nothing_else() {
    let former = map([2, 3]);
    let change = PeerChange {
        node_id: NodeId(2),
        derp_region: 900,
        endpoints: Some(vec!["192.0.2.1:1".parse().unwrap()]),
        online: Some(true),
        key_expiry: Some(NOW),
        ..PeerChange::default()
    };
    let map = later(&former, &patched(change)).unwrap();
    let mut expected = node(2);
    expected.set_home(900);
    expected.endpoints = vec!["192.0.2.1:1".parse().unwrap()];
    expected.online = Some(true);
    expected.key_expiry = Some(NOW);
    assert_eq!(*map.peers[&NodeId(2)], expected);
    assert_eq!(map.peers[&NodeId(3)], former.peers[&NodeId(3)]);
    let nobody = PeerChange { node_id: NodeId(9), online: Some(true), ..PeerChange::default() };
    assert_eq!(later(&former, &patched(nobody)).unwrap(), former);
    let emptied = PeerChange { node_id: NodeId(2), endpoints: Some(Vec::new()), ..PeerChange::default() };
    assert!(later(&map, &patched(emptied)).unwrap().peers[&NodeId(2)].endpoints.is_empty());
}

#[test]
fn who_is_seen_and_who_is_there_are_kept_apart() {
    let response = MapResponse {
        peer_seen_change: [(NodeId(2), true), (NodeId(3), false)].into(),
        online_change: [(NodeId(3), false), (NodeId(7), true)].into(),
        ..MapResponse::default()
    };
    let map = later(&map([2, 3]), &response).unwrap();
    let seen = |id| (map.peers[&NodeId(id)].last_seen, map.peers[&NodeId(id)].online);
    assert_eq!((seen(2), seen(3)), ((Some(NOW), None), (None, Some(false))));
}

#[test]
fn filters_are_merged_by_name() {
    let rule = |source: &str| vec![FilterRule { src_ips: vec![source.to_owned()], ..FilterRule::default() }];
    let filters = |all: &[(&str, Option<&str>)]| MapResponse {
        packet_filters: all.iter().map(|(name, source)| ((*name).to_owned(), source.map(rule))).collect(),
        ..MapResponse::default()
    };
    let names = |map: &NetMap| map.filters.keys().cloned().collect::<Vec<_>>();
    let start = map([2]);
    assert!(names(&start).is_empty());
    let both = later(&start, &filters(&[("a", Some("*")), ("b", Some("*"))])).unwrap();
    let less = later(&both, &filters(&[("a", None)])).unwrap();
    assert_eq!((names(&both), names(&less)), (vec!["a".to_owned(), "b".to_owned()], vec!["b".to_owned()]));
    let cleared = later(&both, &filters(&[("*", None), ("c", Some("10.0.0.1"))])).unwrap();
    assert_eq!(names(&cleared), ["c"]);
    let old = MapResponse { packet_filter: Some(rule("*")), ..MapResponse::default() };
    assert_eq!(names(&later(&both, &old).unwrap()), ["a", "b", "base"]);
    let none = MapResponse { packet_filter: Some(Vec::new()), ..MapResponse::default() };
    assert!(later(&start, &none).unwrap().filters["base"].is_empty());
    let new_stream = merged(Some(&both), &first([2]), Place::First).unwrap();
    assert!(names(&new_stream).is_empty(), "a new stream begins without filters");
}

#[test]
fn a_map_without_filters_refuses_everything() {
    let begin =
        Begin { protocol: TCP, source: [100, 64, 0, 2].into(), target: [100, 64, 0, 1].into(), port: 22 };
    assert!(!map([2]).filter().0.allows(&begin, |_| true));
}

#[test]
fn what_a_response_leaves_out_is_unchanged() {
    let former = map([2]);
    assert_eq!(later(&former, &MapResponse::default()).unwrap(), former);
}

#[test]
fn relays_go_on_when_none_are_named() {
    let relays = DerpMap { regions: [(900, None)].into(), ..DerpMap::default() };
    let with =
        later(&map([2]), &MapResponse { derp_map: Some(relays.clone()), ..MapResponse::default() }).unwrap();
    let empty = MapResponse { derp_map: Some(DerpMap::default()), ..MapResponse::default() };
    assert_eq!(*later(&with, &empty).unwrap().derp_map, relays);
    assert_eq!(*merged(Some(&with), &first([2]), Place::First).unwrap().derp_map, relays);
}

#[test]
fn a_key_expires_by_the_coordinators_clock() {
    let mut response = first([2]);
    response.peers.push(Node { key_expiry: Some(NOW.plus(Duration::from_secs(600))), ..node(3) });
    let agreed = merged(None, &response, Place::First).unwrap();
    let live = |map: &NetMap, now| map.live_peers(now).map(|peer| peer.id.0).collect::<Vec<_>>();
    assert_eq!(live(&agreed, NOW), [2, 3]);
    assert_eq!(live(&agreed, NOW.plus(Duration::from_secs(600))), [2]);
    assert_eq!(agreed.next_expiry(NOW), Some(NOW.plus(Duration::from_secs(600))));
    response.control_time = Some(NOW.plus(Duration::from_secs(599)));
    let ahead = merged(None, &response, Place::First).unwrap();
    assert_eq!((live(&ahead, NOW), live(&ahead, NOW.plus(Duration::from_secs(1)))), (vec![2, 3], vec![2]));
    assert_eq!(ahead.next_expiry(NOW), Some(NOW.plus(Duration::from_secs(1))));
    response.control_time = Some(NOW.plus(Duration::from_secs(59)));
    assert_eq!(merged(None, &response, Place::First).unwrap().clock_ahead, 0);
    response.control_time = Some(NOW.minus(Duration::from_secs(3600)));
    assert_eq!(merged(None, &response, Place::First).unwrap().clock_ahead, -3_600_000);
}

#[test]
fn an_address_finds_its_peer_and_a_route_finds_nobody() {
    let exit = Node { allowed_ips: Some(vec![node(4).addresses[0], Prefix::ALL_V4]), ..node(4) };
    let map = later(&map([2]), &changed(exit)).unwrap();
    assert_eq!(map.peer_by_address([100, 64, 0, 4].into()).unwrap().id, NodeId(4));
    assert_eq!(map.peer_by_address([100, 64, 0, 9].into()), None);
}

fn stored() -> StoredMap {
    let mut response = first([2, 3]);
    response.packet_filters = [("base".to_owned(), Some(vec![FilterRule::default()]))].into();
    response.user_profiles = vec![UserProfile { id: UserId(1), ..UserProfile::default() }];
    response.derp_map = Some(DerpMap { regions: [(900, None)].into(), ..DerpMap::default() });
    StoredMap { map: merged(None, &response, Place::First).unwrap(), heard_at: NOW }
}

#[test]
fn a_stored_map_of_a_newer_format_or_a_broken_one_is_an_error() {
    let text = String::from_utf8(stored().write().unwrap()).unwrap();
    let newer = text.replace("\"format\":1", "\"format\":2");
    assert_eq!(StoredMap::read(newer.as_bytes()), Err(StoredMapError::Format(2)));
    assert_eq!(StoredMap::read(b"{}"), Err(StoredMapError::Format(0)));
    for cut in [1, 10, text.len() / 2, text.len()] {
        assert!(matches!(
            StoredMap::read(&text.as_bytes()[..text.len() - cut]),
            Err(StoredMapError::Json(_))
        ));
    }
    assert!(matches!(StoredMap::read(b"{\"format\":1}"), Err(StoredMapError::Json(_))));
}

#[test]
fn a_stored_map_that_contradicts_itself_is_an_error() {
    let mut stored = stored();
    let twin = Node { key: NodeKey::new([2; 32]), ..node(3) };
    stored.map.peers.insert(NodeId(3), Arc::new(twin));
    let text = stored.write().unwrap();
    assert!(matches!(StoredMap::read(&text), Err(StoredMapError::Refused(Refusal::SameKey(..)))));
}

/// Whoever changes the format adds a file and keeps this one: the format before is read by its successor.
#[test]
fn a_stored_map_of_format_1_is_read_as_it_was_written() {
    let fixture = include_bytes!("../../tests/fixtures/stored.format-1.json");
    assert_eq!(StoredMap::read(fixture), Ok(stored()));
    let json = |text: &[u8]| serde_json::from_slice::<serde_json::Value>(text).unwrap();
    assert_eq!(json(&stored().write().unwrap()), json(fixture), "a changed layout takes a new number");
}

#[test]
fn a_stored_map_is_the_same_again() {
    let stored = stored();
    assert_eq!(StoredMap::read(&stored.write().unwrap()), Ok(stored));
}

#[test]
fn a_stored_map_is_used_for_fourteen_days() {
    let stored = stored();
    assert!(stored.is_usable(NOW.plus(MOST_AGE)) && stored.is_usable(NOW.minus(MOST_AGE)));
    assert!(!stored.is_usable(NOW.plus(MOST_AGE).plus(Duration::from_millis(1))));
}

proptest! {
    #[test]
    fn no_merge_makes_a_map_that_contradicts_itself(
        steps in proptest::collection::vec((2..8_i64, 2..8_u8, 2..8_u8, any::<bool>()), 0..30)
    ) {
        let mut map = map([2, 3, 4]);
        for (id, key, address, removes) in steps {
            let peer = Node {
                key: NodeKey::new([key; 32]),
                addresses: vec![Prefix::host([100, 64, 0, address].into())],
                ..node(id)
            };
            let mut response = changed(peer);
            if removes {
                response.peers_removed = vec![NodeId(i64::from(key))];
            }
            if let Ok(next) = later(&map, &response) {
                map = next;
            }
            let mut keys: Vec<_> = map.peers.values().map(|peer| peer.key).collect();
            let mut addresses: Vec<_> = map.peers.values().flat_map(|peer| peer.addresses.clone()).collect();
            let count = map.peers.len();
            keys.sort_unstable();
            keys.dedup();
            addresses.sort_unstable();
            addresses.dedup();
            prop_assert_eq!((keys.len(), addresses.len()), (count, count));
        }
    }
}
