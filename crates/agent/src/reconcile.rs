//! Keeps what is wanted running: looks, asks the pure plan what to do, does it, looks again. One app can't hold up
//! another, and an app with an operation at work is left to it.

use crate::{agent::Agent, drive, site::AgentSite};
use allod_apps::{
    Site,
    health::await_healthy,
    liveness::{self, Liveness},
    reconcile::{Act, Restarts, plan},
    routes::routes_of,
};
use allod_proto::{
    AppRef, InstanceId, UnitName,
    executor::{Action, DesiredApp, Instance, OpenOperation, Release},
    spec::{ProcessSpec, UnitSpec},
};
use futures_util::future::join_all;
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

const EVERY: Duration = Duration::from_millis(400);

/// What the keeper remembers between looks.
#[derive(Default)]
pub(crate) struct Keeper {
    restarts: Mutex<Restarts>,
    healthy: Mutex<HashSet<InstanceId>>,
    busy: Mutex<HashSet<AppRef>>,
    liveness: Mutex<Liveness>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Keeper {
    /// These were found healthy.
    pub(crate) fn are_healthy(&self, instances: &[Instance]) {
        let mut restarts = lock(&self.restarts);
        for instance in instances {
            restarts.is_healthy(&instance.id);
            lock(&self.healthy).insert(instance.id.clone());
        }
    }

    pub(crate) fn is_healthy(&self, instance: &InstanceId) -> bool {
        lock(&self.healthy).contains(instance)
    }

    /// How often a unit's copies ended and were started again.
    pub(crate) fn restarts(&self, app: &AppRef, unit: &UnitName) -> u32 {
        lock(&self.restarts).count(app, unit)
    }

    /// An app is gone.
    pub(crate) fn forget(&self, app: &AppRef) {
        lock(&self.restarts).forget(app);
    }

    /// One worker at a time an app.
    fn take(&self, app: &AppRef) -> bool {
        lock(&self.busy).insert(app.clone())
    }

    fn give_back(&self, app: &AppRef) {
        lock(&self.busy).remove(app);
    }
}

/// Keeps, for ever.
pub(crate) async fn run(agent: Arc<Agent>) {
    let mut orphans = HashSet::new();
    loop {
        // Taken before the look, so that an operation that begins after it is noticed.
        let turn = agent.operations.turn();
        match agent.look().await {
            Ok(looked) => {
                let known: HashSet<_> = looked.instances.iter().map(|instance| instance.id.clone()).collect();
                lock(&agent.keeper.healthy).retain(|id| known.contains(id));
                lock(&agent.keeper.liveness).retain(agent.now(), &known.iter().cloned().collect());
                let seen_before = std::mem::take(&mut orphans);
                for desired in looked.apps {
                    if let Some(open) = desired.operation.clone().filter(|open| is_orphan(&agent, open)) {
                        // Open, and nobody at work on it, twice in a row: whoever was to begin it was interrupted.
                        if seen_before.contains(&open.id) && agent.operations.turn() == turn {
                            drive::spawn(&agent, open, true);
                        } else {
                            orphans.insert(open.id);
                        }
                    }
                    let at_work =
                        desired.operation.is_some() || agent.operations.of_app(&desired.app).is_some();
                    if !at_work && agent.keeper.take(&desired.app) {
                        spawn(&agent, desired, &looked.instances, turn);
                    }
                }
            }
            Err(fault) => tracing::warn!(%fault, "desired state can't be looked at"),
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn is_orphan(agent: &Agent, open: &OpenOperation) -> bool {
    agent.operations.running(&open.id).is_none()
}

fn spawn(agent: &Arc<Agent>, desired: DesiredApp, instances: &[Instance], turn: u64) {
    let instances: Vec<_> =
        instances.iter().filter(|instance| instance.app == desired.app).cloned().collect();
    let agent = Arc::clone(agent);
    tokio::spawn(async move {
        keep(&agent, &desired, instances, turn).await;
        agent.keeper.give_back(&desired.app);
    });
}

async fn keep(agent: &Arc<Agent>, desired: &DesiredApp, mut instances: Vec<Instance>, turn: u64) {
    check_unknown(agent, desired, &instances).await;
    let acts = plan(agent.now(), desired, &instances, &mut lock(&agent.keeper.restarts));
    let mut starts = Vec::new();
    let mut goes = Vec::new();
    for act in acts {
        match act {
            Act::Forget(id) => {
                if let Err(fault) = agent.link.ask(Action::InstanceForget { instance: id }).await {
                    tracing::debug!(%fault, "an ended instance could not be forgotten");
                }
            }
            Act::Start { unit } => starts.push(start(agent, desired, unit)),
            Act::Retire(instance) => goes.push(*instance),
            Act::Wait { .. } => {}
        }
    }
    if !starts.is_empty() {
        join_all(starts).await;
        let Ok(looked) = agent.look().await else { return };
        instances = looked.instances;
    }
    ask_who_lives(agent, desired, &instances);
    let hung = who_hangs(agent, desired, &instances);
    let leaving: Vec<Instance> = goes.iter().chain(&hung).cloned().collect();
    follow_with_routes(agent, desired, &instances, &leaving, turn).await;
    let retiring = join_all(goes.iter().map(|instance| retire(agent, desired, instance)));
    let ending = join_all(hung.iter().map(|instance| end_hung(agent, desired, instance)));
    futures_util::future::join(retiring, ending).await;
}

/// Copies of the current release that serve.
fn serving<'a>(
    agent: &'a Agent,
    desired: &'a DesiredApp,
    instances: &'a [Instance],
) -> impl Iterator<Item = &'a Instance> {
    let current = desired.current.as_ref().filter(|_| !desired.stopped).map(|current| &current.id);
    instances.iter().filter(move |it| {
        it.app == desired.app
            && Some(&it.release) == current
            && it.exit.is_none()
            && agent.keeper.is_healthy(&it.id)
    })
}

/// Asks those whose turn it is, without waiting: a copy that hangs must not hold up the others.
fn ask_who_lives(agent: &Arc<Agent>, desired: &DesiredApp, instances: &[Instance]) {
    let Some(current) = &desired.current else { return };
    let now = agent.now();
    let mut due = Vec::new();
    {
        let mut watched = lock(&agent.keeper.liveness);
        due.extend(serving(agent, desired, instances).filter(|it| watched.is_due(now, &it.id)).cloned());
    }
    for instance in due {
        let Some((unit, process)) = unit_of(current, &instance.unit) else { continue };
        let (agent, unit, process) = (Arc::clone(agent), unit.clone(), process.clone());
        tokio::spawn(async move {
            let site = AgentSite::of_keeper(Arc::clone(&agent));
            if let Some(life) = liveness::ask(&site, &instance, &unit, &process).await {
                lock(&agent.keeper.liveness).showed(&instance.id, life);
            }
        });
    }
}

fn who_hangs(agent: &Agent, desired: &DesiredApp, instances: &[Instance]) -> Vec<Instance> {
    let now = agent.now();
    let mut watched = lock(&agent.keeper.liveness);
    serving(agent, desired, instances).filter(|it| watched.hangs(now, it)).cloned().collect()
}

/// It is left as ended, so that the next look counts it as a crash and starts another.
async fn end_hung(agent: &Arc<Agent>, desired: &DesiredApp, instance: &Instance) {
    tracing::warn!(app = %desired.app, instance = %instance.id, "a copy has stopped answering; it is restarted");
    let process = desired.current.as_ref().and_then(|current| current.spec.process(&instance.unit));
    let grace_ms = process.map_or(10_000, |process| process.stop_grace_ms);
    let stop = Action::InstanceStop { instance: instance.id.clone(), grace_ms };
    if let Err(fault) = agent.link.ask(stop).await {
        tracing::warn!(instance = %instance.id, %fault, "a copy that hangs could not be stopped");
    }
}

/// After a restart of the agent nobody knows who is healthy: those in the routes are believed, the others are asked.
async fn check_unknown(agent: &Arc<Agent>, desired: &DesiredApp, instances: &[Instance]) {
    let Some(current) = &desired.current else { return };
    let routed = agent.routes.upstreams().await;
    for instance in instances {
        let is_current = instance.release == current.id && instance.exit.is_none();
        if !is_current || agent.keeper.is_healthy(&instance.id) {
            continue;
        }
        if instance.address.is_some_and(|address| routed.contains(&address)) {
            agent.keeper.are_healthy(std::slice::from_ref(instance));
            continue;
        }
        let Some((unit, process)) = unit_of(current, &instance.unit) else { continue };
        let site = AgentSite::of_keeper(Arc::clone(agent));
        if await_healthy(&site, instance, unit, process).await.is_ok() {
            agent.keeper.are_healthy(std::slice::from_ref(instance));
        }
    }
}

async fn start(agent: &Arc<Agent>, desired: &DesiredApp, unit: UnitName) {
    let Some(current) = &desired.current else { return };
    let Some((unit_spec, process)) = unit_of(current, &unit) else { return };
    let site = AgentSite::of_keeper(Arc::clone(agent));
    let instance = match site.start(&desired.app, &unit, current).await {
        Ok(instance) => instance,
        Err(fault) => {
            tracing::warn!(app = %desired.app, %unit, %fault, "an instance could not be started");
            return;
        }
    };
    match await_healthy(&site, &instance, unit_spec, process).await {
        Ok(_) => agent.keeper.are_healthy(std::slice::from_ref(&instance)),
        Err(failure) => {
            tracing::warn!(app = %desired.app, %unit, instance = %instance.id, fault = %failure.fault, "an instance did not become healthy");
            // It is left as ended, so that the next look counts it as a crash and waits longer.
            let grace_ms = process.stop_grace_ms;
            let stop = Action::InstanceStop { instance: instance.id.clone(), grace_ms };
            if let Err(fault) = agent.link.ask(stop).await {
                tracing::debug!(%fault, "an unhealthy instance could not be stopped");
            }
        }
    }
}

/// The routes as the healthy instances of the current release make them, without those that go. An operation that has
/// begun since the look knows better.
async fn follow_with_routes(
    agent: &Arc<Agent>,
    desired: &DesiredApp,
    instances: &[Instance],
    goes: &[Instance],
    turn: u64,
) {
    let Some(current) = &desired.current else { return };
    let serving: Vec<Instance> = instances
        .iter()
        .filter(|it| it.app == desired.app && it.exit.is_none() && agent.keeper.is_healthy(&it.id))
        .filter(|it| !goes.iter().any(|goes| goes.id == it.id))
        .cloned()
        .collect();
    let routes = routes_of(&desired.app, current, &serving, desired.stopped);
    let overtaken = || agent.operations.turn() != turn;
    if let Err(fault) = agent.routes.set_unless(&desired.app, routes, overtaken).await {
        tracing::warn!(app = %desired.app, %fault, "the routes could not be set");
    }
}

async fn retire(agent: &Arc<Agent>, desired: &DesiredApp, instance: &Instance) {
    let process = desired.current.as_ref().and_then(|current| current.spec.process(&instance.unit));
    let (drain, grace) = process.map_or((Duration::from_secs(10), Duration::from_secs(10)), |process| {
        (Duration::from_millis(process.drain_ms), Duration::from_millis(process.stop_grace_ms))
    });
    let site = AgentSite::of_keeper(Arc::clone(agent));
    if let Some(address) = instance.address
        && let Err(fault) = site.drain(address, drain).await
    {
        tracing::debug!(%fault, "an instance could not be drained");
    }
    if let Err(fault) = site.stop(instance, grace).await {
        tracing::warn!(instance = %instance.id, %fault, "an instance could not be stopped");
    }
}

fn unit_of<'a>(release: &'a Release, unit: &UnitName) -> Option<(&'a UnitSpec, &'a ProcessSpec)> {
    Some((release.spec.units.get(unit)?, release.spec.process(unit)?))
}
