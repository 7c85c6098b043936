//! `allod deploy`: what is in this folder, on its servers. Read, build, pack, ask every server whether it has a chance,
//! show the plan, ask the person, run the hook, then upload and roll out in batches. Nothing changes on any server before
//! all of them have agreed.

mod build;
mod here;
mod hooks;
mod packing;
mod plan;
mod prepare;
mod report;
mod rollout;
mod upload;

use super::{
    project::Project,
    target::{names, servers_of},
};
use crate::{failure::Failure, inventory::Server, session::Session};
use allod_proto::EnvName;
use clap::Args;
use prepare::Prepared;
use std::{path::PathBuf, sync::Arc};

/// `allod deploy`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod deploy --plan\n  allod deploy --env staging --message v1.4 --yes")]
pub struct Deploy {
    /// The app's folder
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
    /// Which environment: production if not given
    #[arg(long, value_name = "ENV")]
    env: Option<EnvName>,
    /// Show what would change, line by line, and stop there
    #[arg(long)]
    plan: bool,
    /// A word for people about this release: a tag, a commit
    #[arg(long, short, value_name = "VERSION")]
    message: Option<String>,
    /// Deploy even where the same release serves already
    #[arg(long)]
    force: bool,
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when it does not end well on every server; what serves where is told.
pub async fn run(session: &Session, deploy: Deploy) -> Result<(), Failure> {
    let project = Project::load(session, &deploy.folder, &deploy.env.unwrap_or_default())?;
    let servers = servers_of(session, &project.resolved.servers)?;
    let app = &project.resolved.spec.app;
    let listed = names(&servers).replace(' ', "");
    let here = here::Here { session, folder: &project.folder, app, servers: listed };
    if let Some(build) = &project.resolved.build {
        build::run(&here, build).await?;
    }
    let packed = Arc::new(packing::pack(session, &project, deploy.message).await?);
    let prepared = prepare::all(session, &servers, &packed).await?;
    if deploy.plan {
        return plan::document(session, app, &packed, &prepared);
    }
    let (todo, unchanged): (Vec<Prepared>, Vec<Prepared>) =
        prepared.into_iter().partition(|one| deploy.force || !one.is_unchanged(&packed));
    let mut rows: Vec<_> = unchanged.iter().map(report::Row::unchanged).collect();
    if !todo.is_empty() {
        session.output.say(&plan::text(&packed, &todo, session.output.error_style()));
        let chosen: Vec<Server> = todo.iter().map(|one| one.server.clone()).collect();
        session.confirm(&format!("Deploy {app} to {}?", names(&chosen)))?;
        hooks::before(&here, &project.resolved.hooks).await?;
        rows.extend(rollout::run(session, &packed, todo, &project.resolved).await);
        if rows.iter().all(report::Row::ended_well) {
            let hooked = hooks::after(&here, &project.resolved.hooks).await;
            return hooked
                .map_err(|failure| report::beside(failure, app, &rows))
                .and_then(|()| report::conclude(session, app, rows));
        }
    }
    report::conclude(session, app, rows)
}
