//! Counts per command and caller, from the record itself.

use allod_audit::{Ending, Entry, Line, Record, RecordError, Who};
use allod_proto::{
    CommandName, NamedCommandName, Timestamp,
    command::Kind,
    messages::audit::{AuditStatsReply, StatRow},
};
use std::collections::{BTreeMap, HashMap};

/// Reads the whole record and counts. A named command is counted by its name; of those in `named`, it is said which never ran.
///
/// # Errors
/// When the record can't be read.
pub(crate) fn count(record: &Record, named: &[NamedCommandName]) -> Result<AuditStatsReply, RecordError> {
    let mut counts = Counts::default();
    let mut from = record.oldest();
    loop {
        let lines = record.read(from, 5_000)?;
        let Some(last) = lines.iter().rev().find_map(|line| Line::parse(line).ok()) else { break };
        lines.iter().filter_map(|line| Line::parse(line).ok()).for_each(|line| counts.take(&line));
        from = last.seq + 1;
    }
    Ok(counts.into_reply(named))
}

#[derive(Default)]
struct Counts {
    lines: u64,
    refusals: u64,
    rows: BTreeMap<(String, String), StatRow>,
    intents: HashMap<u64, (String, String)>,
}

impl Counts {
    fn take(&mut self, line: &Line) {
        self.lines += 1;
        match &line.entry {
            Entry::Intent(intent) => {
                let command = match (&intent.target, intent.command == CommandName::CommandRun.as_str()) {
                    (Some(target), true) => run_of(target),
                    (Some(_) | None, _) => intent.command.clone(),
                };
                self.intents.insert(line.seq, (command, name(&intent.who)));
            }
            Entry::Outcome(outcome) => {
                if let Some((command, caller)) = self.intents.remove(&outcome.intent) {
                    self.add(command, caller, outcome.result == Ending::Ok, line.at);
                }
            }
            Entry::Read(read) | Entry::Denied(read) => {
                self.add(read.command.clone(), name(&read.who), read.result == Ending::Ok, line.at)
            }
            Entry::Refusals(refusals) => self.refusals = self.refusals.saturating_add(refusals.count),
            Entry::Start(_) | Entry::Counted(_) | Entry::Note(_) => {}
        }
    }

    fn add(&mut self, command: String, caller: String, ok: bool, at: Timestamp) {
        let key = (command.clone(), caller.clone());
        let row = self.rows.entry(key).or_insert(StatRow { command, caller, ok: 0, failed: 0, last: at });
        if ok {
            row.ok += 1;
        } else {
            row.failed += 1;
        }
        row.last = row.last.max(at);
    }

    fn into_reply(self, named: &[NamedCommandName]) -> AuditStatsReply {
        let called: Vec<&str> = self.rows.keys().map(|(command, _)| command.as_str()).collect();
        // Each named command is one of its own.
        let wire = CommandName::ALL
            .iter()
            .filter(|name| name.kind() != Kind::Probe && **name != CommandName::CommandRun);
        let all =
            wire.map(|name| name.as_str().to_owned()).chain(named.iter().map(|name| run_of(name.as_str())));
        let never = all.filter(|name| !called.contains(&name.as_str())).collect();
        AuditStatsReply {
            lines: self.lines,
            refusals: self.refusals,
            never,
            rows: self.rows.into_values().collect(),
        }
    }
}

/// A run of a named command, as it is counted.
fn run_of(name: &str) -> String {
    format!("{} {name}", CommandName::CommandRun)
}

fn name(who: &Who) -> String {
    match &who.key {
        Some(key) => format!("{} ({key})", who.name),
        None => who.name.clone(),
    }
}
