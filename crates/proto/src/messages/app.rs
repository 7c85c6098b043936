//! Deploying an app and looking at it.

use crate::{
    AppRef, Digest, InstanceId, OperationId, ReleaseId, SecretName, Timestamp, UnitName,
    operation::OperationSummary, spec::AppSpec,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `app.missing`: which of these chunks does the server lack for this app?
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppMissing {
    /// The app.
    pub app: AppRef,
    /// At most [`crate::limits::MISSING_HASHES`].
    pub chunks: Vec<Digest>,
}

/// Answer to `app.missing`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppMissingReply {
    /// Those that must be sent.
    pub missing: Vec<Digest>,
}

/// `app.chunk`: keep this chunk for this app. Its bytes are the body of `PUT /chunks/<app>/<env>/<sha256>`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppChunk {
    /// The app.
    pub app: AppRef,
    /// What the bytes hash to.
    pub chunk: Digest,
}

/// `app.preflight`: would a deploy of this have a chance? Asked before the upload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppPreflight {
    /// What the app is to be.
    pub spec: AppSpec,
    /// Bytes the files take.
    pub bytes: u64,
    /// The machine its programs are for.
    #[serde(default)]
    pub architecture: Option<String>,
}

/// Answer to `app.preflight`: also what a plan is made from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppPreflightReply {
    /// What stands in the way; empty if nothing does.
    pub obstacles: Vec<Obstacle>,
    /// What serves now.
    #[serde(default)]
    pub current: Option<ReleaseSummary>,
    /// The configuration that serves now.
    #[serde(default)]
    pub current_spec: Option<AppSpec>,
    /// The manifest index of what serves now, if a deploy of the same would change nothing: the app isn't stopped, and
    /// none of its secrets has changed since.
    #[serde(default)]
    pub unchanged_manifest: Option<Digest>,
    /// How many copies of each unit are wanted now.
    #[serde(default)]
    pub scale: BTreeMap<UnitName, u32>,
    /// Secrets that are set for the app.
    #[serde(default)]
    pub secrets: Vec<SecretName>,
    /// Bytes free where releases live.
    pub disk_free: u64,
}

/// Why a deploy would fail.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Obstacle {
    /// `runtime`, `architecture`, `disk`, `route`, `secret`, `busy`.
    pub about: String,
    /// What is the matter.
    pub message: String,
    /// What to do.
    #[serde(default)]
    pub fix: Option<String>,
}

/// `app.deploy`: bring this release, whose chunks are on the server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppDeploy {
    /// The app; must be the one the manifest speaks of.
    pub app: AppRef,
    /// Digest of the [`crate::manifest::ManifestIndex`]'s JSON, itself a chunk.
    pub manifest: Digest,
}

/// Answer to the commands that begin an operation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// What to attach to.
    pub operation: OperationId,
    /// The release it brings, if it brings one.
    #[serde(default)]
    pub release: Option<ReleaseId>,
}

/// `app.rollback`: back to the release before, or to a named one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRollback {
    /// The app.
    pub app: AppRef,
    /// The release the caller believes current; another is a conflict.
    pub from: ReleaseId,
    /// Where to; the one before `from` if not given.
    #[serde(default)]
    pub to: Option<ReleaseId>,
}

/// `app.scale`: this many copies of a unit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppScale {
    /// The app.
    pub app: AppRef,
    /// The unit.
    pub unit: UnitName,
    /// How many, at most [`crate::limits::INSTANCES`].
    pub instances: u32,
}

/// `app.start`: bring a stopped app back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppStart {
    /// The app.
    pub app: AppRef,
}

/// `app.stop`: stop all its instances until `app.start`; its routes answer 503.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppStop {
    /// The app.
    pub app: AppRef,
}

/// `app.restart`: replace every instance by rolling, with the newest secrets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRestart {
    /// The app.
    pub app: AppRef,
}

/// `app.remove`: stop it and remove its releases, secrets, logs and data.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppRemove {
    /// The app.
    pub app: AppRef,
}

