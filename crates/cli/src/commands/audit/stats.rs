//! `allod audit stats`.

use crate::{
    commands::fleet::{Asked, ask_all, conclude},
    failure::Failure,
    render::{
        Style, Table, safe,
        table::{Cell, Tone},
        time::local,
    },
    session::Session,
};
use allod_proto::messages::audit::{AuditStats, AuditStatsReply};
use clap::Args;
use serde_json::json;

/// `allod audit stats`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod audit stats --server web1")]
pub(super) struct Stats {}

/// Runs it.
pub(super) async fn run(session: &Session, _stats: &Stats) -> Result<(), Failure> {
    let answers =
        ask_all(
            session,
            session.servers()?,
            |_, mut client| async move { Ok(client.call(AuditStats {}).await?) },
        )
        .await;
    let rows = answers.iter().map(|answer| match &answer.outcome {
        Ok(reply) => json!({"server": answer.server.name, "ok": true, "stats": reply}),
        Err(failure) => json!({"server": answer.server.name, "ok": false, "fault": failure.fault}),
    });
    let rows = rows.collect();
    let failures = answers.iter().filter_map(|answer| answer.outcome.as_ref().err().cloned()).collect();
    conclude(session, rows, failures, |style| text(&answers, style))
}

fn text(answers: &[Asked<AuditStatsReply>], style: Style) -> String {
    let mut text = String::new();
    for Asked { server, outcome } in answers {
        let Ok(reply) = outcome else { continue };
        let (lines, refusals) = (reply.lines, reply.refusals);
        text.push_str(&format!("{}: {lines} lines, {refusals} refused requests\n", style.bold(&server.name)));
        let mut table = Table::new(&["command", "caller", "ok", "failed", "last"]);
        for row in &reply.rows {
            let tone = if row.failed > 0 { Tone::Warn } else { Tone::Plain };
            table.row(vec![
                (&row.command).into(),
                (&row.caller).into(),
                row.ok.to_string().into(),
                Cell::toned(tone, row.failed.to_string()),
                local(row.last).into(),
            ]);
        }
        text.push_str(&table.render(style));
        if !reply.never.is_empty() {
            text.push_str(&format!("{} {}\n", style.dim("never called:"), safe(&reply.never.join(", "))));
        }
    }
    text
}
