//! `allod commands rm`.

use crate::{failure::Failure, session::Session};
use allod_proto::{NamedCommandName, messages::named::CommandRemove};
use clap::Args;
use serde_json::json;

/// `allod commands rm`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod commands rm deploy-site --server web1")]
pub(super) struct Rm {
    /// Which
    name: NamedCommandName,
}

/// Runs it.
pub(super) async fn run(session: &Session, rm: Rm) -> Result<(), Failure> {
    let servers = session.servers()?;
    let names: Vec<String> = servers.iter().map(|server| server.name.clone()).collect();
    session.confirm(&format!("Remove {} from {}?", rm.name, names.join(", ")))?;
    let mut rows = Vec::new();
    for server in &servers {
        let mut client = session.connect(server).await?;
        let reply = client.call(CommandRemove { name: rm.name.clone() }).await;
        let reply = reply.map_err(|error| Failure::from(error).on(&server.name))?;
        rows.push(json!({"server": server.name, "registry": reply.registry, "changes": reply.changes}));
    }
    session.output.document(&json!({ "servers": rows }), |_| {
        format!("nobody may run {} on {} any more\n", rm.name, names.join(", "))
    })
}
