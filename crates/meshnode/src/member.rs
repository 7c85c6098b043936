//! A place on a mesh, with all that keeps it: the node, the clients of coordinator and relays, and the folder that makes it the
//! same place after a restart. With a stored map it is on the mesh at once, whether the coordinator is there or not.

mod folder;

pub use folder::MemberError;

use crate::{
    Clock, Interfaces, Node, NodeSettings, Random, Standing, Wires,
    control::{self, ControlSettings, ControlState, Outputs},
    node::RELAY_QUEUE,
    relay::{self, RelayEnds, RelaySettings, RelayState},
};
use allod_meshproto::netmap::StoredMap;
use folder::{Folder, Keeping};
use std::{collections::BTreeMap, path::PathBuf, sync::Arc};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};

/// What a place on a mesh is opened with.
pub struct MemberSettings {
    /// Where its keys, its map and what it knows of the coordinator are: a folder of its own, its user's alone.
    pub folder: PathBuf,
    /// Whom to ask, and as whom.
    pub control: ControlSettings,
    /// Where its datagrams come from.
    pub interfaces: Interfaces,
    /// Random numbers.
    pub random: Random,
    /// The time.
    pub clock: Clock,
}

/// A place on a mesh. Dropped, it leaves; the folder brings it back.
#[derive(Debug)]
pub struct Member {
    node: Node,
    state: watch::Receiver<ControlState>,
    relays: watch::Receiver<BTreeMap<u32, RelayState>>,
    maps: watch::Receiver<Option<Arc<StoredMap>>>,
    alive: watch::Receiver<()>,
    _tasks: JoinSet<()>,
}

impl Member {
    /// Takes the place in the folder, or makes one. Must be called within a tokio runtime; blocks for a few files.
    ///
    /// # Errors
    /// When the folder can't be used, another process uses it, or no socket can be had. A stored map that can't be read is an
    /// error too; one that is too old is none.
    pub fn open(settings: MemberSettings) -> Result<Self, MemberError> {
        let MemberSettings { folder, mut control, interfaces, random, clock } = settings;
        let folder = Folder::open(&folder)?;
        let mut identity = folder.identity(&*random)?;
        let stored = folder.map()?.filter(|stored| stored.is_usable(clock())).map(Arc::new);
        folder.recall(&mut control.trust)?;

        let (tell_map, maps) = watch::channel(stored);
        let (tell_state, state) = watch::channel(ControlState::Connecting);
        let (tell_vouched, vouched) = watch::channel(None);
        let (tell_standing, standing) = watch::channel(Standing::default());
        let (tell_relays, relays) = watch::channel(BTreeMap::new());
        let (to_relay, outgoing) = mpsc::channel(RELAY_QUEUE);
        let (incoming, from_relay) = mpsc::channel(RELAY_QUEUE);

        let wires = Wires { maps: maps.clone(), to_relay, from_relay, standing: tell_standing };
        let node = NodeSettings { identity: identity.clone(), interfaces, random, clock: Arc::clone(&clock) };
        let node = Node::start(node, wires)?;
        if identity.port != node.port() {
            identity.port = node.port();
            folder.keep_identity(&identity)?;
        }
        let relay = RelaySettings { node: identity.node.clone(), tls: control.tls.clone() };
        let ends = RelayEnds {
            maps: maps.clone(),
            standing: standing.clone(),
            outgoing,
            incoming,
            states: tell_relays,
        };
        let outputs = Outputs { map: tell_map, state: tell_state, vouched: tell_vouched };
        let told = maps.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(relay::pass(relay, ends));
        tasks.spawn(control::follow(control, Arc::new(identity), outputs, standing, clock));
        tasks.spawn(Keeping { folder, maps, vouched }.run());
        let (living, alive) = watch::channel(());
        let ended = node.ended();
        let mut whole = JoinSet::new();
        whole.spawn(async move {
            // Each of them goes on for as long as the others do: the first to end is the end.
            tokio::select! {
                () = ended => {}
                Some(first) = tasks.join_next() => if let Err(error) = first {
                    tracing::error!(%error, "part of the place on the mesh panicked");
                },
            }
            drop(living);
        });
        Ok(Self { node, state, relays, maps: told, alive, _tasks: whole })
    }

    /// Waits until the place is of no more use: its node, or one of the clients that keep it, is at its end. That is so when it is
    /// dropped, and when something panicked; the folder brings it back.
    pub fn ended(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut alive = self.alive.clone();
        // Nothing is ever said: the sender goes.
        async move { drop(alive.changed().await) }
    }

    /// The node: `listen`, `connect`, `whois`, `watch`.
    #[must_use]
    pub const fn node(&self) -> &Node {
        &self.node
    }

    /// How things stand with the coordinator, as they change.
    #[must_use]
    pub fn control(&self) -> watch::Receiver<ControlState> {
        self.state.clone()
    }

    /// The map, as the coordinator said it last or as it was stored. It may name what has expired since: the node judges that.
    #[must_use]
    pub fn maps(&self) -> watch::Receiver<Option<Arc<StoredMap>>> {
        self.maps.clone()
    }

    /// How each relay is that is used, by its region, as they change.
    #[must_use]
    pub fn relays(&self) -> watch::Receiver<BTreeMap<u32, RelayState>> {
        self.relays.clone()
    }
}
