//! What everybody sees: the network as stored, its policy compiled, who is online. Each change makes another value of it; whoever
//! holds one keeps what is the same in all of them only once.

use crate::{keys::Keys, policy::Compiled, state::State, store::Draft};
use allod_meshproto::control::NodeId;
use allod_proto::Timestamp;
use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// The network at one moment.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub(crate) state: Arc<State>,
    pub(crate) keys: Arc<Keys>,
    pub(crate) compiled: Arc<Compiled>,
    pub(crate) online: Arc<BTreeSet<NodeId>>,
    /// Whether the last change could be stored.
    pub(crate) is_well: bool,
    compiled_at: Timestamp,
}

/// Makes views and shows the newest.
#[derive(Debug)]
pub(crate) struct Viewer {
    sender: watch::Sender<Arc<View>>,
    making: Mutex<()>,
}

impl Viewer {
    pub(crate) fn new(draft: &Draft, now: Timestamp) -> Self {
        let compiled = Compiled::new(draft.state.policy(), draft.state.nodes(), None, now);
        let view = View {
            state: Arc::new(draft.state.clone()),
            keys: Arc::clone(&draft.keys),
            compiled: Arc::new(compiled),
            online: Arc::default(),
            is_well: true,
            compiled_at: now,
        };
        Self { sender: watch::Sender::new(Arc::new(view)), making: Mutex::new(()) }
    }

    pub(crate) fn now(&self) -> Arc<View> {
        Arc::clone(&self.sender.borrow())
    }

    pub(crate) fn follow(&self) -> watch::Receiver<Arc<View>> {
        self.sender.subscribe()
    }

    /// Shows what has been stored.
    pub(crate) fn stored(&self, draft: &Draft, is_well: bool, now: Timestamp) {
        self.make(|view| {
            view.state = Arc::new(draft.state.clone());
            view.keys = Arc::clone(&draft.keys);
            view.is_well = is_well;
            view.compile(now);
            true
        });
    }

    /// Shows that a node came or went.
    pub(crate) fn set_online(&self, id: NodeId, is_online: bool) {
        self.make(|view| {
            if view.online.contains(&id) == is_online {
                return false;
            }
            let online = Arc::make_mut(&mut view.online);
            if is_online { online.insert(id) } else { online.remove(&id) }
        });
    }

    /// Shows which keys have expired meanwhile.
    pub(crate) fn tick(&self, now: Timestamp) {
        self.make(|view| {
            let before = view.compiled_at;
            let has_expired =
                view.state.nodes().values().any(|node| node.is_expired(now) != node.is_expired(before));
            if has_expired {
                view.compile(now);
            }
            has_expired
        });
    }

    fn make(&self, change: impl FnOnce(&mut View) -> bool) {
        let _one_at_a_time = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        let mut view = self.now().as_ref().clone();
        if change(&mut view) {
            self.sender.send_replace(Arc::new(view));
        }
    }
}

impl View {
    fn compile(&mut self, now: Timestamp) {
        let compiled = Compiled::new(self.state.policy(), self.state.nodes(), Some(&self.compiled), now);
        self.compiled = Arc::new(compiled);
        self.compiled_at = now;
    }
}