/// `app.status`: how an app stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppStatusGet {
    /// The app.
    pub app: AppRef,
}

/// How an app stands: desired against actual.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppStatus {
    /// The app.
    pub app: AppRef,
    /// In one word.
    pub state: AppState,
    /// What serves.
    #[serde(default)]
    pub release: Option<ReleaseSummary>,
    /// Its routes, as written.
    pub routes: Vec<String>,
    /// Its units.
    pub units: Vec<UnitStatus>,
    /// What is being done to it.
    #[serde(default)]
    pub operation: Option<OperationSummary>,
    /// Secrets changed since the release was made: a restart brings them.
    #[serde(default)]
    pub secrets_pending: bool,
}

/// How an app stands, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppState {
    /// All that is wanted is there and healthy.
    Healthy,
    /// Some of what is wanted is missing; some serves.
    Degraded,
    /// Nothing of what is wanted serves.
    Down,
    /// Stopped on purpose.
    Stopped,
    /// Never deployed with success.
    New,
}

/// How a unit stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitStatus {
    /// The unit.
    pub unit: UnitName,
    /// `process` or `static`.
    pub kind: String,
    /// How many copies are wanted.
    pub wanted: u32,
    /// The copies there are.
    pub instances: Vec<InstanceStatus>,
}

/// How one running copy stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceStatus {
    /// Its id.
    pub id: InstanceId,
    /// Its release.
    pub release: ReleaseId,
    /// Where it listens.
    #[serde(default)]
    pub address: Option<String>,
    /// Its process.
    #[serde(default)]
    pub pid: Option<u32>,
    /// The user it runs as.
    #[serde(default)]
    pub uid: Option<u32>,
    /// When it started.
    pub started_at: Timestamp,
    /// How it stands.
    pub state: InstanceState,
    /// How it ended, if it did.
    #[serde(default)]
    pub exit: Option<String>,
    /// Restarts of this place since the last deploy.
    #[serde(default)]
    pub restarts: u32,
}

/// How an instance stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstanceState {
    /// Runs, not yet healthy.
    Starting,
    /// Runs and is healthy.
    Healthy,
    /// Runs and is not healthy.
    Unhealthy,
    /// Serves its last requests.
    Draining,
    /// Ended.
    Exited,
}

/// `app.releases`: what there is to roll back to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppReleases {
    /// The app.
    pub app: AppRef,
}

/// Answer to `app.releases`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AppReleasesReply {
    /// Newest first.
    pub releases: Vec<ReleaseSummary>,
}

/// A release in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReleaseSummary {
    /// Its id.
    pub id: ReleaseId,
    /// The word for people.
    #[serde(default)]
    pub version: Option<String>,
    /// When it was made here.
    pub made_at: Timestamp,
    /// Who brought it.
    pub by: String,
    /// When it last began to serve.
    #[serde(default)]
    pub served_at: Option<Timestamp>,
    /// Whether it serves now.
    #[serde(default)]
    pub current: bool,
    /// Whether it is the one that `rollback` without argument goes to.
    #[serde(default)]
    pub previous: bool,
}

/// `app.logs`: the app's lines, as a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppLogs {
    /// The app.
    pub app: AppRef,
    /// Only this instance.
    #[serde(default)]
    pub instance: Option<InstanceId>,
    /// Only this unit.
    #[serde(default)]
    pub unit: Option<UnitName>,
    /// Not before this time.
    #[serde(default)]
    pub since: Option<Timestamp>,
    /// At most this many of the newest lines to begin with.
    #[serde(default)]
    pub tail: Option<u32>,
    /// Whether to go on as lines come.
    #[serde(default)]
    pub follow: bool,
}

/// One line of an app's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// When it was read from the instance.
    pub at: Timestamp,
    /// Whose it is.
    pub instance: InstanceId,
    /// Its release.
    pub release: ReleaseId,
    /// `out` or `err`.
    pub stream: String,
    /// The line without its newline; bytes that are not UTF-8 are replaced.
    pub text: String,
}
