//! A changing command, from the caller's signature to its outcome in the record.

use crate::{Executor, authorize::authorize, changes, memory::Seen, named, record::ChangeRecorder};
use allod_commands::Permit;
use allod_proto::{
    Command, Fault, FaultCode, OperationId, Request,
    executor::{Begun, Done, OpenOperation, SignedCall},
};
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;

/// What came of a change.
#[derive(Debug)]
pub enum Performed {
    /// Done, with this reply.
    Replied(Value),
    /// Long: allowed, recorded, and for the agent to carry out.
    Begun(Box<OpenOperation>),
    /// A named command, which begins when its intent is in the record.
    Ran(Box<named::Started>),
}

pub(crate) fn replied(reply: impl Serialize) -> Result<Performed, Fault> {
    to_value(reply).map(Performed::Replied)
}

fn to_value(reply: impl Serialize) -> Result<Value, Fault> {
    serde_json::to_value(reply)
        .map_err(|error| Fault::new(FaultCode::Internal, format!("the reply can't be written: {error}")))
}

/// Does what may take long on a thread for that.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let joined = tokio::task::spawn_blocking(work).await;
    joined.map_err(|error| Fault::new(FaultCode::Internal, format!("a worker stopped: {error}")))?
}

/// Verify, look whether it was done before, authorise, record, do, record.
///
/// # Errors
/// Whatever of it refuses.
pub async fn perform(executor: &Arc<Executor>, call: &SignedCall) -> Result<Done, Fault> {
    let authorized = authorize(executor, call)?;
    let id = authorized.request.id.clone();
    let key = authorized.verified.fingerprint().clone();
    let urgent = is_urgent(&authorized.request.command);
    let seen = executor.memory().reserve(&key, id.as_str(), authorized.head.body, urgent, executor.now());
    let detach = match &authorized.request.command {
        Command::CommandRun(ask) => Some(ask.detach),
        _ => None,
    };
    match seen.map_err(|fault| fault.request(id.as_str()))? {
        Seen::New => {}
        Seen::Done(reply) => return Ok(Done::Replied { reply }),
        Seen::Ran(ran) => {
            let again = named::again(executor, &authorized.caller, &id, *ran).await;
            return Ok(Done::Replied {
                reply: to_value(again.map_err(|fault| fault.request(id.as_str()))?)?,
            });
        }
    }
    let recorder = ChangeRecorder::new(Arc::clone(executor), &authorized, &call.method, &call.path);
    let performed = named::allowed(executor, &recorder, authorized.caller, authorized.request).await;
    executor.memory().release(&key, id.as_str());
    Ok(match performed? {
        Performed::Replied(reply) => Done::Replied { reply },
        Performed::Begun(operation) => Done::Begun(Box::new(Begun { operation: *operation, again: false })),
        Performed::Ran(started) => {
            let reply = named::reply(&started.run(), detach.unwrap_or(false)).await;
            Done::Replied { reply: to_value(reply)? }
        }
    })
}

/// What must work also when a key has made too many changes: taking power away.
fn is_urgent(command: &Command) -> bool {
    matches!(
        command,
        Command::KeysRevoke(_)
            | Command::AppStop(_)
            | Command::OpsCancel(_)
            | Command::CommandCancel(_)
            | Command::CommandRemove(_)
            | Command::GatePanic(_)
    )
}

pub(crate) async fn act(
    executor: &Arc<Executor>,
    permit: Permit,
    request: Request,
) -> Result<Performed, Fault> {
    let Request { id, command, .. } = request;
    // One change of an app at a time; pruning takes its apps one after the other itself.
    let app = command.app().filter(|_| !matches!(command, Command::ServerPrune(_))).cloned();
    let _turn = match &app {
        Some(app) => Some(executor.turn_of(app).await),
        None => None,
    };
    let by = Asker {
        narrowed: permit.caller().apps().is_some(),
        name: permit.caller().name().to_owned(),
        operation: operation_id(&permit, id.as_str()),
    };
    match command {
        Command::AppDeploy(params) => changes::deploy(executor, params, by).await,
        Command::AppRollback(params) => changes::rollback(executor, params, by),
        Command::AppRestart(params) => changes::restart(executor, params, by),
        Command::AppStart(params) => changes::start(executor, params, by),
        Command::AppScale(params) => changes::scale(executor, params, by),
        Command::AppStop(params) => changes::stop(executor, params, by),
        Command::AppRemove(params) => changes::remove(executor, params, by),
        Command::SecretsSet(params) => changes::secrets_set(executor, params, by).await,
        Command::SecretsRemove(params) => changes::secrets_remove(executor, &params),
        Command::SecretsExport(params) => changes::secrets_export(executor, params).await,
        Command::OpsCancel(params) => changes::cancel(executor, &permit, &params),
        Command::KeysAdd(params) => changes::keys_add(executor, &params),
        Command::KeysRevoke(params) => changes::keys_revoke(executor, &params),
        Command::KeysRotate(params) => changes::keys_rotate(executor, &params),
        Command::ServerPrune(params) => changes::prune(executor, params).await,
        Command::ServerRotateIdentity(params) => changes::rotate_identity(executor, &params),
        Command::CommandRun(params) => named::begin(executor, &permit, &id, params).await,
        Command::CommandCancel(params) => named::cancel(executor, &permit, &params.run),
        Command::CommandAdd(params) => named::change(executor, &permit, params.name, Some(params.text)).await,
        Command::CommandRemove(params) => named::change(executor, &permit, params.name, None).await,
        Command::CommandApprove(params) => named::approve(executor, &permit, params).await,
        Command::GatePanic(params) => named::panic(executor, params.held).await,
        Command::Hello(_)
        | Command::ServerInfo(_)
        | Command::ServerStatus(_)
        | Command::ServerDoctor(_)
        | Command::AppMissing(_)
        | Command::AppChunk(_)
        | Command::AppPreflight(_)
        | Command::AppStatus(_)
        | Command::AppReleases(_)
        | Command::AppLogs(_)
        | Command::SecretsList(_)
        | Command::OpsList(_)
        | Command::OpsAttach(_)
        | Command::KeysList(_)
        | Command::KeysCan(_)
        | Command::CommandOutput(_)
        | Command::CommandRuns(_)
        | Command::CommandList(_)
        | Command::CommandHistory(_)
        | Command::AuditShow(_)
        | Command::AuditFollow(_)
        | Command::AuditVerify(_)
        | Command::AuditStats(_) => {
            Err(Fault::new(FaultCode::Invalid, format!("{} changes nothing", permit.command())))
        }
    }
}

/// Who asks, as far as an operation needs to know.
#[derive(Debug, Clone)]
pub struct Asker {
    /// Their name.
    pub name: String,
    /// Whether their key is narrowed to some apps.
    pub narrowed: bool,
    /// The id of the operation, should the command begin one.
    pub operation: OperationId,
}

/// The same request by the same key has the same operation, so a retry finds it.
fn operation_id(permit: &Permit, request: &str) -> OperationId {
    let key = permit.caller().key().map_or("", |key| key.as_str());
    OperationId::of(&allod_proto::Digest::of(format!("allod-operation-v1\n{key}\n{request}\n")))
}
