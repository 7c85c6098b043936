use crate::{
    client::{self, Node, raw},
    world::World,
};
use allod_meshproto::{
    CAPABILITY_VERSION,
    noise::{self, Initiator},
};
use hyper::StatusCode;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

#[tokio::test]
async fn a_body_without_end_is_refused_before_it_is_kept() {
    let world = World::new().await;
    let node = Node::new("a");
    let mut control = node.connect(world.address, world.server).await;
    let (status, _) = control.post("/machine/register", vec![b' '; 1 << 20]).await.unwrap();
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    let mut control = node.connect(world.address, world.server).await;
    for (body, status) in [
        (&b"[]"[..], StatusCode::BAD_REQUEST),
        (b"{\"NodeKey\":7}", StatusCode::BAD_REQUEST),
        (b"", StatusCode::BAD_REQUEST),
    ] {
        assert_eq!(control.post("/machine/register", body.to_vec()).await.unwrap().0, status);
        assert_eq!(control.post("/machine/map", body.to_vec()).await.unwrap().0, status);
    }
    assert_eq!(control.post("/machine/set-dns", Vec::new()).await.unwrap().0, StatusCode::NOT_IMPLEMENTED);
    assert!(control.register(&node.register(None)).await.auth_url.contains("/approve/"), "and goes on");
}

#[tokio::test]
async fn a_record_that_is_repeated_ends_the_connection() {
    let world = World::new().await;
    let node = Node::new("a");
    let (mut stream, mut sealer, ..) = raw(world.address, &node.machine, world.server).await.unwrap();
    let mut wire = Vec::new();
    sealer.seal(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", &mut wire).unwrap();
    stream.write_all(&wire).await.unwrap();
    let _ = stream.write_all(&wire).await;
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest).await;
}

#[tokio::test]
async fn a_whole_handshake_that_is_replayed_gives_no_session() {
    let world = World::new().await;
    let (node, _) = world.join("a").await;
    let (_, initiation) = Initiator::start(&node.machine, world.server, CAPABILITY_VERSION).unwrap();
    let request = format!(
        "POST /ts2021 HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: {}\r\n{}: {}\r\nContent-Length: 0\r\n\r\n",
        noise::UPGRADE,
        noise::HANDSHAKE_HEADER,
        initiation.to_header()
    );
    let mut answers = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let (_, mut rest) = client::http(&mut stream, &request).await.unwrap();
        while rest.len() < noise::RESPONSE_LENGTH {
            assert!(stream.read_buf(&mut rest).await.unwrap() > 0);
        }
        rest.truncate(noise::RESPONSE_LENGTH);
        answers.push(rest);
        // Whoever replays lacks the ephemeral secret: no record of theirs opens.
        stream.write_all(&[&[4, 0, 40][..], &[0; 40]].concat()).await.unwrap();
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    assert_ne!(answers[0], answers[1], "each answer has an ephemeral key of its own");
}

#[tokio::test]
async fn a_flood_of_half_open_connections_leaves_room_for_honest_nodes() {
    let world = World::new().await;
    let (node, _control, mut maps) = world.live("honest").await;
    let mut half_open = Vec::new();
    for _ in 0..600 {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let _ = stream.write_all(b"POST /ts2021 HTTP/1.1\r\n").await;
        half_open.push(stream);
    }
    let (_late, mut late) = world.join("late").await;
    let reply = late.register(&Node::new("x").register(None)).await;
    assert!(!reply.error.is_empty() || !reply.auth_url.is_empty());
    world.coordinator.rename(world.id(&node), "still".to_owned()).await.unwrap();
    assert_eq!(maps.next().await.unwrap().node.unwrap().name, "still.mesh.internal.");
    // The oldest lost their seats: their connections are closed, those of the last 256 are not.
    let mut byte = [0];
    assert!(matches!(half_open[0].read(&mut byte).await, Ok(0) | Err(_)));
    let open = half_open.iter_mut().filter(|stream| {
        matches!(stream.try_read(&mut [0]), Err(error) if error.kind() == std::io::ErrorKind::WouldBlock)
    });
    assert!(open.count() <= 256);
}

#[tokio::test]
async fn a_reader_that_never_reads_its_map_costs_nobody_else_anything() {
    let world = World::new().await;
    world.allow_all().await;
    let (deaf, mut deaf_control) = world.join("deaf").await;
    let _unread = deaf_control.map(&deaf.stream()).await.unwrap();
    let (_heard, _control, mut maps) = world.live("heard").await;
    let (moving, mut moving_control) = world.join("moving").await;
    let before = resident();
    for port in 1..=500 {
        moving_control.map(&moving.lite(&format!("192.0.2.2:{port}"))).await.unwrap();
    }
    let last = maps
        .until(|map| {
            let endpoints = map.peers_changed_patch.iter().filter_map(|patch| patch.endpoints.as_ref());
            let whole = map.peers_changed.iter().map(|peer| &peer.endpoints);
            endpoints.chain(whole).any(|all| all.iter().any(|one| one.port() == 500))
        })
        .await;
    assert!(!last.keep_alive);
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
}

/// Bytes of memory that this process holds.
fn resident() -> u64 {
    let text = std::fs::read_to_string("/proc/self/statm").unwrap();
    text.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}
