//! The closed list of commands: one table names each, says who may call it and what it answers.
//!
//! Everything asked of an agent, reads included, is one of these. The local socket and the signed door carry the same.

use crate::{
    AppRef, CommandId, Fault, FaultCode, Role,
    messages::{app, audit, keys, named, ops, secrets, server},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

/// How a command is answered and recorded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Answers unsigned, and tells little.
    Probe,
    /// Looks, changes nothing.
    Read,
    /// Looks, and answers with a stream of frames.
    Stream,
    /// Changes something: verified again by the executor, recorded before and after, deduplicated by its id.
    Change,
}

/// What a key that is narrowed to some apps may do with a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// It names one app: allowed for the key's apps.
    App,
    /// It is about the server, and the answer is filtered to the key's apps.
    Filtered,
    /// It is about the whole server: not for narrowed keys.
    Whole,
}

/// A command's parameters know the command's name and its reply.
pub trait Call: Serialize + DeserializeOwned + Clone + Send + 'static {
    /// Which command.
    const NAME: CommandName;
    /// What it answers.
    type Reply: Serialize + DeserializeOwned + Send + 'static;
    /// The command itself.
    fn into_command(self) -> Command;
}

macro_rules! commands {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $params:ty => $reply:ty, $kind:ident, $role:ident, $scope:ident;)*) => {
        /// A command with its parameters.
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum Command { $($(#[$doc])* $name($params),)* }

        /// A command without its parameters.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum CommandName { $($(#[$doc])* $name,)* }

        /// What a command answers. A stream answers with frames instead.
        #[derive(Debug, Clone, PartialEq, Eq, Serialize)]
        #[serde(untagged)]
        pub enum Reply { $($(#[$doc])* $name($reply),)* }

        impl CommandName {
            /// Every command.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As on the wire and in the record.
            #[must_use]
            pub fn as_str(self) -> &'static str { match self { $(Self::$name => $text,)* } }

            /// How it is answered and recorded.
            #[must_use]
            pub fn kind(self) -> Kind { match self { $(Self::$name => Kind::$kind,)* } }

            /// The lowest role that may call it.
            #[must_use]
            pub fn role(self) -> Role { match self { $(Self::$name => Role::$role,)* } }

            /// What it means for a key that is narrowed to some apps.
            #[must_use]
            pub fn scope(self) -> Scope { match self { $(Self::$name => Scope::$scope,)* } }
        }

        impl Command {
            /// Which command.
            #[must_use]
            pub fn name(&self) -> CommandName { match self { $(Self::$name(_) => CommandName::$name,)* } }

            /// The parameters as JSON.
            #[must_use]
            pub fn params(&self) -> Value {
                match self { $(Self::$name(params) => serde_json::to_value(params).unwrap_or(Value::Null),)* }
            }

            fn from_parts(name: &str, params: Value) -> Result<Self, Fault> {
                match name {
                    $($text => serde_json::from_value::<$params>(params).map(Self::$name).map_err(|error| {
                        Fault::new(FaultCode::Malformed, format!("{}: {error}", $text))
                            .hint("the parameters are described in docs/protocol.md")
                    }),)*
                    _ => Err(unknown_command(name)),
                }
            }
        }

        $(impl Call for $params {
            const NAME: CommandName = CommandName::$name;
            type Reply = $reply;
            fn into_command(self) -> Command { Command::$name(self) }
        })*
    };
}

commands! {
    /// Which protocol, which server.
    Hello = "hello", server::Hello => server::HelloReply, Probe, Caller, Filtered;
    /// The server's name and address.
    ServerInfo = "server_info", server::ServerInfo => server::ServerInfoReply, Probe, Caller, Filtered;

    /// Everything worth a row.
    ServerStatus = "server.status", server::ServerStatus => server::ServerStatusReply, Read, Viewer, Filtered;
    /// What is wrong on the server.
    ServerDoctor = "server.doctor", server::ServerDoctor => server::ServerDoctorReply, Read, Viewer, Whole;
    /// Remove what nobody needs.
    ServerPrune = "server.prune", server::ServerPrune => server::ServerPruneReply, Change, Operator, Whole;
    /// Another identity, which the old one names.
    ServerRotateIdentity = "server.rotate_identity", server::ServerRotateIdentity => server::ServerRotateIdentityReply, Change, Owner, Whole;

    /// Which chunks must be sent.
    AppMissing = "app.missing", app::AppMissing => app::AppMissingReply, Read, Deployer, App;
    /// One chunk; its bytes travel as `PUT /chunks/<app>/<env>/<sha256>`.
    AppChunk = "app.chunk", app::AppChunk => server::ChunkReply, Read, Deployer, App;
    /// Would a deploy have a chance.
    AppPreflight = "app.preflight", app::AppPreflight => app::AppPreflightReply, Read, Deployer, App;
    /// Bring a release.
    AppDeploy = "app.deploy", app::AppDeploy => app::Accepted, Change, Deployer, App;
    /// Back to a release.
    AppRollback = "app.rollback", app::AppRollback => app::Accepted, Change, Deployer, App;
    /// This many copies.
    AppScale = "app.scale", app::AppScale => app::Accepted, Change, Deployer, App;
    /// Bring a stopped app back.
    AppStart = "app.start", app::AppStart => app::Accepted, Change, Deployer, App;
    /// Stop an app.
    AppStop = "app.stop", app::AppStop => app::Accepted, Change, Deployer, App;
    /// Replace every instance by rolling.
    AppRestart = "app.restart", app::AppRestart => app::Accepted, Change, Deployer, App;
    /// Remove an app.
    AppRemove = "app.remove", app::AppRemove => app::Accepted, Change, Operator, App;
    /// How an app stands.
    AppStatus = "app.status", app::AppStatusGet => app::AppStatus, Read, Viewer, App;
    /// What there is to roll back to.
    AppReleases = "app.releases", app::AppReleases => app::AppReleasesReply, Read, Viewer, App;
    /// The app's lines.
    AppLogs = "app.logs", app::AppLogs => (), Stream, Viewer, App;

    /// A new version of a secret.
    SecretsSet = "secrets.set", secrets::SecretsSet => secrets::SecretsReply, Change, Deployer, App;
    /// Names and versions.
    SecretsList = "secrets.list", secrets::SecretsList => secrets::SecretsReply, Read, Viewer, App;
    /// Forget a secret.
    SecretsRemove = "secrets.remove", secrets::SecretsRemove => secrets::SecretsReply, Change, Deployer, App;
    /// The values, sealed to the caller.
    SecretsExport = "secrets.export", secrets::SecretsExport => secrets::SecretsExportReply, Change, Owner, App;

    /// What runs, and what ran lately.
    OpsList = "ops.list", ops::OpsList => ops::OpsListReply, Read, Viewer, Filtered;
    /// An operation's events.
    OpsAttach = "ops.attach", ops::OpsAttach => (), Stream, Viewer, Filtered;
    /// End an operation.
    OpsCancel = "ops.cancel", ops::OpsCancel => ops::OpsCancelReply, Change, Deployer, Filtered;

    /// Who may call.
    KeysList = "keys.list", keys::KeysList => keys::KeysListReply, Read, Operator, Whole;
    /// Enrol a key.
    KeysAdd = "keys.add", keys::KeysAdd => keys::KeysListReply, Change, Owner, Whole;
    /// Revoke a key.
    KeysRevoke = "keys.revoke", keys::KeysRevoke => keys::KeysListReply, Change, Owner, Whole;
    /// One key for another.
    KeysRotate = "keys.rotate", keys::KeysRotate => keys::KeysListReply, Change, Owner, Whole;
    /// Exactly what a key may do.
    KeysCan = "keys.can", keys::KeysCan => keys::KeysCanReply, Read, Caller, Filtered;

    /// Run a named command.
    CommandRun = "command.run", named::CommandRun => named::CommandRunReply, Change, Caller, Whole;
    /// A run's events.
    CommandOutput = "command.output", named::CommandOutput => (), Stream, Caller, Whole;
    /// End a run.
    CommandCancel = "command.cancel", named::CommandCancel => named::CommandCancelReply, Change, Caller, Whole;
    /// What runs, and what ran lately.
    CommandRuns = "command.runs", named::CommandRuns => named::CommandRunsReply, Read, Caller, Whole;
    /// What may be run.
    CommandList = "command.list", named::CommandList => named::CommandListReply, Read, Caller, Whole;
    /// How a named command came to be what it is.
    CommandHistory = "command.history", named::CommandHistory => named::CommandHistoryReply, Read, Operator, Whole;
    /// A new named command, or another text for one.
    CommandAdd = "command.add", named::CommandAdd => named::CommandChanged, Change, Owner, Whole;
    /// Nobody may run it from now on.
    CommandRemove = "command.remove", named::CommandRemove => named::CommandChanged, Change, Owner, Whole;
    /// A second person's yes to one run.
    CommandApprove = "command.approve", named::CommandApprove => named::CommandApproveReply, Change, Viewer, Whole;
    /// Stop all callers, or let them in again.
    GatePanic = "gate.panic", named::GatePanic => named::GatePanicReply, Change, Operator, Whole;

    /// Lines of the record.
    AuditShow = "audit.show", audit::AuditShow => audit::AuditShowReply, Read, Operator, Whole;
    /// Lines as they come.
    AuditFollow = "audit.follow", audit::AuditFollow => (), Stream, Operator, Whole;
    /// The server checks its chain.
    AuditVerify = "audit.verify", audit::AuditVerify => audit::AuditVerifyReply, Read, Operator, Whole;
    /// Counts per command and caller.
    AuditStats = "audit.stats", audit::AuditStats => audit::AuditStatsReply, Read, Operator, Whole;
}

/// Whoever is too old is told so, and what to do.
fn version_fault(v: u32) -> Fault {
    let (oldest, newest) = (crate::OLDEST_VERSION, crate::VERSION);
    let message = format!("protocol version {v} is not spoken here, only {oldest} to {newest}");
    let program = env!("CARGO_PKG_VERSION");
    Fault::new(FaultCode::Version, message).hint(if v > newest {
        format!("this server is too old for the client: upgrade it; it has allod {program}")
    } else {
        format!("the client is too old for this server: install allod {program} or newer")
    })
}

fn unknown_command(name: &str) -> Fault {
    let shown: String = name.chars().take(60).collect();
    Fault::new(
        FaultCode::Malformed,
        format!("there is no command {shown:?} in protocol version {}", crate::VERSION),
    )
    .hint("the server may be older than the client: `allod servers status` shows both versions")
}

impl CommandName {
    /// Whether whoever may run a named command needs it.
    #[must_use]
    pub fn runs_named(self) -> bool {
        matches!(
            self,
            Self::CommandRun
                | Self::CommandOutput
                | Self::CommandCancel
                | Self::CommandRuns
                | Self::CommandList
        )
    }

    /// The command of this wire name.
    #[must_use]
    pub fn from_wire(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|name| name.as_str() == text)
    }
}

impl std::fmt::Display for CommandName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.as_str())
    }
}

impl Command {
    /// The app it names, where it names one.
    #[must_use]
    pub fn app(&self) -> Option<&AppRef> {
        match self {
            Self::AppMissing(p) => Some(&p.app),
            Self::AppChunk(p) => Some(&p.app),
            Self::AppPreflight(p) => Some(&p.spec.app),
            Self::AppDeploy(p) => Some(&p.app),
            Self::AppRollback(p) => Some(&p.app),
            Self::AppScale(p) => Some(&p.app),
            Self::AppStart(p) => Some(&p.app),
            Self::AppStop(p) => Some(&p.app),
            Self::AppRestart(p) => Some(&p.app),
            Self::AppRemove(p) => Some(&p.app),
            Self::AppStatus(p) => Some(&p.app),
            Self::AppReleases(p) => Some(&p.app),
            Self::AppLogs(p) => Some(&p.app),
            Self::SecretsSet(p) => Some(&p.app),
            Self::SecretsList(p) => Some(&p.app),
            Self::SecretsRemove(p) => Some(&p.app),
            Self::SecretsExport(p) => Some(&p.app),
            Self::OpsList(p) => p.app.as_ref(),
            Self::ServerPrune(p) => p.app.as_ref(),
            Self::Hello(_)
            | Self::ServerInfo(_)
            | Self::ServerStatus(_)
            | Self::ServerDoctor(_)
            | Self::ServerRotateIdentity(_)
            | Self::OpsAttach(_)
            | Self::OpsCancel(_)
            | Self::KeysList(_)
            | Self::KeysAdd(_)
            | Self::KeysRevoke(_)
            | Self::KeysRotate(_)
            | Self::KeysCan(_)
            | Self::CommandRun(_)
            | Self::CommandOutput(_)
            | Self::CommandCancel(_)
            | Self::CommandRuns(_)
            | Self::CommandList(_)
            | Self::CommandHistory(_)
            | Self::CommandAdd(_)
            | Self::CommandRemove(_)
            | Self::CommandApprove(_)
            | Self::GatePanic(_)
            | Self::AuditShow(_)
            | Self::AuditFollow(_)
            | Self::AuditVerify(_)
            | Self::AuditStats(_) => None,
        }
    }

    /// The parameters as they may stand in the record: sealed secrets by their digest, everything else as sent.
    #[must_use]
    pub fn recorded_params(&self) -> Value {
        match self {
            Self::SecretsSet(p) => {
                let names: Vec<_> = p
                    .secrets
                    .iter()
                    .map(|secret| {
                        serde_json::json!({"name": secret.name, "sealed_sha256": crate::Digest::of(&secret.sealed)})
                    })
                    .collect();
                serde_json::json!({"app": p.app, "secrets": names})
            }
            Self::AppMissing(p) => serde_json::json!({"app": p.app, "chunks": p.chunks.len()}),
            Self::AppPreflight(p) => serde_json::json!({"app": p.spec.app, "bytes": p.bytes}),
            Self::CommandRun(p) => p.recorded(),
            Self::CommandAdd(p) => {
                serde_json::json!({"name": p.name, "text_sha256": crate::Digest::of(&p.text)})
            }
            other => other.params(),
        }
    }
}

/// One request: what travels in a body, or as a line on the local socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The protocol version.
    pub v: u32,
    /// Made by the client; a changing command with the same id by the same key is done once.
    pub id: CommandId,
    /// What is asked.
    pub command: Command,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenRequest {
    v: u32,
    id: CommandId,
    command: String,
    #[serde(default = "empty_object")]
    params: Value,
}

fn empty_object() -> Value {
    Value::Object(serde_json::Map::new())
}

impl Request {
    /// Reads a body.
    ///
    /// # Errors
    /// `Malformed` with what is wrong and where, `Version` for a protocol version outside
    /// [`crate::OLDEST_VERSION`]..=[`crate::VERSION`].
    pub fn parse(body: &[u8]) -> Result<Self, Fault> {
        let written: WrittenRequest = serde_json::from_slice(body).map_err(|error| {
            Fault::new(FaultCode::Malformed, format!("the body is not a request: {error}"))
                .hint("a request is {\"v\":1,\"id\":…,\"command\":…,\"params\":{…}}; see docs/protocol.md")
        })?;
        if !(crate::OLDEST_VERSION..=crate::VERSION).contains(&written.v) {
            return Err(version_fault(written.v));
        }
        let command = Command::from_parts(&written.command, written.params)
            .map_err(|fault| fault.request(written.id.as_str()))?;
        Ok(Self { v: written.v, id: written.id, command })
    }

    /// Refuses what a later protocol version brought in a request of an earlier one.
    ///
    /// # Errors
    /// `Version`.
    pub fn require_version(&self, least: u32) -> Result<(), Fault> {
        if self.v >= least {
            return Ok(());
        }
        let message = format!("this takes protocol version {least}, the request has {}", self.v);
        Err(Fault::new(FaultCode::Version, message).request(self.id.as_str()))
    }

    /// The body's exact bytes.
    #[must_use]
    pub fn to_body(&self) -> Vec<u8> {
        let written = WrittenRequest {
            v: self.v,
            id: self.id.clone(),
            command: self.command.name().as_str().to_owned(),
            params: self.command.params(),
        };
        serde_json::to_vec(&written).unwrap_or_default()
    }
}

/// The body of a reply: exactly one of `result` and `fault`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReplyBody {
    /// The protocol version.
    pub v: u32,
    /// The request's id, where one could be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<CommandId>,
    /// What the command answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub result: Option<Value>,
    /// Why it does not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fault: Option<Fault>,
}

