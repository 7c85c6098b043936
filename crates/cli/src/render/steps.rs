//! The events of an operation as lines: one a step, with a tick or a cross and its seconds. Pure; also what went wrong,
//! in words.

use super::{style::Style, text::safe, time::took};
use allod_proto::{
    OperationId,
    operation::{Failure, Happening, OperationState, ProbeReport, Step},
};
use std::fmt::Write as _;

/// The name of a step for people.
#[must_use]
pub fn step_name(step: Step) -> String {
    step.as_str().replace('_', " ")
}

/// The line of something that happened; `None` for what has no line of its own.
#[must_use]
pub fn line(what: &Happening, style: Style) -> Option<String> {
    match what {
        Happening::Began { .. } => None,
        Happening::Ended { step, took_ms, detail } => {
            let detail =
                detail.as_deref().map(|detail| format!("  {}", style.dim(&safe(detail)))).unwrap_or_default();
            Some(format!("{} {:<16}{:>8}{detail}", style.good("✓"), step_name(*step), took(*took_ms)))
        }
        Happening::Note { text } => Some(format!("  {}", safe(text))),
        Happening::Failure(failure) => Some(failure_lines(failure, style)),
        Happening::Finished { state, fault, serving } => {
            let serving =
                serving.as_ref().map(|release| format!("release {release} serves")).unwrap_or_default();
            Some(match state {
                OperationState::Running => return None,
                OperationState::Done => {
                    format!("{} done {}", style.good("✓"), style.dim(&serving)).trim_end().to_owned()
                }
                OperationState::Failed | OperationState::Cancelled => {
                    let word = if *state == OperationState::Failed { "failed" } else { "cancelled" };
                    let why =
                        fault.as_ref().map(|fault| format!(": {}", safe(&fault.message))).unwrap_or_default();
                    let still = if serving.is_empty() { "nothing serves".to_owned() } else { serving };
                    format!("{} {word}{why}; {still}", style.bad("✗"))
                }
            })
        }
    }
}

/// The line of a step that began, for where nothing is drawn over.
#[must_use]
pub fn began_line(step: Step, detail: Option<&str>, style: Style) -> String {
    let detail = detail.map(|detail| format!("  {}", safe(detail))).unwrap_or_default();
    style.dim(&format!("· {}{detail}", step_name(step)))
}

fn failure_lines(failure: &Failure, style: Style) -> String {
    let mut text =
        format!("{} {}: {}", style.bad("✗"), step_name(failure.step), safe(&failure.fault.message));
    let mut add = |label: &str, value: &str| {
        // Writing to a String can't fail.
        let _ = write!(text, "\n  {} {}", style.dim(label), safe(value));
    };
    if let Some(instance) = &failure.instance {
        add("instance:", instance.as_str());
    }
    if let Some(exit) = &failure.exit {
        add("it ended:", exit);
    }
    if let Some(probe) = &failure.probe {
        add("last probe:", &probe_words(probe));
    }
    if let Some(hint) = &failure.fault.hint {
        add("hint:", hint);
    }
    if !failure.log_tail.is_empty() {
        let _ = write!(text, "\n  {}", style.dim("last lines of its log:"));
        for line in &failure.log_tail {
            let _ = write!(text, "\n    {}", safe(line));
        }
    }
    text
}

/// What a probe found, in a sentence.
#[must_use]
pub fn probe_words(probe: &ProbeReport) -> String {
    let mut words = probe.target.clone();
    match (probe.status, &probe.location, &probe.error) {
        (Some(status), Some(location), _) => {
            let _ = write!(words, " answered {status} and sends elsewhere, to {location}");
        }
        (Some(status), None, _) => {
            let _ = write!(words, " answered {status}");
        }
        (None, _, Some(error)) => {
            let _ = write!(words, ": {error}");
        }
        (None, _, None) => words.push_str(" gave no answer"),
    }
    let tries = if probe.tries == 1 { "once".to_owned() } else { format!("{} times", probe.tries) };
    let _ = write!(words, " (asked {tries}, the last took {} ms)", probe.took_ms);
    if !probe.listens_on.is_empty() {
        let _ = write!(words, "; it really listens on {}", probe.listens_on.join(", "));
    }
    words
}

/// What to say when Ctrl-C leaves an operation alone.
#[must_use]
pub fn still_running(operation: &OperationId, server: &str) -> String {
    format!(
        "still running: allod ops attach {operation} --server {server}  |  \
         allod ops cancel {operation} --server {server}"
    )
}

#[cfg(test)]
mod tests;
