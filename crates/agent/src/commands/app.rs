//! Looking at an app, and at what a deploy would meet.

use crate::{agent::Agent, executor_link::expect_done, facts, log_reader, runtimes};
use allod_proto::{
    AppRef, Fault, FaultCode,
    executor::{Action, DesiredApp, Done, Instance, Looked},
    messages::{
        app::{
            AppLogs, AppMissing, AppMissingReply, AppPreflight, AppPreflightReply, AppReleasesReply,
            AppState, AppStatus, InstanceState, InstanceStatus, Obstacle, UnitStatus,
        },
        secrets::SecretsReply,
    },
    spec::{AppSpec, UnitKind},
};
use allod_rpc::server::Answer;
use std::{collections::BTreeSet, sync::Arc};
use tokio::sync::mpsc;

pub(super) fn missing(agent: &Agent, params: &AppMissing) -> Result<AppMissingReply, Fault> {
    Ok(AppMissingReply { missing: agent.chunks.missing(&params.app, &params.chunks, agent.now())? })
}

pub(super) async fn status(agent: &Agent, app: &AppRef) -> Result<AppStatus, Fault> {
    let looked = agent.look().await?;
    let desired = looked.apps.iter().find(|desired| desired.app == *app).ok_or_else(|| unknown(app))?;
    Ok(status_of(agent, desired, &looked))
}

fn unknown(app: &AppRef) -> Fault {
    Fault::new(FaultCode::NotFound, format!("there is no app {app} on this server"))
        .hint("`allod status` lists the apps; `allod deploy` brings one")
}

pub(super) async fn releases(agent: &Agent, app: AppRef) -> Result<AppReleasesReply, Fault> {
    let asked = agent.link.ask(Action::Releases { app }).await;
    expect_done!(asked, Done::Releases { releases } => AppReleasesReply { releases })
}

pub(super) async fn secrets(agent: &Agent, app: AppRef) -> Result<SecretsReply, Fault> {
    let asked = agent.link.ask(Action::Secrets { app }).await;
    expect_done!(asked, Done::Secrets { secrets } => SecretsReply { secrets })
}

pub(super) async fn logs(agent: &Arc<Agent>, params: AppLogs) -> Result<Answer, Fault> {
    let looked = agent.look().await?;
    if !looked.apps.iter().any(|desired| desired.app == params.app) {
        return Err(unknown(&params.app));
    }
    let (send, receive) = mpsc::channel(16);
    tokio::spawn(log_reader::stream(Arc::clone(agent), params, send));
    Ok(Answer::Stream(receive))
}

/// How an app stands: desired against actual.
pub(super) fn status_of(agent: &Agent, desired: &DesiredApp, looked: &Looked) -> AppStatus {
    let instances: Vec<&Instance> =
        looked.instances.iter().filter(|instance| instance.app == desired.app).collect();
    let units = desired.current.iter().flat_map(|current| &current.spec.units).map(|(unit, spec)| {
        let (kind, wanted) = match &spec.kind {
            UnitKind::Process(_) => ("process", if desired.stopped { 0 } else { desired.wanted(unit) }),
            UnitKind::Static(_) => ("static", 0),
        };
        let of_unit = instances.iter().filter(|instance| instance.unit == *unit);
        UnitStatus {
            unit: unit.clone(),
            kind: kind.to_owned(),
            wanted,
            instances: of_unit.map(|instance| instance_status(agent, desired, instance)).collect(),
        }
    });
    let units: Vec<UnitStatus> = units.collect();
    let summary = desired.current.as_ref().map(|current| allod_proto::messages::app::ReleaseSummary {
        id: current.id.clone(),
        version: current.version.clone(),
        made_at: current.made_at,
        by: current.by.clone(),
        served_at: None,
        current: true,
        previous: false,
    });
    AppStatus {
        app: desired.app.clone(),
        state: state(desired, &units),
        release: summary,
        routes: desired.current.iter().flat_map(|current| routes(&current.spec)).collect(),
        units,
        operation: agent.operations.of_app(&desired.app),
        secrets_pending: secrets_pending(desired),
    }
}

/// Whether a secret of what serves was set again since.
fn secrets_pending(desired: &DesiredApp) -> bool {
    desired.current.as_ref().is_some_and(|current| {
        current
            .secrets
            .iter()
            .any(|(name, version)| desired.secrets.get(name).is_some_and(|newest| newest != version))
    })
}

fn routes(spec: &AppSpec) -> Vec<String> {
    spec.units.values().flat_map(|unit| unit.routes.iter().map(ToString::to_string)).collect()
}

fn instance_status(agent: &Agent, desired: &DesiredApp, instance: &Instance) -> InstanceStatus {
    let is_current = desired.current.as_ref().is_some_and(|current| current.id == instance.release);
    let state = match () {
        () if instance.exit.is_some() => InstanceState::Exited,
        () if !is_current && agent.keeper.is_healthy(&instance.id) => InstanceState::Draining,
        () if agent.keeper.is_healthy(&instance.id) => InstanceState::Healthy,
        () => InstanceState::Starting,
    };
    InstanceStatus {
        id: instance.id.clone(),
        release: instance.release.clone(),
        address: instance.address.map(|address| address.to_string()),
        pid: instance.pid,
        uid: instance.uid,
        started_at: instance.started_at,
        state,
        exit: instance.exit.clone(),
        restarts: agent.keeper.restarts(&instance.app, &instance.unit),
    }
}

