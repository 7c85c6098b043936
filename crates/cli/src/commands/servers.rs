//! `allod servers`: which servers there are, what is pinned of them, how they stand.

mod add;
mod list;
mod probe;
mod prune;
mod recovery;
mod remove;
mod rotate;
mod status;
mod trust;

pub use status::{all_apps, bytes, status_text};

use crate::{failure::Failure, session::Session};
use clap::{Args, Subcommand};

/// `allod servers`.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Example:\n  allod servers add 100.64.0.7 --name web1\n  allod servers status"
)]
pub struct Servers {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Add a server: check its address and identity, make a signed call, pin what it says, then save
    Add(add::Add),
    /// The servers you know, and what is pinned of each
    List(list::List),
    /// Remove releases and chunks that nobody needs; what can be rolled back to stays
    Prune(prune::Prune),
    /// Forget a server; nothing happens on it
    Remove(remove::Remove),
    /// Give a server another identity, which the old one names: who pinned that follows by itself
    Rotate(rotate::Rotate),
    /// How all servers stand; needs no project folder
    Status(status::Status),
    /// Accept a server anew after it was reinstalled, or its record as it is now
    Trust(trust::Trust),
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when it does not end well.
pub async fn run(session: &Session, servers: Servers) -> Result<(), Failure> {
    match servers.verb {
        Verb::Add(add) => add::run(session, add).await,
        Verb::List(list) => list::run(session, &list),
        Verb::Prune(prune) => prune::run(session, &prune).await,
        Verb::Remove(remove) => remove::run(session, &remove),
        Verb::Rotate(rotate) => rotate::run(session, &rotate).await,
        Verb::Status(status) => status::run(session, &status).await,
        Verb::Trust(trust) => trust::run(session, trust).await,
    }
}
