use crate::{
    client::{Derp, Node},
    world::World,
};
use allod_meshproto::derp::{Frame, GoneReason};

#[tokio::test]
async fn a_stranger_and_a_borrowed_key_get_no_relay() {
    let world = World::new().await;
    let (member, _) = world.join("member").await;
    let stranger = Node::new("stranger");
    assert!(Derp::connect(world.address, &stranger.node).await.is_none());
    assert!(Derp::connect_as(world.address, &stranger.node, member.key()).await.is_none());
    assert!(Derp::connect(world.address, &member.node).await.is_some());
}

#[tokio::test]
async fn members_pass_packets_and_pings_are_answered() {
    let world = World::new().await;
    let ((one, _c1), (two, _c2)) = (world.join("one").await, world.join("two").await);
    let mut from = Derp::connect(world.address, &one.node).await.unwrap();
    from.send(&Frame::SendPacket { to: two.key(), packet: b"early".to_vec() }).await;
    assert_eq!(from.next().await, Some(Frame::PeerGone { peer: two.key(), reason: GoneReason::NotHere }));
    let mut to = Derp::connect(world.address, &two.node).await.unwrap();
    from.send(&Frame::SendPacket { to: two.key(), packet: vec![7; 1400] }).await;
    assert_eq!(to.next().await, Some(Frame::RecvPacket { from: one.key(), packet: vec![7; 1400] }));
    from.send(&Frame::Ping(*b"12345678")).await;
    assert_eq!(from.next().await, Some(Frame::Pong(*b"12345678")));
    drop(to);
    assert_eq!(from.next().await, Some(Frame::PeerGone { peer: two.key(), reason: GoneReason::Left }));
}

#[tokio::test]
async fn the_newest_connection_of_a_node_is_the_one_and_a_deleted_node_is_put_out() {
    let world = World::new().await;
    let ((one, _c1), (two, _c2)) = (world.join("one").await, world.join("two").await);
    let mut old = Derp::connect(world.address, &one.node).await.unwrap();
    let mut new = Derp::connect(world.address, &one.node).await.unwrap();
    assert!(matches!(old.next().await, Some(Frame::Health(_))));
    assert_eq!(old.next().await, None);
    let mut from = Derp::connect(world.address, &two.node).await.unwrap();
    from.send(&Frame::SendPacket { to: one.key(), packet: b"x".to_vec() }).await;
    assert!(matches!(new.next().await, Some(Frame::RecvPacket { .. })));
    world.coordinator.delete(world.id(&one)).await.unwrap();
    assert_eq!(new.next().await, None);
    assert!(Derp::connect(world.address, &one.node).await.is_none());
}

#[tokio::test]
async fn a_receiver_that_never_reads_costs_nobody_else_anything() {
    let world = World::new().await;
    let ((one, _c1), (two, _c2)) = (world.join("one").await, world.join("two").await);
    let (third, _c3) = world.join("third").await;
    let mut from = Derp::connect(world.address, &one.node).await.unwrap();
    let _deaf = Derp::connect(world.address, &two.node).await.unwrap();
    let mut heard = Derp::connect(world.address, &third.node).await.unwrap();
    for _ in 0..500 {
        from.send(&Frame::SendPacket { to: two.key(), packet: vec![0; 60_000] }).await;
    }
    from.send(&Frame::SendPacket { to: third.key(), packet: b"still".to_vec() }).await;
    assert_eq!(heard.next().await, Some(Frame::RecvPacket { from: one.key(), packet: b"still".to_vec() }));
}
