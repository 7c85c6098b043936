//! One operation's hands and eyes: executor and proxy behind the trait that rollouts are written against.

use crate::{
    agent::Agent,
    executor_link::{expect_done, unexpected},
    log_reader,
    operations::Running,
};
use allod_apps::Site;
use allod_proto::{
    AppRef, Fault, InstanceId, OperationId, UnitName,
    executor::{Action, Done, Instance, Release},
    operation::Happening,
    routes::Route,
};
use std::{net::SocketAddr, sync::Arc, time::Duration};

/// The world as an operation, or the keeper of desired state, sees it.
pub(crate) struct AgentSite {
    agent: Arc<Agent>,
    operation: Option<(OperationId, Arc<Running>)>,
}

impl AgentSite {
    /// For an operation.
    pub(crate) fn of_operation(agent: Arc<Agent>, id: OperationId, running: Arc<Running>) -> Self {
        Self { agent, operation: Some((id, running)) }
    }

    /// For repeating desired state.
    pub(crate) fn of_keeper(agent: Arc<Agent>) -> Self {
        Self { agent, operation: None }
    }

    fn id(&self) -> Option<&OperationId> {
        self.operation.as_ref().map(|(id, _)| id)
    }

    async fn start_at(
        &self,
        app: &AppRef,
        unit: &UnitName,
        release: &Release,
        address: SocketAddr,
    ) -> Result<Instance, Fault> {
        let action = Action::InstanceStart {
            operation: self.id().cloned(),
            app: app.clone(),
            unit: unit.clone(),
            release: release.id.clone(),
            address: Some(address),
        };
        expect_done!(self.agent.link.ask(action).await, Done::Started { instance } => *instance)
    }
}

impl Site for AgentSite {
    async fn start(&self, app: &AppRef, unit: &UnitName, release: &Release) -> Result<Instance, Fault> {
        let instances = self.agent.look().await?.instances;
        let address = self.agent.ports.reserve(&instances)?;
        let started = self.start_at(app, unit, release, address).await;
        // From here on the executor's list of instances says who has the port.
        self.agent.ports.release(address);
        started
    }

    async fn stop(&self, instance: &Instance, grace: Duration) -> Result<(), Fault> {
        let grace_ms = u64::try_from(grace.as_millis()).unwrap_or(u64::MAX);
        let stop = Action::InstanceStop { instance: instance.id.clone(), grace_ms };
        let gone = |fault: Fault| match fault.code {
            allod_proto::FaultCode::NotFound => Ok(()),
            _ => Err(fault),
        };
        self.agent.link.ask(stop).await.map(|_| ()).or_else(gone)?;
        let forget = Action::InstanceForget { instance: instance.id.clone() };
        self.agent.link.ask(forget).await.map(|_| ()).or_else(gone)
    }

    async fn look(&self, instance: &InstanceId) -> Result<Option<Instance>, Fault> {
        Ok(self.agent.look().await?.instances.into_iter().find(|known| known.id == *instance))
    }

    async fn check_command(&self, instance: &InstanceId, timeout: Duration) -> Result<(bool, String), Fault> {
        let timeout_ms = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
        let action = Action::InstanceCheck { instance: instance.clone(), timeout_ms };
        expect_done!(self.agent.link.ask(action).await, Done::Ran { exit, ok, .. } => (ok, exit))
    }

    async fn log_tail(&self, instance: &Instance, lines: usize) -> Vec<String> {
        log_reader::tail(&self.agent, &instance.app, &instance.id, lines).await
    }

    async fn switch(&self, app: &AppRef, routes: Vec<Route>) -> Result<(), Fault> {
        self.agent.routes.set(app, routes).await?;
        // Whoever is routed to was found healthy.
        let routed = self.agent.routes.upstreams().await;
        let mut serving = self.agent.look().await?.instances;
        serving.retain(|it| it.app == *app && it.address.is_some_and(|address| routed.contains(&address)));
        self.agent.keeper.are_healthy(&serving);
        Ok(())
    }

    async fn drain(&self, address: SocketAddr, timeout: Duration) -> Result<u64, Fault> {
        self.agent.routes.drain(address, timeout).await
    }

    async fn release_command(&self) -> Result<(bool, String, Vec<String>), Fault> {
        let operation = self.id().cloned().ok_or_else(unexpected)?;
        let ran = self.agent.link.ask(Action::ReleaseCommand { operation }).await;
        expect_done!(ran, Done::Ran { exit, ok, tail } => (ok, exit, tail))
    }

    async fn promote(&self) -> Result<(), Fault> {
        let operation = self.id().cloned().ok_or_else(unexpected)?;
        self.agent.link.ask(Action::Promote { operation }).await.map(|_| ())
    }

    fn happened(&self, what: Happening) {
        if let Some((_, running)) = &self.operation {
            running.happened(self.agent.now(), what);
        }
    }

    async fn cancelled(&self) {
        match &self.operation {
            Some((_, running)) => running.cancelled().await,
            None => std::future::pending().await,
        }
    }
}
