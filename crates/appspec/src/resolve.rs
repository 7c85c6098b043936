//! The file as meant for one environment: overrides applied, defaults filled in, every value checked.

use crate::{
    complaint::{At, Complaint, Complaints, Spot, nearest},
    reader::List,
    unit,
    written::{Layer, UnitLayer, Written},
};
use allod_proto::{
    AppName, AppRef, EnvName, SecretName, UnitName,
    routes::RoutePattern,
    spec::{AppSpec, SecretHandover, UnitSpec},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

/// How many releases stay for rolling back when the file doesn't say.
const KEEP_RELEASES: u32 = 5;
/// How long a hook may take when the file doesn't say.
const HOOK_TIMEOUT_MS: u64 = 600_000;

/// What the file means for one environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resolved {
    /// What the app is; travels with the release.
    pub spec: AppSpec,
    /// Where it runs: names in the client's inventory, each once. Empty if the file names none.
    pub servers: Vec<String>,
    /// Runs on the client's machine, in the folder of `allod.toml`, before packing. Argument vector.
    pub build: Option<Vec<String>>,
    /// What runs on the client's machine around the deploy.
    pub hooks: Hooks,
    /// What is uploaded, relative to the folder of `allod.toml`.
    pub folder: String,
    /// What is left out, in the form of `.gitignore` lines, besides what the ignore files say.
    pub ignore: Vec<String>,
    /// What happens to the other servers when one fails.
    pub on_failure: OnFailure,
    /// How many servers are deployed at the same time, at least 1.
    pub batch: u32,
}

/// Commands around a deploy, in the folder of `allod.toml`. Argument vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hooks {
    /// Before anything is sent; when it fails, nothing is deployed.
    pub before: Option<Vec<String>>,
    /// After all servers serve the release.
    pub after: Option<Vec<String>>,
    /// How long each may take.
    pub timeout: Duration,
}

/// What happens to the other servers when a deploy fails on one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnFailure {
    /// No further server is touched; the mix stays and is printed.
    #[default]
    Stop,
    /// Those already deployed go back to what they ran.
    Revert,
}

impl Written {
    /// What the file means for `environment`; its defaults where the file doesn't speak of it only if it is `production`.
    ///
    /// # Errors
    /// Every complaint about values, or one if the file doesn't know the environment.
    pub fn resolve(&self, environment: &EnvName) -> Result<Resolved, Complaints> {
        let mut complaints = Vec::new();
        let resolved = self.judge(environment, &mut complaints);
        Complaints::check(complaints)?;
        // A file that parsed lacks nothing, so there is always something.
        resolved.ok_or_else(|| Complaints::one(top().complain("can't be resolved")))
    }

    /// What the file means, with everything there is to complain about.
    pub(crate) fn judge(&self, environment: &EnvName, out: &mut Vec<Complaint>) -> Option<Resolved> {
        let over = self.environments.get(environment);
        if over.is_none() && *environment != EnvName::default() {
            let known: Vec<String> = self.environments().iter().map(ToString::to_string).collect();
            let top = Spot { line: 1, column: 1, path: "env".to_owned() };
            let hint = format!("known here: {}; add [env.{environment}] for another", known.join(", "));
            out.push(top.complain(format!("there is no environment {environment}")).hint(hint));
        }
        let layer = over.map_or_else(|| self.base.clone(), |over| self.base.with(over));
        self.mean(environment, &layer, out)
    }

    fn mean(&self, environment: &EnvName, layer: &Layer, out: &mut Vec<Complaint>) -> Option<Resolved> {
        let app = self.app_name(out).map(|name| AppRef::new(name, environment.clone()));
        let units = units(layer, &self.base, out);
        let vars = vars(layer, out);
        let secrets = secrets(layer, out);
        let release_command = layer.release.as_ref().and_then(|list| argv(list, out));
        let build = layer.build.as_ref().and_then(|list| argv(list, out));
        let hooks = hooks(layer, out);
        let folder =
            layer.folder.as_ref().map_or(Some(".".to_owned()), |folder| relative_folder(folder, out));
        let servers = servers(layer, out);
        let on_failure = on_failure(layer, out);
        let batch = layer.batch.as_ref().map_or(1, |batch| {
            if batch.value == 0 {
                out.push(batch.spot.complain("must be at least 1"));
            }
            batch.value
        });
        let keep_releases = layer.keep_releases.as_ref().map_or(KEEP_RELEASES, |keep| {
            if keep.value > 100 {
                out.push(keep.spot.complain("must be at most 100"));
            }
            keep.value
        });
        let ignore = layer.ignore.as_ref().map(words).unwrap_or_default();
        let spec = AppSpec { app: app?, units, vars, secrets, release_command, keep_releases };
        Some(Resolved { spec, servers, build, hooks, folder: folder?, ignore, on_failure, batch })
    }

