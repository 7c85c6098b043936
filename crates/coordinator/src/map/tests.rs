use super::*;
use crate::{
    keys::Keys,
    policy::Policy,
    settings::RelaySettings,
    state::{Asked, JoinKeySpec, State},
    store::Draft,
    view::Viewer,
};
use allod_meshproto::{
    DiscoKey, MachineKey, NodeKey,
    control::{Hostinfo, MapRequest, RegisterAuth, RegisterRequest},
    netmap::{NetMap, Outcome, Place},
};
use proptest::prelude::*;
use ring::rand::SystemRandom;
use std::{net::Ipv4Addr, path::PathBuf};

pub(super) const NOW: Timestamp = Timestamp(1_800_000_000_000);

pub(super) fn mapper() -> Mapper {
    let relay = RelaySettings {
        region: 900,
        name: "own".to_owned(),
        host: "192.0.2.1".to_owned(),
        port: 443,
        stun_port: Some(3478),
    };
    let (folder, url) = (PathBuf::new(), "http://192.0.2.1".to_owned());
    Mapper::new(Settings {
        folder,
        url,
        domain: "mesh.internal".to_owned(),
        relay,
        tls: None,
        first_policy: Policy::default(),
    })
}

pub(super) struct World {
    pub(super) draft: Draft,
    pub(super) viewer: Viewer,
    join_key: String,
}

impl World {
    pub(super) fn new() -> Self {
        let mut state = State::default();
        let (_, text) = state.create_join_key(JoinKeySpec::default(), NOW, &SystemRandom::new()).unwrap();
        let keys = Arc::new(Keys::generate(&SystemRandom::new(), NOW).unwrap().0);
        let draft = Draft { state, keys };
        let viewer = Viewer::new(&draft, NOW);
        Self { draft, viewer, join_key: text.as_str().to_owned() }
    }

    pub(super) fn join(&mut self, number: u8, app: &str) {
        let request = RegisterRequest {
            node_key: NodeKey::new([number; 32]),
            auth: Some(RegisterAuth { auth_key: self.join_key.clone() }),
            hostinfo: Some(Hostinfo { app: app.to_owned(), hostname: "n".to_owned(), ..Hostinfo::default() }),
            ..RegisterRequest::default()
        };
        let asked = Asked {
            machine: MachineKey::new([number; 32]),
            source: Ipv4Addr::LOCALHOST.into(),
            request: &request,
            fresh_id: String::new(),
        };
        self.draft.state.register(&asked, NOW).unwrap();
    }

    pub(super) fn policy(&mut self, text: &str) {
        self.draft.state.set_policy(Policy::parse(text).unwrap()).unwrap();
    }

    pub(super) fn view(&self, now: Timestamp) -> Arc<View> {
        self.viewer.stored(&self.draft, true, now);
        self.viewer.now()
    }
}

pub(super) const ALL: &str = r#"{"allow":[{"from":["*"],"to":["*"],"ports":["*"]}]}"#;

#[test]
fn a_relay_without_tls_is_told_to_nodes_of_ours_only() {
    let mut world = World::new();
    world.join(1, "allod");
    world.join(2, "");
    let view = world.view(NOW);
    let relays = |id| mapper().full(&view, NodeId(id), NOW).unwrap().derp_map.unwrap();
    assert!(relays(2).regions.is_empty() && relays(2).omit_default_regions);
    let ours = relays(1);
    let relay = &ours.regions[&900].as_ref().unwrap().nodes[0];
    assert!(relay.is_plain());
    assert_eq!((relay.derp(), relay.stun()), (Some(443), Some(3478)));
}

#[test]
fn without_a_rule_a_node_hears_of_nobody() {
    let mut world = World::new();
    world.join(1, "");
    world.join(2, "");
    let view = world.view(NOW);
    let map = mapper().full(&view, NodeId(1), NOW).unwrap();
    assert_eq!(map.peers, []);
    assert_eq!(map.packet_filters["base"], Some(Vec::new()), "and refuses everything");
    assert!(map.node.unwrap().cap_map.contains_key("cache-network-maps"));
}

