//! The closed list of what the agent may ask, one arm each.

use crate::{Executor, instances::StartOrder, logs, perform, rate::Reader, record::record_fault, statistics};
use allod_proto::{
    Fault, FaultCode, RunId,
    executor::{Action, Attached, Done, Goal, Looked},
    limits,
    messages::audit::{AuditShowReply, AuditVerifyReply},
    spec::HealthSpec,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use std::{sync::Arc, time::Duration};

/// How long a look at a run waits for something to happen in it.
const RUN_WAIT: Duration = Duration::from_secs(1);
/// How many bytes of a run's events one answer carries.
const RUN_PART: usize = 512 * 1024;

/// Does what is asked, or says why not.
///
/// # Errors
/// Whatever of it refuses.
pub async fn carry_out(executor: &Arc<Executor>, action: Action) -> Result<Done, Fault> {
    match action {
        Action::Attach { version } => attach(executor, &version),
        Action::Perform(call) => perform::perform(executor, &call).await,
        Action::InstanceStart { operation, app, unit, release, address } => {
            let (release, wanted) = executor.startable(operation.as_ref(), &app, &unit, &release)?;
            let running = executor.instances().all();
            let same = |it: &&allod_proto::executor::Instance| {
                it.app == app && it.unit == unit && it.exit.is_none() && it.release == release.id
            };
            // A restart replaces copies of one release by copies of the same.
            let most = usize::try_from(wanted).unwrap_or(usize::MAX).saturating_mul(2);
            if running.iter().filter(same).count() >= most {
                return Err(Fault::new(
                    FaultCode::NotAllowed,
                    format!("{app} has its {wanted} copies of {unit}"),
                ));
            }
            let secrets = executor.secret_store(&app)?.open_versions(&release.secrets)?;
            let order = StartOrder { unit, release: &release, address, secrets };
            let instance = executor.instances().start(order).await?;
            Ok(Done::Started { instance: Box::new(instance) })
        }
        Action::InstanceStop { instance, grace_ms } => {
            executor.instances().stop(&instance, Duration::from_millis(grace_ms.min(600_000))).await?;
            Ok(Done::Done {})
        }
        Action::InstanceCheck { instance, timeout_ms } => {
            check(executor, &instance, Duration::from_millis(timeout_ms.min(60_000))).await
        }
        Action::InstanceForget { instance } => {
            executor.instances().forget(&instance).await?;
            Ok(Done::Done {})
        }
        Action::ReleaseCommand { operation } => release_command(executor, &operation).await,
        Action::Promote { operation } => executor.promote(&operation).map(|()| Done::Done {}),
        Action::Finish { operation, state, fault } => {
            executor.finish(&operation, state, fault).await.map(|()| Done::Done {})
        }
        Action::Look {} => look(executor).await,
        Action::Secrets { app } => {
            let store = executor.secret_store(&app)?;
            Ok(Done::Secrets { secrets: executor.list_secrets(&store) })
        }
        Action::Releases { app } => Ok(Done::Releases { releases: executor.apps().known(&app)?.summaries() }),
        Action::Observe(seen) => executor.observe(&seen).map(|()| Done::Done {}),
        Action::RecordRead { from, limit } => record_read(executor, from, limit).await,
        Action::RecordVerify {} => record_verify(executor).await,
        Action::RecordStats {} => record_stats(executor).await,
        Action::GateAsked { from, port, since } => {
            Ok(Done::Count { count: executor.gate_asked().count(from, port, since) })
        }
        Action::Keys {} => {
            let mut keys = executor.keys();
            keys.refresh();
            Ok(Done::Keys(keys.files()))
        }
        Action::Commands {} => {
            let (mut registry, definitions) = executor.named().registry();
            registry.unbounded = executor.groups().unbounded();
            Ok(Done::Commands { registry, definitions })
        }
        Action::CommandHistory { name } => executor.named().history(&name).map(Done::CommandHistory),
        Action::Runs {} => Ok(Done::Runs { runs: executor.named().summaries() }),
        Action::RunRead { run, after } => run_read(executor, &run, after).await,
        Action::RunLeft { run } => {
            executor.named().run(&run)?.left();
            Ok(Done::Done {})
        }
        Action::LogRead { app, file, offset, limit } => {
            let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(limits::LOG_PART);
            let (bytes, size) = logs::read(executor.layout(), &app, &file, offset, limit)?;
            Ok(Done::LogPart { bytes: STANDARD.encode(bytes), size })
        }
        Action::LogList { app } => Ok(Done::Logs { files: logs::list(executor.layout(), &app)? }),
    }
}

fn attach(executor: &Arc<Executor>, version: &str) -> Result<Done, Fault> {
    let epoch = executor.new_epoch()?;
    let start = allod_audit::Start {
        program: "agent".to_owned(),
        version: version.chars().take(40).collect(),
        epoch: Some(epoch.clone()),
    };
    executor.record_at_a_rate(Reader::agent("starts"), 1, allod_audit::Entry::Start(start))?;
    let open = executor
        .apps()
        .all()
        .filter_map(|record| Some(record.operation.as_ref()?.operation.clone()))
        .collect();
    let (identity_key, succession) = {
        let who = executor.who();
        (who.key(), who.succession())
    };
    Ok(Done::Attached(Box::new(Attached {
        epoch,
        record_key: executor.record_key().to_owned(),
        recipient: crate::secrets::recipient(executor.layout())?,
        head: executor.record().head().map_err(|error| record_fault(&error))?,
        isolation: executor.isolation().facts(executor.groups()),
        open,
        releases: executor.layout().releases(),
        keys: executor.keys().files(),
        identity_key,
        succession,
    })))
}

async fn check(
    executor: &Arc<Executor>,
    id: &allod_proto::InstanceId,
    timeout: Duration,
) -> Result<Done, Fault> {
    let unknown = || Fault::new(FaultCode::NotFound, format!("there is no instance {id}"));
    let instance = executor.instances().get(id).ok_or_else(unknown)?;
    let release =
        executor.apps().known(&instance.app)?.release(&instance.release).cloned().ok_or_else(unknown)?;
    let Some(HealthSpec::Command { run }) =
        release.spec.process(&instance.unit).map(|process| &process.health)
    else {
        return Err(Fault::new(FaultCode::Invalid, format!("{id} has no health command")));
    };
    let secrets = executor.secret_store(&instance.app)?.open_versions(&release.secrets)?;
    let ran = executor.instances().check(id, &release, run, secrets, timeout).await?;
    Ok(Done::Ran { exit: ran.exit, ok: ran.ok, tail: ran.tail })
}

async fn release_command(
    executor: &Arc<Executor>,
    operation: &allod_proto::OperationId,
) -> Result<Done, Fault> {
    let release = {
        let apps = executor.apps();
        let (_, open) = apps.with_operation(operation)?;
        match &open.operation.goal {
            Goal::Release { release, .. }
                if open.operation.command == "app.deploy" && !open.operation.promoted =>
            {
                (**release).clone()
            }
            Goal::Release { .. } | Goal::Scale { .. } | Goal::Stop {} | Goal::Remove {} => {
                return Err(Fault::new(FaultCode::Invalid, "this operation runs no release command"));
            }
        }
    };
    let Some(command) = release.spec.release_command.clone() else {
        return Err(Fault::new(FaultCode::Invalid, "the release has no release command"));
    };
    let secrets = executor.secret_store(&release.spec.app)?.open_versions(&release.secrets)?;
    let _turn = executor.command_of(&release.spec.app).await;
    if let Some(ran) = executor.begin_release_command(operation)? {
        return Ok(Done::Ran { exit: ran.exit, ok: ran.ok, tail: ran.tail });
    }
    let ran = executor.instances().run_once(&release, &command, secrets, Duration::from_secs(600)).await?;
    executor.end_release_command(operation, &ran)?;
    Ok(Done::Ran { exit: ran.exit, ok: ran.ok, tail: ran.tail })
}

async fn look(executor: &Arc<Executor>) -> Result<Done, Fault> {
    executor.instances().refresh_ports().await;
    executor.keys().refresh();
    let mut apps = Vec::new();
    let records: Vec<_> = executor.apps().all().cloned().collect();
    for record in records {
        // One app's unreadable file must not hide the others.
        let versions = executor.secret_store(&record.app).map(|store| store.current_versions());
        let versions = versions.unwrap_or_else(|fault| {
            tracing::error!(app = %record.app, %fault, "secrets can't be read");
            record.current().map(|release| release.secrets.clone()).unwrap_or_default()
        });
        let uid = executor.isolation().uid_of(executor.layout(), &record.app)?;
        apps.push(record.desired(versions, uid));
    }
    Ok(Done::Looked(Box::new(Looked {
        apps,
        instances: executor.instances().all(),
        keys: executor.keys().generation(),
        head: executor.record().head().map_err(|error| record_fault(&error))?,
    })))
}

/// What happened in a run, as soon as there is more than was seen.
async fn run_read(executor: &Arc<Executor>, id: &RunId, after: u64) -> Result<Done, Fault> {
    let run = executor.named().run(id)?;
    let seen = usize::try_from(after).unwrap_or(usize::MAX);
    run.looked_at();
    if !run.has_ended() {
        let _ = tokio::time::timeout(RUN_WAIT, run.more_than(seen)).await;
    }
    // The summary first: its end is then among the events, or behind them.
    let summary = Box::new(run.summary());
    Ok(Done::Run { run: summary, events: run.events(seen, RUN_PART) })
}

async fn record_stats(executor: &Arc<Executor>) -> Result<Done, Fault> {
    let record = executor.record().clone();
    let (_, definitions) = executor.named().registry();
    let named: Vec<_> = definitions.into_iter().map(|definition| definition.name).collect();
    let counted = tokio::task::spawn_blocking(move || statistics::count(&record, &named)).await;
    let counted = counted.map_err(|error| Fault::new(FaultCode::Internal, error.to_string()))?;
    Ok(Done::Stats(counted.map_err(|error| record_fault(&error))?))
}

async fn record_read(executor: &Arc<Executor>, from: i64, limit: u32) -> Result<Done, Fault> {
    let record = executor.record().clone();
    let read = tokio::task::spawn_blocking(move || {
        let head = record.head()?;
        let from = match u64::try_from(from) {
            Ok(from) => from,
            Err(_) => head.head.seq.saturating_sub(from.unsigned_abs().saturating_sub(1)).max(1),
        };
        let limit = usize::try_from(limit).unwrap_or(usize::MAX).min(10_000);
        let lines = fit(record.read(from, limit)?);
        Ok(AuditShowReply { lines, oldest: record.oldest(), head })
    })
    .await
    .map_err(|error| Fault::new(FaultCode::Internal, error.to_string()))?;
    read.map(Done::Lines).map_err(|error| record_fault(&error))
}

/// As many lines as one reply holds; at least one, so that a reader always gets on.
fn fit(mut lines: Vec<String>) -> Vec<String> {
    let mut bytes = 0usize;
    let fitting = lines.iter().take_while(|line| {
        bytes = bytes.saturating_add(line.len().saturating_mul(2));
        bytes < limits::LINE / 4
    });
    let fitting = fitting.count().max(1);
    lines.truncate(fitting);
    lines
}

async fn record_verify(executor: &Arc<Executor>) -> Result<Done, Fault> {
    let record = executor.record().clone();
    let folder = executor.layout().record();
    let key = executor.record_public_key().clone();
    let verified = tokio::task::spawn_blocking(move || {
        record.flush()?;
        let head = record.head()?;
        let found = allod_audit::verify::verify(&folder, Some(&key), &[head.head]);
        let (lines, found) = match found {
            Ok(report) => (report.lines, None),
            Err(found) => (0, Some(found.to_string())),
        };
        Ok(AuditVerifyReply { lines, found, head })
    })
    .await
    .map_err(|error| Fault::new(FaultCode::Internal, error.to_string()))?;
    verified.map(Done::Verified).map_err(|error| record_fault(&error))
}

#[cfg(test)]
mod tests;
