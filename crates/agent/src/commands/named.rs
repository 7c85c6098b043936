//! Named commands, as far as they are looked at: what there is, what runs, and what a run prints. Running one is a change,
//! which the executor decides and does.

use crate::{
    agent::Agent,
    executor_link::{expect_done, unexpected},
};
use allod_commands::{Permit, Registry, no_run};
use allod_proto::{
    Fault, Role,
    command::StreamItem,
    executor::{Action, Done},
    messages::named::{
        CommandHistory, CommandHistoryReply, CommandListReply, CommandOutput, CommandRunsReply,
    },
    named::{Definition, RegistryState, RunEvent, RunState, RunSummary},
};
use allod_rpc::server::Answer;
use std::sync::Arc;
use tokio::sync::mpsc;

/// Batches on their way to a client that is slow.
const QUEUE: usize = 4;

/// All definitions, and where they came from.
pub(super) async fn registry(agent: &Agent) -> Result<(RegistryState, Registry), Fault> {
    let asked = agent.link.ask(Action::Commands {}).await;
    let (state, definitions): (RegistryState, Vec<Definition>) =
        expect_done!(asked, Done::Commands { registry, definitions } => (registry, definitions))?;
    // The executor refuses two meanings of one name, so there are none here.
    let registry = Registry::new(definitions, state.counter).map_err(|_| unexpected())?;
    Ok((state, registry))
}

pub(super) async fn list(agent: &Agent, permit: &Permit) -> Result<CommandListReply, Fault> {
    let (state, registry) = registry(agent).await?;
    let runnable = registry.runnable(permit.caller());
    let sees_all = permit.caller().role() >= Role::Operator;
    let definitions = if sees_all { registry.definitions().cloned().collect() } else { Vec::new() };
    let complaints = if sees_all { state.complaints } else { Vec::new() };
    Ok(CommandListReply { registry: RegistryState { complaints, ..state }, runnable, definitions })
}

pub(super) async fn history(agent: &Agent, params: CommandHistory) -> Result<CommandHistoryReply, Fault> {
    let asked = agent.link.ask(Action::CommandHistory { name: params.name }).await;
    expect_done!(asked, Done::CommandHistory(reply) => reply)
}

pub(super) async fn runs(agent: &Agent, permit: &Permit) -> Result<CommandRunsReply, Fault> {
    let asked = agent.link.ask(Action::Runs {}).await;
    let mut runs = expect_done!(asked, Done::Runs { runs } => runs)?;
    runs.retain(|run| permit.caller().sees_run(run));
    Ok(CommandRunsReply { runs })
}

/// A run's events, to its end. Whoever goes before that is told to the executor, which knows what follows from it.
pub(super) async fn output(
    agent: &Arc<Agent>,
    permit: &Permit,
    params: CommandOutput,
) -> Result<Answer, Fault> {
    let (run, _) = read(agent, &params, params.after).await?;
    if !permit.caller().sees_run(&run) {
        return Err(no_run(&params.run));
    }
    let (send, items) = mpsc::channel(QUEUE);
    tokio::spawn(follow(Arc::clone(agent), params, send));
    Ok(Answer::Stream(items))
}

async fn follow(agent: Arc<Agent>, params: CommandOutput, send: mpsc::Sender<StreamItem>) {
    let mut after = params.after;
    loop {
        let read = tokio::select! {
            read = read(&agent, &params, after) => read,
            () = send.closed() => break,
        };
        let (run, events) = match read {
            Ok(read) => read,
            Err(fault) => {
                let _ = send.send(StreamItem::Fault(fault)).await;
                return;
            }
        };
        after = after.saturating_add(u64::try_from(events.len()).unwrap_or(u64::MAX));
        let ended = events.iter().any(|event| matches!(event, RunEvent::Ended(_)))
            // Nothing is left of a run whose end was seen before.
            || (events.is_empty() && matches!(run.state, RunState::Ended(_)));
        if !events.is_empty() && send.send(StreamItem::Run(events)).await.is_err() {
            break;
        }
        if ended {
            return;
        }
    }
    if let Err(fault) = agent.link.ask(Action::RunLeft { run: params.run }).await {
        tracing::warn!(%fault, "the executor could not be told that nobody follows a run any more");
    }
}

async fn read(
    agent: &Agent,
    params: &CommandOutput,
    after: u64,
) -> Result<(RunSummary, Vec<RunEvent>), Fault> {
    let asked = agent.link.ask(Action::RunRead { run: params.run.clone(), after }).await;
    expect_done!(asked, Done::Run { run, events } => (*run, events))
}
