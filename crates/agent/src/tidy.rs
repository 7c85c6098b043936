//! Leftovers of deploys that never happened: taken away a day after anybody touched them, or an hour after, when somebody
//! frees space.

use crate::{agent::Agent, executor_link::unexpected};
use allod_proto::{
    AppRef, Fault,
    executor::{DesiredApp, Goal, Looked, Release},
    limits::{UPLOAD_LEASE, UPLOAD_MEMORY},
    messages::server::ServerPruneReply,
};
use serde_json::Value;
use std::{collections::HashMap, sync::Arc, time::Duration};

const EVERY: Duration = Duration::from_secs(60 * 60);

/// Tidies, for ever.
pub(crate) async fn run(agent: Arc<Agent>) {
    loop {
        match sweep(&agent, None, UPLOAD_MEMORY).await {
            Ok(0) => {}
            Ok(freed) => tracing::info!(freed, "chunks of deploys that never happened were removed"),
            Err(fault) => tracing::warn!(%fault, "chunks could not be looked through"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// What else `server.prune` frees, added to what the executor says of it.
pub(crate) async fn prune(agent: &Arc<Agent>, app: Option<&AppRef>, reply: Value) -> Result<Value, Fault> {
    let mut reply: ServerPruneReply = serde_json::from_value(reply).map_err(|_| unexpected())?;
    let freed = sweep(agent, app.cloned(), UPLOAD_LEASE).await?;
    reply.bytes = reply.bytes.saturating_add(freed);
    serde_json::to_value(reply).map_err(|_| unexpected())
}

/// Makes sure that it is known how much of what the app sent is in no release.
pub(crate) async fn learn(agent: &Arc<Agent>, app: &AppRef) -> Result<(), Fault> {
    if agent.chunks.knows(app) {
        return Ok(());
    }
    let looked = agent.look().await?;
    let (agent, app) = (Arc::clone(agent), app.clone());
    let learning = move || {
        let mut in_use = in_use(&looked);
        agent.chunks.learn(&app, &in_use.remove(&app).unwrap_or_default());
    };
    tokio::task::spawn_blocking(learning).await.map_err(|_| unexpected())
}

async fn sweep(agent: &Arc<Agent>, only: Option<AppRef>, age: Duration) -> Result<u64, Fault> {
    let looked = agent.look().await?;
    let agent = Arc::clone(agent);
    let sweeping = move || agent.chunks.sweep(only.as_ref(), &in_use(&looked), age, agent.now());
    tokio::task::spawn_blocking(sweeping).await.map_err(|_| unexpected())
}

/// Of each app the release that serves, which the next upload builds on, and the one that an open operation brings.
fn in_use<'a>(looked: &'a Looked) -> HashMap<AppRef, Vec<&'a Release>> {
    let of = |desired: &'a DesiredApp| {
        let opened = desired.operation.as_ref().and_then(|open| match &open.goal {
            Goal::Release { release, .. } => Some(&**release),
            Goal::Scale { .. } | Goal::Stop {} | Goal::Remove {} => None,
        });
        (desired.app.clone(), desired.current.iter().chain(opened).collect())
    };
    looked.apps.iter().map(of).collect()
}
