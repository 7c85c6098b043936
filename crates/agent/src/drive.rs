//! Carrying out an operation that the executor has allowed, to its end: also one that an earlier life of the agent left.

use crate::{agent::Agent, operations::Running, site::AgentSite};
use allod_apps::{RolloutPlan, ScalePlan, Site, StopPlan, roll_out, routes::routes_of, scale, stop};
use allod_proto::{
    Fault, FaultCode, ReleaseId,
    executor::{Action, DesiredApp, Goal, Instance, OpenOperation, Release},
    operation::{Failure, Happening, OperationState, Step},
};
use futures_util::future::join_all;
use std::{sync::Arc, time::Duration};

/// How long requests that an interrupted rollout sent to new copies may take.
const LEFTOVER_DRAIN: Duration = Duration::from_secs(10);

/// Begins to carry it out, unless somebody does already; its events can be followed at once.
pub(crate) fn spawn(agent: &Arc<Agent>, open: OpenOperation, resumed: bool) {
    let Some(running) = agent.operations.begin(&open, resumed.then(|| agent.now())) else { return };
    let agent = Arc::clone(agent);
    tokio::spawn(async move {
        if resumed {
            let text = "carried on after a restart of the agent".to_owned();
            running.happened(agent.now(), Happening::Note { text });
        }
        carry_out(&agent, &open, &running, resumed).await;
        agent.operations.end(&running);
        sync_chunks(agent).await;
    });
}

/// Nobody waits for it: what serves was put together from the chunks and is on the disk already.
async fn sync_chunks(agent: Arc<Agent>) {
    let synced = tokio::task::spawn_blocking(move || agent.chunks.sync()).await;
    if let Ok(Err(error)) = synced {
        tracing::warn!(%error, "the chunks could not be synced; after a power cut they are read again");
    }
}

async fn carry_out(agent: &Arc<Agent>, open: &OpenOperation, running: &Arc<Running>, resumed: bool) {
    let site = AgentSite::of_operation(Arc::clone(agent), open.id.clone(), Arc::clone(running));
    if resumed {
        clear_leftovers(agent, &site, open).await;
    }
    let outcome = work(agent, &site, open).await;
    let (state, fault) = match outcome {
        Ok(()) => (OperationState::Done, None),
        Err(failure) => {
            let fault = failure.fault.clone();
            let state = match fault.code {
                FaultCode::Cancelled => OperationState::Cancelled,
                _ => OperationState::Failed,
            };
            site.happened(Happening::Failure(failure));
            (state, Some(fault))
        }
    };
    let serving_now = serving(agent, open).await;
    let finished = Happening::Finished { state, fault: fault.clone(), serving: serving_now };
    agent.operations.write_ahead(running, agent.now(), finished);
    let finish = Action::Finish { operation: open.id.clone(), state, fault: fault.clone() };
    let recorded = agent.link.ask(finish).await;
    let (state, fault) = match recorded {
        Ok(_) => (state, fault),
        // What was done is done; that it could not be recorded is worse news than how it ended.
        Err(unrecorded) => (OperationState::Failed, Some(unrecorded)),
    };
    clean_up(agent, open, state).await;
    let serving = serving(agent, open).await;
    site.happened(Happening::Finished { state, fault, serving });
}

/// Copies that an earlier life started for a release that never came to serve: the rollout begins anew without them. That
/// life may have ended between switch and promotion, so visitors are sent back to what served before any of them stops.
async fn clear_leftovers(agent: &Arc<Agent>, site: &AgentSite, open: &OpenOperation) {
    let Ok((desired, running)) = look(agent, open).await else { return };
    let serves = |id: &ReleaseId| desired.current.as_ref().is_some_and(|current| current.id == *id);
    let Some(target) = open.release().filter(|target| !open.promoted && !serves(target)) else { return };
    let (leftovers, before): (Vec<_>, Vec<_>) = running.into_iter().partition(|it| it.release == *target);
    let routed = agent.routes.upstreams().await;
    let is_routed = |it: &Instance| it.address.is_some_and(|address| routed.contains(&address));
    if leftovers.iter().any(is_routed) && !send_back(site, open, &desired, &before, &leftovers).await {
        return;
    }
    for instance in &leftovers {
        if let Err(fault) = site.stop(instance, Duration::from_secs(5)).await {
            tracing::warn!(instance = %instance.id, %fault, "a leftover could not be stopped");
        }
    }
}