impl ReplyBody {
    /// The body for an outcome, in the oldest version: every client reads that.
    #[must_use]
    pub fn of(id: Option<CommandId>, outcome: Result<Value, Fault>) -> Self {
        let (result, fault) = match outcome {
            Ok(result) => (Some(result), None),
            Err(fault) => (None, Some(fault)),
        };
        Self { v: crate::OLDEST_VERSION, id, result, fault }
    }

    /// The same in the version of the request that is answered.
    #[must_use]
    pub fn in_version(self, v: u32) -> Self {
        Self { v, ..self }
    }
}

/// What one frame of a stream carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum StreamItem {
    /// An operation's event.
    Operation(crate::operation::OperationEvent),
    /// Lines of an app's log.
    Log(Vec<app::LogLine>),
    /// Exact lines of the record.
    Record(Vec<String>),
    /// What happened in a run of a named command.
    Run(Vec<crate::named::RunEvent>),
    /// Nothing happened for a while; the stream lives.
    Idle {},
    /// The stream fails here.
    Fault(Fault),
    /// The stream is complete.
    End {},
}

/// One line of a stream. The signature covers the request's nonce, `seq`, the frame before, and the payload's digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Frame {
    /// Counts from 0.
    pub seq: u64,
    /// The hash of the frame before: SHA-256 of its signed bytes; zeros for the first.
    pub before: crate::Digest,
    /// A [`StreamItem`] as JSON text; the exact bytes are what is signed.
    pub payload: String,
    /// Whether it is the last.
    pub last: bool,
    /// SSHSIG in the namespace `allod-frame-v1`, standard base64 without armour.
    pub signature: String,
}

#[cfg(test)]
mod tests;
