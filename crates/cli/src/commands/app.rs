//! `allod app`: an app as a whole.

mod remove;

use crate::{failure::Failure, session::Session};
use clap::{Args, Subcommand};

/// `allod app`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true, after_help = "Example:\n  allod app remove --app blog/staging")]
pub struct App {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Stop an app and remove its releases, secrets, logs and data
    Remove(remove::Remove),
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when it does not end well.
pub async fn run(session: &Session, app: App) -> Result<(), Failure> {
    match app.verb {
        Verb::Remove(remove) => remove::run(session, &remove).await,
    }
}
