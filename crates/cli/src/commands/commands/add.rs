//! `allod commands add`: a definition on a server, after what it changes was shown.

use super::file::File;
use crate::{failure::Failure, render::safe, session::Session};
use allod_commands::registry::{difference, lint};
use allod_proto::messages::named::{CommandAdd, CommandList};
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// `allod commands add`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod commands add deploy-site.toml --server web1")]
pub(super) struct Add {
    /// The definition; the file is called as the command is
    #[arg(value_name = "NAME.toml")]
    file: PathBuf,
}

/// Runs it.
pub(super) async fn run(session: &Session, add: Add) -> Result<(), Failure> {
    let file = File::load(&add.file)?;
    let servers = session.servers()?;
    let mut rows = Vec::new();
    for server in &servers {
        let mut client = session.connect(server).await?;
        let on = |error: allod_rpc::client::ClientError| Failure::from(error).on(&server.name);
        let there = client.call(CommandList {}).await.map_err(on)?;
        let old = there.definitions.iter().find(|it| it.name == file.definition.name);
        let changes = difference(old, Some(&file.definition));
        session.output.note(&format!("{}: {}", server.name, file.definition.name));
        changes.iter().for_each(|line| session.output.note(&format!("  {line}")));
        lint(&file.definition).iter().for_each(|line| session.output.warn(line));
        if changes.iter().any(|line| line.starts_with("MORE")) {
            session.confirm(&format!("Let this be run on {}?", server.name))?;
        }
        let ask = CommandAdd { name: file.definition.name.clone(), text: file.text.clone() };
        let reply = client.call(ask).await.map_err(on)?;
        rows.push(json!({"server": server.name, "registry": reply.registry, "changes": reply.changes}));
    }
    session.output.document(&json!({ "servers": rows }), |_| {
        let names: Vec<String> = servers.iter().map(|server| safe(&server.name)).collect();
        format!("{} is in force on {}\n", file.definition.name, names.join(", "))
    })
}
