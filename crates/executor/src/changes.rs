//! What each changing command changes. The long ones end here as an open operation, which the agent carries out.

use crate::{
    Executor,
    apps::{AppRecord, store_fault},
    artefacts, assemble,
    perform::{Asker, Performed, blocking, replied},
    secrets::SecretStore,
};
use allod_commands::Permit;
use allod_proto::{
    AppRef, Digest, Fault, FaultCode, ReleaseId, SecretName,
    executor::{Goal, OpenOperation, Release},
    limits,
    messages::{app, keys, ops, secrets, server},
    operation::{OperationState, OperationSummary},
    routes::RoutePattern,
    spec::AppSpec,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

/// `app.deploy`: assemble the files, make the release, open the operation.
pub(crate) async fn deploy(
    executor: &Arc<Executor>,
    params: app::AppDeploy,
    by: Asker,
) -> Result<Performed, Fault> {
    executor.claim(&params.app)?;
    let (layout, app, manifest) = (executor.layout().clone(), params.app.clone(), params.manifest);
    let isolation = *executor.isolation();
    let limits = assemble::AssembleLimits::default();
    let assembled =
        blocking(move || assemble::assemble(&layout, &isolation, &app, &manifest, &limits)).await?;
    let spec = assembled.manifest.spec;
    executor.check_routes(&spec, by.narrowed)?;
    let secrets = wanted_secrets(&spec, &executor.secret_store(&params.app)?.current_versions())?;
    let release = Release {
        id: release_id(&params.manifest, &secrets),
        manifest: params.manifest,
        spec,
        version: assembled.manifest.version,
        secrets,
        files: assembled.files,
        made_at: executor.now(),
        by: by.name.clone(),
    };
    open_release(executor, &params.app, "app.deploy", release, by)
}

/// `app.rollback`: configuration and secrets go back with the files.
pub(crate) fn rollback(
    executor: &Arc<Executor>,
    params: app::AppRollback,
    by: Asker,
) -> Result<Performed, Fault> {
    executor.claim(&params.app)?;
    let release = {
        let apps = executor.apps();
        let record = apps.known(&params.app)?;
        expect_current(record, &params.from)?;
        let to = params.to.as_ref().or_else(|| record.previous()).ok_or_else(|| {
            Fault::new(FaultCode::NotFound, format!("{} has no release before {}", params.app, params.from))
                .hint("`allod releases` lists what there is")
        })?;
        known_release(record, to)?.clone()
    };
    executor.check_routes(&release.spec, by.narrowed)?;
    open_release(executor, &params.app, "app.rollback", release, by)
}

/// `app.restart`: the current release with the newest secrets.
pub(crate) fn restart(
    executor: &Arc<Executor>,
    params: app::AppRestart,
    by: Asker,
) -> Result<Performed, Fault> {
    executor.claim(&params.app)?;
    let release = with_newest_secrets(executor, &params.app, &by)?;
    open_release(executor, &params.app, "app.restart", release, by)
}

/// `app.start`: a stopped app comes back.
pub(crate) fn start(executor: &Arc<Executor>, params: app::AppStart, by: Asker) -> Result<Performed, Fault> {
    executor.claim(&params.app)?;
    if !executor.apps().known(&params.app)?.stopped {
        return Err(Fault::new(FaultCode::Conflict, format!("{} is not stopped", params.app))
            .hint("`allod restart` replaces its instances"));
    }
    let release = with_newest_secrets(executor, &params.app, &by)?;
    open_release(executor, &params.app, "app.start", release, by)
}

/// `app.scale`: this many copies of one unit.
pub(crate) fn scale(executor: &Arc<Executor>, params: app::AppScale, by: Asker) -> Result<Performed, Fault> {
    executor.claim(&params.app)?;
    if params.instances > limits::INSTANCES {
        let message =
            format!("{} instances are more than the {} allowed", params.instances, limits::INSTANCES);
        return Err(Fault::new(FaultCode::Invalid, message));
    }
    let spec = current(&executor.apps(), &params.app)?.spec.clone();
    if spec.process(&params.unit).is_none() {
        let names: Vec<_> = spec.processes().map(|(name, _)| name.as_str()).collect();
        let message = format!("{} has no process {}", params.app, params.unit);
        return Err(Fault::new(FaultCode::NotFound, message).hint(format!("it has: {}", names.join(", "))));
    }
    open(
        executor,
        &params.app,
        "app.scale",
        Goal::Scale { unit: params.unit, instances: params.instances },
        by,
    )
}

/// `app.stop`: no copies until `app.start`.
pub(crate) fn stop(executor: &Arc<Executor>, params: app::AppStop, by: Asker) -> Result<Performed, Fault> {
    executor.claim(&params.app)?;
    current(&executor.apps(), &params.app)?;
    open(executor, &params.app, "app.stop", Goal::Stop {}, by)
}

/// `app.remove`: no copies, and then nothing left.
pub(crate) fn remove(
    executor: &Arc<Executor>,
    params: app::AppRemove,
    by: Asker,
) -> Result<Performed, Fault> {
    executor.claim(&params.app)?;
    executor.apps().known(&params.app)?;
    open(executor, &params.app, "app.remove", Goal::Remove {}, by)
}

/// `secrets.set`: new versions; a restart brings them.
pub(crate) async fn secrets_set(
    executor: &Arc<Executor>,
    params: secrets::SecretsSet,
    by: Asker,
) -> Result<Performed, Fault> {
    if params.secrets.is_empty() || params.secrets.len() > 200 {
        return Err(Fault::new(FaultCode::Invalid, "give 1 to 200 secrets at once"));
    }
    let mut store = executor.secret_store(&params.app)?;
    let now = executor.now();
    // What no release that can be gone back to uses goes, so that setting a secret again and again fills no disk.
    let in_use: BTreeSet<(SecretName, u64)> = {
        let apps = executor.apps();
        let releases = apps.get(&params.app).into_iter().flat_map(|record| &record.releases);
        releases.flat_map(|release| release.secrets.clone()).collect()
    };
    let setting = move || {
        store.set(&params.secrets, &by.name, now)?;
        store.prune(&in_use)?;
        Ok(store)
    };
    let store = blocking(setting).await?;
    replied(secrets::SecretsReply { secrets: executor.list_secrets(&store) })
}

/// `secrets.remove`: releases that use it keep their version.
pub(crate) fn secrets_remove(
    executor: &Arc<Executor>,
    params: &secrets::SecretsRemove,
) -> Result<Performed, Fault> {
    let mut store = executor.secret_store(&params.app)?;
    store.remove(&params.name)?;
    replied(secrets::SecretsReply { secrets: executor.list_secrets(&store) })
}

/// `secrets.export`: the values, sealed again to the caller's recipient.
pub(crate) async fn secrets_export(
    executor: &Arc<Executor>,
    params: secrets::SecretsExport,
) -> Result<Performed, Fault> {
    let store = executor.secret_store(&params.app)?;
    let secrets = blocking(move || store.export(&params.recipient)).await?;
    replied(secrets::SecretsExportReply { secrets })
}

/// `ops.cancel`: recorded here, carried out by the agent.
pub(crate) fn cancel(
    executor: &Arc<Executor>,
    permit: &Permit,
    params: &ops::OpsCancel,
) -> Result<Performed, Fault> {
    let apps = executor.apps();
    let (record, open) = apps.with_operation(&params.operation)?;
    if !permit.sees(&record.app) {
        return Err(Fault::new(
            FaultCode::NotFound,
            format!("no operation {} is in progress", params.operation),
        ));
    }
    let operation = summary(&open.operation, OperationState::Running);
    replied(ops::OpsCancelReply { operation })
}

/// `keys.add`
pub(crate) fn keys_add(executor: &Arc<Executor>, params: &keys::KeysAdd) -> Result<Performed, Fault> {
    let now = executor.now();
    replied(executor.keys().add(&params.line, now)?)
}

/// `keys.revoke`
pub(crate) fn keys_revoke(executor: &Arc<Executor>, params: &keys::KeysRevoke) -> Result<Performed, Fault> {
    let now = executor.now();
    replied(executor.keys().revoke(&params.fingerprint, now)?)
}

/// `keys.rotate`
pub(crate) fn keys_rotate(executor: &Arc<Executor>, params: &keys::KeysRotate) -> Result<Performed, Fault> {
    replied(executor.keys().rotate(&params.old, &params.new)?)
}

/// `server.rotate_identity`: from now on requests are signed for another identity, also this executor's.
pub(crate) fn rotate_identity(
    executor: &Arc<Executor>,
    params: &server::ServerRotateIdentity,
) -> Result<Performed, Fault> {
    let succession = executor.who().rotate(&params.from, executor.now())?;
    replied(server::ServerRotateIdentityReply { succession })
}

/// `server.prune`: releases beyond what is kept, and artefacts that no release names.
pub(crate) async fn prune(executor: &Arc<Executor>, params: server::ServerPrune) -> Result<Performed, Fault> {
    let apps: Vec<AppRef> = match params.app {
        Some(app) => vec![executor.apps().known(&app)?.app.clone()],
        None => executor.apps().all().map(|record| record.app.clone()).collect(),
    };
    let mut total = server::ServerPruneReply { releases: 0, bytes: 0 };
    for app in apps {
        let _turn = executor.turn_of(&app).await;
        let pruned = prune_app(executor, &app).await?;
        total.releases += pruned.releases;
        total.bytes += pruned.bytes;
    }
    replied(total)
}

/// Removes what an app no longer needs. Also after each operation.
pub(crate) async fn prune_app(
    executor: &Arc<Executor>,
    app: &AppRef,
) -> Result<server::ServerPruneReply, Fault> {
    let (gone, manifests, versions) = executor.apps().change(app, |record| {
        let gone = record.forget_old();
        let manifests: Vec<Digest> = record.releases.iter().map(|release| release.manifest).collect();
        let versions = record.releases.iter().flat_map(|release| release.secrets.clone()).collect();
        (gone, manifests, versions)
    })?;
    executor.secret_store(app)?.prune(&versions)?;
    let (layout, app) = (executor.layout().clone(), app.clone());
    let bytes = blocking(move || artefacts::prune(&layout, &app, &manifests)).await?;
    Ok(server::ServerPruneReply { releases: u32::try_from(gone.len()).unwrap_or(u32::MAX), bytes })
}

/// An operation as it is listed.
#[must_use]
pub(crate) fn summary(operation: &OpenOperation, state: OperationState) -> OperationSummary {
    OperationSummary {
        id: operation.id.clone(),
        app: operation.app.clone(),
        command: operation.command.clone(),
        by: operation.by.clone(),
        started_at: operation.at,
        ended_at: None,
        state,
        release: operation.release().cloned(),
        fault: None,
    }
}

fn open_release(
    executor: &Arc<Executor>,
    app: &AppRef,
    command: &str,
    release: Release,
    by: Asker,
) -> Result<Performed, Fault> {
    let (scale, from) = {
        let apps = executor.apps();
        let record = apps.get(app);
        let own =
            || release.spec.processes().map(|(unit, process)| (unit.clone(), process.instances)).collect();
        (
            record.map_or_else(own, |record| record.scale_for(&release)),
            record.and_then(|record| record.current.clone()),
        )
    };
    open(executor, app, command, Goal::Release { release: Box::new(release), scale, from }, by)
}

fn open(
    executor: &Arc<Executor>,
    app: &AppRef,
    command: &str,
    goal: Goal,
    by: Asker,
) -> Result<Performed, Fault> {
    let operation = OpenOperation {
        id: by.operation,
        app: app.clone(),
        command: command.to_owned(),
        by: by.name,
        at: executor.now(),
        goal,
        promoted: false,
    };
    executor.isolation().create_app_folders(executor.layout(), app)?;
    executor.begin(operation).map(|operation| Performed::Begun(Box::new(operation)))
}

fn expect_current(record: &AppRecord, believed: &ReleaseId) -> Result<(), Fault> {
    match &record.current {
        Some(current) if current == believed => Ok(()),
        current => {
            let serves = current.as_ref().map_or("nothing".to_owned(), ToString::to_string);
            let message = format!("{} serves {serves}, not {believed}", record.app);
            Err(Fault::new(FaultCode::Conflict, message)
                .hint("somebody changed it since: look with `allod releases`"))
        }
    }
}

fn known_release<'a>(record: &'a AppRecord, id: &ReleaseId) -> Result<&'a Release, Fault> {
    let release = record.release(id).filter(|release| release.files.is_dir());
    release.ok_or_else(|| {
        Fault::new(FaultCode::NotFound, format!("release {id} of {} is no longer here", record.app))
            .hint("`allod releases` lists what there is; deploy it again from its folder")
    })
}

