use super::world::World;
use crate::engine::Route;
use std::time::Duration;

#[test]
fn two_nodes_talk_directly() {
    let mut world = World::new(2);
    assert!(world.echo(0, 1, 1_000).is_some());
    world.run(1_000);
    assert!(world.is_direct(0, 1) && world.is_direct(1, 0));
    let relayed = world.relayed;
    for _ in 0..100 {
        assert_eq!(world.echo(0, 1, 100), Some(2));
    }
    assert_eq!(world.relayed, relayed, "nothing goes through the relay while there is a direct path");
}

#[test]
fn without_a_relay_two_nodes_that_never_met_talk_at_once() {
    let mut world = World::new(2);
    (world.relay_is_up, world.control_is_up) = (false, false);
    let took = world.echo(0, 1, 2_000).unwrap();
    assert!(took < 100, "the first reply came after {took} ms");
}

#[test]
fn when_udp_is_cut_the_relay_takes_over_and_when_it_is_back_the_direct_path_does() {
    let mut world = World::new(2);
    assert!(world.echo(0, 1, 1_000).is_some());
    world.run(1_000);
    world.udp_is_up = false;
    let cut = world.now;
    while world.echo(0, 1, 500).is_none() {
        assert!(world.now.since(cut).as_secs() < 10, "the relay takes over in time");
    }
    assert!(!world.is_direct(0, 1));
    world.run(15_000);
    assert!(world.echo(0, 1, 500).is_some());
    world.udp_is_up = true;
    let back = world.now;
    while !world.is_direct(0, 1) {
        assert!(world.echo(0, 1, 500).is_some(), "nothing is lost on the way back");
        assert!(world.now.since(back).as_secs() < 5);
    }
}

#[test]
fn what_is_sent_when_udp_is_cut_goes_beside_the_relay_within_two_seconds() {
    let mut world = World::new(2);
    assert!(world.echo(0, 1, 1_000).is_some());
    world.run(1_000);
    world.udp_is_up = false;
    let cut = world.now;
    while world.echo(0, 1, 100).is_none() {
        assert!(world.now.since(cut).as_millis() < 2_000);
    }
}

#[test]
fn with_coordinator_and_relay_dead_for_ten_minutes_not_one_packet_is_lost_on_a_direct_path() {
    let mut world = World::new(2);
    assert!(world.echo(0, 1, 1_000).is_some());
    world.run(1_000);
    (world.relay_is_up, world.control_is_up) = (false, false);
    let end = world.now.plus(std::time::Duration::from_secs(600));
    while world.now < end {
        assert_eq!(world.echo(0, 1, 500), Some(2));
        world.run(700);
    }
}

#[test]
fn a_node_that_restarts_with_its_keys_and_its_stored_map_is_answered_at_once() {
    let mut world = World::new(2);
    assert!(world.echo(0, 1, 1_000).is_some());
    world.run(1_000);
    (world.relay_is_up, world.control_is_up) = (false, false);
    world.restart(1);
    let took = world.echo(1, 0, 2_000).unwrap();
    assert!(took < 100, "the first reply came after {took} ms");
}

#[test]
fn a_peer_that_goes_on_sending_reaches_a_restarted_node_in_under_two_seconds() {
    let mut world = World::new(2);
    assert!(world.echo(0, 1, 1_000).is_some());
    world.run(1_000);
    (world.relay_is_up, world.control_is_up) = (false, false);
    world.restart(1);
    let restarted = world.now;
    while world.echo(0, 1, 200).is_none() {
        assert!(world.now.since(restarted).as_millis() < 2_000);
    }
}

#[test]
fn a_node_that_moves_is_found_again_even_without_relay_and_coordinator() {
    let mut world = World::new(2);
    assert!(world.echo(0, 1, 1_000).is_some());
    world.run(1_000);
    (world.relay_is_up, world.control_is_up) = (false, false);
    world.move_to(0, "192.168.8.9:41641");
    let moved = world.now;
    while world.echo(1, 0, 250).is_none() {
        assert!(world.now.since(moved).as_secs() < 5);
    }
    assert_eq!(world.route(1, 0), Route::Direct("192.168.8.9:41641".parse().unwrap()));
}

