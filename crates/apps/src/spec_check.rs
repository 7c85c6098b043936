//! Whether a spec may be acted on. `allod-appspec` makes only specs that pass; one that came over the wire may be
//! anything that its types can hold.

use crate::manifest_check::check_path;
use allod_proto::{
    limits,
    routes::RoutePattern,
    spec::{AppSpec, HealthSpec, ProcessSpec, StaticSpec, UnitKind, UnitSpec},
};
use std::collections::BTreeSet;

const DAY_MS: u64 = 86_400_000;
const WORDS: usize = 1_000;
const WORD_BYTES: usize = 64 * 1024;

/// Checks a spec by value.
///
/// # Errors
/// One sentence that names the unit or key and what is wrong with it.
pub fn check_spec(spec: &AppSpec) -> Result<(), String> {
    if spec.units.is_empty() {
        return Err("the app has no unit".to_owned());
    }
    if spec.units.len() > 50
        || spec.vars.len() > WORDS
        || spec.secrets.len() > 200
        || spec.keep_releases > 100
    {
        return Err("the app has too many units, variables, secrets or kept releases".to_owned());
    }
    let mut taken = BTreeSet::new();
    for (name, unit) in &spec.units {
        check_unit(unit).map_err(|why| format!("unit {name}: {why}"))?;
        if let Some(twice) = unit.routes.iter().find(|route| !taken.insert(*route)) {
            return Err(format!("unit {name}: route {twice} is there twice"));
        }
    }
    for (name, value) in &spec.vars {
        check_variable(name, value).map_err(|why| format!("variable {name:?}: {why}"))?;
    }
    match &spec.release_command {
        Some(run) => check_argv(run).map_err(|why| format!("release command: {why}")),
        None => Ok(()),
    }
}

fn check_variable(name: &str, value: &str) -> Result<(), &'static str> {
    let mut bytes = name.bytes();
    let starts = bytes.next().is_some_and(|byte| byte.is_ascii_alphabetic() || byte == b'_');
    if !starts || !bytes.all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') || name.len() > 255 {
        return Err("not a variable's name");
    }
    if matches!(name, "PORT" | "HOST" | "PATH" | "NOTIFY_SOCKET") || name.starts_with("ALLOD_") {
        return Err("is set by Allod");
    }
    if value.contains('\0') || value.len() > WORD_BYTES {
        return Err("its value is too long or has a NUL character");
    }
    Ok(())
}

fn check_unit(unit: &UnitSpec) -> Result<(), String> {
    if unit.routes.len() > 100 {
        return Err("too many routes".to_owned());
    }
    for route in &unit.routes {
        // The type can hold what the text never means.
        if RoutePattern::parse(&route.to_string()).as_ref() != Ok(route) {
            return Err(format!("{:?} is not a route", route.to_string()));
        }
    }
    if unit.limits.response_timeout_ms > DAY_MS || unit.limits.idle_timeout_ms > DAY_MS {
        return Err("a timeout is longer than a day".to_owned());
    }
    match &unit.kind {
        UnitKind::Process(process) => check_process(process),
        UnitKind::Static(site) => check_site(site).map_err(ToOwned::to_owned),
    }
}

fn check_site(site: &StaticSpec) -> Result<(), &'static str> {
    if !site.root.is_empty() {
        check_path(&site.root)?;
    }
    site.fallback.as_deref().map_or(Ok(()), check_path)
}

fn check_process(process: &ProcessSpec) -> Result<(), String> {
    check_argv(&process.start).map_err(|why| format!("start: {why}"))?;
    if process.instances > limits::INSTANCES {
        return Err(format!("more than {} instances", limits::INSTANCES));
    }
    if [process.health_timeout_ms, process.drain_ms, process.stop_grace_ms]
        .into_iter()
        .any(|span| span > DAY_MS)
    {
        return Err("a wait is longer than a day".to_owned());
    }
    if let Some(runtime) = &process.runtime {
        let word = |text: &str| {
            (1..=64).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
                && text.bytes().next().is_some_and(|byte| byte.is_ascii_alphanumeric())
        };
        if !word(&runtime.name) || !runtime.version.as_deref().is_none_or(word) {
            return Err("the runtime is not a program and a version".to_owned());
        }
    }
    check_health(&process.health).map_err(|why| format!("health: {why}"))
}

fn check_health(health: &HealthSpec) -> Result<(), &'static str> {
    match health {
        HealthSpec::Http { path, host } => {
            if !path.starts_with('/')
                || path.len() > 2_000
                || !path.bytes().all(|byte| byte.is_ascii_graphic())
            {
                return Err("the path must begin with / and have no spaces");
            }
            let fits = |host: &str| {
                (1..=260).contains(&host.len())
                    && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-:[]".contains(&byte))
            };
            if host.as_deref().is_none_or(fits) { Ok(()) } else { Err("the host is not a host") }
        }
        HealthSpec::Command { run } => check_argv(run),
        HealthSpec::Running { for_ms } if *for_ms > DAY_MS => Err("the wait is longer than a day"),
        HealthSpec::Running { .. } | HealthSpec::Tcp | HealthSpec::Ready => Ok(()),
    }
}

/// A program, found in `PATH` or below the release's folder, and arguments that can be passed on.
fn check_argv(argv: &[String]) -> Result<(), &'static str> {
    let program = argv.first().ok_or("names no program")?;
    if program.trim().is_empty() || program.starts_with('/') || program.split('/').any(|part| part == "..") {
        return Err("the program must be a name, or a path below the release's folder");
    }
    if argv.len() > WORDS || argv.iter().any(|word| word.contains('\0') || word.len() > WORD_BYTES) {
        return Err("an argument is too long or has a NUL character");
    }
    Ok(())
}