fn state(desired: &DesiredApp, units: &[UnitStatus]) -> AppState {
    let Some(current) = &desired.current else { return AppState::New };
    if desired.stopped {
        return AppState::Stopped;
    }
    let healthy = |unit: &UnitStatus| {
        let well =
            unit.instances.iter().filter(|it| it.state == InstanceState::Healthy && it.release == current.id);
        u32::try_from(well.count()).unwrap_or(u32::MAX)
    };
    let wanted: u32 = units.iter().map(|unit| unit.wanted).sum();
    let have: u32 = units.iter().map(|unit| healthy(unit).min(unit.wanted)).sum();
    match have {
        _ if have >= wanted => AppState::Healthy,
        0 => AppState::Down,
        _ => AppState::Degraded,
    }
}

pub(super) async fn preflight(agent: &Agent, params: AppPreflight) -> Result<AppPreflightReply, Fault> {
    let looked = agent.look().await?;
    let desired = looked.apps.iter().find(|desired| desired.app == params.spec.app);
    let secrets = agent.link.ask(Action::Secrets { app: params.spec.app.clone() }).await;
    let set: BTreeSet<_> = expect_done!(secrets, Done::Secrets { secrets } => secrets)?
        .into_iter()
        .map(|secret| secret.name)
        .collect();
    let mut obstacles = foreign_routes(&params.spec, &looked);
    obstacles.extend(unset_secrets(&params.spec, &set));
    obstacles.extend(params.architecture.as_deref().and_then(other_architecture));
    obstacles.extend(busy(agent, &params.spec.app));
    let free = facts::disk(&agent.attached.releases).0;
    obstacles.extend(too_large(params.bytes, free));
    for (_, process) in params.spec.processes() {
        if let Some(runtime) = process.runtime.clone() {
            let checked = tokio::task::spawn_blocking(move || runtimes::check(&runtime)).await;
            obstacles.extend(checked.ok().and_then(Result::err));
        }
    }
    Ok(AppPreflightReply {
        obstacles,
        current: desired.and_then(|desired| status_of(agent, desired, &looked).release),
        current_spec: desired.and_then(|desired| Some(desired.current.as_ref()?.spec.clone())),
        unchanged_manifest: desired
            .filter(|desired| !desired.stopped && !secrets_pending(desired))
            .and_then(|desired| Some(desired.current.as_ref()?.manifest)),
        scale: desired.map(|desired| desired.scale.clone()).unwrap_or_default(),
        secrets: set.into_iter().collect(),
        disk_free: free,
    })
}

fn obstacle(about: &str, message: String, fix: &str) -> Obstacle {
    Obstacle { about: about.to_owned(), message, fix: Some(fix.to_owned()) }
}

fn foreign_routes(spec: &AppSpec, looked: &Looked) -> Vec<Obstacle> {
    let mut found = Vec::new();
    for other in looked.apps.iter().filter(|other| other.app != spec.app) {
        let theirs = other
            .current
            .iter()
            .flat_map(|current| current.spec.units.values())
            .flat_map(|unit| &unit.routes);
        for pattern in theirs.filter(|pattern| spec.units.values().any(|unit| unit.routes.contains(pattern)))
        {
            let message = format!("the route {pattern} belongs to {}", other.app);
            found.push(obstacle("route", message, "choose another route in allod.toml"));
        }
    }
    found
}

fn unset_secrets(spec: &AppSpec, set: &BTreeSet<allod_proto::SecretName>) -> Vec<Obstacle> {
    let unset = spec.secrets.keys().filter(|name| !set.contains(*name));
    unset
        .map(|name| {
            obstacle("secret", format!("the secret {name} is not set"), &format!("allod secrets set {name}"))
        })
        .collect()
}

fn other_architecture(wanted: &str) -> Option<Obstacle> {
    let here = std::env::consts::ARCH;
    (wanted != here).then(|| {
        let message = format!("the programs are for {wanted}, the server is {here}");
        obstacle("architecture", message, &format!("build for {here}"))
    })
}

fn busy(agent: &Agent, app: &AppRef) -> Option<Obstacle> {
    let running = agent.operations.of_app(app)?;
    let message = format!("{} by {} is in progress ({})", running.command, running.by, running.id);
    Some(obstacle("busy", message, &format!("allod ops attach {}", running.id)))
}

fn too_large(bytes: u64, free: u64) -> Option<Obstacle> {
    // The chunks that travel, the files put together, and 64 MiB that stay free.
    let needed = bytes.saturating_mul(2).saturating_add(64 << 20);
    (needed > free).then(|| {
        let message = format!("{} MiB are needed, {} MiB are free", needed >> 20, free >> 20);
        obstacle("disk", message, "allod servers prune, or remove an app")
    })
}
