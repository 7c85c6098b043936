//! `allod servers list`: the inventory as it is; no server is asked.

use crate::{failure::Failure, render::Table, session::Session};
use clap::Args;

/// `allod servers list`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod servers list")]
pub(super) struct List {}

/// Runs it.
pub(super) fn run(session: &Session, _list: &List) -> Result<(), Failure> {
    let servers = session.inventory()?.servers();
    session.output.document(&serde_json::json!({ "servers": servers }), |style| {
        if servers.is_empty() {
            return "no servers are known yet: `allod servers add HOST` adds the first\n".to_owned();
        }
        let mut table = Table::new(&["name", "address", "identity", "record key"]);
        for server in servers {
            let record_key = server.record_key.as_ref().map_or("-", |key| key.as_str());
            table.row(vec![
                (&server.name).into(),
                (&server.address).into(),
                server.identity.as_str().into(),
                record_key.into(),
            ]);
        }
        table.render(style)
    })
}
