//! `allod servers prune`: frees disk space. What `rollback` needs stays, so nobody is asked.

use super::bytes;
use crate::{failure::Failure, render::Table, session::Session};
use allod_proto::{AppRef, messages::server::ServerPrune};
use clap::Args;
use clap_complete::engine::ArgValueCandidates;
use serde_json::json;

/// `allod servers prune`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  allod servers prune --server web1\n  allod servers prune --app blog/staging"
)]
pub(super) struct Prune {
    /// Only this app
    #[arg(long, value_name = "APP[/ENV]", add = ArgValueCandidates::new(crate::commands::completions::app_names))]
    app: Option<AppRef>,
}

/// Runs it.
pub(super) async fn run(session: &Session, prune: &Prune) -> Result<(), Failure> {
    let servers =
        if session.globals.server.is_empty() { vec![session.one_server()?] } else { session.servers()? };
    let mut table = Table::new(&["server", "releases removed", "freed"]);
    let mut rows = Vec::new();
    for server in servers {
        let mut client = session.connect(&server).await?;
        let reply = client.call(ServerPrune { app: prune.app.clone() }).await.map_err(Failure::from);
        let reply = reply.map_err(|failure| failure.on(&server.name).with("pruned", rows.clone()))?;
        table.row(vec![(&server.name).into(), reply.releases.to_string().into(), bytes(reply.bytes).into()]);
        rows.push(json!({"server": server.name, "releases": reply.releases, "bytes": reply.bytes}));
    }
    session.output.document(&json!({ "servers": rows }), |style| table.render(style))
}
