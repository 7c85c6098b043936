//! The node: one task that owns the UDP sockets, the engine and the stack, and the small face that the rest of a program sees.
//! The coordinator's and the relays' clients are tasks of their own; bounded channels lead to them, and nothing here waits for them.

pub(crate) mod awake;
mod places;
mod run;
mod sockets;

use crate::{
    Identity,
    engine::{Engine, PeerPath, Random, Standing},
    netstack::{MeshListener, MeshStream, Netstack},
};
use allod_meshproto::{NodeKey, control, netmap::StoredMap};
use allod_proto::Timestamp;
use sockets::Sockets;
use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use tokio::{
    runtime::Handle,
    sync::{mpsc, watch},
    task::{AbortHandle, JoinHandle},
};

/// Packets between the node and a relay's client, each way: what a channel for them should hold.
pub const RELAY_QUEUE: usize = 512;

/// Tells the time: a clock that never goes back.
pub type Clock = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// A packet through a relay, either way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayPacket {
    /// Through which region.
    pub region: u32,
    /// To whom, or from whom.
    pub peer: NodeKey,
    /// What.
    pub packet: Vec<u8>,
}

/// Which of the machine's addresses a node uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Interfaces {
    /// Those of its interfaces, as they come and go.
    System,
    /// This one only.
    Only(IpAddr),
}

/// What a node is started with.
pub struct NodeSettings {
    /// Its keys and the port it had.
    pub identity: Identity,
    /// Where its datagrams come from.
    pub interfaces: Interfaces,
    /// Random numbers.
    pub random: Random,
    /// The time.
    pub clock: Clock,
}

/// What leads from a node to the clients of coordinator and relays. None of them is waited for.
pub struct Wires {
    /// The map, as the coordinator says it or as it was stored; sent again at least daily while the coordinator says that it holds.
    pub maps: watch::Receiver<Option<Arc<StoredMap>>>,
    /// Packets to be relayed. When it is full, they are dropped.
    pub to_relay: mpsc::Sender<RelayPacket>,
    /// Packets that were relayed.
    pub from_relay: mpsc::Receiver<RelayPacket>,
    /// Where the node can be reached, for the coordinator.
    pub standing: watch::Sender<Standing>,
}

/// How a node is on its mesh.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct NodeStatus {
    /// Its own addresses; none while it has no map that holds.
    pub addresses: Vec<IpAddr>,
    /// Its name, without the full stop at the end.
    pub name: Option<String>,
}

/// A running node. It ends when this is dropped; its streams are reset.
pub struct Node {
    engine: Arc<Mutex<Engine>>,
    net: Arc<Netstack>,
    status: watch::Receiver<NodeStatus>,
    clock: Clock,
    port: u16,
    task: AbortHandle,
    alive: watch::Receiver<()>,
}

impl Node {
    /// Starts one, on the port of its identity if that is free.
    ///
    /// # Errors
    /// When no socket can be had, and outside a tokio runtime.
    pub fn start(settings: NodeSettings, wires: Wires) -> io::Result<Self> {
        let NodeSettings { identity, interfaces, random, clock } = settings;
        let runtime = Handle::try_current().map_err(io::Error::other)?;
        let sockets = Sockets::bind(&interfaces, identity.port)?;
        let port = sockets.port();
        let mut seed = [0; 8];
        random.fill(&mut seed).map_err(|_| io::Error::other("no random numbers"))?;
        let engine = Arc::new(Mutex::new(Engine::new(identity, random)));
        let net = Netstack::new(u64::from_be_bytes(seed));
        let (tell_status, status) = watch::channel(NodeStatus::default());
        let running = run::Running {
            engine: Arc::clone(&engine),
            net: Arc::clone(&net),
            sockets,
            interfaces,
            clock: Arc::clone(&clock),
            status: tell_status,
        };
        let running = runtime.spawn(running.run(wires));
        let task = running.abort_handle();
        let (living, alive) = watch::channel(());
        runtime.spawn(bury(running, Arc::clone(&net), living));
        Ok(Self { engine, net, status, clock, port, task, alive })
    }

    /// Waits until the node is at its end: until it is dropped, or something in it panicked. Its streams are reset then and its
    /// listeners end; a program without a node has nothing left to do on the mesh.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut alive = self.alive.clone();
        // Nothing is ever said: the sender goes.
        async move { drop(alive.changed().await) }
    }

    /// Listens on a port of every address that the node has on the mesh, now and later.
    ///
    /// # Errors
    /// For port 0, and for one that is listened on.
    pub fn listen(&self, port: u16) -> io::Result<MeshListener> {
        self.net.listen(port)
    }

    /// Connects to a port of a peer.
    ///
    /// # Errors
    /// At once when the address is no peer's; else as connecting fails anywhere.
    pub async fn connect(&self, to: SocketAddr) -> io::Result<MeshStream> {
        if !lock(&self.engine).reaches(to.ip()) {
            return Err(io::ErrorKind::HostUnreachable.into());
        }
        self.net.connect(to).await
    }

    /// Who has this address on the mesh. A route to it makes nobody its owner.
    #[must_use]
    pub fn whois(&self, address: IpAddr) -> Option<Arc<control::Node>> {
        lock(&self.engine).who_is(address)
    }

    /// Tells each change of how the node is on the mesh.
    #[must_use]
    pub fn watch(&self) -> watch::Receiver<NodeStatus> {
        self.status.clone()
    }

    /// How each peer is reached now.
    #[must_use]
    pub fn paths(&self) -> Vec<PeerPath> {
        let now = (self.clock)();
        lock(&self.engine).peer_paths(now).collect()
    }

    /// Its UDP port: what to store with its identity.
    #[must_use]
    pub const fn port(&self) -> u16 {
        self.port
    }
}

/// Waits for the end of the loop, and tells it: whoever uses streams and listeners must not wait for ever.
async fn bury(running: JoinHandle<()>, net: Arc<Netstack>, living: watch::Sender<()>) {
    if let Err(error) = running.await
        && error.is_panic()
    {
        tracing::error!(%error, "the node's loop panicked");
    }
    net.end();
    drop(living);
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
        self.net.end();
    }
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Node").field("port", &self.port).finish_non_exhaustive()
    }
}

fn lock(engine: &Mutex<Engine>) -> MutexGuard<'_, Engine> {
    engine.lock().unwrap_or_else(PoisonError::into_inner)
}
