use super::world::{REGION, World, key};
use crate::{
    Identity,
    engine::{
        Output, Route, discovery, path,
        wireguard::{Boring, Tunnel as _},
    },
};
use allod_meshproto::{
    NodeKey,
    disco::{DiscoBox, Message, Opened},
};
use ring::rand::SystemRandom;
use std::net::{IpAddr, SocketAddr};

fn at(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn ping(sender: &Identity, receiver: &Identity, node: NodeKey) -> Vec<u8> {
    let message = Message::Ping { transaction: [7; 12], node: Some(node), padding: 0 };
    DiscoBox::new(&sender.disco, receiver.disco.public()).seal(&message, &SystemRandom::new()).unwrap()
}

fn outputs(world: &mut World, at: usize) -> Vec<Output> {
    std::iter::from_fn(|| world.hosts[at].engine.next_output()).collect()
}

#[test]
fn a_ping_of_a_stranger_and_one_that_was_changed_are_not_answered() {
    let mut world = World::new(2);
    let stranger = Identity::generate(&SystemRandom::new()).unwrap();
    let (me, peer) = (world.hosts[0].identity.clone(), world.hosts[1].identity.clone());
    let mut changed = ping(&peer, &me, key(&peer));
    *changed.last_mut().unwrap() ^= 1;
    for datagram in [ping(&stranger, &me, key(&stranger)), ping(&stranger, &me, key(&peer)), changed] {
        world.hosts[0].engine.on_udp(world.now, at("203.0.113.9:5"), &datagram);
        assert_eq!(outputs(&mut world, 0), []);
    }
}

#[test]
fn a_peers_ping_with_anothers_node_key_is_not_answered() {
    let mut world = World::new(3);
    let [me, liar, victim] = identities(&world);
    world.hosts[0].engine.on_udp(world.now, at("203.0.113.9:5"), &ping(&liar, &me, key(&victim)));
    assert_eq!(outputs(&mut world, 0), []);
    world.hosts[0].engine.on_relay(world.now, 900, key(&victim), &ping(&liar, &me, key(&liar)));
    assert!(!outputs(&mut world, 0).iter().any(|output| matches!(output, Output::Relay { .. })));
}

fn identities<const COUNT: usize>(world: &World) -> [Identity; COUNT] {
    std::array::from_fn(|at| world.hosts[at].identity.clone())
}

#[test]
fn a_pong_from_another_address_or_one_that_was_seen_before_makes_no_path() {
    let mut world = World::new(2);
    let (me, peer) = (world.hosts[0].identity.clone(), world.hosts[1].identity.clone());
    let peers_box = DiscoBox::new(&peer.disco, me.disco.public());
    (world.udp_is_up, world.relay_is_up) = (false, false);
    world.send_echo(0, 1, *b"discover");
    let ping =
        world.seen.iter().rev().find(|(from, to, _)| *from == 0 && *to == world.hosts[1].at).unwrap().clone();
    let Ok(Opened::Message(Message::Ping { transaction, .. })) = peers_box.open(&ping.2) else {
        panic!("no ping")
    };
    let pong = peers_box
        .seal(&Message::Pong { transaction, source: world.hosts[0].at }, &SystemRandom::new())
        .unwrap();
    world.forge_udp(at("203.0.113.9:5"), world.hosts[0].at, pong.clone());
    world.run(10);
    assert_eq!(world.route(0, 1), Route::Relay);
    let (right, me_at) = (world.hosts[1].at, world.hosts[0].at);
    world.forge_udp(right, me_at, pong.clone());
    world.run(10);
    assert_eq!(world.route(0, 1), Route::Direct(right));
    let before = world.now;
    while world.now.since(before) < path::TRUST {
        world.forge_udp(right, me_at, pong.clone());
        world.run(500);
    }
    assert!(!world.is_direct(0, 1), "a replayed pong keeps no path");
}

#[test]
fn a_relay_that_makes_packets_up_or_repeats_them_takes_no_path_away() {
    let mut world = World::new(2);
    assert!(world.echo(0, 1, 1_000).is_some());
    world.run(1_000);
    assert!(world.echo(0, 1, 1_000).is_some());
    let peer = key(&world.hosts[1].identity);
    let is_data = |(from, _, datagram): &&(usize, SocketAddr, Vec<u8>)| *from == 1 && datagram[0] == 4;
    let data = world.seen.iter().rev().find(is_data).unwrap().2.clone();
    let mut changed = data.clone();
    *changed.last_mut().unwrap() ^= 1;
    for packet in [data, changed, vec![4; 64], vec![0; 3], Vec::new()] {
        world.hosts[0].engine.on_relay(world.now, REGION, peer, &packet);
        assert!(world.is_direct(0, 1));
    }
}

#[test]
fn candidates_that_came_by_udp_or_for_another_are_not_pinged() {
    let mut world = World::new(3);
    let [me, liar, victim] = identities(&world);
    let call = Message::CallMeMaybe(vec![at("203.0.113.66:6")]);
    let call = DiscoBox::new(&liar.disco, me.disco.public()).seal(&call, &SystemRandom::new()).unwrap();
    let from = world.hosts[1].at;
    world.hosts[0].engine.on_udp(world.now, from, &call);
    world.hosts[0].engine.on_relay(world.now, 900, key(&victim), &call);
    assert_eq!(outputs(&mut world, 0), []);
    world.hosts[0].engine.on_relay(world.now, 900, key(&liar), &call);
    assert_eq!(outputs(&mut world, 0).len(), 1);
}

#[test]
fn a_peer_that_names_addresses_without_end_makes_this_node_ping_a_few() {
    let mut world = World::new(2);
    let (me, peer) = (world.hosts[0].identity.clone(), world.hosts[1].identity.clone());
    let seal = DiscoBox::new(&peer.disco, me.disco.public());
    let mut pings = 0;
    for round in 0..200_u8 {
        let candidates = (1..=64).map(|last| SocketAddr::from(([203, 0, round, last], 9))).collect();
        let call = seal.seal(&Message::CallMeMaybe(candidates), &SystemRandom::new()).unwrap();
        world.hosts[0].engine.on_relay(world.now, 900, key(&peer), &call);
        pings += outputs(&mut world, 0).len();
    }
    assert!(pings <= 32, "{pings} pings within one moment");
    assert!(world.hosts[0].engine.flights.len() <= discovery::FLIGHTS);
}

#[test]
fn no_addresses_that_nobody_has_are_pinged() {
    for bad in [
        "0.0.0.0:1",
        "224.0.0.1:1",
        "255.255.255.255:1",
        "192.0.2.1:0",
        "[ff02::1]:1",
        "[fd7a:115c:a1e0::1]:1",
    ] {
        assert!(!path::is_sensible(at(bad)), "{bad}");
    }
}

#[test]
fn bytes_of_every_length_and_kind_do_nothing() {
    let mut world = World::new(2);
    let (me, peer) = (world.hosts[0].identity.clone(), world.hosts[1].identity.clone());
    let handshake = Boring::new(&peer.node, key(&me), 1).begin().unwrap();
    let disco = ping(&peer, &me, key(&peer));
    for good in [handshake, disco, vec![4; 200], vec![0; 70_000]] {
        for end in
            (0..good.len().min(200)).chain([good.len()]).filter(|end| *end != good.len() || end > &1_000)
        {
            world.hosts[0].engine.on_udp(world.now, at("203.0.113.9:5"), &good[..end]);
            world.hosts[0].engine.on_relay(world.now, 900, key(&peer), &good[..end]);
            world.hosts[0].engine.on_ip(world.now, &good[..end]);
        }
    }
    assert_eq!(outputs(&mut world, 0), []);
}

#[test]
fn a_flood_of_handshakes_is_answered_sparingly_and_kept_nowhere() {
    let mut world = World::new(2);
    let (me, stranger) = (world.hosts[0].identity.clone(), Identity::generate(&SystemRandom::new()).unwrap());
    let mut tunnel = Boring::new(&stranger.node, key(&me), 1);
    for _ in 0..1_000 {
        let init = tunnel.begin().unwrap();
        world.hosts[0].engine.on_udp(world.now, at("203.0.113.9:5"), &init);
    }
    assert_eq!(outputs(&mut world, 0), [], "a stranger's handshake has no answer");
    let peer = world.hosts[1].identity.clone();
    let mut tunnel = Boring::new(&peer.node, key(&me), 1);
    for _ in 0..1_000 {
        let init = tunnel.begin().unwrap();
        world.hosts[0].engine.on_udp(world.now, at("203.0.113.10:5"), &init);
    }
    assert!(outputs(&mut world, 0).len() <= 40, "so many from one source a second, each way");
}

#[test]
fn under_load_a_new_source_must_prove_its_address() {
    let mut world = World::new(2);
    let (me, peer) = (world.hosts[0].identity.clone(), world.hosts[1].identity.clone());
    let mut tunnel = Boring::new(&peer.node, key(&me), 1);
    let mut cookies = 0;
    for round in 0..600_u32 {
        let from = SocketAddr::new(IpAddr::V4((0xcb00_7100 + round).into()), 5);
        world.hosts[0].engine.on_udp(world.now, from, &tunnel.begin().unwrap());
        let cookie = |output: &Output| matches!(output, Output::Udp { to, datagram } if *to == from && datagram.first() == Some(&3));
        cookies += outputs(&mut world, 0).iter().filter(|output| cookie(output)).count();
    }
    assert!(cookies > 100, "{cookies} cookies");
    let from = at("203.0.113.200:5");
    world.hosts[0].engine.on_udp(world.now, from, &tunnel.begin().unwrap());
    let [Output::Udp { datagram: cookie, .. }] = &outputs(&mut world, 0)[..] else { panic!("no cookie") };
    tunnel.open(cookie);
    world.hosts[0].engine.on_udp(world.now, from, &tunnel.begin().unwrap());
    let answers = outputs(&mut world, 0);
    let is_answer = |output: &Output| matches!(output, Output::Udp { to, datagram } if *to == from && datagram.first() == Some(&2));
    assert!(answers.iter().any(is_answer), "who brings the cookie gets in");
}

#[test]
fn a_packet_from_an_address_that_is_not_its_senders_is_dropped() {
    let mut world = World::new(3);
    assert!(world.echo(1, 0, 1_000).is_some());
    let mut map = world.map(1);
    let stolen = world.hosts[2].mesh;
    std::sync::Arc::make_mut(&mut map.me).addresses.push(allod_meshproto::Prefix::host(stolen));
    map.peers.retain(|_, peer| peer.key == key(&world.hosts[0].identity));
    let now = world.now;
    world.hosts[1].engine.on_map(now, &map, now);
    world.hosts[0].received.clear();
    let forged = crate::packet::tests::datagram(stolen, 1, world.hosts[0].mesh, 9, b"forged");
    world.hosts[1].engine.on_ip(now, &forged);
    world.drain(1);
    world.run(1_000);
    assert!(world.hosts[0].received.is_empty());
    let honest = crate::packet::tests::datagram(world.hosts[1].mesh, 1, world.hosts[0].mesh, 9, b"honest");
    world.hosts[1].engine.on_ip(world.now, &honest);
    world.drain(1);
    world.run(1_000);
    assert_eq!(world.hosts[0].received.len(), 1);
}

#[test]
fn a_handshake_through_a_relay_must_be_of_whom_the_relay_names() {
    let mut world = World::new(3);
    let [me, liar, victim] = identities(&world);
    let init = Boring::new(&liar.node, key(&me), 1).begin().unwrap();
    world.hosts[0].engine.on_relay(world.now, 900, key(&victim), &init);
    assert_eq!(outputs(&mut world, 0), []);
    world.hosts[0].engine.on_relay(world.now, 900, key(&liar), &init);
    assert_eq!(outputs(&mut world, 0).len(), 1);
}

#[test]
fn a_peer_that_names_loopback_has_nothing_sent_there() {
    let mut world = World::new(2);
    let [me, peer] = identities(&world);
    let call = Message::CallMeMaybe(vec![at("127.0.0.1:53"), at("[::1]:53"), at("203.0.113.66:6")]);
    let call = DiscoBox::new(&peer.disco, me.disco.public()).seal(&call, &SystemRandom::new()).unwrap();
    world.hosts[0].engine.on_relay(world.now, 900, key(&peer), &call);
    let to: Vec<_> = outputs(&mut world, 0)
        .into_iter()
        .filter_map(|output| if let Output::Udp { to, .. } = output { Some(to) } else { None })
        .collect();
    assert_eq!(to, [at("203.0.113.66:6")]);
}
