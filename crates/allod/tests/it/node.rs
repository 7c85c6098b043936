//! `allod node` as processes, on a coordinator: joining by a line on stdin, killed in the middle of a talk, told to end.

use crate::{
    cli::BINARY,
    processes::{PATIENCE, eventually},
};
use allod_daemon::Clock;
use allod_mesh::{EmbeddedMesh, EmbeddedSettings, FollowingListener, Mesh};
use allod_testkit::coordinator::{self, Serving};
use rustix::process::Signal;
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::Stdio,
    sync::Arc,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, UdpSocket},
    process::{Child, Command},
    time::timeout,
};

/// A coordinator for the length of a test.
struct Network {
    folder: tempfile::TempDir,
    url: String,
    serving: Serving,
}

impl Network {
    async fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let stun = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let stun_port = stun.local_addr().unwrap().port();
        let state = folder.path().join("coordinator");
        let settings = coordinator::settings(state, Ipv4Addr::LOCALHOST.into(), port, stun_port);
        let (url, clock) = (settings.url.clone(), Clock::start());
        let serving = Serving::start(settings, Arc::new(move || clock.now()), listener, stun);
        Self { folder, url, serving }
    }

    async fn token(&self) -> String {
        self.serving.token(self.url.clone()).await.to_string()
    }

    fn home(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A node as a process; with a token, on its stdin.
    async fn node(&self, name: &str, token: Option<&str>) -> Child {
        let home = self.home(name);
        let mut command = Command::new(BINARY);
        command.args(["node", "--only=127.0.0.1", "--log=warn", "--hostname", name, "--state"]);
        command.arg(&home).arg("--run").arg(home.join("run"));
        command.stdin(Stdio::null()).kill_on_drop(true);
        if token.is_some() {
            command.args(["--join", "-"]).stdin(Stdio::piped());
        }
        let mut child = command.spawn().unwrap();
        if let Some(token) = token {
            let mut stdin = child.stdin.take().unwrap();
            stdin.write_all(format!("{token}\n").as_bytes()).await.unwrap();
        }
        child
    }
}

async fn driver(home: &Path) -> Arc<EmbeddedMesh> {
    let socket = home.join("run/node.sock");
    Arc::new(EmbeddedMesh::start(EmbeddedSettings::at(socket)).await.unwrap())
}

async fn is_up(mesh: &EmbeddedMesh) {
    let mut told = mesh.watch();
    let up = timeout(PATIENCE, told.wait_for(|status| status.up)).await.is_ok_and(|told| told.is_ok());
    assert!(up, "{:?}", mesh.watch().borrow().clone());
}

async fn reach(mesh: &EmbeddedMesh, to: SocketAddr) -> allod_mesh::Connection {
    eventually("it is reached", async || mesh.connect(to).await.ok()).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_join_by_a_line_survive_a_kill_and_end_when_told() {
    let network = Network::start().await;
    let (one_token, two_token) = (network.token().await, network.token().await);
    let mut one = network.node("one", Some(&one_token)).await;
    let mut two = network.node("two", Some(&two_token)).await;
    let (mine, theirs) = (driver(&network.home("one")).await, driver(&network.home("two")).await);
    is_up(&mine).await;
    is_up(&theirs).await;
    let found = eventually("the other is known by its name", async || mine.resolve("two").await.ok()).await;
    let to = SocketAddr::new(found.addresses[0], 9844);
    let shared = Arc::clone(&theirs) as Arc<dyn Mesh>;
    let mut listener = FollowingListener::open(shared, 9844).await.unwrap();

    // Killed in the middle of a talk: this side sees a break, and no end.
    let (near, far) = tokio::join!(reach(&mine, to), listener.accept());
    let (mut near, mut far) = (near, far);
    far.write_all(b"half of ").await.unwrap();
    let mut said = [0; 8];
    timeout(PATIENCE, near.read_exact(&mut said)).await.unwrap().unwrap();
    one.start_kill().unwrap();
    assert!(timeout(PATIENCE, near.read(&mut said)).await.unwrap().is_err());
    one.wait().await.unwrap();
    let mut one = network.node("one", None).await;
    is_up(&mine).await;
    let (mut near, mut far) = tokio::join!(reach(&mine, to), listener.accept());
    near.write_all(b"again").await.unwrap();
    let mut said = [0; 5];
    timeout(PATIENCE, far.read_exact(&mut said)).await.unwrap().unwrap();

    // The other one too: whoever listens there listens again.
    two.start_kill().unwrap();
    two.wait().await.unwrap();
    let accepting = tokio::spawn(async move { listener.accept().await });
    let mut two = network.node("two", None).await;
    let near = reach(&mine, to).await;
    let far = timeout(PATIENCE, accepting).await.unwrap().unwrap();
    assert_eq!(far.peer(), near.local());

    for child in [&mut one, &mut two] {
        crate::processes::signal(child.id().unwrap(), Signal::TERM);
        assert!(timeout(PATIENCE, child.wait()).await.unwrap().unwrap().success());
    }
    assert!(!network.home("one").join("run/node.sock").exists());
}

#[tokio::test]
async fn a_node_without_a_mesh_says_what_to_do_and_ends() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(BINARY);
    command.args(["node", "--state"]).arg(folder.path()).arg("--run").arg(folder.path().join("run"));
    let ended = timeout(PATIENCE, command.stdin(Stdio::null()).output()).await.unwrap().unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert!(!ended.status.success() && said.contains("--join FILE"), "{said}");
}
