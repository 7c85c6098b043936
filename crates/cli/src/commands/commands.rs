//! `allod commands`: the named commands of a server: what there is, what a file of the registry means, and changing it.

mod add;
mod approve;
mod diff;
mod examples;
mod file;
mod history;
mod lint;
mod list;
mod rm;

pub(in crate::commands) use list::params;

use crate::{failure::Failure, session::Session};
use clap::{Args, Subcommand};

/// `allod commands`.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Example:\n  allod commands examples restart-service > restart-nginx.toml\n  allod commands lint restart-nginx.toml\n  allod commands add restart-nginx.toml --server web1"
)]
pub struct Commands {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What you may run; operators see who else may
    List(list::List),
    /// Put a definition on a server; shows what it changes before it does
    Add(add::Add),
    /// Remove a definition: nobody may run it from then on
    Rm(rm::Rm),
    /// Check a file here: what is wrong with it, and what to look at twice
    Lint(lint::Lint),
    /// What a change of a file means: who may do more
    Diff(diff::Diff),
    /// How a definition came to be what it is: who, when, what
    History(history::History),
    /// Say yes to one run of a command that takes a second person's approval
    Approve(approve::Approve),
    /// Definitions to begin with
    Examples(examples::Examples),
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when it does not end well.
pub async fn run(session: &Session, commands: Commands) -> Result<(), Failure> {
    match commands.verb {
        Verb::List(list) => list::run(session, list).await,
        Verb::Add(add) => add::run(session, add).await,
        Verb::Rm(rm) => rm::run(session, rm).await,
        Verb::Lint(lint) => lint::run(session, &lint),
        Verb::Diff(diff) => diff::run(session, &diff),
        Verb::History(history) => history::run(session, history).await,
        Verb::Approve(approve) => approve::run(session, approve).await,
        Verb::Examples(examples) => examples::run(session, &examples),
    }
}
