//! A coordinator in a temporary folder, with a clock that the test sets.

use crate::client::{Control, Maps, Node};
use allod_coordinator::{Coordinator, Settings, policy::Policy, state::JoinKeySpec};
use allod_meshproto::{MachineKey, control::NodeId};
use allod_proto::Timestamp;
use allod_testkit::coordinator::{self, ALL, Serving, is_free};
use std::{
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::net::{TcpListener, UdpSocket};

pub(crate) const NOW: Timestamp = Timestamp(1_800_000_000_000);

pub(crate) fn settings(folder: &Path) -> Settings {
    let told = coordinator::settings(folder.to_owned(), Ipv4Addr::LOCALHOST.into(), 8080, 3478);
    Settings { first_policy: Policy::default(), ..told }
}

pub(crate) struct World {
    pub(crate) coordinator: Arc<Coordinator>,
    pub(crate) address: SocketAddr,
    pub(crate) stun: SocketAddr,
    pub(crate) server: MachineKey,
    pub(crate) folder: Arc<tempfile::TempDir>,
    pub(crate) clock: Arc<AtomicU64>,
    serving: Serving,
}

impl World {
    pub(crate) async fn new() -> Self {
        Self::open(Arc::new(tempfile::tempdir().unwrap())).await
    }

    pub(crate) async fn open(folder: Arc<tempfile::TempDir>) -> Self {
        is_free(&folder.path().join("state")).await;
        let clock = Arc::new(AtomicU64::new(NOW.0));
        let now = Arc::clone(&clock);
        let now = Arc::new(move || Timestamp(now.load(Ordering::SeqCst)));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stun = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (address, stun_address) = (listener.local_addr().unwrap(), stun.local_addr().unwrap());
        let serving = Serving::start(settings(&folder.path().join("state")), now, listener, stun);
        let coordinator = Arc::clone(&serving.coordinator);
        let server = crate::client::key(address).await.public_key;
        Self { coordinator, address, stun: stun_address, server, folder, clock, serving }
    }

    /// Ends the coordinator; what is left is its folder.
    pub(crate) async fn end(self) -> Arc<tempfile::TempDir> {
        self.serving.end().await;
        self.folder
    }

    pub(crate) fn pass(&self, span: Duration) {
        self.clock.fetch_add(u64::try_from(span.as_millis()).unwrap(), Ordering::SeqCst);
    }

    pub(crate) async fn allow_all(&self) {
        self.coordinator.set_policy(Policy::parse(ALL).unwrap()).await.unwrap();
    }

    pub(crate) async fn join_key(&self, spec: JoinKeySpec) -> String {
        self.coordinator.create_join_key(spec).await.unwrap().1.as_str().to_owned()
    }

    /// A node that has joined, and its connection.
    pub(crate) async fn join(&self, name: &str) -> (Node, Control) {
        let node = Node::new(name);
        let key = self.join_key(JoinKeySpec { uses: Some(1), ..JoinKeySpec::default() }).await;
        let mut control = node.connect(self.address, self.server).await;
        let reply = control.register(&node.register(Some(&key))).await;
        assert!(reply.machine_authorized, "{reply:?}");
        (node, control)
    }

    /// The same, with its stream of maps, of which the first was read.
    pub(crate) async fn live(&self, name: &str) -> (Node, Control, Maps) {
        let (node, mut control) = self.join(name).await;
        let mut maps = control.map(&node.stream()).await.unwrap();
        assert!(maps.next().await.unwrap().node.is_some());
        (node, control, maps)
    }

    pub(crate) fn id(&self, node: &Node) -> NodeId {
        let nodes = self.coordinator.nodes();
        nodes.iter().find(|status| status.node.key == node.key()).unwrap().node.id
    }
}
