//! A listener that stays with the machine's mesh addresses: it waits while there is none, and is bound anew when they, or
//! the interface that has them, change. Connections that were accepted before are not touched.

use crate::{Connection, Listener, Mesh, MeshError, MeshStatus};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// How often it is tried again where no change is told.
const AGAIN: Duration = Duration::from_millis(500);
/// How often where the port is taken: as a rule by what this program itself let go of just now.
const TAKEN: Duration = Duration::from_millis(20);
/// How long a start waits for a port that is still taken, as after a restart.
const PORT_PATIENCE: Duration = Duration::from_secs(5);

/// Listens wherever this machine is on the mesh.
pub struct FollowingListener {
    mesh: Arc<dyn Mesh>,
    port: u16,
    changes: watch::Receiver<MeshStatus>,
    bound: Option<Bound>,
    /// Failures to accept of listeners that are gone.
    failures: u64,
}

struct Bound {
    listener: Listener,
    under: MeshStatus,
}

impl Bound {
    /// Whether it listens where the mesh has the machine `now`. What it was bound under may have been told late: a driver's
    /// status is older than the listener that the same driver gave.
    fn is_still_at(&self, now: &MeshStatus) -> bool {
        let at = || self.listener.addresses().iter().map(SocketAddr::ip);
        !self.under.is_elsewhere(now)
            || self.under.interface == now.interface && at().eq(now.addresses.iter().copied())
    }
}

impl FollowingListener {
    /// Listens on `port`, waiting for as long as time may mend what is in the way; 0 picks a free port and keeps it.
    ///
    /// # Errors
    /// [`MeshError`] where waiting is of no use: an address that may not be listened on or isn't this machine's, a port
    /// that is taken.
    pub async fn open(mesh: Arc<dyn Mesh>, port: u16) -> Result<Self, MeshError> {
        let changes = mesh.watch();
        let mut this = Self { mesh, port, changes, bound: None, failures: 0 };
        let begun = Instant::now();
        let mut said = None;
        loop {
            match this.bind().await {
                Ok(()) => return Ok(this),
                Err(error) if error.may_pass() => waiting(&error, &mut said),
                Err(MeshError::Listen { .. }) if begun.elapsed() < PORT_PATIENCE => {
                    sleep(TAKEN).await;
                    continue;
                }
                Err(error) => return Err(error),
            }
            this.until_something_changes().await;
        }
    }

    /// Where it listens now.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        self.bound.as_ref().map_or(&[], |bound| bound.listener.addresses())
    }

    /// How often accepting failed since the start, for want of something on this machine.
    #[must_use]
    pub fn failures(&self) -> u64 {
        self.failures.saturating_add(self.bound.as_ref().map_or(0, |bound| bound.listener.failures()))
    }

    /// The next connection, as [`Listener::accept`] gives it, wherever the machine's addresses have gone meanwhile.
    pub async fn accept(&mut self) -> Connection {
        let mut said = None;
        let mut let_go = Instant::now();
        loop {
            if let Some(bound) = &mut self.bound {
                tokio::select! {
                    connection = bound.listener.accept() => return connection,
                    told = self.changes.changed() => {
                        if told.is_err() {
                            // A driver that will never tell of anything.
                            return bound.listener.accept().await;
                        }
                        let now = self.changes.borrow_and_update().clone();
                        if bound.is_still_at(&now) {
                            bound.under = now;
                            continue;
                        }
                    }
                    // Also where its end and the next beginning were one change.
                    () = bound.listener.is_over() => {}
                }
                self.failures = self.failures();
                self.bound = None;
                said = None;
                let_go = Instant::now();
            }
            match self.bind().await {
                Ok(()) => {
                    tracing::info!(addresses = ?self.addresses(), "listening where the mesh has us now")
                }
                Err(MeshError::Listen { .. }) if let_go.elapsed() < PORT_PATIENCE => sleep(TAKEN).await,
                Err(error) => {
                    waiting(&error, &mut said);
                    self.until_something_changes().await;
                }
            }
        }
    }

    async fn bind(&mut self) -> Result<(), MeshError> {
        // Read before: a change in between is then seen as one.
        let under = self.changes.borrow_and_update().clone();
        let listener = self.mesh.listen(self.port).await?;
        if let Some(first) = listener.addresses().first() {
            self.port = first.port();
        }
        self.bound = Some(Bound { listener, under });
        Ok(())
    }

    async fn until_something_changes(&mut self) {
        // A driver that has ended tells of nothing: then the time passes.
        if let Ok(Err(_)) = timeout(AGAIN, self.changes.changed()).await {
            sleep(AGAIN).await;
        }
    }
}

impl std::fmt::Debug for FollowingListener {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FollowingListener").field("addresses", &self.addresses()).finish_non_exhaustive()
    }
}

/// Says what is waited for, once for each reason.
fn waiting(error: &MeshError, said: &mut Option<String>) {
    let why = error.to_string();
    if said.as_ref() != Some(&why) {
        let fix = if let MeshError::Trouble(trouble) = error { trouble.fix() } else { String::new() };
        tracing::warn!(why, fix, "waiting for this machine's address on the mesh");
        *said = Some(why);
    }
}
