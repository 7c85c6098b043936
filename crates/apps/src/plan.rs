//! What a deploy would change, line by line, as `deploy --plan` shows it. Values of secrets are not in a spec, so no line
//! can show one.

use allod_proto::{
    UnitName,
    routes::RouteLimits,
    spec::{AppSpec, HealthSpec, ProcessSpec, SecretHandover, StaticSpec, UnitKind, UnitSpec},
};
use std::collections::{BTreeMap, BTreeSet};

/// One line of a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanLine {
    /// `+` comes, `~` changes, `-` goes, a space stays.
    pub sign: char,
    /// What.
    pub text: String,
}

/// What would be sent.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Upload {
    /// Files in the release.
    pub files: usize,
    /// Bytes in the release.
    pub bytes: u64,
    /// Chunks the server lacks.
    pub missing: usize,
    /// Bytes of these.
    pub missing_bytes: u64,
}

/// The lines for a deploy of `new` where `current` serves, `scale` is what `allod scale` has asked for.
#[must_use]
pub fn describe(
    current: Option<&AppSpec>,
    new: &AppSpec,
    scale: &BTreeMap<UnitName, u32>,
    upload: Upload,
) -> Vec<PlanLine> {
    let mut lines = Lines(Vec::new());
    let none = BTreeMap::new();
    let old_units = current.map_or(&none, |spec| &spec.units);
    let names: BTreeSet<&UnitName> = old_units.keys().chain(new.units.keys()).collect();
    for name in names {
        match (old_units.get(name), new.units.get(name)) {
            (None, Some(unit)) => lines.unit_comes(name, unit),
            (Some(_), None) => lines.put('-', format!("unit {name}")),
            (Some(old), Some(unit)) => lines.unit_changes(name, old, unit),
            (None, None) => {}
        }
    }
    lines.vars(current, new);
    lines.secrets(current, new);
    let keep = current.map_or(new.keep_releases, |spec| spec.keep_releases);
    lines.change("keep_releases", &keep.to_string(), &new.keep_releases.to_string());
    if lines.0.is_empty() {
        lines.put(' ', "no change of configuration".to_owned());
    }
    lines.files(upload);
    lines.effect(new, scale);
    lines.0
}

struct Lines(Vec<PlanLine>);

impl Lines {
    fn put(&mut self, sign: char, text: String) {
        self.0.push(PlanLine {
            sign,
            text: text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect(),
        });
    }

    fn change(&mut self, what: &str, old: &str, new: &str) {
        if old != new {
            self.put('~', format!("{what}: {old} -> {new}"));
        }
    }

    fn unit_comes(&mut self, name: &UnitName, unit: &UnitSpec) {
        let text = match &unit.kind {
            UnitKind::Process(process) => {
                format!("unit {name}: {}, {}", process.start.join(" "), copies(process.instances))
            }
            UnitKind::Static(site) => format!("unit {name}: files of {}", folder(site)),
        };
        self.put('+', text);
        for route in &unit.routes {
            self.put('+', format!("route {route} -> {name}"));
        }
    }

    fn unit_changes(&mut self, name: &UnitName, old: &UnitSpec, new: &UnitSpec) {
        for route in old.routes.iter().filter(|route| !new.routes.contains(route)) {
            self.put('-', format!("route {route} -> {name}"));
        }
        for route in new.routes.iter().filter(|route| !old.routes.contains(route)) {
            self.put('+', format!("route {route} -> {name}"));
        }
        self.change(
            &format!("{name}: strip_prefix"),
            &old.strip_prefix.to_string(),
            &new.strip_prefix.to_string(),
        );
        self.change(&format!("{name}: limits"), &limits(&old.limits), &limits(&new.limits));
        match (&old.kind, &new.kind) {
            (UnitKind::Process(old), UnitKind::Process(new)) => self.process_changes(name, old, new),
            (UnitKind::Static(old), UnitKind::Static(new)) => {
                self.change(&format!("{name}: files"), &folder(old), &folder(new));
                let fallback = |site: &StaticSpec| site.fallback.clone().unwrap_or_else(|| "none".to_owned());
                self.change(&format!("{name}: fallback"), &fallback(old), &fallback(new));
            }
            (UnitKind::Process(_), UnitKind::Static(_)) => {
                self.change(&format!("{name}: type"), "process", "static")
            }
            (UnitKind::Static(_), UnitKind::Process(_)) => {
                self.change(&format!("{name}: type"), "static", "process")
            }
        }
    }

