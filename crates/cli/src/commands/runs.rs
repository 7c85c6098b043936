//! `allod runs`: runs of named commands. They belong to their server; one that survives its client goes on without one.

use super::run::{Follower, Shown, conclude as end_as};
use crate::{
    commands::fleet::{Asked, ask_all, conclude, server_that_knows},
    failure::Failure,
    inventory::Server,
    render::{
        Style, Table, safe,
        table::{Cell, Tone},
        time::{local, took},
    },
    session::Session,
};
use allod_proto::{
    FaultCode, RunId,
    messages::named::{CommandCancel, CommandRuns, CommandRunsReply},
    named::RunState,
};
use allod_rpc::client::Client;
use clap::{Args, Subcommand};
use serde_json::json;

/// `allod runs`.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Example:\n  allod runs list\n  allod runs attach run-0123456789ab"
)]
pub struct Runs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What runs, and what ran lately
    #[command(after_help = "Example:\n  allod runs list --server web1")]
    List,
    /// Watch a run to its end; its exit code is the run's
    #[command(after_help = "Example:\n  allod runs attach run-0123456789ab")]
    Attach {
        /// Which
        run: RunId,
    },
    /// End a run and everything it started
    #[command(after_help = "Example:\n  allod runs cancel run-0123456789ab")]
    Cancel {
        /// Which
        run: RunId,
    },
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when it does not end well.
pub async fn run(session: &Session, runs: Runs) -> Result<(), Failure> {
    match runs.verb {
        Verb::List => list(session).await,
        Verb::Attach { run } => {
            let server = server_of(session, &run).await?;
            let mut shown = Shown::new(session);
            let follower = Follower { session, server: &server };
            let followed = follower.attach(&run, &mut |stream, bytes| shown.take(stream, bytes)).await?;
            end_as(session, &server, followed, &shown)
        }
        Verb::Cancel { run } => {
            let server = server_of(session, &run).await?;
            let mut client = session.connect(&server).await?;
            let reply = client.call(CommandCancel { run }).await.map_err(Failure::from);
            let reply = reply.map_err(|failure| failure.on(&server.name))?;
            session.output.document(&reply, |_| {
                format!("{} ({}) on {} is asked to end\n", reply.run.name, reply.run.id, server.name)
            })
        }
    }
}

async fn ask(_: Server, mut client: Client) -> Result<CommandRunsReply, Failure> {
    Ok(client.call(CommandRuns {}).await?)
}

async fn list(session: &Session) -> Result<(), Failure> {
    let answers = ask_all(session, session.servers()?, ask).await;
    let rows = answers.iter().map(|answer| match &answer.outcome {
        Ok(reply) => json!({"server": answer.server.name, "ok": true, "runs": reply.runs}),
        Err(failure) => json!({"server": answer.server.name, "ok": false, "fault": failure.fault}),
    });
    let rows = rows.collect();
    let failures = answers.iter().filter_map(|answer| answer.outcome.as_ref().err().cloned()).collect();
    conclude(session, rows, failures, |style| text(&answers, style))
}

fn text(answers: &[Asked<CommandRunsReply>], style: Style) -> String {
    let mut table = Table::new(&["server", "run", "command", "by", "began", "state", "took"]);
    for Asked { server, outcome } in answers {
        let Ok(reply) = outcome else { continue };
        for run in &reply.runs {
            let (state, time) = match &run.state {
                RunState::Waiting {} => (Cell::toned(Tone::Dim, "waits"), String::new()),
                RunState::Running {} => (Cell::toned(Tone::Plain, "runs"), String::new()),
                RunState::Ended(end) => {
                    let tone = if end.code == Some(0) { Tone::Good } else { Tone::Bad };
                    (Cell::toned(tone, safe(&end.how)), took(end.took_ms))
                }
            };
            table.row(vec![
                server.name.as_str().into(),
                run.id.as_str().into(),
                run.name.as_str().into(),
                safe(&run.by).as_str().into(),
                local(run.at).as_str().into(),
                state,
                time.as_str().into(),
            ]);
        }
    }
    if table.is_empty() { "nothing ran lately\n".to_owned() } else { table.render(style) }
}

/// The server that a run is on.
async fn server_of(session: &Session, run: &RunId) -> Result<Server, Failure> {
    let nobody = Failure::new(FaultCode::NotFound, format!("no server knows the run {run}"))
        .hint("`allod runs list` shows the last ones");
    let knows = |reply: &CommandRunsReply| reply.runs.iter().any(|known| known.id == *run);
    server_that_knows(session, ask, knows, nobody).await
}
