//! Whose programs are heard. Takes root, to be other users.

use crate::world::{World, is_up};
use allod_node::Way;
use allod_proto::{
    FaultCode,
    node::{NodeAnswer, NodeAsk, SOCKET},
};
use rustix::{process::Uid, thread::set_thread_res_uid};
use std::{
    io::{BufRead as _, BufReader, Write as _},
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::{Path, PathBuf},
};

const FRIEND: u32 = 64_001;
const STRANGER: u32 = 64_002;

/// What is answered to that user; `None` where they don't even get at the socket.
async fn asked_by(user: u32, socket: PathBuf, ask: NodeAsk) -> Option<NodeAnswer> {
    let asking = move || {
        // This thread's user alone, and for its whole life.
        let user = Uid::from_raw(user);
        set_thread_res_uid(user, user, user).unwrap();
        let mut stream = UnixStream::connect(socket).ok()?;
        let mut line = serde_json::to_vec(&ask).unwrap();
        line.push(b'\n');
        let _ = stream.write_all(&line);
        let mut answer = String::new();
        BufReader::new(stream).read_line(&mut answer).unwrap();
        Some(serde_json::from_str(&answer).unwrap())
    };
    tokio::task::spawn_blocking(|| std::thread::spawn(asking).join().unwrap()).await.unwrap()
}

fn open_for_all(folder: &Path) {
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o711)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_that_was_not_named_is_refused_and_one_that_was_is_heard() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can be other users");
        return;
    }
    let world = World::start().await;
    open_for_all(world.folder.path());
    let mut settings = world.settings("one", Way::Token(world.token().await));
    open_for_all_above(&settings.run);
    settings.clients = vec![FRIEND];
    let node = world.run("one", settings);
    let mesh = node.mesh().await;
    is_up(&*mesh).await;
    for ask in [NodeAsk::Status {}, NodeAsk::Listen { port: 9844 }, NodeAsk::Peers {}] {
        let answer = asked_by(STRANGER, node.socket(), ask).await;
        let Some(NodeAnswer::Failed(fault)) = answer else { panic!("{answer:?}") };
        assert_eq!(fault.code, FaultCode::NotAllowed);
    }
    let answer = asked_by(FRIEND, node.socket(), NodeAsk::Status {}).await;
    assert!(matches!(&answer, Some(NodeAnswer::Status(state)) if !state.addresses.is_empty()), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_for_its_own_user_alone_has_a_socket_that_nobody_else_can_open() {
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can be other users");
        return;
    }
    let world = World::start().await;
    open_for_all(world.folder.path());
    let (node, _mesh) = world.node("one").await;
    open_for_all_above(&node.run.join(SOCKET));
    assert!(asked_by(STRANGER, node.socket(), NodeAsk::Status {}).await.is_none());
}

/// The folder of a node may be passed through, as `/run/allod` may.
fn open_for_all_above(path: &Path) {
    let folder = path.parent().unwrap();
    std::fs::create_dir_all(folder).unwrap();
    open_for_all(folder);
}