fn current(apps: &crate::apps::Apps, app: &AppRef) -> Result<Release, Fault> {
    let none = || {
        Fault::new(FaultCode::Conflict, format!("{app} has never been deployed with success"))
            .hint("`allod deploy` first")
    };
    apps.known(app)?.current().cloned().ok_or_else(none)
}

fn with_newest_secrets(executor: &Arc<Executor>, app: &AppRef, by: &Asker) -> Result<Release, Fault> {
    let release = current(&executor.apps(), app)?;
    let secrets = wanted_secrets(&release.spec, &executor.secret_store(app)?.current_versions())?;
    if secrets == release.secrets {
        return Ok(release);
    }
    let id = release_id(&release.manifest, &secrets);
    Ok(Release { id, secrets, made_at: executor.now(), by: by.name.clone(), ..release })
}

fn wanted_secrets(
    spec: &AppSpec,
    set: &BTreeMap<SecretName, u64>,
) -> Result<BTreeMap<SecretName, u64>, Fault> {
    let missing: Vec<_> =
        spec.secrets.keys().filter(|name| !set.contains_key(*name)).map(SecretName::as_str).collect();
    if !missing.is_empty() {
        let message = format!("{} needs secrets that are not set: {}", spec.app, missing.join(", "));
        return Err(
            Fault::new(FaultCode::Invalid, message).hint("`allod secrets set NAME` asks for the value")
        );
    }
    Ok(set
        .iter()
        .filter(|(name, _)| spec.secrets.contains_key(*name))
        .map(|(name, version)| (name.clone(), *version))
        .collect())
}

