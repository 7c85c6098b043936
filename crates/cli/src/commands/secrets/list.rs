//! `allod secrets list`: names and versions, on each server of the app.

use crate::{
    commands::{
        fleet::{Asked, ask_all, conclude},
        target::Which,
    },
    failure::Failure,
    render::{
        Style, Table,
        table::{Cell, Tone},
        time::local,
    },
    session::Session,
};
use allod_proto::messages::secrets::{SecretEntry, SecretsList, SecretsReply};
use clap::Args;
use serde_json::json;

/// `allod secrets list`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod secrets list\n  allod secrets list --app blog/staging --json")]
pub(super) struct List {
    #[command(flatten)]
    which: Which,
}

/// Runs it.
pub(super) async fn run(session: &Session, list: &List) -> Result<(), Failure> {
    let target = list.which.target(session)?;
    let answers = ask_all(session, target.servers, |_, mut client| {
        let ask = SecretsList { app: target.app.clone() };
        async move { Ok(client.call(ask).await?) }
    })
    .await;
    let rows = answers.iter().map(|answer| match &answer.outcome {
        Ok(reply) => {
            json!({"server": answer.server.name, "ok": true, "app": target.app, "secrets": reply.secrets})
        }
        Err(failure) => json!({"server": answer.server.name, "ok": false, "fault": failure.fault}),
    });
    let rows = rows.collect();
    let failures = answers.iter().filter_map(|answer| answer.outcome.as_ref().err().cloned()).collect();
    conclude(session, rows, failures, |style| text(&answers, style))
}

fn text(answers: &[Asked<SecretsReply>], style: Style) -> String {
    let mut table = Table::new(&["server", "secret", "version", "in use", "set", "by"]);
    for Asked { server, outcome } in answers {
        for secret in outcome.iter().flat_map(|reply| &reply.secrets) {
            table.row(row(&server.name, secret));
        }
    }
    match (table.is_empty(), answers.iter().all(|answer| answer.outcome.is_ok())) {
        (false, _) => table.render(style),
        (true, true) => "no secrets are set\n".to_owned(),
        (true, false) => String::new(),
    }
}

fn row(server: &str, secret: &SecretEntry) -> Vec<Cell> {
    let in_use = match secret.in_use {
        None => Cell::toned(Tone::Dim, "no"),
        Some(version) if version == secret.version => Cell::toned(Tone::Good, version.to_string()),
        Some(version) => Cell::toned(Tone::Warn, format!("{version}, until a restart")),
    };
    vec![
        server.into(),
        secret.name.as_str().into(),
        secret.version.to_string().into(),
        in_use,
        local(secret.set_at).into(),
        (&secret.by).into(),
    ]
}
