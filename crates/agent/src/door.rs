//! The signed door on the mesh: accepting, and what can be said of it when somebody asks what is wrong.

use crate::service::AgentService;
use allod_daemon::raise_descriptor_limit;
use allod_mesh::FollowingListener;
use allod_proto::Timestamp;
use allod_rpc::server::{Doorway, ListenerLimits, Service};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// For how long a failure to accept is worth telling.
const MEMORABLE: Duration = Duration::from_secs(3600);

/// What is known of the door.
#[derive(Debug, Default)]
pub(crate) struct DoorFacts {
    /// Connections at most.
    bound: AtomicU64,
    failures: AtomicU64,
    /// When the last one was noticed.
    failed_at: AtomicU64,
}

/// What may be wrong with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DoorState {
    /// Nothing.
    Good,
    /// Within the last hour connections could not be accepted: so many since the start.
    Failing(u64),
    /// There are too few descriptors for more connections than these.
    Narrow(u64),
}

impl DoorFacts {
    fn learn(&self, failures: u64, now: Timestamp) {
        if self.failures.swap(failures, Ordering::Relaxed) != failures {
            self.failed_at.store(now.0, Ordering::Relaxed);
        }
    }

    /// How it stands.
    pub(crate) fn state(&self, now: Timestamp) -> DoorState {
        let failures = self.failures.load(Ordering::Relaxed);
        if failures > 0 && now.since(Timestamp(self.failed_at.load(Ordering::Relaxed))) < MEMORABLE {
            return DoorState::Failing(failures);
        }
        let (bound, wished) = (self.bound.load(Ordering::Relaxed), ListenerLimits::default().connections);
        if usize::try_from(bound).is_ok_and(|bound| bound < wished) {
            return DoorState::Narrow(bound);
        }
        DoorState::Good
    }
}

/// Serves the mesh until it is dropped.
pub(crate) async fn serve(mut listener: FollowingListener, service: Arc<AgentService>) {
    let limits = ListenerLimits::default().within(raise_descriptor_limit());
    let agent = Arc::clone(&service.0);
    agent.door.bound.store(u64::try_from(limits.connections).unwrap_or(u64::MAX), Ordering::Relaxed);
    let doorway = Arc::new(Doorway::new(service, limits));
    loop {
        let room = doorway.room().await;
        let connection = listener.accept().await;
        agent.door.learn(listener.failures(), agent.now());
        let (mesh, doorway) = (Arc::clone(&agent.mesh), Arc::clone(&doorway));
        tokio::spawn(async move {
            let peer = connection.peer().ip();
            match mesh.whois(connection.peer()).await {
                Ok(Some(_)) => doorway.serve(room, connection, peer).await,
                Ok(None) => doorway.service().refused(&peer.to_string(), "not a peer of the mesh"),
                Err(error) => tracing::warn!(%error, %peer, "the mesh does not say who a peer is"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_780_000_000_000);

    #[test]
    fn a_failure_is_told_for_an_hour_and_few_descriptors_always() {
        let facts = DoorFacts::default();
        facts.bound.store(40, Ordering::Relaxed);
        assert_eq!(facts.state(NOW), DoorState::Narrow(40));
        facts.learn(0, NOW);
        assert_eq!(facts.state(NOW), DoorState::Narrow(40));
        facts.learn(3, NOW);
        facts.learn(3, NOW.plus(MEMORABLE / 2));
        assert_eq!(facts.state(NOW.plus(MEMORABLE / 2)), DoorState::Failing(3));
        assert_eq!(facts.state(NOW.plus(MEMORABLE)), DoorState::Narrow(40));
        facts.bound.store(1024, Ordering::Relaxed);
        assert_eq!(facts.state(NOW.plus(MEMORABLE)), DoorState::Good);
        facts.learn(4, NOW.plus(MEMORABLE));
        assert_eq!(facts.state(NOW.plus(MEMORABLE)), DoorState::Failing(4));
    }
}
