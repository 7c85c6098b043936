//! A coordinator and nodes, each as its library runs it, in a folder of the test's own.

use allod_coordinator::Coordinator;
use allod_daemon::shutdown::{Shutdown, ShutdownTrigger};
use allod_mesh::{EmbeddedMesh, EmbeddedSettings, Mesh, MeshStatus};
use allod_meshnode::{Clock, Interfaces};
use allod_meshproto::token::JoinToken;
use allod_node::{NodeError, Settings, Way};
use allod_proto::{Timestamp, node::SOCKET};
use allod_testkit::coordinator::{self, Serving};
use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, TcpSocket, UdpSocket},
    task::JoinHandle,
    time::{sleep, timeout},
};

/// For a loaded machine; nothing here is measured by it.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A network: its coordinator, which may be away.
pub(crate) struct World {
    pub(crate) folder: Arc<tempfile::TempDir>,
    pub(crate) clock: Clock,
    port: u16,
    /// What keeps others from the port while the coordinator is away: bound, and not listening.
    _held: TcpSocket,
    /// STUN's socket, for the coordinators that come.
    stun: std::net::UdpSocket,
    running: Option<Serving>,
}

/// A node that runs.
pub(crate) struct Node {
    pub(crate) name: String,
    pub(crate) run: PathBuf,
    trigger: Option<ShutdownTrigger>,
    pub(crate) running: JoinHandle<Result<(), NodeError>>,
}

/// A port of both kinds that nobody else has.
fn one_port() -> Option<(TcpSocket, std::net::UdpSocket)> {
    let any = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0);
    let held = TcpSocket::new_v4().ok()?;
    held.set_reuseaddr(true).ok()?;
    held.bind(any).ok()?;
    let stun = std::net::UdpSocket::bind(held.local_addr().ok()?).ok()?;
    stun.set_nonblocking(true).ok()?;
    Some((held, stun))
}

impl World {
    pub(crate) async fn start() -> Self {
        let mut world = Self::before().await;
        world.serve().await;
        world
    }

    /// With a place for a coordinator that is not there yet.
    pub(crate) async fn before() -> Self {
        let begun = Instant::now();
        let clock: Clock = Arc::new(move || Timestamp(1_800_000_000_000).plus(begun.elapsed()));
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let (held, stun) = std::iter::repeat_with(one_port).take(100).flatten().next().unwrap();
        let port = held.local_addr().unwrap().port();
        Self { folder, clock, port, _held: held, stun, running: None }
    }

    /// The coordinator is there from now on.
    pub(crate) async fn serve(&mut self) {
        let folder = self.folder.path().join("coordinator");
        timeout(PATIENCE, coordinator::is_free(&folder))
            .await
            .expect("the coordinator before never left its folder");
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, self.port)).await.unwrap();
        let stun = UdpSocket::from_std(self.stun.try_clone().unwrap()).unwrap();
        let told = coordinator::settings(folder, Ipv4Addr::LOCALHOST.into(), self.port, self.port);
        self.running = Some(Serving::start(told, Arc::clone(&self.clock), listener, stun));
    }

    /// Coordinator, relay and STUN are away from now on.
    pub(crate) async fn leave(&mut self) {
        self.running.take().unwrap().end().await;
    }

    pub(crate) fn coordinator(&self) -> &Coordinator {
        &self.running.as_ref().unwrap().coordinator
    }

    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub(crate) async fn token(&self) -> JoinToken {
        let line = self.running.as_ref().unwrap().token(self.url()).await;
        JoinToken::parse(&line).unwrap()
    }

    /// What the node of that name is told.
    pub(crate) fn settings(&self, name: &str, way: Way) -> Settings {
        let folder = self.folder.path().join(name);
        Settings {
            folder: folder.join("node"),
            run: folder.join("run"),
            way,
            authorities: None,
            hostname: Some(name.to_owned()),
            ephemeral: false,
            interfaces: Interfaces::Only(Ipv4Addr::LOCALHOST.into()),
            clients: Vec::new(),
            idle_end: None,
            forwards: Vec::new(),
        }
    }

    pub(crate) fn run(&self, name: &str, settings: Settings) -> Node {
        self.run_by(name, settings, Arc::clone(&self.clock))
    }

    pub(crate) fn run_by(&self, name: &str, settings: Settings, clock: Clock) -> Node {
        let (trigger, shutdown) = Shutdown::by_hand();
        let run = settings.run.clone();
        let running = tokio::spawn(allod_node::run(settings, clock, shutdown));
        Node { name: name.to_owned(), run, trigger: Some(trigger), running }
    }

    /// A node that joined with a token, and is on the mesh.
    pub(crate) async fn node(&self, name: &str) -> (Node, Arc<EmbeddedMesh>) {
        let settings = self.settings(name, Way::Token(self.token().await));
        let node = self.run(name, settings);
        let mesh = node.mesh().await;
        is_up(&*mesh).await;
        (node, mesh)
    }

    /// The node of that name again, from its folder.
    pub(crate) async fn back(&self, name: &str) -> Node {
        self.run_when_free(name, self.settings(name, Way::Back)).await
    }

    /// A node, once the one before has let go of the folder.
    pub(crate) async fn run_when_free(&self, name: &str, settings: Settings) -> Node {
        let is_free = async {
            while allod_store::Lock::take(&settings.folder.join("place")).is_err() {
                sleep(Duration::from_millis(5)).await;
            }
        };
        timeout(PATIENCE, is_free).await.expect("the node before never left its folder");
        self.run(name, settings)
    }
}

impl Node {
    pub(crate) fn socket(&self) -> PathBuf {
        self.run.join(SOCKET)
    }

    /// The driver of a program that uses it, whether it answers yet or not.
    pub(crate) async fn mesh(&self) -> Arc<EmbeddedMesh> {
        Arc::new(EmbeddedMesh::start(EmbeddedSettings::at(self.socket())).await.unwrap())
    }

    /// Ends it as asked for.
    pub(crate) async fn end(mut self) {
        self.trigger.take().unwrap().shut_down();
        timeout(PATIENCE, &mut self.running).await.unwrap().unwrap().unwrap();
    }

    /// Ends it in the middle of whatever it does.
    pub(crate) async fn kill(self) {
        self.running.abort();
        assert!(self.running.await.unwrap_err().is_cancelled(), "{}", self.name);
    }
}

/// Waits until the driver says so.
pub(crate) async fn until(mesh: &dyn Mesh, is_so: impl FnMut(&MeshStatus) -> bool) {
    let mut told = mesh.watch();
    let waited = timeout(PATIENCE, told.wait_for(is_so)).await.map(|told| told.is_ok());
    assert_eq!(waited, Ok(true), "never: {:?}", mesh.watch().borrow().clone());
}

pub(crate) async fn is_up(mesh: &dyn Mesh) {
    until(mesh, |status| status.up).await;
}

pub(crate) fn address(mesh: &dyn Mesh) -> IpAddr {
    mesh.watch().borrow().addresses[0]
}
