//! What each read answers, one file a family. Changes are not here: the executor does them.

mod app;
mod audit;
mod keys;
mod named;
mod ops;
mod server;

use crate::{agent::Agent, executor_link::unexpected};
use allod_commands::Permit;
use allod_proto::{Command, Fault, FaultCode};
use allod_rpc::server::Answer;
use serde::Serialize;
use std::sync::Arc;

pub(crate) fn reply(reply: impl Serialize) -> Result<Answer, Fault> {
    serde_json::to_value(reply).map(Answer::Reply).map_err(|_| unexpected())
}

/// Answers a read or opens a stream.
pub(crate) async fn run(agent: &Arc<Agent>, permit: &Permit, command: Command) -> Result<Answer, Fault> {
    match command {
        Command::ServerStatus(_) => reply(server::status(agent, permit).await?),
        Command::ServerDoctor(_) => reply(server::doctor(agent).await?),
        Command::AppMissing(params) => reply(app::missing(agent, &params)?),
        Command::AppChunk(_) => Err(Fault::new(FaultCode::Invalid, "a chunk is sent with PUT /chunks/…")),
        Command::AppPreflight(params) => reply(app::preflight(agent, params).await?),
        Command::AppStatus(params) => reply(app::status(agent, &params.app).await?),
        Command::AppReleases(params) => reply(app::releases(agent, params.app).await?),
        Command::AppLogs(params) => app::logs(agent, params).await,
        Command::SecretsList(params) => reply(app::secrets(agent, params.app).await?),
        Command::OpsList(params) => reply(ops::list(agent, permit, &params)),
        Command::OpsAttach(params) => ops::attach(agent, permit, &params).await,
        Command::KeysList(_) => reply(keys::list(agent)),
        Command::KeysCan(params) => reply(keys::can(agent, permit, &params).await?),
        Command::CommandList(_) => reply(named::list(agent, permit).await?),
        Command::CommandHistory(params) => reply(named::history(agent, params).await?),
        Command::CommandRuns(_) => reply(named::runs(agent, permit).await?),
        Command::CommandOutput(params) => named::output(agent, permit, params).await,
        Command::AuditShow(params) => reply(audit::show(agent, &params).await?),
        Command::AuditFollow(params) => Ok(audit::follow(agent, &params)),
        Command::AuditVerify(_) => reply(audit::verify(agent).await?),
        Command::AuditStats(_) => reply(audit::stats(agent).await?),
        Command::Hello(_)
        | Command::ServerInfo(_)
        | Command::ServerPrune(_)
        | Command::ServerRotateIdentity(_)
        | Command::AppDeploy(_)
        | Command::AppRollback(_)
        | Command::AppScale(_)
        | Command::AppStart(_)
        | Command::AppStop(_)
        | Command::AppRestart(_)
        | Command::AppRemove(_)
        | Command::SecretsSet(_)
        | Command::SecretsRemove(_)
        | Command::SecretsExport(_)
        | Command::OpsCancel(_)
        | Command::KeysAdd(_)
        | Command::KeysRevoke(_)
        | Command::KeysRotate(_)
        | Command::CommandRun(_)
        | Command::CommandCancel(_)
        | Command::CommandAdd(_)
        | Command::CommandRemove(_)
        | Command::CommandApprove(_)
        | Command::GatePanic(_) => Err(unexpected()),
    }
}
