//! `allod ops list`.

use crate::{
    commands::fleet::{Asked, ask_all, conclude},
    failure::Failure,
    render::{
        Style, Table,
        table::{Cell, Tone},
        time::{local, took},
    },
    session::Session,
};
use allod_proto::{
    AppRef,
    messages::ops::{OpsList, OpsListReply},
    operation::{OperationState, OperationSummary},
};
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::json;

/// `allod ops list`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod ops list --app blog")]
pub(super) struct List {
    /// Only this app
    #[arg(long, value_name = "APP[/ENV]", add = ArgValueCandidates::new(crate::commands::completions::app_names))]
    app: Option<AppRef>,
}

/// Runs it.
pub(super) async fn run(session: &Session, list: List) -> Result<(), Failure> {
    let answers = ask_all(session, session.servers()?, |_, mut client| {
        let ask = OpsList { app: list.app.clone() };
        async move { Ok(client.call(ask).await?) }
    })
    .await;
    let rows = answers.iter().map(|answer| match &answer.outcome {
        Ok(reply) => json!({"server": answer.server.name, "ok": true, "operations": reply.operations}),
        Err(failure) => json!({"server": answer.server.name, "ok": false, "fault": failure.fault}),
    });
    let rows = rows.collect();
    let failures = answers.iter().filter_map(|answer| answer.outcome.as_ref().err().cloned()).collect();
    conclude(session, rows, failures, |style| text(&answers, style))
}

fn text(answers: &[Asked<OpsListReply>], style: Style) -> String {
    let mut table = Table::new(&["server", "operation", "state", "what", "app", "by", "began", "took"]);
    for Asked { server, outcome } in answers {
        for operation in outcome.iter().flat_map(|reply| &reply.operations) {
            table.row(row(&server.name, operation));
        }
    }
    table.render(style)
}

fn row(server: &str, operation: &OperationSummary) -> Vec<Cell> {
    let (tone, word) = match operation.state {
        OperationState::Running => (Tone::Warn, "running"),
        OperationState::Done => (Tone::Good, "done"),
        OperationState::Failed => (Tone::Bad, "failed"),
        OperationState::Cancelled => (Tone::Dim, "cancelled"),
    };
    let lasted = operation.ended_at.map(|end| end.0.saturating_sub(operation.started_at.0));
    vec![
        server.into(),
        operation.id.as_str().into(),
        Cell::toned(tone, word),
        (&operation.command).into(),
        operation.app.to_string().into(),
        (&operation.by).into(),
        local(operation.started_at).into(),
        lasted.map(took).unwrap_or_default().into(),
    ]
}
