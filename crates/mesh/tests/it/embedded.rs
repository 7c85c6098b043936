//! The driver for `allod node` against a node that is slow, silent, broken or lying: nobody is let in, nothing is held up. What it does
//! with a real one is tested beside that (`crates/node/tests/it`).

use allod_mesh::{EmbeddedMesh, EmbeddedSettings, FollowingListener, Mesh, MeshError, ResolveError, Trouble};
use allod_proto::node::{CoordinatorState, NodeAnswer, NodeAsk, NodePath, NodePeer, NodeState};
use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
    task::{JoinHandle, JoinSet},
    time::timeout,
};

const PEER: &str = "100.64.0.7:9844";
const PATIENCE: Duration = Duration::from_secs(60);

/// What is answered to one ask.
#[derive(Clone)]
enum Says {
    /// This, and the connection stays.
    Line(NodeAnswer),
    /// These bytes, and the connection ends.
    Bytes(Vec<u8>),
    /// Nothing.
    Silence,
    /// A line without end.
    Endless,
}

type Script = Arc<Mutex<Box<dyn FnMut(NodeAsk) -> Says + Send>>>;

/// What stands for a node.
struct Fake {
    folder: tempfile::TempDir,
    script: Script,
    serving: JoinHandle<()>,
}

impl Fake {
    fn start(script: impl FnMut(NodeAsk) -> Says + Send + 'static) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let script: Script = Arc::new(Mutex::new(Box::new(script)));
        let listener = UnixListener::bind(folder.path().join("node.sock")).unwrap();
        let told = Arc::clone(&script);
        let serving = tokio::spawn(async move {
            let mut talks = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                talks.spawn(talk(stream, Arc::clone(&told)));
            }
        });
        Self { folder, script, serving }
    }

    fn says(&self, script: impl FnMut(NodeAsk) -> Says + Send + 'static) {
        *self.script.lock().unwrap() = Box::new(script);
    }

    fn socket(&self) -> PathBuf {
        self.folder.path().join("node.sock")
    }

    async fn mesh(&self) -> EmbeddedMesh {
        EmbeddedMesh::start(EmbeddedSettings::at(self.socket())).await.unwrap()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn talk(stream: UnixStream, script: Script) {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    if stream.read_line(&mut line).await.is_err() || line.is_empty() {
        return;
    }
    let says = (script.lock().unwrap())(serde_json::from_str(&line).unwrap());
    match says {
        Says::Line(answer) => {
            let mut line = serde_json::to_vec(&answer).unwrap();
            line.push(b'\n');
            let _ = stream.write_all(&line).await;
            let _ = stream.read(&mut [0]).await;
        }
        Says::Bytes(bytes) => drop(stream.write_all(&bytes).await),
        Says::Silence => drop(stream.read(&mut [0]).await),
        Says::Endless => while stream.write_all(&[b'x'; 65_536]).await.is_ok() {},
    }
}

fn state(addresses: &[&str]) -> NodeAnswer {
    NodeAnswer::Status(NodeState {
        addresses: addresses.iter().map(|ip| ip.parse().unwrap()).collect(),
        name: Some("web1.mesh.internal".to_owned()),
        key_expiry: None,
        port: 41641,
        coordinator: CoordinatorState::Connected,
        relays: Vec::new(),
    })
}

fn peer(name: &str, address: &str) -> NodePeer {
    NodePeer {
        name: name.to_owned(),
        addresses: vec![address.parse().unwrap()],
        tags: Vec::new(),
        user: None,
        online: None,
        path: NodePath::Idle,
    }
}

fn at(address: &str) -> SocketAddr {
    address.parse().unwrap()
}

/// Answers to anything that make no sense.
fn garbage() -> Vec<Says> {
    vec![
        Says::Bytes(Vec::new()),
        Says::Bytes(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()),
        Says::Bytes(b"{\"answer\":".to_vec()),
        Says::Bytes(b"{\"answer\":\"everything\"}\n".to_vec()),
        Says::Bytes(b"null\n".to_vec()),
        Says::Bytes(vec![0; 4096]),
        Says::Line(NodeAnswer::Accepted { peer: at(PEER), local: at("100.64.0.1:1") }),
        Says::Endless,
    ]
}

#[tokio::test]
async fn a_node_that_makes_no_sense_is_a_grave_trouble_and_lets_nobody_in() {
    for says in garbage() {
        let fake = Fake::start(move |_| says.clone());
        let mesh = fake.mesh().await;
        let status = mesh.status().await.unwrap();
        assert!(!status.up && status.addresses.is_empty(), "{status:?}");
        assert!(status.troubles[0].is_grave() && !status.troubles[0].fix().is_empty(), "{status:?}");
        assert!(mesh.whois(at(PEER)).await.is_err());
        assert!(mesh.connect(at(PEER)).await.is_err());
        assert!(mesh.listen(9844).await.is_err());
        assert!(mesh.peers().await.is_err());
    }
}

#[tokio::test]
async fn a_silent_node_is_given_up_after_a_while() {
    let fake = Fake::start(|_| Says::Silence);
    let mesh = fake.mesh().await;
    let answer = mesh.whois(at(PEER)).await;
    assert!(matches!(&answer, Err(MeshError::Trouble(Trouble::NoNode { .. }))), "{answer:?}");
}

#[tokio::test]
async fn an_answer_about_somebody_else_is_nobody() {
    let fake = Fake::start(|_| Says::Line(NodeAnswer::Whois { peer: Some(peer("db.mesh", "100.64.0.8")) }));
    let mesh = fake.mesh().await;
    assert_eq!(mesh.whois(at(PEER)).await.unwrap(), None);
    assert!(mesh.whois(at("100.64.0.8:1")).await.unwrap().is_some());
}

#[tokio::test]
async fn names_that_could_fool_a_terminal_do_not_get_through() {
    let fake = Fake::start(|_| {
        Says::Line(NodeAnswer::Whois { peer: Some(peer("db\u{1b}[2J\nroot", "100.64.0.7")) })
    });
    let mesh = fake.mesh().await;
    let name = mesh.whois(at(PEER)).await.unwrap().unwrap().name;
    assert!(name.chars().all(|c| !c.is_control()), "{name:?}");
}

#[tokio::test]
async fn a_node_that_listens_on_addresses_of_no_mesh_listens_on_none() {
    let fake = Fake::start(|ask| match ask {
        NodeAsk::Listen { port } => Says::Line(NodeAnswer::Listening {
            listener: 1,
            addresses: ["0.0.0.0", "127.0.0.1", "192.0.2.1"].map(|ip| at(&format!("{ip}:{port}"))).to_vec(),
        }),
        _ => Says::Line(state(&["127.0.0.1"])),
    });
    let mesh = fake.mesh().await;
    let refused = mesh.listen(9844).await;
    assert!(matches!(&refused, Err(error) if error.may_pass()), "{refused:?}");
    let told = mesh.status().await.unwrap().troubles;
    assert!(told.contains(&Trouble::ForeignAddress { address: "127.0.0.1".parse().unwrap() }), "{told:?}");
}

/// Listens, and lets one in from each of these.
fn letting_in(from: Vec<&'static str>) -> impl FnMut(NodeAsk) -> Says + Send + 'static {
    let mut from = from.into_iter();
    move |ask| match ask {
        NodeAsk::Listen { port } => Says::Line(NodeAnswer::Listening {
            listener: 1,
            addresses: vec![SocketAddr::new("100.64.0.1".parse().unwrap(), port)],
        }),
        NodeAsk::Accept { .. } => match from.next() {
            Some(from) => Says::Line(NodeAnswer::Accepted { peer: at(from), local: at("100.64.0.1:9844") }),
            None => Says::Silence,
        },
        _ => Says::Line(state(&["100.64.0.1"])),
    }
}

#[tokio::test]
async fn a_connection_from_outside_the_mesh_is_dropped() {
    let fake = Fake::start(letting_in(vec!["203.0.113.9:9", "127.0.0.1:9", "[2001:db8::9]:9", PEER]));
    let mesh = fake.mesh().await;
    let listener = mesh.listen(9844).await.unwrap();
    let first = timeout(PATIENCE, listener.accept()).await.unwrap();
    assert_eq!(first.peer(), at(PEER));
}

#[tokio::test]
async fn an_address_that_is_not_this_machines_is_refused_by_name() {
    let fake = Fake::start(letting_in(Vec::new()));
    let only = Some("100.64.0.9".parse().unwrap());
    let mesh = EmbeddedMesh::start(EmbeddedSettings { socket: fake.socket(), only }).await.unwrap();
    let refused = mesh.listen(9844).await;
    assert!(matches!(&refused, Err(error @ MeshError::NotOwn { .. }) if !error.may_pass()), "{refused:?}");
    let lies = EmbeddedSettings { socket: fake.socket(), only: Some("0.0.0.0".parse().unwrap()) };
    assert!(matches!(EmbeddedMesh::start(lies).await, Err(MeshError::Refused(_))));
}

#[tokio::test]
async fn a_listener_that_the_node_let_go_of_is_taken_again() {
    let mut taken = 0;
    let fake = Fake::start(move |ask| {
        // The first one ends at once, its waiters too; nothing else about the node changes.
        let answer = |listener, port| NodeAnswer::Listening {
            listener,
            addresses: vec![SocketAddr::new("100.64.0.1".parse().unwrap(), port)],
        };
        match ask {
            NodeAsk::Listen { port } => {
                taken += 1;
                let line = answer(taken, port);
                if taken > 1 {
                    return Says::Line(line);
                }
                let mut line = serde_json::to_vec(&line).unwrap();
                line.push(b'\n');
                Says::Bytes(line)
            }
            NodeAsk::Accept { listener: 2 } => {
                Says::Line(NodeAnswer::Accepted { peer: at(PEER), local: at("100.64.0.1:9844") })
            }
            NodeAsk::Accept { .. } => Says::Silence,
            _ => Says::Line(state(&["100.64.0.1"])),
        }
    });
    let mut listener = FollowingListener::open(Arc::new(fake.mesh().await), 9844).await.unwrap();
    let came = timeout(PATIENCE, listener.accept()).await.unwrap();
    assert_eq!(came.peer(), at(PEER));
}

#[tokio::test]
async fn a_name_is_found_among_all_and_this_machine_and_never_twice() {
    let fake = Fake::start(|ask| match ask {
        NodeAsk::Peers {} => Says::Line(NodeAnswer::Peers {
            peers: vec![peer("db.mesh.internal", "100.64.0.7"), peer("web1.friend.internal", "100.64.0.8")],
        }),
        NodeAsk::Whois { address } => {
            Says::Line(NodeAnswer::Whois { peer: Some(peer("web1.mesh.internal", &address.to_string())) })
        }
        _ => Says::Line(state(&["100.64.0.1"])),
    });
    let mesh = fake.mesh().await;
    assert!(matches!(mesh.resolve("nobody").await, Err(ResolveError::Nobody(_))));
    assert!(matches!(mesh.resolve("web1").await, Err(ResolveError::Several { .. })));
    assert_eq!(mesh.resolve("DB").await.unwrap().addresses, [at(PEER).ip()]);
    assert_eq!(mesh.resolve("web1.mesh.internal").await.unwrap().name, "web1.mesh.internal");
    fake.says(|_| Says::Silence);
    assert!(matches!(mesh.resolve("db").await, Err(ResolveError::Mesh(_))));
}