#[test]
fn a_node_that_slept_has_its_paths_back_before_anything_is_sent() {
    for seconds in [30, 600] {
        let mut world = World::new(3);
        world.put_behind_router(0, false);
        world.put_behind_router(1, false);
        assert!(world.echo(0, 1, 1_000).is_some() && world.echo(0, 2, 1_000).is_some());
        world.run(60_000);
        assert!(world.echo(0, 1, 1_000).is_some());
        world.run(5_000);
        world.seen.clear();
        world.sleep(0, Duration::from_secs(seconds));
        world.run(2_000);
        assert!(world.is_direct(0, 1), "{seconds} s: {:?}", world.route(0, 1));
        // Whoever it didn't talk to costs nothing now, and a handshake when it does.
        let third = world.hosts[2].at;
        assert!(
            !world.seen.iter().any(|(at, to, sent)| *at == 0 && *to == third && sent[0] == 1),
            "{seconds} s"
        );
        for (from, to) in [(0, 1), (1, 0), (2, 0), (0, 2)] {
            // A peer's packet of a session that is forgotten here is lost, and has a new one begun.
            let heard = world.echo(from, to, 500).or_else(|| world.echo(from, to, 500));
            assert!(heard.is_some(), "{seconds} s: {from} to {to}");
        }
    }
}

#[test]
fn a_session_that_grew_too_old_in_a_sleep_carries_nothing() {
    let mut world = World::new(2);
    assert!(world.echo(0, 1, 1_000).is_some());
    world.run(1_000);
    let has_session = |world: &mut World| {
        let peer = super::world::key(&world.hosts[1].identity);
        let identity = world.hosts[0].identity.clone();
        world.hosts[0].engine.peers.get_mut(&peer).unwrap().tunnel(&identity.node).has_session()
    };
    world.udp_is_up = false;
    world.relay_is_up = false;
    world.sleep(0, Duration::from_secs(170));
    assert!(has_session(&mut world), "the peer still takes it");
    world.sleep(0, Duration::from_secs(170));
    assert!(!has_session(&mut world), "the peer has dropped it: what was sealed by it would be lost");
}

#[test]
fn through_two_routers_that_keep_a_port_a_direct_path_is_found() {
    let mut world = World::new(2);
    world.put_behind_router(0, false);
    world.put_behind_router(1, false);
    assert!(world.echo(0, 1, 1_000).is_some());
    world.run(5_000);
    assert!(world.is_direct(0, 1) && world.is_direct(1, 0));
    assert_eq!(world.echo(0, 1, 100), Some(2));
}

#[test]
fn through_two_routers_that_map_by_destination_the_relay_is_used() {
    let mut world = World::new(2);
    world.put_behind_router(0, true);
    world.put_behind_router(1, true);
    for _ in 0..20 {
        assert!(world.echo(0, 1, 1_000).is_some());
        world.run(500);
    }
    assert_eq!((world.route(0, 1), world.route(1, 0)), (Route::Relay, Route::Relay));
}

#[test]
fn what_was_sent_before_there_was_any_path_arrives() {
    let mut world = World::new(2);
    (world.udp_is_up, world.relay_is_up) = (false, false);
    world.send_echo(0, 1, *b"patience");
    world.run(3_000);
    (world.udp_is_up, world.relay_is_up) = (true, true);
    world.run(3_000);
    assert!(world.hosts[0].received.iter().any(|packet| packet.ends_with(b"patience")));
}

#[test]
fn over_a_line_that_loses_a_tenth_the_direct_path_is_kept() {
    let mut world = World::new(2);
    world.loss = 10;
    let answered = (0..200).filter(|_| world.echo(0, 1, 300).is_some()).count();
    assert!(answered > 120, "{answered} of 200");
    assert!(world.is_direct(0, 1));
}
