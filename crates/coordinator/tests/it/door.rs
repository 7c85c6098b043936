use crate::{
    client::{self, Control, Node, http},
    world::{NOW, World, settings},
};
use allod_coordinator::{Coordinator, has_root_key, read_root_key, remove_root_key, state::JoinKeySpec};
use allod_meshproto::{
    MachineKey, MachinePrivate,
    control::RegisterRequest,
    stun,
    token::{JoinToken, newest},
};
use ring::rand::SystemRandom;
use std::{sync::Arc, time::Duration};
use tokio::net::{TcpStream, UdpSocket};

#[tokio::test]
async fn what_is_no_request_of_a_node_is_refused() {
    let world = World::new().await;
    for (request, status) in [
        ("GET / HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("GET /machine/register HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("POST /key HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "405"),
        ("GET /ts2021 HTTP/1.1\r\nHost: x\r\n\r\n", "405"),
        ("POST /ts2021 HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n", "400"),
        ("GET /derp HTTP/1.1\r\nHost: x\r\n\r\n", "426"),
        ("GET /approve/unknown HTTP/1.1\r\nHost: x\r\n\r\n", "404"),
        ("nonsense\r\n\r\n", "400"),
    ] {
        let mut stream = TcpStream::connect(world.address).await.unwrap();
        let (head, _) = http(&mut stream, request).await.unwrap();
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{request}: {head}");
    }
}

#[tokio::test]
async fn a_head_without_end_is_cut() {
    let world = World::new().await;
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let request = format!("GET /key HTTP/1.1\r\nX: {}", "a".repeat(200_000));
    let answer = http(&mut stream, &request).await;
    assert!(answer.is_none_or(|(head, _)| head.starts_with("HTTP/1.1 431 ")));
}

#[tokio::test]
async fn a_handshake_with_another_servers_key_is_refused() {
    let world = World::new().await;
    let node = Node::new("a");
    let stranger = MachinePrivate::generate(&SystemRandom::new()).unwrap().public();
    assert!(Control::connect(world.address, &node.machine, stranger).await.is_none());
    assert!(Control::connect(world.address, &node.machine, world.server).await.is_some());
}

#[tokio::test]
async fn the_key_is_signed_by_the_root_key_of_the_token() {
    let world = World::new().await;
    let text = world.join_key(JoinKeySpec::default()).await;
    let urls = vec![format!("http://{}", world.address)];
    let token = world.coordinator.join_token(urls, text.clone().into()).unwrap();
    let token = JoinToken::parse(&token.to_text()).unwrap();
    let reply = client::key(world.address).await;
    assert_eq!(newest(&reply.allod_keys, token.root(), 0), Ok((reply.public_key, 1)));
    assert_eq!(token.join_key(), text);
}

#[tokio::test]
async fn probes_are_answered() {
    let world = World::new().await;
    assert!(client::get(world.address, "/health").await.0.starts_with("HTTP/1.1 200 "));
    assert!(client::get(world.address, "/derp/probe").await.0.starts_with("HTTP/1.1 200 "));
    let mut stream = TcpStream::connect(world.address).await.unwrap();
    let request = "GET /generate_204 HTTP/1.1\r\nHost: x\r\nX-Tailscale-Challenge: ts_1\r\n\r\n";
    let (head, _) = http(&mut stream, request).await.unwrap();
    assert!(head.starts_with("HTTP/1.1 204 ") && head.contains("x-tailscale-response: response ts_1"));
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.send_to(&stun::request([1; 12]), world.stun).await.unwrap();
    let mut bytes = [0; 100];
    let length = socket.recv(&mut bytes).await.unwrap();
    assert_eq!(stun::read_answer(&bytes[..length]).unwrap().source, socket.local_addr().unwrap());
}

#[tokio::test]
async fn a_join_key_lets_one_in_and_what_was_let_in_needs_none() {
    let world = World::new().await;
    let (node, mut control) = world.join("web").await;
    let again = control.register(&node.register(None)).await;
    assert!(again.machine_authorized && again.auth_url.is_empty());
    let other = Node::new("web");
    let refused =
        other.connect(world.address, world.server).await.register(&other.register(Some("x.y"))).await;
    assert!(!refused.machine_authorized && refused.error.contains("join key"), "{refused:?}");
    assert_eq!(world.coordinator.nodes().len(), 1);
}

#[tokio::test]
async fn a_machine_waits_until_somebody_lets_it_in() {
    let world = World::new().await;
    let node = Node::new("phone");
    let mut control = node.connect(world.address, world.server).await;
    let told = control.register(&node.register(None)).await;
    let id = told.auth_url.strip_prefix("http://127.0.0.1:8080/approve/").unwrap().to_owned();
    let page = client::get(world.address, &format!("/approve/{id}")).await;
    assert!(page.0.contains("default-src 'none'") && page.1.contains(&node.key().to_string()), "{page:?}");
    assert!(world.coordinator.nodes().is_empty(), "seeing the page lets nobody in");
    let followup = RegisterRequest { followup: told.auth_url, ..node.register(None) };
    let waiting = tokio::spawn(async move { control.register(&followup).await });
    world.coordinator.approve(id.clone(), vec!["tag:phone".to_owned()], None).await.unwrap();
    assert!(waiting.await.unwrap().machine_authorized);
    assert_eq!(world.coordinator.nodes()[0].node.tags, ["tag:phone"]);
    assert!(client::get(world.address, &format!("/approve/{id}")).await.0.starts_with("HTTP/1.1 404 "));
}

#[tokio::test]
async fn a_machine_that_is_sent_away_is_told() {
    let world = World::new().await;
    let node = Node::new("phone");
    let mut control = node.connect(world.address, world.server).await;
    let told = control.register(&node.register(None)).await;
    let id = told.auth_url.rsplit('/').next().unwrap().to_owned();
    let followup = RegisterRequest { followup: told.auth_url, ..node.register(None) };
    let waiting = tokio::spawn(async move { control.register(&followup).await });
    world.coordinator.reject(id).await.unwrap();
    let told = waiting.await.unwrap();
    assert!(!told.machine_authorized && told.auth_url.is_empty() && !told.error.is_empty());
}

#[tokio::test]
async fn the_noise_key_is_replaced_under_connected_nodes_and_the_old_one_ends_with_its_time() {
    let world = World::new().await;
    let (node, mut control, mut maps) = world.live("web").await;
    let folder = world.folder.path().join("state");
    let root = read_root_key(&folder).unwrap();
    remove_root_key(&folder).unwrap();
    assert!(!has_root_key(&folder) && read_root_key(&folder).is_err(), "it is away");
    let (public, serial) = world.coordinator.prepare_noise_key().await.unwrap();
    let hour = Duration::from_secs(3600);
    let stranger = allod_meshproto::token::RootPrivate::generate(&SystemRandom::new()).unwrap();
    assert!(world.coordinator.rotate_noise_key(stranger.sign(public, serial), hour).await.is_err());
    world.coordinator.rotate_noise_key(root.sign(public, serial), hour).await.unwrap();
    world.coordinator.rename(world.id(&node), "other".to_owned()).await.unwrap();
    assert_eq!(maps.next().await.unwrap().node.unwrap().name, "other.mesh.internal.", "the stream goes on");
    assert!(control.register(&node.register(None)).await.machine_authorized);
    let shown = client::key(world.address).await;
    assert_eq!(newest(&shown.allod_keys, root.public(), 1), Ok((public, 2)));
    let connect = |key: MachineKey| Control::connect(world.address, &node.machine, key);
    assert!(connect(world.server).await.is_some() && connect(public).await.is_some());
    world.pass(hour);
    assert!(connect(world.server).await.is_none(), "its time is over");
    let mut control = connect(public).await.unwrap();
    assert!(control.register(&node.register(None)).await.machine_authorized, "without a login");
}

#[tokio::test]
async fn after_a_restart_nodes_come_back_without_a_login() {
    let world = World::new().await;
    let (node, _) = world.join("web").await;
    let (server, id) = (world.server, world.id(&node));
    let world = World::open(world.end().await).await;
    assert_eq!((world.server, world.id(&node)), (server, id));
    let mut control = node.connect(world.address, server).await;
    assert!(control.register(&node.register(None)).await.machine_authorized);
}

#[tokio::test]
async fn a_restored_network_has_its_nodes_keys_and_policy() {
    let world = World::new().await;
    world.allow_all().await;
    let (node, _) = world.join("web").await;
    let (server, id) = (world.server, world.id(&node));
    let backup = world.folder.path().join("backup");
    world.coordinator.backup(backup.clone()).await.unwrap();
    let elsewhere = Arc::new(tempfile::tempdir().unwrap());
    std::fs::create_dir(elsewhere.path().join("state")).unwrap();
    allod_coordinator::store::restore(&backup, &elsewhere.path().join("state")).unwrap();
    let world = World::open(elsewhere).await;
    assert_eq!((world.server, world.id(&node)), (server, id));
    assert_eq!(world.coordinator.policy().allow.len(), 1);
    let mut control = node.connect(world.address, server).await;
    assert!(control.register(&node.register(None)).await.machine_authorized, "without a login");
}

#[tokio::test]
async fn a_second_coordinator_in_the_same_folder_is_refused() {
    let world = World::new().await;
    let second = Coordinator::open(settings(&world.folder.path().join("state")), Arc::new(|| NOW));
    assert!(second.is_err());
}
