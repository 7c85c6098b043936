//! What an app is, as meant: the resolved form of `allod.toml` for one environment. It travels in the manifest of a
//! release and is what agent and executor act on. The form that people write is in `allod-appspec`.

use crate::{
    AppRef, SecretName, UnitName,
    routes::{RouteLimits, RoutePattern},
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Where apps find programs, and so where a runtime is looked for before a deploy.
pub const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// An app in one environment. Every value is checked; paths are relative to the release's folder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppSpec {
    /// Which app.
    pub app: AppRef,
    /// Its units, at least one.
    pub units: BTreeMap<UnitName, UnitSpec>,
    /// Environment variables of every unit and of the release command.
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
    /// The secrets it needs; a deploy without one of them is refused.
    #[serde(default)]
    pub secrets: BTreeMap<SecretName, SecretHandover>,
    /// Run once, with the new release's files, before any new instance starts. Argument vector.
    #[serde(default)]
    pub release_command: Option<Vec<String>>,
    /// How many releases stay for rolling back, the current one not counted.
    pub keep_releases: u32,
}

/// How a secret reaches the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SecretHandover {
    /// In the JSON object on the descriptor that `ALLOD_SECRETS_FD` names. The default.
    Descriptor,
    /// As an environment variable of the secret's name. Only when asked for.
    Environment,
}

/// One unit of an app.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct UnitSpec {
    /// What it is.
    pub kind: UnitKind,
    /// Where the proxy sends requests from. Empty for a worker.
    #[serde(default)]
    pub routes: Vec<RoutePattern>,
    /// Whether the path prefix is taken off.
    #[serde(default)]
    pub strip_prefix: bool,
    /// Bounds on its requests.
    #[serde(default)]
    pub limits: RouteLimits,
}

/// What a unit is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UnitKind {
    /// A program.
    Process(ProcessSpec),
    /// A folder of files that the proxy serves.
    Static(StaticSpec),
}

/// A unit that is a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProcessSpec {
    /// Argument vector. A first element with a `/` is below the release's folder, another is looked up in `PATH`.
    pub start: Vec<String>,
    /// How many copies run until `scale` says otherwise.
    pub instances: u32,
    /// What must be on the server.
    #[serde(default)]
    pub runtime: Option<RuntimeSpec>,
    /// When a new copy counts as healthy.
    pub health: HealthSpec,
    /// How long it may take to become healthy. Milliseconds.
    pub health_timeout_ms: u64,
    /// How long requests in flight to an old copy may take to end. Milliseconds.
    pub drain_ms: u64,
    /// How long after SIGTERM comes SIGKILL. Milliseconds.
    pub stop_grace_ms: u64,
    /// Bounds on what a copy may use.
    #[serde(default)]
    pub resources: ResourceSpec,
}

/// What must be on the server before an upload makes sense: `node@22`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RuntimeSpec {
    /// The program: `node`, `python3`, `bun`.
    pub name: String,
    /// The version prefix it must report: `22` or `22.3`.
    #[serde(default)]
    pub version: Option<String>,
}

/// When a copy counts as healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HealthSpec {
    /// A GET of this path answers 2xx.
    Http {
        /// The path, beginning with `/`.
        path: String,
        /// The Host header; the first route's host otherwise.
        #[serde(default)]
        host: Option<String>,
    },
    /// Its port accepts a connection.
    Tcp,
    /// This command, run like the app, exits 0.
    Command {
        /// Argument vector.
        run: Vec<String>,
    },
    /// The app says so itself: `READY=1` to `NOTIFY_SOCKET`, as sd_notify(3) does.
    Ready,
    /// It has been running for this long. For workers.
    Running {
        /// Milliseconds.
        for_ms: u64,
    },
}

/// Bounds on what a copy may use; `None` leaves the machine's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ResourceSpec {
    /// Bytes of memory, where control groups are to be had.
    #[serde(default)]
    pub memory_bytes: Option<u64>,
    /// Open files.
    #[serde(default)]
    pub open_files: Option<u64>,
}

/// A unit that is a folder of files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StaticSpec {
    /// The folder, relative to the release's; empty for the whole.
    pub root: String,
    /// The file that answers a path that is not there, relative to `root`.
    #[serde(default)]
    pub fallback: Option<String>,
}

impl AppSpec {
    /// The units that are programs.
    pub fn processes(&self) -> impl Iterator<Item = (&UnitName, &ProcessSpec)> {
        self.units.iter().filter_map(|(name, unit)| match &unit.kind {
            UnitKind::Process(process) => Some((name, process)),
            UnitKind::Static(_) => None,
        })
    }

    /// The program of this name, if there is one.
    #[must_use]
    pub fn process(&self, unit: &UnitName) -> Option<&ProcessSpec> {
        match &self.units.get(unit)?.kind {
            UnitKind::Process(process) => Some(process),
            UnitKind::Static(_) => None,
        }
    }
}