/// Routes as before the operation, and leftovers drained. False when the leftovers are better kept: then the rollout
/// replaces them as it replaces whatever else serves.
async fn send_back(
    site: &AgentSite,
    open: &OpenOperation,
    desired: &DesiredApp,
    before: &[Instance],
    leftovers: &[Instance],
) -> bool {
    let routes = match &desired.current {
        // Nothing of what served is left, so what does serve stays.
        Some(current) if !desired.stopped && lacks_a_unit(current, before) => return false,
        Some(current) => routes_of(&open.app, current, before, desired.stopped),
        None => Vec::new(),
    };
    if let Err(fault) = site.switch(&open.app, routes).await {
        tracing::warn!(app = %open.app, %fault, "the routes could not be set back");
        return false;
    }
    let drains = leftovers.iter().filter_map(|it| Some(site.drain(it.address?, LEFTOVER_DRAIN)));
    join_all(drains).await;
    true
}

/// Whether some unit of the release has no copy among these.
fn lacks_a_unit(release: &Release, among: &[Instance]) -> bool {
    release
        .spec
        .processes()
        .any(|(unit, _)| !among.iter().any(|it| it.release == release.id && it.unit == *unit))
}

async fn work(agent: &Arc<Agent>, site: &AgentSite, open: &OpenOperation) -> Result<(), Box<Failure>> {
    let (desired, running) = look(agent, open).await.map_err(|fault| failure(Step::Start, fault))?;
    match &open.goal {
        // What was promoted serves; the keeper finishes what is left.
        Goal::Release { .. } | Goal::Scale { .. } if open.promoted => Ok(()),
        Goal::Release { release, scale, .. } => {
            let plan = RolloutPlan {
                app: open.app.clone(),
                release: (**release).clone(),
                from: desired.current.clone(),
                old: running,
                was_stopped: desired.stopped,
                scale: scale.clone(),
                run_release_command: open.command == "app.deploy",
            };
            let served = roll_out(site, &plan).await?;
            agent.keeper.are_healthy(&served.instances);
            Ok(())
        }
        Goal::Scale { unit, instances } => {
            let release =
                desired.current.clone().ok_or_else(|| failure(Step::Start, never_deployed(open)))?;
            let plan = ScalePlan {
                app: open.app.clone(),
                release,
                unit: unit.clone(),
                instances: *instances,
                running,
            };
            let served = scale(site, &plan).await?;
            agent.keeper.are_healthy(&served.instances);
            Ok(())
        }
        Goal::Stop {} | Goal::Remove {} => {
            let remove = matches!(open.goal, Goal::Remove {});
            let plan = StopPlan { app: open.app.clone(), release: desired.current.clone(), running, remove };
            stop(site, &plan).await
        }
    }
}

async fn look(agent: &Arc<Agent>, open: &OpenOperation) -> Result<(DesiredApp, Vec<Instance>), Fault> {
    let looked = agent.look().await?;
    let desired =
        looked.apps.into_iter().find(|app| app.app == open.app).ok_or_else(|| never_deployed(open))?;
    let running = looked.instances.into_iter().filter(|it| it.app == open.app && it.exit.is_none()).collect();
    Ok((desired, running))
}

async fn clean_up(agent: &Arc<Agent>, open: &OpenOperation, state: OperationState) {
    if matches!(open.goal, Goal::Remove {}) && state == OperationState::Done {
        agent.chunks.forget(&open.app);
        agent.keeper.forget(&open.app);
        return;
    }
    if state != OperationState::Done {
        return;
    }
    let Ok((desired, _)) = look(agent, open).await else { return };
    let Some(current) = desired.current else { return };
    let (agent, app) = (Arc::clone(agent), open.app.clone());
    let pruned =
        tokio::task::spawn_blocking(move || agent.chunks.prune(&app, &[&current], agent.now())).await;
    if let Ok(Err(fault)) = pruned {
        tracing::debug!(%fault, "chunks were not pruned");
    }
}

async fn serving(agent: &Arc<Agent>, open: &OpenOperation) -> Option<ReleaseId> {
    let (desired, _) = look(agent, open).await.ok()?;
    if desired.stopped { None } else { desired.current.map(|release| release.id) }
}

fn failure(step: Step, fault: Fault) -> Box<Failure> {
    Box::new(Failure { step, fault, instance: None, probe: None, exit: None, log_tail: Vec::new() })
}

fn never_deployed(open: &OpenOperation) -> Fault {
    Fault::new(FaultCode::NotFound, format!("{} is not on this server", open.app))
}
