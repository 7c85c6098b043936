//! Programs that say nonsense, nothing, too much, or die in the middle: nobody else notices.

use crate::world::{Node, PATIENCE, World, address, is_up};
use allod_mesh::{Mesh as _, MeshError};
use allod_node::Way;
use allod_proto::{
    FaultCode,
    node::{NodeAnswer, NodeAsk, NodeState},
};
use std::{io, net::SocketAddr, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{TcpListener, UnixStream},
    task::JoinSet,
    time::timeout,
};

async fn open(node: &Node) -> UnixStream {
    UnixStream::connect(node.socket()).await.unwrap()
}

/// The answer to a line as it is written here; `None` where the connection was closed without one.
async fn answer(node: &Node, line: &[u8]) -> Option<NodeAnswer> {
    let mut stream = BufReader::new(open(node).await);
    // A node that has heard enough closes.
    let _ = stream.write_all(line).await;
    let mut answer = String::new();
    let read = timeout(PATIENCE, stream.read_line(&mut answer)).await.unwrap();
    read.ok().filter(|count| *count > 0).map(|_| serde_json::from_str(&answer).unwrap())
}

async fn ask(node: &Node, ask: &NodeAsk) -> (NodeAnswer, BufReader<UnixStream>) {
    let mut stream = BufReader::new(open(node).await);
    let mut line = serde_json::to_vec(ask).unwrap();
    line.push(b'\n');
    stream.write_all(&line).await.unwrap();
    let mut answer = String::new();
    timeout(PATIENCE, stream.read_line(&mut answer)).await.unwrap().unwrap();
    (serde_json::from_str(&answer).unwrap(), stream)
}

async fn state(node: &Node) -> NodeState {
    match ask(node, &NodeAsk::Status {}).await.0 {
        NodeAnswer::Status(state) => state,
        other => panic!("{other:?}"),
    }
}