/// A release is its manifest and the versions of its secrets.
fn release_id(manifest: &Digest, secrets: &BTreeMap<SecretName, u64>) -> ReleaseId {
    let mut text = format!("allod-release-v1\n{manifest}\n");
    for (name, version) in secrets {
        text.push_str(&format!("{name}={version}\n"));
    }
    ReleaseId::of(&Digest::of(text))
}

/// Whether some visitor's host matches both patterns.
fn hosts_overlap(one: &RoutePattern, other: &RoutePattern) -> bool {
    let covers = |wide: &str, narrow: &str| {
        let below = wide.strip_prefix("*.");
        wide == narrow
            || below.is_some_and(|rest| narrow.split_once('.').is_some_and(|(_, parent)| parent == rest))
    };
    match (&one.host, &other.host) {
        (Some(one), Some(other)) => covers(one, other) || covers(other, one),
        (None, _) | (_, None) => true,
    }
}

impl Executor {
    /// Nothing else may be in progress on the app; the refusal names whose it is.
    pub(crate) fn claim(&self, app: &AppRef) -> Result<(), Fault> {
        let apps = self.apps();
        let Some(open) = apps.get(app).and_then(|record| record.operation.as_ref()) else { return Ok(()) };
        let OpenOperation { id, command, by, .. } = &open.operation;
        Err(Fault::new(FaultCode::Busy, format!("{command} by {by} is in progress on {app} ({id})"))
            .hint(format!("follow it with `allod ops attach {id}`, end it with `allod ops cancel {id}`")))
    }

