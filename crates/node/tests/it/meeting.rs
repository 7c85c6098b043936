//! Programs of two machines meet through their nodes.

use crate::world::{Node, PATIENCE, World, address, is_up, until};
use allod_mesh::{Connection, EmbeddedMesh, FollowingListener, Listener, Mesh, MeshError};
use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    task::{JoinHandle, JoinSet},
    time::{sleep, timeout},
};

/// Answers what is said on each connection once it has been said, and ends.
fn answering(listener: Listener) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut talks = JoinSet::new();
        loop {
            talks.spawn(answer(listener.accept().await));
        }
    })
}

async fn answer(mut connection: Connection) {
    let mut said = Vec::new();
    if connection.read_to_end(&mut said).await.is_ok() {
        let _ = connection.write_all(&[b"heard ", said.as_slice()].concat()).await;
        let _ = connection.shutdown().await;
    }
}

async fn say(mesh: &EmbeddedMesh, to: SocketAddr, what: &[u8]) -> io::Result<Vec<u8>> {
    let mut connection = mesh.connect(to).await.map_err(io::Error::other)?;
    connection.write_all(what).await?;
    connection.shutdown().await?;
    let mut heard = Vec::new();
    connection.read_to_end(&mut heard).await?;
    Ok(heard)
}

/// Says it until it is heard: the other's map may come a moment later.
async fn heard(mesh: &EmbeddedMesh, to: SocketAddr) {
    let trying = async {
        while !matches!(say(mesh, to, b"hello").await, Ok(heard) if heard == b"heard hello") {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, trying).await.expect("it was never heard");
}

async fn knows(mesh: &EmbeddedMesh, address: IpAddr) {
    let trying = async {
        while !matches!(mesh.whois(SocketAddr::new(address, 9)).await, Ok(Some(_))) {
            sleep(Duration::from_millis(20)).await;
        }
    };
    timeout(PATIENCE, trying).await.expect("it never knew the other");
}

async fn two(world: &World) -> ((Node, Arc<EmbeddedMesh>), (Node, Arc<EmbeddedMesh>)) {
    let (one, two) = tokio::join!(world.node("one"), world.node("two"));
    knows(&one.1, address(&*two.1)).await;
    knows(&two.1, address(&*one.1)).await;
    (one, two)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_machines_talk_both_ways_and_know_who_is_there() {
    let world = World::start().await;
    let ((_one, mine), (_two, theirs)) = two(&world).await;
    let listener = theirs.listen(9844).await.unwrap();
    let at = listener.addresses()[0];
    assert_eq!(at, SocketAddr::new(address(&*theirs), 9844));
    let connected = async { tokio::join!(mine.connect(at), listener.accept()) };
    let (near, far) = timeout(PATIENCE, connected).await.unwrap();
    let (mut near, mut far) = (near.unwrap(), far);
    assert_eq!((far.local(), near.peer(), far.peer()), (at, at, near.local()));
    assert_eq!(near.local().ip(), address(&*mine));
    assert_eq!(theirs.whois(far.peer()).await.unwrap().unwrap().name, "one.mesh.internal");

    near.write_all(b"question").await.unwrap();
    near.shutdown().await.unwrap();
    let mut said = String::new();
    timeout(PATIENCE, far.read_to_string(&mut said)).await.unwrap().unwrap();
    assert_eq!(said, "question");
    far.write_all(b"answer").await.unwrap();
    far.shutdown().await.unwrap();
    said.clear();
    timeout(PATIENCE, near.read_to_string(&mut said)).await.unwrap().unwrap();
    assert_eq!(said, "answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_and_restarted_while_the_coordinator_is_away_reaches_its_peer() {
    let mut world = World::start().await;
    let ((one, mine), (_two, theirs)) = two(&world).await;
    let _answering = answering(theirs.listen(9844).await.unwrap());
    let to = SocketAddr::new(address(&*theirs), 9844);
    heard(&mine, to).await;
    let own = address(&*mine);
    let mut following = FollowingListener::open(Arc::clone(&mine) as Arc<dyn Mesh>, 9845).await.unwrap();

    world.leave().await;
    one.kill().await;
    until(&*mine, |status| !status.up).await;
    let status = mine.status().await.unwrap();
    assert!(status.addresses.is_empty() && status.troubles[0].is_grave(), "{status:?}");
    assert!(status.troubles[0].fix().contains("allod node"), "{status:?}");
    assert!(mine.whois(to).await.is_err() && mine.connect(to).await.is_err());

    let _again = world.back("one").await;
    let accepting = tokio::spawn(async move { following.accept().await });
    is_up(&*mine).await;
    assert_eq!(address(&*mine), own);
    heard(&mine, to).await;
    // Who listened before listens again, and is reached by the other one.
    let at = SocketAddr::new(own, 9845);
    let reaching = async {
        loop {
            if let Ok(connection) = theirs.connect(at).await {
                return connection;
            }
            sleep(Duration::from_millis(20)).await;
        }
    };
    let near = timeout(PATIENCE, reaching).await.unwrap();
    let far = timeout(PATIENCE, accepting).await.unwrap().unwrap();
    assert_eq!((far.local(), far.peer().ip()), (at, near.local().ip()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_dies_in_the_middle_is_a_break_for_the_program_on_the_other_machine() {
    let world = World::start().await;
    let ((_one, mine), (_two, theirs)) = two(&world).await;
    let listener = theirs.listen(9844).await.unwrap();
    let at = listener.addresses()[0];
    let connected = async { tokio::join!(mine.connect(at), listener.accept()) };
    let (near, mut far) = timeout(PATIENCE, connected).await.unwrap();
    let mut near = near.unwrap();
    near.write_all(b"never read").await.unwrap();
    far.write_all(b"half of it").await.unwrap();
    let mut said = [0; 10];
    timeout(PATIENCE, near.read_exact(&mut said)).await.unwrap().unwrap();
    // What it had not read is there when it dies.
    timeout(PATIENCE, far.read(&mut [0])).await.unwrap().unwrap();
    drop(far);
    let ended = timeout(PATIENCE, near.read(&mut said)).await.unwrap();
    assert_eq!(ended.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_at_once_from_two_programs_are_all_served() {
    let world = World::start().await;
    let ((one, mine), (_two, theirs)) = two(&world).await;
    let _answering = answering(theirs.listen(9844).await.unwrap());
    let to = SocketAddr::new(address(&*theirs), 9844);
    heard(&mine, to).await;
    let also_mine = one.mesh().await;
    let mut callers = JoinSet::new();
    for number in 0..64_u32 {
        let mesh = Arc::clone(if number % 2 == 0 { &mine } else { &also_mine });
        callers.spawn(async move {
            let text = format!("this is {number}");
            let heard = say(&mesh, to, text.as_bytes()).await.unwrap();
            assert_eq!(String::from_utf8(heard).unwrap(), format!("heard {text}"));
        });
    }
    timeout(PATIENCE, callers.join_all()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_reaches_itself_without_the_network_and_sees_who_it_is() {
    let world = World::start().await;
    let (_node, mesh) = world.node("alone").await;
    let nobody = mesh.connect(SocketAddr::new(address(&*mesh), 9844)).await;
    assert!(matches!(nobody, Err(MeshError::Connect { .. })), "{nobody:?}");
    let listener = mesh.listen(0).await.unwrap();
    let at = listener.addresses()[0];
    assert!(at.port() >= 49_152, "{at}");
    let (near, far) =
        timeout(PATIENCE, async { tokio::join!(mesh.connect(at), listener.accept()) }).await.unwrap();
    let near = near.unwrap();
    assert_eq!((far.peer(), near.local().ip()), (near.local(), at.ip()));
    assert_eq!(mesh.whois(far.peer()).await.unwrap().unwrap().name, "alone.mesh.internal");
    assert_eq!(mesh.resolve("ALONE").await.unwrap().name, "alone.mesh.internal");
}
