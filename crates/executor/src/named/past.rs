//! Runs of an earlier life of the executor, as the record tells them: listed again, and answered to whoever asks under the
//! same id. What nobody knows the end of is said to be that, and never run a second time.

use super::{
    reply, run_id_of,
    runs::{ENDED, Owner},
};
use crate::{
    Executor,
    memory::{Ran, is_run},
};
use allod_audit::{Ending, Entry, Intent, Line, Outcome};
use allod_commands::Caller;
use allod_proto::{
    CommandId, Fault, FaultCode, Fingerprint, NamedCommandName, RunId, Timestamp,
    messages::named::CommandRunReply,
    named::{RunEnd, RunEvent, RunState, RunSummary},
};
use serde_json::Value;
use std::collections::{BTreeMap, VecDeque};

/// How many runs without an outcome are kept in mind while the record is read.
const OPEN: usize = 1000;

/// Why nobody knows how a run ended whose intent has no outcome.
const MEANWHILE: &str = "the server's executor ended meanwhile";

/// What the record tells of runs, line by line.
#[derive(Debug)]
pub(crate) struct Past {
    /// The server's record key.
    server: Fingerprint,
    open: BTreeMap<u64, RunSummary>,
    ended: VecDeque<RunSummary>,
}

impl Past {
    /// Nothing yet, of the server with this record key.
    pub(crate) fn new(server: Fingerprint) -> Self {
        Self { server, open: BTreeMap::new(), ended: VecDeque::new() }
    }

    /// Takes in one line of the record.
    pub(crate) fn replay(&mut self, line: &Line) {
        match &line.entry {
            Entry::Intent(intent) => {
                if let Some(run) = begun(&self.server, intent, line.at) {
                    self.open.insert(line.seq, run);
                }
                if self.open.len() > OPEN {
                    self.open.pop_first();
                }
            }
            Entry::Outcome(outcome) => {
                let run = self.open.remove(&outcome.intent);
                self.ended.extend(run.and_then(|run| ended(run, outcome)));
                if self.ended.len() > ENDED {
                    self.ended.pop_front();
                }
            }
            Entry::Start(_)
            | Entry::Read(_)
            | Entry::Denied(_)
            | Entry::Counted(_)
            | Entry::Refusals(_)
            | Entry::Note(_) => {}
        }
    }

    /// The last runs that ended, in the order in which they were asked for.
    pub(super) fn ended(self) -> Vec<RunSummary> {
        let mut runs: Vec<RunSummary> = self.ended.into();
        runs.sort_by_key(|run| run.at);
        runs
    }
}

/// A run that an intent tells of, as if nobody knew how it ended.
fn begun(server: &Fingerprint, intent: &Intent, at: Timestamp) -> Option<RunSummary> {
    let name = intent.target.as_deref().filter(|_| is_run(&intent.command))?;
    let name = NamedCommandName::new(name).ok()?;
    let owner = Owner { name: intent.who.name.clone(), key: intent.who.key.clone() };
    let id = run_id_of(server, &owner, &intent.request);
    let registry = intent.params.get("registry").and_then(Value::as_u64).unwrap_or_default();
    let end = nobody_knows(&id, registry);
    Some(summary(id, name, owner, at, end))
}

/// The same with its end; `None` for one that was never begun.
fn ended(run: RunSummary, outcome: &Outcome) -> Option<RunSummary> {
    let told = outcome.reply.as_ref().and_then(end_in);
    match (outcome.result, told) {
        (_, Some(end)) => {
            let owner = Owner { name: run.by, key: run.key };
            Some(summary(run.id, run.name, owner, run.at, end))
        }
        (Ending::Unknown, None) => Some(run),
        // Its turn, its approval or its input was refused.
        (Ending::Ok | Ending::Failed, None) => None,
    }
}

fn end_in(reply: &Value) -> Option<RunEnd> {
    serde_json::from_value(reply.get("end")?.clone()).ok()
}

fn summary(id: RunId, name: NamedCommandName, owner: Owner, at: Timestamp, end: RunEnd) -> RunSummary {
    let (output_bytes, truncated) = (end.output_bytes, end.truncated);
    let output_gone = output_bytes > 0 || end.how == UNKNOWN;
    let (by, key, state) = (owner.name, owner.key, RunState::Ended(end));
    RunSummary { id, name, by, key, at, state, output_bytes, truncated, output_gone }
}

/// How a run ended of which there is an intent and no outcome.
fn nobody_knows(id: &RunId, registry: u64) -> RunEnd {
    RunEnd {
        code: None,
        how: UNKNOWN.to_owned(),
        took_ms: 0,
        output_bytes: 0,
        truncated: false,
        program: None,
        registry,
        fault: Some(unknown_outcome(id, MEANWHILE)),
    }
}

/// The word for how a run ended of which nobody knows.
pub(super) const UNKNOWN: &str = "unknown";

/// It was begun, and nobody knows how it ended.
pub(super) fn unknown_outcome(id: &RunId, why: &str) -> Fault {
    let message = format!("unknown outcome: {id} was begun, and how it ended is not known: {why}");
    Fault::new(FaultCode::UnknownOutcome, message)
        .hint("look at what it was to change; asked again under the same id it is not run again")
}

/// The reply to whoever asks for the same again: how its run stands now, or how the record says that it ended.
///
/// # Errors
/// `UnknownOutcome` where nobody knows.
pub(crate) async fn again(
    executor: &Executor,
    caller: &Caller,
    id: &CommandId,
    ran: Ran,
) -> Result<CommandRunReply, Fault> {
    let owner = Owner { name: caller.name().to_owned(), key: caller.key().cloned() };
    let run = run_id_of(executor.record_public_key().fingerprint(), &owner, id.as_str());
    let unknown = || unknown_outcome(&run, MEANWHILE);
    let kept = ran.reply.ok_or_else(unknown)?;
    if let Ok(run) = executor.named().run(&run) {
        return Ok(reply(&run, false).await);
    }
    let end = end_in(&kept).ok_or_else(unknown)?;
    let run = summary(run, ran.name, owner, ran.at, end.clone());
    Ok(CommandRunReply { run, events: vec![RunEvent::Ended(end)] })
}

#[cfg(test)]
mod tests;