fn code(answer: Option<NodeAnswer>) -> Option<FaultCode> {
    match answer {
        Some(NodeAnswer::Failed(fault)) => Some(fault.code),
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lines_that_are_no_question_are_refused_and_the_node_goes_on() {
    let world = World::start().await;
    let (node, _mesh) = world.node("one").await;
    for bad in [
        &b"\n"[..],
        b"GET / HTTP/1.1\r\n",
        b"{}\n",
        b"null\n",
        b"{\"ask\":\"everything\"}\n",
        b"{\"ask\":\"connect\",\"to\":\"web1:22\"}\n",
        b"{\"ask\":\"listen\",\"port\":65536}\n",
        b"{\"ask\":\"listen\",\"port\":-1}\n",
        b"\xff\xfe\n",
        b"[[[[[[[[[[[[\n",
    ] {
        let shown = String::from_utf8_lossy(bad);
        assert_eq!(code(answer(&node, bad).await), Some(FaultCode::Malformed), "{shown:?}");
    }
    let long = [&[b' '; 5000][..], b"{\"ask\":\"status\"}\n"].concat();
    assert_eq!(code(answer(&node, &long).await), Some(FaultCode::TooLarge));
    let none = answer(&node, b"{\"ask\":\"accept\",\"listener\":1}\n").await;
    assert_eq!(code(none), Some(FaultCode::NotFound));
    // Half a line and then nothing more: closed, and nobody waits for it.
    let mut half = open(&node).await;
    half.write_all(b"{\"ask\":").await.unwrap();
    half.shutdown().await.unwrap();
    assert_eq!(timeout(PATIENCE, half.read(&mut [0; 8])).await.unwrap().unwrap_or(0), 0);
    assert!(!state(&node).await.addresses.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_line_that_never_ends_is_given_up() {
    let world = World::start().await;
    let (node, _mesh) = world.node("one").await;
    let mut silent = BufReader::new(open(&node).await);
    silent.write_all(b"{\"ask\"").await.unwrap();
    let mut said = String::new();
    timeout(PATIENCE, silent.read_line(&mut said)).await.unwrap().unwrap();
    let told: NodeAnswer = serde_json::from_str(&said).unwrap();
    assert_eq!(code(Some(told)), Some(FaultCode::Timeout));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_connections_are_bounded_and_the_node_answers_when_they_leave() {
    let world = World::start().await;
    let (node, mesh) = world.node("one").await;
    // Far more than the test's own process may have open at once where that is little.
    let mut held = Vec::new();
    for _ in 0..2000 {
        match UnixStream::connect(node.socket()).await {
            Ok(stream) => held.push(stream),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::MFILE.raw_os_error()) => break,
            Err(error) => panic!("{error}"),
        }
    }
    drop(held);
    let answered = async {
        while mesh.status().await.map_or(true, |status| !status.up) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, answered).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_that_is_listened_on_is_another_programs_only_once_the_first_has_left() {
    let world = World::start().await;
    let (node, mesh) = world.node("one").await;
    let listener = mesh.listen(9844).await.unwrap();
    let also = node.mesh().await;
    let taken = also.listen(9844).await;
    assert!(matches!(&taken, Err(MeshError::Listen { .. })), "{taken:?}");
    drop(listener);
    let taking = async {
        while also.listen(9844).await.is_err() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, taking).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_dies_while_it_accepts_loses_no_connection_of_the_next_one() {
    let world = World::start().await;
    let (node, mesh) = world.node("one").await;
    let (listening, _kept) = ask(&node, &NodeAsk::Listen { port: 9844 }).await;
    let NodeAnswer::Listening { listener, addresses } = listening else { panic!("{listening:?}") };
    let accept = {
        let mut line = serde_json::to_vec(&NodeAsk::Accept { listener }).unwrap();
        line.push(b'\n');
        line
    };
    // They wait, and are gone before anything comes in.
    for _ in 0..32 {
        let mut waiting = open(&node).await;
        waiting.write_all(&accept).await.unwrap();
    }
    for _ in 0..8 {
        let near = timeout(PATIENCE, mesh.connect(addresses[0])).await.unwrap().unwrap();
        let (accepted, _far) = ask(&node, &NodeAsk::Accept { listener }).await;
        assert!(
            matches!(accepted, NodeAnswer::Accepted { peer, .. } if peer == near.local()),
            "{accepted:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_holds_up_nobody_else() {
    let world = World::start().await;
    let (node, mesh) = world.node("one").await;
    let listener = mesh.listen(9844).await.unwrap();
    let at = listener.addresses()[0];
    let (near, far) = tokio::join!(mesh.connect(at), listener.accept());
    let (mut near, far) = (near.unwrap(), far);
    // As much as goes in, to somebody who never reads.
    let mut sent = 0;
    while let Ok(count) = timeout(Duration::from_millis(300), near.write(&[7; 65_536])).await {
        sent += count.unwrap();
        assert!(sent < 64 * 1024 * 1024, "what nobody reads is kept without a bound");
    }
    let (other, others) =
        timeout(PATIENCE, async { tokio::join!(mesh.connect(at), listener.accept()) }).await.unwrap();
    let (mut other, mut others) = (other.unwrap(), others);
    other.write_all(b"through").await.unwrap();
    let mut got = [0; 7];
    timeout(PATIENCE, others.read_exact(&mut got)).await.unwrap().unwrap();
    assert_eq!(&got, b"through");
    // A program that dies in the middle of it is an error for whoever talks to it.
    drop(far);
    let broken = timeout(PATIENCE, async {
        loop {
            if let Err(error) = near.write(&[7; 65_536]).await {
                return error.kind();
            }
        }
    });
    let kind = broken.await.unwrap();
    assert!(matches!(kind, io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset), "{kind:?}");
    assert!(!state(&node).await.addresses.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forward_leads_to_its_address_and_resets_where_nobody_is() {
    let world = World::start().await;
    let server = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let gone = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let mut settings = world.settings("one", Way::Token(world.token().await));
    settings.forwards = vec![
        format!("22={}", server.local_addr().unwrap()).parse().unwrap(),
        format!("23={gone}").parse().unwrap(),
    ];
    let node = world.run("one", settings);
    let mesh = node.mesh().await;
    is_up(&*mesh).await;
    let own = address(&*mesh);
    assert!(matches!(mesh.listen(22).await, Err(MeshError::Listen { .. })), "its port is the node's");

    let mut lost = mesh.connect(SocketAddr::new(own, 23)).await.unwrap();
    assert!(timeout(PATIENCE, lost.read(&mut [0])).await.unwrap().is_err());

    let mut near = mesh.connect(SocketAddr::new(own, 22)).await.unwrap();
    let (mut far, from) = timeout(PATIENCE, server.accept()).await.unwrap().unwrap();
    assert!(from.ip().is_loopback());
    near.write_all(b"SSH-2.0-").await.unwrap();
    near.shutdown().await.unwrap();
    let mut said = String::new();
    timeout(PATIENCE, far.read_to_string(&mut said)).await.unwrap().unwrap();
    assert_eq!(said, "SSH-2.0-");
    far.write_all(b"bye").await.unwrap();
    drop(far);
    said.clear();
    timeout(PATIENCE, near.read_to_string(&mut said)).await.unwrap().unwrap();
    assert_eq!(said, "bye");

    // What breaks there breaks here.
    let (near, accepted) = tokio::join!(mesh.connect(SocketAddr::new(own, 22)), server.accept());
    accepted.unwrap().0.set_zero_linger().unwrap();
    assert!(timeout(PATIENCE, near.unwrap().read(&mut [0])).await.unwrap().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_programs_that_come_and_go_in_the_middle_of_everything_leave_nothing_behind() {
    let world = World::start().await;
    let (node, mesh) = world.node("one").await;
    let listener = mesh.listen(9844).await.unwrap();
    let at = listener.addresses()[0];
    let accepting = tokio::spawn(async move {
        loop {
            drop(listener.accept().await);
        }
    });
    let mut programs = JoinSet::new();
    let socket = node.socket();
    for number in 0..200_u32 {
        let socket = socket.clone();
        programs.spawn(async move {
            let mut stream = UnixStream::connect(socket).await.unwrap();
            let ask = match number % 4 {
                0 => NodeAsk::Watch {},
                1 => NodeAsk::Connect { to: at },
                2 => NodeAsk::Listen { port: 0 },
                _ => NodeAsk::Peers {},
            };
            let mut line = serde_json::to_vec(&ask).unwrap();
            line.push(b'\n');
            let _ = stream.write_all(&line).await;
            if number % 8 < 4 {
                let _ = stream.read(&mut [0; 16]).await;
            }
        });
    }
    timeout(PATIENCE, programs.join_all()).await.unwrap();
    let near = timeout(PATIENCE, mesh.connect(at)).await.unwrap().unwrap();
    assert_eq!(near.local().ip(), at.ip());
    accepting.abort();
    node.end().await;
}
