//! `allod servers remove`: forgets a server. What is remembered of its record stays, in case it comes back.

use crate::{failure::Failure, inventory::Inventory, session::Session};
use clap::Args;
use clap_complete::engine::ArgValueCandidates;

/// `allod servers remove`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod servers remove web1")]
pub(super) struct Remove {
    /// Which
    #[arg(add = ArgValueCandidates::new(crate::commands::completions::server_names))]
    name: String,
}

/// Runs it.
pub(super) fn run(session: &Session, remove: &Remove) -> Result<(), Failure> {
    let server = session.server(&remove.name)?;
    session.confirm(&format!("Forget {} ({})? Nothing happens on it.", server.name, server.identity))?;
    Inventory::change(&session.settings.config, |servers| {
        servers.retain(|known| known.name != server.name);
        Ok::<_, Failure>(())
    })?;
    session.output.document(&serde_json::json!({ "removed": server.name }), |_| {
        format!("{} is forgotten\n", server.name)
    })
}
