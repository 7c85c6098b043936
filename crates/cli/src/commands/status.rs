//! `allod status`: one app, wanted against actual, on its servers; outside an app's folder, every app on every server.

mod view;

use super::{
    fleet::{Asked, ask_all, conclude},
    project::Project,
    servers,
    target::{AppWord, Which, servers_of},
};
use crate::{failure::Failure, inventory::Server, session::Session};
use allod_proto::{
    AppRef, EnvName, FaultCode,
    messages::app::{AppStatus, AppStatusGet},
};
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::json;
use std::path::Path;

/// `allod status`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod status\n  allod status blog/staging --json")]
pub struct Status {
    /// Which app; without it, the one whose allod.toml is in this folder, else all of them
    #[arg(value_name = "APP[/ENV]", add = ArgValueCandidates::new(super::completions::app_names))]
    app: Option<AppWord>,
    /// Which environment: production if not given
    #[arg(long, value_name = "ENV")]
    env: Option<EnvName>,
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when a server does not answer, or none has the app.
pub async fn run(session: &Session, status: Status) -> Result<(), Failure> {
    let named = Which::new(status.app, status.env.clone()).named()?;
    if let Some(app) = named {
        // Wherever it is: whoever asks about an app from afar need not know its servers.
        let servers = session.servers()?;
        return show(session, &app, servers, session.globals.server.is_empty()).await;
    }
    match Project::find(session, Path::new("."), &status.env.clone().unwrap_or_default())? {
        Some(project) => {
            let servers = servers_of(session, &project.resolved.servers)?;
            show(session, &project.resolved.spec.app, servers, false).await
        }
        None if status.env.is_some() => {
            Err(Failure::usage("there is no allod.toml in this folder, so --env means nothing")
                .hint("name the app"))
        }
        None => servers::all_apps(session).await,
    }
}

/// `anywhere`: servers without the app are none of the answer, as long as one has it.
async fn show(session: &Session, app: &AppRef, servers: Vec<Server>, anywhere: bool) -> Result<(), Failure> {
    let mut answers = ask_all(session, servers, |_, mut client| {
        let ask = AppStatusGet { app: app.clone() };
        async move { Ok(client.call(ask).await?) }
    })
    .await;
    if anywhere && answers.iter().any(|answer| answer.outcome.is_ok()) {
        answers.retain(|answer| !lacks(answer));
    } else if let Some(same) = all_lack(app, &answers) {
        return Err(same);
    }
    let rows = answers.iter().map(|answer| match &answer.outcome {
        Ok(reply) => json!({"server": answer.server.name, "ok": true, "status": reply}),
        Err(failure) => json!({"server": answer.server.name, "ok": false, "fault": failure.fault}),
    });
    let rows = rows.collect();
    let failures = answers.iter().filter_map(|answer| answer.outcome.as_ref().err().cloned()).collect();
    conclude(session, rows, failures, |style| view::text(&answers, session.now(), style))
}

fn lacks(answer: &Asked<AppStatus>) -> bool {
    answer.outcome.as_ref().is_err_and(|failure| failure.fault.code == FaultCode::NotFound)
}

fn all_lack(app: &AppRef, answers: &[Asked<AppStatus>]) -> Option<Failure> {
    let names: Vec<&str> = answers.iter().map(|answer| answer.server.name.as_str()).collect();
    answers.iter().all(lacks).then(|| {
        Failure::new(FaultCode::NotFound, format!("there is no app {app} on {}", names.join(", ")))
            .hint("`allod servers status` lists the apps; `allod deploy` brings one")
    })
}