#[test]
fn a_move_of_a_peer_is_a_patch_and_what_concerns_nobody_is_not_told() {
    let mut world = World::new();
    world.policy(ALL);
    (1..=3).for_each(|number| world.join(number, ""));
    let before = world.view(NOW);
    let moved = MapRequest {
        node_key: NodeKey::new([2; 32]),
        endpoints: vec!["192.0.2.9:41641".parse().unwrap()],
        ..MapRequest::default()
    };
    world.draft.state.hear(MachineKey::new([2; 32]), &moved, 900).unwrap();
    let after = world.view(NOW);
    let delta = mapper().delta(&before, &after, NodeId(1)).unwrap();
    assert_eq!((delta.peers_changed.len(), delta.peers_changed_patch.len()), (0, 1));
    assert_eq!(delta.peers_changed_patch[0].endpoints, Some(moved.endpoints));
    world.draft.state.create_join_key(JoinKeySpec::default(), NOW, &SystemRandom::new()).unwrap();
    let later = world.view(NOW);
    assert_eq!(mapper().delta(&after, &later, NodeId(1)), None);
}

#[test]
fn a_node_that_expires_is_told_and_gone_for_the_others() {
    let mut world = World::new();
    world.policy(ALL);
    (1..=2).for_each(|number| world.join(number, ""));
    let soon = NOW.plus(std::time::Duration::from_secs(60));
    world.draft.state.set_expiry(NodeId(2), Some(soon)).unwrap();
    let before = world.view(NOW);
    world.viewer.tick(soon);
    let after = world.viewer.now();
    assert_eq!(mapper().delta(&before, &after, NodeId(1)).unwrap().peers_removed, [NodeId(2)]);
    let own = mapper().delta(&before, &after, NodeId(2)).unwrap();
    assert!(own.node.unwrap().expired && own.peers_removed == [NodeId(1)]);
    assert_eq!(own.packet_filters["base"], Some(Vec::new()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn a_map_and_its_deltas_add_up_to_the_map_of_now(
        steps in proptest::collection::vec((0..9_u8, 1..6_u8, any::<bool>()), 1..30)
    ) {
        let mapper = mapper();
        let mut world = World::new();
        world.join(1, "allod");
        let mut told = world.view(NOW);
        let first = mapper.full(&told, NodeId(1), NOW).unwrap();
        let Outcome::Map(mut map) = NetMap::merge(None, &first, Place::First, NOW).unwrap() else { panic!() };
        for (kind, number, is_told) in steps {
            let id = NodeId(number.into());
            let (machine, node_key) = (MachineKey::new([number; 32]), NodeKey::new([number; 32]));
            match kind {
                0 | 1 => world.join(number, ""),
                2 => world.policy(ALL),
                3 => world.policy(r#"{"allow":[{"from":["tag:a"],"to":["n","n-1"],"ports":["22"]}]}"#),
                4 => drop(world.draft.state.set_tags(id, vec!["tag:a".to_owned()])),
                5 if number != 1 => drop(world.draft.state.delete(id)),
                6 => drop(world.draft.state.hear(machine, &MapRequest {
                    node_key, disco_key: DiscoKey::new([number; 32]),
                    endpoints: vec![(Ipv4Addr::LOCALHOST, number.into()).into()], ..MapRequest::default()
                }, 900)),
                7 => { world.viewer.stored(&world.draft, true, NOW); world.viewer.set_online(id, is_told) }
                _ => drop(world.draft.state.set_expiry(id, is_told.then_some(NOW))),
            }
            let view = world.view(NOW);
            if !is_told { continue }
            if let Some(delta) = mapper.delta(&told, &view, NodeId(1)) {
                let Outcome::Map(merged) = NetMap::merge(Some(&map), &delta, Place::Later, NOW).unwrap() else { panic!() };
                map = merged;
            }
            told = view;
            let now = mapper.full(&told, NodeId(1), NOW).unwrap();
            let Outcome::Map(whole) = NetMap::merge(None, &now, Place::First, NOW).unwrap() else { panic!() };
            prop_assert_eq!(&map.me, &whole.me);
            prop_assert_eq!(map.peers.keys().collect::<Vec<_>>(), whole.peers.keys().collect::<Vec<_>>());
            for (one, other) in map.peers.values().zip(whole.peers.values()) {
                let (mut one, mut other) = (one.as_ref().clone(), other.as_ref().clone());
                // When a peer was last there is told when it goes, and then again with the next change.
                (one.last_seen, other.last_seen) = (None, None);
                prop_assert_eq!(one, other);
            }
            prop_assert_eq!(&map.filters, &whole.filters);
        }
    }
}