    fn app_name(&self, out: &mut Vec<Complaint>) -> Option<AppName> {
        let Some(name) = &self.name else {
            if !self.base.broken.contains("name") {
                out.push(top().complain("name is missing").hint("write name = \"shop\" at the top"));
            }
            return None;
        };
        AppName::new(name.value.clone()).map_err(|error| out.push(name.spot.complain(error.to_string()))).ok()
    }
}

fn top() -> Spot {
    Spot { line: 1, column: 1, path: String::new() }
}

impl Layer {
    /// This layer with what `over` says in place of what it says itself.
    fn with(&self, over: &Self) -> Self {
        let mut units = self.units.clone();
        for (name, unit) in &over.units {
            let merged = units.get(name).map_or_else(|| unit.clone(), |base| base.with(unit));
            units.insert(name.clone(), merged);
        }
        Self {
            servers: over.servers.as_ref().or(self.servers.as_ref()).cloned(),
            build: over.build.as_ref().or(self.build.as_ref()).cloned(),
            folder: over.folder.as_ref().or(self.folder.as_ref()).cloned(),
            ignore: over.ignore.as_ref().or(self.ignore.as_ref()).cloned(),
            keep_releases: over.keep_releases.as_ref().or(self.keep_releases.as_ref()).cloned(),
            before_deploy: over.before_deploy.as_ref().or(self.before_deploy.as_ref()).cloned(),
            after_deploy: over.after_deploy.as_ref().or(self.after_deploy.as_ref()).cloned(),
            hook_timeout: over.hook_timeout.as_ref().or(self.hook_timeout.as_ref()).cloned(),
            release: over.release.as_ref().or(self.release.as_ref()).cloned(),
            on_failure: over.on_failure.as_ref().or(self.on_failure.as_ref()).cloned(),
            batch: over.batch.as_ref().or(self.batch.as_ref()).cloned(),
            vars: joined(&self.vars, &over.vars),
            secrets: joined(&self.secrets, &over.secrets),
            units,
            broken: &self.broken | &over.broken,
        }
    }
}

fn joined(
    base: &BTreeMap<String, At<String>>,
    over: &BTreeMap<String, At<String>>,
) -> BTreeMap<String, At<String>> {
    base.iter().chain(over).map(|(name, value)| (name.clone(), value.clone())).collect()
}

impl UnitLayer {
    fn with(&self, over: &Self) -> Self {
        macro_rules! pick {
            ($($field:ident),*) => {
                Self {
                    spot: self.spot.clone(),
                    broken: &self.broken | &over.broken,
                    $($field: over.$field.as_ref().or(self.$field.as_ref()).cloned(),)*
                }
            };
        }
        pick!(
            kind,
            start,
            runtime,
            instances,
            routes,
            strip_prefix,
            health,
            health_timeout,
            drain,
            stop_grace,
            max_body,
            response_timeout,
            idle_timeout,
            memory,
            open_files,
            root,
            fallback
        )
    }
}

fn units(layer: &Layer, base: &Layer, out: &mut Vec<Complaint>) -> BTreeMap<UnitName, UnitSpec> {
    if layer.units.is_empty() && !layer.broken.contains("units") {
        out.push(top().complain("there is no unit").hint("add [units.web] with start = [\"…\"]"));
    }
    let mut units = BTreeMap::new();
    check_routes(layer, out);
    for (name, written) in &layer.units {
        let parsed =
            UnitName::new(name.clone()).map_err(|error| out.push(written.spot.complain(error.to_string())));
        let known = base.units.keys().map(String::as_str);
        // An override of a unit that is not there is a slip, unless it is a whole unit.
        let slip = if base.units.contains_key(name) { None } else { nearest(name, known) };
        let spec = unit::spec(written, slip, out);
        if let (Ok(name), Some(spec)) = (parsed, spec) {
            units.insert(name, spec);
        }
    }
    units
}

/// No two routes of an app may be the same; the later one in the file is complained about.
fn check_routes(layer: &Layer, out: &mut Vec<Complaint>) {
    let mut routes: Vec<&At<String>> =
        layer.units.values().flat_map(|unit| &unit.routes).flat_map(|list| &list.value).collect();
    routes.sort_by_key(|route| (route.spot.line, route.spot.column));
    let mut taken: BTreeMap<RoutePattern, &Spot> = BTreeMap::new();
    for route in routes {
        let Ok(pattern) = RoutePattern::parse(&route.value) else { continue };
        if let Some(first) = taken.get(&pattern) {
            let message = format!("route {:?} is there twice", route.value);
            let hint = format!("the other is in line {}: {}", first.line, first.path);
            out.push(route.spot.complain(message).hint(hint));
        } else {
            taken.insert(pattern, &route.spot);
        }
    }
}

fn vars(layer: &Layer, out: &mut Vec<Complaint>) -> BTreeMap<String, String> {
    for (name, value) in &layer.vars {
        let mut bytes = name.bytes();
        let starts = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
        if !starts || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            out.push(
                value
                    .spot
                    .complain("not a variable's name")
                    .hint("use A-Z, a-z, 0-9 and _, not a digit first"),
            );
        }
        refuse_reserved(name, &value.spot, out);
        if value.value.contains('\0') {
            out.push(value.spot.complain("a variable can't hold a NUL character"));
        }
    }
    layer.vars.iter().map(|(name, value)| (name.clone(), value.value.clone())).collect()
}

