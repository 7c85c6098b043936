//! Follows sshd's log, so that what sshd itself refused of the gate's user is in the record beside what the gate refused:
//! keys, forwarding, and requests that never came to the gate. It needs to read the log, and no other privilege.

mod ledger;
mod line;
mod tail;

use crate::{agent::Agent, executor_link::expect_done};
use allod_proto::{
    Fault,
    executor::{Action, Done},
};
use ledger::{Ledger, NOTHING, UNTOLD};
use std::{path::Path, time::Duration};
use tail::Tail;

/// How often the log is looked at.
const EVERY: Duration = Duration::from_millis(500);

/// Follows it for ever. A log that can't be read is waited for, and said once.
pub(crate) async fn run(agent: &Agent, file: &Path, user: &str) {
    let (mut tail, mut ledger, mut complained) = (Tail::new(file.to_owned()), Ledger::default(), false);
    loop {
        match tail.lines() {
            Ok(lines) => {
                complained = false;
                lines.iter().for_each(|line| take(agent, &mut ledger, line, user));
            }
            Err(error) if !complained => {
                complained = true;
                tracing::warn!(%error, file = %file.display(), "sshd's log can't be read: what sshd refuses is not in the record");
            }
            Err(_) => {}
        }
        if let Err(fault) = compare(agent, &mut ledger).await {
            tracing::debug!(%fault, "the executor does not say what the gate told it");
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn take(agent: &Agent, ledger: &mut Ledger, line: &str, user: &str) {
    let now = agent.now();
    let Some(event) = line::parse(line, user) else { return };
    if let Some((source, reason)) = ledger.take(&event, now) {
        agent.observations.refused(&source, reason, now);
    }
}

/// What sshd began against what the gate told.
async fn compare(agent: &Agent, ledger: &mut Ledger) -> Result<(), Fault> {
    for question in ledger.questions(agent.now()) {
        let (from, port, since) = (question.from, question.port, question.since);
        let asked = agent.link.ask(Action::GateAsked { from, port, since }).await;
        let told = expect_done!(asked, Done::Count { count } => count)?;
        for _ in 0..ledger.answered(question, told) {
            agent.observations.refused(&from.to_string(), UNTOLD, agent.now());
        }
    }
    for from in ledger.sweep(agent.now()) {
        agent.observations.refused(&from.to_string(), NOTHING, agent.now());
    }
    Ok(())
}
