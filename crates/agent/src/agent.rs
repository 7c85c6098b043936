//! All that the agent holds. It has no privilege: what it can't do itself it asks of the executor.

use crate::{
    chunks::Chunks,
    door::DoorFacts,
    executor_link::{ExecutorLink, expect_done},
    keys::KeyRing,
    observations::Observations,
    operations::Operations,
    ports::Ports,
    program::Settings,
    reconcile::Keeper,
    route_table::RouteTables,
};
use allod_daemon::Clock;
use allod_mesh::Mesh;
use allod_proto::{
    Fault, Timestamp,
    executor::{Action, Attached, Done, Looked},
    record::SignedHead,
};
use allod_signing::{KeySigner, Window};
use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::watch;

/// How long the reply to a rotation may take on its way before this program ends.
const LAST_WORD: Duration = Duration::from_millis(300);

/// The agent.
pub(crate) struct Agent {
    pub(crate) settings: Settings,
    pub(crate) clock: Clock,
    pub(crate) started_at: Timestamp,
    pub(crate) identity: KeySigner,
    pub(crate) link: ExecutorLink,
    pub(crate) attached: Attached,
    pub(crate) keys: KeyRing,
    pub(crate) window: Mutex<Window>,
    pub(crate) observations: Observations,
    pub(crate) operations: Operations,
    pub(crate) routes: RouteTables,
    pub(crate) chunks: Chunks,
    pub(crate) ports: Ports,
    pub(crate) keeper: Keeper,
    /// Whether the identity in hand is not the server's any more.
    pub(crate) rotated: watch::Sender<bool>,
    pub(crate) door: DoorFacts,
    pub(crate) mesh: Arc<dyn Mesh>,
}

impl Agent {
    /// Where the management API is now; what the settings say while the machine has no address on the mesh.
    pub(crate) fn place(&self) -> String {
        let listen = self.settings.listen;
        let status = self.mesh.watch().borrow().clone();
        match status.addresses.first() {
            Some(first) => SocketAddr::new(*first, listen.port).to_string(),
            None => listen.to_string(),
        }
    }

    /// How things stand, as the executor sees it.
    pub(crate) async fn look(&self) -> Result<Looked, Fault> {
        let looked = expect_done!(self.link.ask(Action::Look {}).await, Done::Looked(looked) => *looked)?;
        if looked.keys != self.keys.generation() {
            self.refresh_keys().await?;
        }
        Ok(looked)
    }

    /// Reads the key files again.
    pub(crate) async fn refresh_keys(&self) -> Result<(), Fault> {
        let files = expect_done!(self.link.ask(Action::Keys {}).await, Done::Keys(files) => files)?;
        self.keys.set(&files);
        Ok(())
    }

    /// The newest head of the record.
    pub(crate) fn head(&self) -> SignedHead {
        self.link.head().unwrap_or_else(|| self.attached.head.clone())
    }

    /// Resolves a moment after the identity was rotated: the reply, signed by the old one, is on its way by then. One that
    /// is lost all the same is asked for again, of the new identity.
    pub(crate) async fn replaced(&self) {
        let mut rotated = self.rotated.subscribe();
        if rotated.wait_for(|rotated| *rotated).await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(LAST_WORD).await;
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