    /// A route belongs to one app; the refusal names the owner. Whose key is narrowed to some apps may not bring a new
    /// route that would take visitors from another app's host either.
    pub(crate) fn check_routes(&self, spec: &AppSpec, narrowed: bool) -> Result<(), Fault> {
        let apps = self.apps();
        let own = apps.get(&spec.app).and_then(|record| record.current()).into_iter();
        let own: Vec<&RoutePattern> =
            own.flat_map(|release| release.spec.units.values()).flat_map(|unit| &unit.routes).collect();
        let takes = |mine: &RoutePattern, theirs: &RoutePattern| {
            mine == theirs || (narrowed && !own.contains(&mine) && hosts_overlap(mine, theirs))
        };
        for other in apps.all().filter(|other| other.app != spec.app) {
            let current = other.current();
            let pending = other.operation.as_ref().and_then(|open| match &open.operation.goal {
                Goal::Release { release, .. } => Some(&**release),
                Goal::Scale { .. } | Goal::Stop {} | Goal::Remove {} => None,
            });
            let theirs = current.into_iter().chain(pending).flat_map(|release| release.spec.units.values());
            for pattern in theirs.flat_map(|unit| &unit.routes) {
                let mut wanted = spec.units.values().flat_map(|unit| &unit.routes);
                if let Some(mine) = wanted.find(|mine| takes(mine, pattern)) {
                    let message = if mine == pattern {
                        format!("the route {pattern} belongs to {}", other.app)
                    } else {
                        format!("the route {mine} would take visitors from {pattern} of {}", other.app)
                    };
                    return Err(Fault::new(FaultCode::Conflict, message)
                        .hint("choose another route in allod.toml, or remove it from the other app first"));
                }
            }
        }
        Ok(())
    }

    pub(crate) fn secret_store(&self, app: &AppRef) -> Result<SecretStore, Fault> {
        SecretStore::open(self.layout(), app)
    }

    pub(crate) fn list_secrets(&self, store: &SecretStore) -> Vec<secrets::SecretEntry> {
        let apps = self.apps();
        let in_use =
            apps.get(store.app()).and_then(|record| record.current()).map(|release| release.secrets.clone());
        store.list(&in_use.unwrap_or_default())
    }

    /// Removes everything that is left of an app whose instances are gone.
    pub(crate) async fn remove_app(self: &Arc<Self>, app: &AppRef) -> Result<(), Fault> {
        let (layout, name) = (self.layout().clone(), app.clone());
        blocking(move || {
            artefacts::remove_all(&layout, &name)?;
            // Durably: an app of the same name must not find them after a power cut.
            for folder in [layout.data(&name), layout.logs(&name)] {
                allod_store::remove_folder(&folder).map_err(store_fault)?;
            }
            allod_store::remove_file(&layout.secrets(&name)).map_err(store_fault)?;
            Ok(())
        })
        .await?;
        self.apps().remove(app)
    }
}
