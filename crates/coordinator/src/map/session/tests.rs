use super::*;
use crate::map::tests::{ALL, NOW, World, mapper};
use allod_meshproto::{MachineKey, NodeKey, control::MapRequest, map_frame::MapFrames};

const OWN: NodeId = NodeId(1);

fn world() -> World {
    let mut world = World::new();
    world.policy(ALL);
    (1..=2).for_each(|number| world.join(number, "allod"));
    world.view(NOW);
    world
}

fn stream(world: &World) -> Stream {
    Stream {
        mapper: Arc::new(mapper()),
        views: world.viewer.follow(),
        compression: Compression::None,
        now: Arc::new(|| NOW),
    }
}

fn begin(world: &World, sessions: &Sessions) -> (mpsc::Receiver<Bytes>, tokio::task::JoinHandle<()>) {
    let (sender, receiver) = mpsc::channel(1);
    let (stream, mut place) = (stream(world), sessions.begin(OWN));
    (receiver, tokio::spawn(async move { stream.run(&mut place, sender).await }))
}

fn read(frame: &Bytes) -> MapResponse {
    MapFrames::default().push(&mut frame.as_ref()).unwrap().unwrap()
}

fn move_peer(world: &mut World, port: u16) {
    let moved = MapRequest {
        node_key: NodeKey::new([2; 32]),
        endpoints: vec![([192, 0, 2, 1], port).into()],
        ..MapRequest::default()
    };
    world.draft.state.hear(MachineKey::new([2; 32]), &moved, 900).unwrap();
    world.view(NOW);
}

#[tokio::test(start_paused = true)]
async fn an_idle_stream_shows_signs_of_life_within_a_minute() {
    let world = world();
    let sessions = Sessions::default();
    let (mut frames, _task) = begin(&world, &sessions);
    assert!(read(&frames.recv().await.unwrap()).node.is_some());
    for _ in 0..3 {
        let since = Instant::now();
        assert_eq!(read(&frames.recv().await.unwrap()), MapResponse::alive());
        assert!(since.elapsed() < Duration::from_secs(60));
    }
}

#[tokio::test(start_paused = true)]
async fn a_slow_reader_is_told_the_difference_and_not_each_change() {
    let mut world = world();
    let sessions = Sessions::default();
    let (mut frames, _task) = begin(&world, &sessions);
    tokio::time::sleep(Duration::from_secs(1)).await;
    for port in 1..=1_000 {
        move_peer(&mut world, port);
    }
    assert!(read(&frames.recv().await.unwrap()).node.is_some(), "the map of the beginning");
    let mut ports = Vec::new();
    while ports.last() != Some(&1_000) {
        let delta = read(&frames.recv().await.unwrap());
        ports.push(delta.peers_changed_patch[0].endpoints.as_ref().unwrap()[0].port());
    }
    assert!(ports.len() <= 2, "{ports:?}");
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_never_reads_has_its_stream_ended() {
    let world = world();
    let sessions = Sessions::default();
    let (frames, task) = begin(&world, &sessions);
    let since = Instant::now();
    task.await.unwrap();
    assert!((SLOW..=KEEP_ALIVE + SLOW + APART).contains(&since.elapsed()));
    drop(frames);
}

#[tokio::test(start_paused = true)]
async fn a_replaced_stream_says_nothing_more() {
    let mut world = world();
    let sessions = Sessions::default();
    let (mut old, old_task) = begin(&world, &sessions);
    assert!(read(&old.recv().await.unwrap()).node.is_some());
    let (mut new, _task) = begin(&world, &sessions);
    move_peer(&mut world, 7);
    old_task.await.unwrap();
    assert!(old.recv().await.is_none());
    let map = read(&new.recv().await.unwrap());
    assert_eq!(map.peers[0].endpoints[0].port(), 7);
    assert!(!sessions.is_newest(OWN, 0) && !sessions.forget(OWN, 0) && sessions.forget(OWN, 1));
}

#[tokio::test(start_paused = true)]
async fn a_deleted_nodes_stream_ends() {
    let mut world = world();
    let sessions = Sessions::default();
    let (mut frames, task) = begin(&world, &sessions);
    frames.recv().await.unwrap();
    world.draft.state.delete(OWN).unwrap();
    world.view(NOW);
    task.await.unwrap();
    assert!(frames.recv().await.is_none());
}
