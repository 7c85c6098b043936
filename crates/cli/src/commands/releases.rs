//! `allod releases`: what there is to roll back to, on each server.

use super::{
    fleet::{Asked, ask_all, conclude},
    target::Which,
};
use crate::{
    failure::Failure,
    render::{
        Style, Table,
        table::{Cell, Tone},
        time::local,
    },
    session::Session,
};
use allod_proto::messages::app::{AppReleases, AppReleasesReply, ReleaseSummary};
use clap::Args;
use serde_json::json;

/// `allod releases`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod releases\n  allod releases --app blog/staging --json")]
pub struct Releases {
    #[command(flatten)]
    which: Which,
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when a server does not answer.
pub async fn run(session: &Session, releases: Releases) -> Result<(), Failure> {
    let target = releases.which.target(session)?;
    let answers = ask_all(session, target.servers, |_, mut client| {
        let ask = AppReleases { app: target.app.clone() };
        async move { Ok(client.call(ask).await?) }
    })
    .await;
    let rows = answers.iter().map(|answer| match &answer.outcome {
        Ok(reply) => {
            json!({"server": answer.server.name, "ok": true, "app": target.app, "releases": reply.releases})
        }
        Err(failure) => json!({"server": answer.server.name, "ok": false, "fault": failure.fault}),
    });
    let rows = rows.collect();
    let failures = answers.iter().filter_map(|answer| answer.outcome.as_ref().err().cloned()).collect();
    conclude(session, rows, failures, |style| text(&answers, style))
}

fn text(answers: &[Asked<AppReleasesReply>], style: Style) -> String {
    let mut table = Table::new(&["server", "release", "version", "", "made", "last served", "by"]);
    for Asked { server, outcome } in answers {
        for release in outcome.iter().flat_map(|reply| &reply.releases) {
            table.row(row(&server.name, release));
        }
    }
    if table.is_empty() { String::new() } else { table.render(style) }
}

fn row(server: &str, release: &ReleaseSummary) -> Vec<Cell> {
    let standing = match (release.current, release.previous) {
        (true, _) => Cell::toned(Tone::Good, "serves"),
        (false, true) => Cell::toned(Tone::Warn, "rollback goes here"),
        (false, false) => Cell::default(),
    };
    vec![
        server.into(),
        release.id.as_str().into(),
        release.version.clone().unwrap_or_default().into(),
        standing,
        local(release.made_at).into(),
        release.served_at.map(local).unwrap_or_default().into(),
        (&release.by).into(),
    ]
}