fn secrets(layer: &Layer, out: &mut Vec<Complaint>) -> BTreeMap<SecretName, SecretHandover> {
    let mut secrets = BTreeMap::new();
    for (name, value) in &layer.secrets {
        let handover = match value.value.as_str() {
            "descriptor" => SecretHandover::Descriptor,
            "environment" => SecretHandover::Environment,
            _ => {
                // The value may be the secret itself, so it is not repeated.
                let complaint = value.spot.complain("expected \"descriptor\" or \"environment\"");
                out.push(
                    complaint.hint(format!("a secret's value never stands here: allod secrets set {name}")),
                );
                continue;
            }
        };
        if handover == SecretHandover::Environment {
            refuse_reserved(name, &value.spot, out);
            if let Some(var) = layer.vars.get(name) {
                let complaint = value.spot.complain("is a variable as well");
                out.push(
                    complaint
                        .hint(format!("remove one of the two; the variable is in line {}", var.spot.line)),
                );
            }
        }
        match SecretName::new(name.clone()) {
            Ok(name) => drop(secrets.insert(name, handover)),
            Err(error) => out.push(value.spot.complain(error.to_string())),
        }
    }
    secrets
}

/// Allod sets these itself.
fn refuse_reserved(name: &str, spot: &Spot, out: &mut Vec<Complaint>) {
    if matches!(name, "PORT" | "HOST" | "PATH" | "NOTIFY_SOCKET") || name.starts_with("ALLOD_") {
        out.push(spot.complain("is set by Allod").hint("choose another name"));
    }
}

fn servers(layer: &Layer, out: &mut Vec<Complaint>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    for server in layer.servers.iter().flat_map(|list| &list.value) {
        if server.value.is_empty() || server.value.chars().any(|c| c.is_control() || c.is_whitespace()) {
            out.push(server.spot.complain(format!("{:?} is not a server's name", server.value)));
        } else if !seen.insert(server.value.as_str()) {
            out.push(server.spot.complain(format!("server {:?} is there twice", server.value)));
        }
    }
    layer.servers.as_ref().map(words).unwrap_or_default()
}

fn hooks(layer: &Layer, out: &mut Vec<Complaint>) -> Hooks {
    let timeout = unit::span(layer.hook_timeout.as_ref(), HOOK_TIMEOUT_MS, out);
    Hooks {
        before: layer.before_deploy.as_ref().and_then(|list| argv(list, out)),
        after: layer.after_deploy.as_ref().and_then(|list| argv(list, out)),
        timeout: Duration::from_millis(timeout),
    }
}

fn on_failure(layer: &Layer, out: &mut Vec<Complaint>) -> OnFailure {
    match layer.on_failure.as_ref().map(|written| (written, written.value.as_str())) {
        None | Some((_, "stop")) => OnFailure::Stop,
        Some((_, "revert")) => OnFailure::Revert,
        Some((written, other)) => {
            out.push(written.spot.complain(format!("expected \"stop\" or \"revert\", found {other:?}")));
            OnFailure::Stop
        }
    }
}

fn words(list: &List) -> Vec<String> {
    list.value.iter().map(|word| word.value.clone()).collect()
}

/// An argument vector: a program first, and nothing that a program can't be given.
pub(crate) fn argv(list: &List, out: &mut Vec<Complaint>) -> Option<Vec<String>> {
    let before = out.len();
    match list.value.first() {
        None => {
            out.push(list.spot.complain("names no program").hint("write a list: [\"node\", \"server.js\"]"))
        }
        Some(program) if program.value.trim().is_empty() => {
            out.push(program.spot.complain("names no program"))
        }
        Some(program) if program.value.contains(' ') && list.value.len() == 1 => {
            let words: Vec<String> =
                program.value.split_whitespace().map(|word| format!("{word:?}")).collect();
            let complaint = program.spot.complain(format!("{:?} is not a program", program.value));
            out.push(complaint.hint(format!("one element for each word: [{}]", words.join(", "))));
        }
        Some(_) => {}
    }
    for word in list.value.iter().filter(|word| word.value.contains('\0')) {
        out.push(word.spot.complain("an argument can't hold a NUL character"));
    }
    (out.len() == before).then(|| words(list))
}

fn relative_folder(folder: &At<String>, out: &mut Vec<Complaint>) -> Option<String> {
    let text = folder.value.trim_end_matches('/');
    if text.is_empty() || text.starts_with('/') || text.contains(['\0', '\\']) {
        let complaint =
            folder.spot.complain(format!("{:?} is not a folder relative to this file", folder.value));
        out.push(complaint.hint("write \".\" for the whole folder, or \"dist\""));
        return None;
    }
    Some(text.to_owned())
}
