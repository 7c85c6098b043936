use crate::{client::Node, world::World};
use allod_coordinator::{policy::Policy, state::JoinKeySpec};
use allod_meshproto::control::{MapResponse, RegisterRequest};
use allod_proto::Timestamp;
use hyper::StatusCode;
use std::time::{Duration, Instant};

#[tokio::test]
async fn a_machine_acts_on_its_own_node_only() {
    let world = World::new().await;
    let (victim, ..) = world.live("victim").await;
    let (_, mut thief) = world.join("thief").await;
    let id = world.id(&victim);
    let before = world.coordinator.nodes();
    assert_eq!(thief.map(&victim.stream()).await.err(), Some(StatusCode::NOT_FOUND));
    assert_eq!(thief.map(&victim.lite("192.0.2.66:1")).await.err(), Some(StatusCode::NOT_FOUND));
    let key = world.join_key(JoinKeySpec::default()).await;
    for request in [
        victim.register(None),
        victim.register(Some(&key)),
        RegisterRequest { expiry: Some(Timestamp(1)), ..victim.register(None) },
    ] {
        let reply = thief.register(&request).await;
        assert!(!reply.machine_authorized && !reply.error.is_empty(), "{reply:?}");
    }
    let node = |all: &[allod_coordinator::NodeStatus]| {
        all.iter().find(|status| status.node.id == id).unwrap().node.clone()
    };
    assert_eq!(node(&world.coordinator.nodes()), node(&before));
}

#[tokio::test]
async fn an_unknown_node_gets_no_map() {
    let world = World::new().await;
    let node = Node::new("nobody");
    let mut control = node.connect(world.address, world.server).await;
    assert_eq!(control.map(&node.stream()).await.err(), Some(StatusCode::NOT_FOUND));
}

#[tokio::test]
async fn two_nodes_hear_of_each_other_and_of_each_change_in_order() {
    let world = World::new().await;
    world.allow_all().await;
    let (one, _one, mut maps) = world.live("one").await;
    let (two, mut two_control) = world.join("two").await;
    let id = world.id(&two);
    let came = maps.until(|map| !map.peers_changed.is_empty()).await;
    assert_eq!((came.peers_changed[0].id, came.peers_changed[0].key), (id, two.key()));
    let mut two_maps = two_control.map(&two.stream()).await.unwrap();
    let first = two_maps.next().await.unwrap();
    assert_eq!(first.peers[0].key, one.key());
    assert_eq!(first.domain, "mesh.internal");
    assert_eq!(first.peers[0].name, "one.mesh.internal.");
    // Names below the domain are the mesh's to resolve, and no others.
    let dns = first.dns_config.as_ref().unwrap();
    assert_eq!(dns.routes.iter().collect::<Vec<_>>(), [(&"mesh.internal".to_owned(), &Vec::new())]);
    assert!(dns.proxied && dns.domains == ["mesh.internal"] && dns.resolvers.is_empty(), "{dns:?}");
    let is_online =
        |map: &MapResponse| map.peers_changed_patch.iter().any(|patch| patch.online == Some(true));
    maps.until(is_online).await;
    for port in 1..=20 {
        two_control.map(&two.lite(&format!("192.0.2.2:{port}"))).await.unwrap();
    }
    let mut seen = 0;
    while seen < 20 {
        let map = maps.until(|map| !map.peers_changed_patch.is_empty()).await;
        for patch in map.peers_changed_patch {
            let port = patch.endpoints.unwrap()[0].port();
            assert!(port > seen, "{port} after {seen}");
            seen = port;
        }
    }
    world.coordinator.delete(id).await.unwrap();
    assert_eq!(maps.until(|map| !map.peers_removed.is_empty()).await.peers_removed, [id]);
    while two_maps.next().await.is_some() {}
    assert_eq!(two_control.map(&two.stream()).await.err(), Some(StatusCode::NOT_FOUND));
}

#[tokio::test]
async fn a_newer_stream_of_a_node_ends_the_older_one() {
    let world = World::new().await;
    world.allow_all().await;
    let (node, mut control, mut old) = world.live("web").await;
    let mut new = control.map(&node.stream()).await.unwrap();
    assert!(new.next().await.unwrap().node.is_some());
    assert!(old.next().await.is_none(), "not a word more");
    world.coordinator.rename(world.id(&node), "other".to_owned()).await.unwrap();
    assert_eq!(new.next().await.unwrap().node.unwrap().name, "other.mesh.internal.");
    assert!(world.coordinator.nodes()[0].is_online, "the older one's end does not put it offline");
}

#[tokio::test]
async fn a_policy_that_changes_reaches_those_that_it_concerns() {
    let world = World::new().await;
    let (_one, _c1, mut one) = world.live("one").await;
    let (_two, _c2, mut two) = world.live("two").await;
    let policy = r#"{"allow":[{"from":["one"],"to":["two"],"ports":["22"]}]}"#;
    world.coordinator.set_policy(Policy::parse(policy).unwrap()).await.unwrap();
    let (one, two) = (one.next().await.unwrap(), two.next().await.unwrap());
    assert_eq!((one.peers_changed.len(), two.peers_changed.len()), (1, 1));
    let rules = two.packet_filters["base"].as_ref().unwrap();
    assert_eq!(rules.len(), 1);
    assert!(!one.packet_filters.contains_key("base"), "nothing may begin with the one");
}

#[tokio::test]
async fn a_node_whose_key_is_expired_by_hand_is_told_and_cut_off() {
    let world = World::new().await;
    world.allow_all().await;
    let (one, mut control, mut maps) = world.live("one").await;
    let (_two, _c, mut other) = world.live("two").await;
    maps.until(|map| !map.peers_changed.is_empty()).await;
    world.coordinator.set_expiry(world.id(&one), Some(Timestamp(1))).await.unwrap();
    let told = maps.until(|map| map.node.is_some()).await;
    assert!(told.node.unwrap().expired && told.peers_removed.len() == 1);
    assert_eq!(other.until(|map| !map.peers_removed.is_empty()).await.peers_removed, [world.id(&one)]);
    assert!(control.register(&one.register(None)).await.node_key_expired);
}

#[tokio::test]
async fn a_node_that_is_away_is_offline_after_its_grace_and_not_before() {
    let world = World::new().await;
    world.allow_all().await;
    let (_one, _control, mut maps) = world.live("one").await;
    let (two, control, stream) = world.live("two").await;
    let is = |map: &MapResponse, wanted| {
        let patched = map.peers_changed_patch.iter().map(|patch| patch.online);
        patched.chain(map.peers_changed.iter().map(|peer| peer.online)).any(|online| online == Some(wanted))
    };
    maps.until(|map| is(map, true)).await;
    let begin = Instant::now();
    drop((control, stream));
    let gone = maps.until(|map| is(map, false)).await;
    assert_eq!(gone.peers_changed_patch[0].node_id, world.id(&two));
    assert!(begin.elapsed() >= Duration::from_secs(10));
}
