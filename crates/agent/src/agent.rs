//! All that the agent holds. It has no privilege: what it can't do itself it asks of the executor.

use crate::{
    chunks::Chunks,
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
use allod_proto::{
    Fault, Timestamp,
    executor::{Action, Attached, Done, Looked},
    record::SignedHead,
};
use allod_signing::{KeySigner, Window};
use std::sync::Mutex;

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
}

impl Agent {
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

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }
}
