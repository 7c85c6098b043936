use super::world::{REGION, START, World, key};
use crate::{
    Identity,
    engine::{
        Engine, Output,
        wireguard::{Boring, Tunnel as _},
    },
    packet::tests::datagram,
};
use allod_meshproto::{
    Prefix,
    control::{DerpMap, DerpRegion},
    netmap::MOST_AGE,
};
use ring::rand::SystemRandom;
use std::{sync::Arc, time::Duration};

#[test]
fn without_a_map_there_is_nobody() {
    let world = World::new(2);
    let random = Arc::new(SystemRandom::new());
    let mut engine = Engine::new(Identity::generate(random.as_ref()).unwrap(), random);
    engine.on_ip(world.now, &datagram([100, 64, 0, 1].into(), 1, [100, 64, 0, 2].into(), 7, b"x"));
    engine.tick(world.now);
    assert_eq!((engine.addresses().count(), engine.who_is([100, 64, 0, 2].into())), (0, None));
}

#[test]
fn a_map_for_another_key_makes_nobody_a_peer() {
    let mut world = World::new(2);
    let map = world.map(1);
    world.hosts[0].engine.on_map(START, &map, START);
    assert_eq!(world.hosts[0].engine.addresses().count(), 0);
    assert!(world.echo(0, 1, 1_000).is_none());
}

#[test]
fn a_peer_whose_key_expires_is_cut_off_though_the_coordinator_is_away() {
    let mut world = World::new(2);
    world.control_is_up = false;
    let mut map = world.map(0);
    let peer = map.peers.values_mut().next().unwrap();
    Arc::make_mut(peer).key_expiry = Some(world.now.plus(Duration::from_secs(10)));
    let now = world.now;
    world.hosts[0].engine.on_map(now, &map, now);
    assert!(world.echo(0, 1, 1_000).is_some());
    world.run(10_500);
    assert!(world.echo(0, 1, 1_000).is_none());
    assert_eq!(world.hosts[0].engine.who_is([100, 64, 0, 2].into()), None);
}

#[test]
fn a_stored_map_is_used_for_fourteen_days_and_no_longer() {
    let mut world = World::new(2);
    world.control_is_up = false;
    let map = world.map(0);
    let heard_at = world.now.minus(MOST_AGE).plus(Duration::from_secs(10));
    let now = world.now;
    world.hosts[0].engine.on_map(now, &map, heard_at);
    assert!(world.echo(0, 1, 1_000).is_some());
    world.run(10_500);
    assert!(world.echo(0, 1, 1_000).is_none());
}

#[test]
fn when_this_nodes_own_key_expires_it_talks_to_nobody() {
    let mut world = World::new(2);
    world.control_is_up = false;
    let mut map = world.map(0);
    Arc::make_mut(&mut map.me).key_expiry = Some(world.now.plus(Duration::from_secs(10)));
    let now = world.now;
    world.hosts[0].engine.on_map(now, &map, now);
    assert!(world.echo(0, 1, 1_000).is_some());
    world.run(10_500);
    assert!(world.echo(0, 1, 1_000).is_none());
}

#[test]
fn a_peer_that_started_anew_gets_a_new_session_with_the_next_packet() {
    let mut world = World::new(2);
    assert!(world.echo(0, 1, 1_000).is_some());
    world.run(1_000);
    let kinds = |world: &mut World| {
        let packet = datagram(world.hosts[0].mesh, 1, world.hosts[1].mesh, 7, b"x");
        world.hosts[0].engine.on_ip(world.now, &packet);
        let mut kinds = Vec::new();
        while let Some(output) = world.hosts[0].engine.next_output() {
            if let Output::Udp { datagram, .. } | Output::Relay { packet: datagram, .. } = output {
                kinds.push(datagram[0]);
            }
        }
        kinds
    };
    assert_eq!(kinds(&mut world), [4], "data of the session that there is");
    world.hosts[1].identity.disco = Identity::generate(&SystemRandom::new()).unwrap().disco;
    world.publish();
    assert_eq!(kinds(&mut world).last(), Some(&1), "a handshake");
}

#[test]
fn a_map_whose_peers_claim_one_address_gives_it_to_neither() {
    let mut world = World::new(3);
    world.control_is_up = false;
    let mut map = world.map(0);
    for peer in map.peers.values_mut() {
        Arc::make_mut(peer).addresses = vec![Prefix::host([100, 64, 0, 2].into())];
    }
    let now = world.now;
    world.hosts[0].engine.on_map(now, &map, now);
    assert!(world.echo(0, 1, 2_000).is_none());
    assert_eq!(world.hosts[0].engine.who_is([100, 64, 0, 2].into()), None);
    world.send_echo(1, 0, *b"from one");
    world.send_echo(2, 0, *b"from two");
    world.run(2_000);
    assert!(world.hosts[0].received.is_empty());
}

#[test]
fn a_peer_is_known_by_its_own_address() {
    let world = World::new(2);
    let found = world.hosts[0].engine.who_is([100, 64, 0, 2].into()).unwrap();
    assert_eq!(found.key, key(&world.hosts[1].identity));
    assert_eq!(world.hosts[0].engine.who_is([100, 64, 0, 9].into()), None);
}

#[test]
fn a_map_without_rules_lets_replies_in_and_nothing_else() {
    let mut world = World::new(2);
    world.control_is_up = false;
    let mut map = world.map(0);
    map.filters.clear();
    let now = world.now;
    world.hosts[0].engine.on_map(now, &map, now);
    assert!(world.echo(0, 1, 1_000).is_some());
    world.hosts[0].received.clear();
    world.send_echo(1, 0, *b"uncalled");
    world.run(1_000);
    assert!(world.hosts[0].received.is_empty());
}

/// Where a handshake of the peer is answered that came through region 901, when its home is this.
fn answered_in(home: u32) -> Vec<u32> {
    let mut world = World::new(2);
    let mut map = world.map(0);
    let mut relays = DerpMap::default();
    for id in [REGION, 901] {
        relays.regions.insert(id, Some(DerpRegion { region_id: id, ..DerpRegion::default() }));
    }
    map.derp_map = Arc::new(relays);
    Arc::make_mut(map.peers.values_mut().next().unwrap()).set_home(home);
    let (now, peer) = (world.now, world.hosts[1].identity.clone());
    let init = Boring::new(&peer.node, key(&world.hosts[0].identity), 1).begin().unwrap();
    let engine = &mut world.hosts[0].engine;
    engine.on_map(now, &map, now);
    engine.on_relay(now, 901, key(&peer), &init);
    let outputs = std::iter::from_fn(|| engine.next_output());
    outputs
        .filter_map(|output| if let Output::Relay { region, .. } = output { Some(region) } else { None })
        .collect()
}

#[test]
fn a_peer_is_reached_through_its_home_and_without_one_where_it_was_heard() {
    assert_eq!(answered_in(REGION), [REGION]);
    assert_eq!(answered_in(0), [901]);
    assert_eq!(answered_in(77), [901], "a region that is not in the map is no home");
}
