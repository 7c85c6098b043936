//! `allod deploy`: what is in this folder, on its servers. Read, build, pack, ask every server whether it has a chance,
//! show the plan, ask the person, then upload and roll out in batches. Nothing changes on any server before all of them
//! have agreed.

mod build;
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
    if let Some(build) = &project.resolved.build {
        build::run(session, &project.folder, build).await?;
    }
    let packed = Arc::new(packing::pack(session, &project, deploy.message).await?);
    let prepared = prepare::all(session, &servers, &packed).await?;
    let app = &project.resolved.spec.app;
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
        rows.extend(rollout::run(session, &packed, todo, &project.resolved).await);
    }
    report::conclude(session, app, rows)
}
