//! What a change of a definition means for whoever reviews it: a line each, those that give more power first.

use super::params::describe;
use allod_proto::named::Definition;
use std::fmt::Debug;

/// The lines; none where nothing changed. A line that begins with `MORE` gives somebody power they did not have.
#[must_use]
pub fn difference(old: Option<&Definition>, new: Option<&Definition>) -> Vec<String> {
    let mut lines = match (old, new) {
        (None, None) => Vec::new(),
        (None, Some(new)) => vec![format!("MORE: {} is new: {}", new.name, powers(new))],
        (Some(old), None) => vec![format!("less: {} is gone", old.name)],
        (Some(old), Some(new)) => changed(old, new),
    };
    // Stable: within more and less they stay in the order of the file.
    lines.sort_by_key(|line| !line.starts_with("MORE"));
    lines
}

fn powers(definition: &Definition) -> String {
    let who = match definition.callers.as_slice() {
        [] => "operators".to_owned(),
        callers => format!("operators and {}", callers.join(", ")),
    };
    format!("{who} may run {:?} {}", definition.exec, runs_as(definition))
}

fn runs_as(definition: &Definition) -> String {
    definition.run_as.as_ref().map_or("as a user of its own".to_owned(), |user| format!("as {user}"))
}

fn changed(old: &Definition, new: &Definition) -> Vec<String> {
    let mut lines = Vec::new();
    people(old, new, &mut lines);
    program(old, new, &mut lines);
    parameters(old, new, &mut lines);
    bounds(old, new, &mut lines);
    lines
}

fn people(old: &Definition, new: &Definition, lines: &mut Vec<String>) {
    for caller in new.callers.iter().filter(|caller| !old.callers.contains(caller)) {
        lines.push(format!("MORE: {caller} may run it"));
    }
    for caller in old.callers.iter().filter(|caller| !new.callers.contains(caller)) {
        lines.push(format!("less: {caller} may not run it any more"));
    }
    match (&old.approval, &new.approval) {
        (Some(_), None) => lines.push("MORE: it takes no approval any more".to_owned()),
        (None, Some(_)) => lines.push("less: it takes an approval".to_owned()),
        (Some(old), Some(new)) if old != new => lines.push(format!(
            "MORE: approval by {} within {} s, was {} within {} s",
            new.role, new.within_seconds, old.role, old.within_seconds
        )),
        (Some(_), Some(_)) | (None, None) => {}
    }
}

fn program(old: &Definition, new: &Definition, lines: &mut Vec<String>) {
    if old.exec != new.exec {
        lines.push(format!("MORE: it runs {:?}, was {:?}", new.exec, old.exec));
    }
    if old.interpreter != new.interpreter {
        lines.push(format!("MORE: through {:?}, was {:?}", new.interpreter, old.interpreter));
    }
    if old.run_as != new.run_as {
        lines.push(format!("MORE: it runs {}, did {}", runs_as(new), runs_as(old)));
    }
    for (name, value) in new.env.iter().filter(|(name, value)| old.env.get(*name) != Some(value)) {
        lines.push(format!("MORE: {name}={value} in its environment"));
    }
    for name in old.env.keys().filter(|name| !new.env.contains_key(*name)) {
        lines.push(format!("less: {name} is not in its environment any more"));
    }
    match (&old.digest, &new.digest) {
        (Some(_), None) => lines.push("MORE: its program may be any file".to_owned()),
        (old, Some(new)) if old.as_ref() != Some(new) => {
            lines.push(format!("changed: its program must be {new}"));
        }
        (_, Some(_)) | (None, None) => {}
    }
    differs(lines, "directory", &old.directory, &new.directory);
}

fn parameters(old: &Definition, new: &Definition, lines: &mut Vec<String>) {
    for (name, param) in &new.params {
        match old.params.get(name) {
            None => lines.push(format!("MORE: parameter {name}: {}", describe(param))),
            Some(was) if was != param => {
                lines.push(format!("MORE: parameter {name}: {}, was {}", describe(param), describe(was)));
            }
            Some(_) => {}
        }
    }
    for name in old.params.keys().filter(|name| !new.params.contains_key(*name)) {
        lines.push(format!("less: no parameter {name} any more"));
    }
    differs(lines, "slot", &old.slot, &new.slot);
}

fn bounds(old: &Definition, new: &Definition, lines: &mut Vec<String>) {
    let mut bound = |what: &str, old: u64, new: u64| match old.cmp(&new) {
        std::cmp::Ordering::Less => lines.push(format!("MORE: {what} {new}, was {old}")),
        std::cmp::Ordering::Greater => lines.push(format!("less: {what} {new}, was {old}")),
        std::cmp::Ordering::Equal => {}
    };
    bound("milliseconds of time:", old.timeout_ms, new.timeout_ms);
    bound("at once:", old.concurrency.into(), new.concurrency.into());
    bound("waiting:", old.queue.into(), new.queue.into());
    bound("bytes of output:", old.output_limit, new.output_limit);
    bound("bytes of standard input:", old.stdin_limit, new.stdin_limit);
    let rate = |definition: &Definition| definition.per_minute.map_or(u64::MAX, u64::from);
    bound("calls a minute:", rate(old), rate(new));
    // What a run may use gives nobody power over anything: it is a change of limits.
    differs(lines, "limit of memory, in bytes:", &old.memory(), &new.memory());
    differs(lines, "limit of processes:", &old.process_bound(), &new.process_bound());
    differs(lines, "survives its client", &old.survives_client, &new.survives_client);
    differs(lines, "summary", &old.summary, &new.summary);
}

fn differs<T: PartialEq + Debug>(lines: &mut Vec<String>, what: &str, old: &T, new: &T) {
    if old != new {
        lines.push(format!("changed: {what} {new:?}, was {old:?}"));
    }
}
