//! What a rollout needs of the world. The agent implements it over executor and proxy, for one open operation; tests
//! have a fake.

use crate::probe::{Probe, Tried};
use allod_proto::{
    AppRef, Fault, InstanceId, UnitName, executor::Instance, executor::Release, operation::Happening,
    routes::Route,
};
use std::{future::Future, net::SocketAddr, time::Duration};

/// One operation's hands and eyes.
pub trait Site: Send + Sync {
    /// Starts one instance. Picks a free port itself and tells the app by `PORT` and `HOST`.
    fn start(
        &self,
        app: &AppRef,
        unit: &UnitName,
        release: &Release,
    ) -> impl Future<Output = Result<Instance, Fault>> + Send;

    /// SIGTERM, grace, SIGKILL of the whole tree; answers when it is gone. An instance that is gone already is no fault.
    fn stop(&self, instance: &Instance, grace: Duration) -> impl Future<Output = Result<(), Fault>> + Send;

    /// How an instance stands now: ended? ready? listening where? `None` if nobody knows it.
    fn look(&self, instance: &InstanceId) -> impl Future<Output = Result<Option<Instance>, Fault>> + Send;

    /// Runs the health command of an instance, as the instance: whether it ended well, and how.
    fn check_command(
        &self,
        instance: &InstanceId,
        timeout: Duration,
    ) -> impl Future<Output = Result<(bool, String), Fault>> + Send;

    /// The newest lines of an instance's log, oldest first; empty if they can't be had.
    fn log_tail(&self, instance: &Instance, lines: usize) -> impl Future<Output = Vec<String>> + Send;

    /// Makes these the routes of the app, all of them. Answers once the proxy follows them; a route that another app
    /// owns is a conflict and changes nothing.
    fn switch(&self, app: &AppRef, routes: Vec<Route>) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Waits until no request is in flight to this address; answers how many were cut at the end of the wait.
    fn drain(
        &self,
        address: SocketAddr,
        timeout: Duration,
    ) -> impl Future<Output = Result<u64, Fault>> + Send;

    /// Runs the release command of the release that the operation brings: whether it ended well, how, and the end of
    /// what it printed.
    fn release_command(&self) -> impl Future<Output = Result<(bool, String, Vec<String>), Fault>> + Send;

    /// What the operation wants is desired state from now on, durably: its release serves, its scale counts, its stop
    /// stays. To promote what is promoted already is no fault: a lost answer is asked for again.
    fn promote(&self) -> impl Future<Output = Result<(), Fault>> + Send;

    /// Tells who follows the operation.
    fn happened(&self, what: Happening);

    /// Resolves when somebody asks for the operation to end, at once if somebody has; never otherwise.
    fn cancelled(&self) -> impl Future<Output = ()> + Send;

    /// Asks an instance over its own port whether it is well. Only tests have a reason to do this otherwise.
    fn probe(&self, probe: &Probe, timeout: Duration) -> impl Future<Output = Tried> + Send {
        crate::probe::send(probe, timeout)
    }
}