    fn process_changes(&mut self, name: &UnitName, old: &ProcessSpec, new: &ProcessSpec) {
        let facts = |process: &ProcessSpec| {
            let optional = |value: Option<u64>| value.map_or("none".to_owned(), |value| value.to_string());
            let runtime = process.runtime.as_ref().map_or("none".to_owned(), |runtime| {
                runtime.version.as_ref().map_or(runtime.name.clone(), |v| format!("{}@{v}", runtime.name))
            });
            [
                ("start", process.start.join(" ")),
                ("instances", process.instances.to_string()),
                ("runtime", runtime),
                ("health", health(&process.health)),
                ("health_timeout", crate::explain::seconds(process.health_timeout_ms)),
                ("drain", crate::explain::seconds(process.drain_ms)),
                ("stop_grace", crate::explain::seconds(process.stop_grace_ms)),
                ("memory", process.resources.memory_bytes.map_or("none".to_owned(), size)),
                ("open_files", optional(process.resources.open_files)),
            ]
        };
        for ((what, old), (_, new)) in facts(old).into_iter().zip(facts(new)) {
            self.change(&format!("{name}: {what}"), &old, &new);
        }
    }

    fn vars(&mut self, current: Option<&AppSpec>, new: &AppSpec) {
        let none = BTreeMap::new();
        let old = current.map_or(&none, |spec| &spec.vars);
        for name in old.keys().filter(|name| !new.vars.contains_key(*name)) {
            self.put('-', format!("variable {name}"));
        }
        for (name, value) in &new.vars {
            match old.get(name) {
                None => self.put('+', format!("variable {name} = {}", cut(value))),
                Some(old) if old != value => {
                    self.put('~', format!("variable {name}: {} -> {}", cut(old), cut(value)));
                }
                Some(_) => {}
            }
        }
    }

    fn secrets(&mut self, current: Option<&AppSpec>, new: &AppSpec) {
        let none = BTreeMap::new();
        let old = current.map_or(&none, |spec| &spec.secrets);
        for name in old.keys().filter(|name| !new.secrets.contains_key(*name)) {
            self.put('-', format!("secret {name}"));
        }
        for (name, how) in &new.secrets {
            match old.get(name) {
                None => self.put('+', format!("secret {name} ({})", handover(*how))),
                Some(old) => self.change(&format!("secret {name}"), handover(*old), handover(*how)),
            }
        }
    }

    fn files(&mut self, upload: Upload) {
        let Upload { files, bytes, missing, missing_bytes } = upload;
        let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
        if missing == 0 {
            self.put(' ', format!("{files}, {}: all on the server", size(bytes)));
        } else {
            self.put('~', format!("{files}, {}: {} to upload", size(bytes), size(missing_bytes)));
        }
    }

    fn effect(&mut self, new: &AppSpec, scale: &BTreeMap<UnitName, u32>) {
        if let Some(run) = &new.release_command {
            self.put('~', format!("runs {} before anything new starts", run.join(" ")));
        }
        for (name, process) in new.processes() {
            let wanted = scale.get(name).copied().unwrap_or(process.instances);
            let said = if wanted == process.instances {
                String::new()
            } else {
                format!(" (as scaled; allod.toml says {})", process.instances)
            };
            self.put('~', format!("starts {} of {name}{said}, then stops the old", copies(wanted)));
        }
    }
}

fn copies(count: u32) -> String {
    if count == 1 { "1 copy".to_owned() } else { format!("{count} copies") }
}

fn folder(site: &StaticSpec) -> String {
    if site.root.is_empty() { "the whole folder".to_owned() } else { site.root.clone() }
}

fn handover(how: SecretHandover) -> &'static str {
    match how {
        SecretHandover::Descriptor => "descriptor",
        SecretHandover::Environment => "environment",
    }
}

fn health(health: &HealthSpec) -> String {
    match health {
        HealthSpec::Http { path, host: Some(host) } => format!("http {path} as {host}"),
        HealthSpec::Http { path, host: None } => format!("http {path}"),
        HealthSpec::Tcp => "tcp".to_owned(),
        HealthSpec::Command { run } => format!("command {}", run.join(" ")),
        HealthSpec::Ready => "ready".to_owned(),
        HealthSpec::Running { for_ms } => format!("running {}", crate::explain::seconds(*for_ms)),
    }
}

fn limits(limits: &RouteLimits) -> String {
    format!(
        "{} a request, {} to answer, {} idle",
        size(limits.body_bytes),
        crate::explain::seconds(limits.response_timeout_ms),
        crate::explain::seconds(limits.idle_timeout_ms)
    )
}

/// `1.5 MB`, in powers of 1024 as `allod.toml` has them.
fn size(bytes: u64) -> String {
    let units = [("GB", 1_u64 << 30), ("MB", 1 << 20), ("KB", 1 << 10)];
    for (unit, scale) in units {
        if bytes >= scale {
            let tenths = bytes / (scale / 10).max(1);
            let (whole, tenth) = (tenths / 10, tenths % 10);
            return if tenth == 0 { format!("{whole} {unit}") } else { format!("{whole}.{tenth} {unit}") };
        }
    }
    format!("{bytes} bytes")
}

fn cut(value: &str) -> String {
    const LONGEST: usize = 60;
    let shown: String = value.chars().take(LONGEST).collect();
    if value.chars().count() > LONGEST { format!("{shown:?}…") } else { format!("{shown:?}") }
}

#[cfg(test)]
mod tests;
