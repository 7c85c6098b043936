//! A listener through the node: one connection that holds the port, and a few that wait to become what comes in.

use super::{
    asking::{Asking, Talk},
    judge,
};
use crate::{Connection, MeshError, Mode, guard};
use allod_proto::{
    FaultCode,
    node::{NodeAnswer, NodeAsk},
};
use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{Mutex, mpsc, watch},
    task::{JoinHandle, JoinSet},
    time::sleep,
};

/// How many wait at once: while one is handed on, the next comes in by another.
const WAITING: usize = 4;
/// How long one rests that could not wait.
const REST: Duration = Duration::from_millis(100);

/// The end of a listener that this program has.
#[derive(Debug)]
pub(crate) struct Accepting {
    incoming: Mutex<mpsc::Receiver<Connection>>,
    over: watch::Receiver<bool>,
    failures: Arc<AtomicU64>,
    keeping: JoinHandle<()>,
}

impl Accepting {
    /// With the conversation in which the node said that it listens.
    pub(super) fn start(asking: Arc<Asking>, mut kept: Talk, listener: u64, only: Option<IpAddr>) -> Self {
        let (hand_on, incoming) = mpsc::channel(1);
        let (tell_over, over) = watch::channel(false);
        let failures = Arc::new(AtomicU64::new(0));
        let waiter = Waiter { asking, listener, only, hand_on, failures: Arc::clone(&failures) };
        let keeping = tokio::spawn(async move {
            let mut waiters = JoinSet::new();
            for _ in 0..WAITING {
                waiters.spawn(waiter.clone().run());
            }
            drop(waiter);
            tokio::select! {
                () = kept.ended() => {}
                () = async { while waiters.join_next().await.is_some() {} } => {}
            }
            tell_over.send_replace(true);
        });
        Self { incoming: Mutex::new(incoming), over, failures, keeping }
    }

    /// The next one. Never, once the node has let go of the port.
    pub(crate) async fn accept(&self) -> Connection {
        match self.incoming.lock().await.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    /// Resolves when nothing will come in any more.
    pub(crate) async fn is_over(&self) {
        // Whoever told it ends with this.
        let _ = self.over.clone().wait_for(|over| *over).await.map(drop);
    }

    /// How often it could not be waited.
    pub(crate) fn failures(&self) -> u64 {
        self.failures.load(Ordering::Relaxed)
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        self.keeping.abort();
    }
}

#[derive(Clone)]
struct Waiter {
    asking: Arc<Asking>,
    listener: u64,
    only: Option<IpAddr>,
    hand_on: mpsc::Sender<Connection>,
    failures: Arc<AtomicU64>,
}

impl Waiter {
    /// Until nobody takes what comes in, or the node has no such listener.
    async fn run(self) {
        while !self.hand_on.is_closed() {
            match self.next().await {
                Ok(NodeAnswer::Failed(fault)) if fault.code == FaultCode::NotFound => return,
                Ok(answer) => {
                    tracing::debug!(?answer, "the node does not let us wait");
                    self.rest().await;
                }
                Err(Stopped::Served) => {}
                Err(Stopped::By(error)) => {
                    tracing::debug!(%error, "waiting at the node failed");
                    self.rest().await;
                }
            }
        }
    }

    async fn rest(&self) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        sleep(REST).await;
    }

    async fn next(&self) -> Result<NodeAnswer, Stopped> {
        let mut talk = self.asking.open(&NodeAsk::Accept { listener: self.listener }).await?;
        match self.asking.next(&mut talk).await? {
            NodeAnswer::Accepted { peer, local } => {
                let is_good = judge::is_wanted(local.ip(), self.only)
                    && guard::may_be_peer(local.ip(), peer.ip(), &Mode::default());
                if is_good {
                    let connection = Connection::of_node(talk.into_stream(), peer, local);
                    // Nobody takes it: it ends.
                    let _ = self.hand_on.send(connection).await;
                } else {
                    tracing::warn!(%peer, %local, "dropped a connection from outside the mesh");
                }
                Err(Stopped::Served)
            }
            other => Ok(other),
        }
    }
}

enum Stopped {
    /// There was a connection.
    Served,
    By(MeshError),
}

impl From<MeshError> for Stopped {
    fn from(error: MeshError) -> Self {
        Self::By(error)
    }
}
