//! `allod secrets`: values are sealed here to the executor's pinned recipient, and opened here when exported. No value
//! is ever an argument, and none is printed but by `export`.

mod dotenv;
mod export;
mod import;
mod list;
mod rm;
mod send;
mod set;
mod value;

use super::{each, target::Target};
use crate::{failure::Failure, session::Session};
use allod_proto::messages::{
    app::AppRestart,
    secrets::{SecretEntry, SecretsReply},
};
use clap::{Args, Subcommand};

/// `allod secrets`.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Example:\n  allod secrets set DATABASE_URL\n  allod secrets import .env --app blog/staging"
)]
pub struct Secrets {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Set one secret: asked for without echo, or read from stdin or a file
    Set(set::Set),
    /// Which secrets are set; never their values
    List(list::List),
    /// Forget a secret; releases that use it keep their version
    Rm(rm::Rm),
    /// Set the secrets of a .env file, or of a JSON object
    Import(import::Import),
    /// Print the values, for owners; recorded on the server
    Export(export::Export),
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when it does not end well.
pub async fn run(session: &Session, secrets: Secrets) -> Result<(), Failure> {
    match secrets.verb {
        Verb::Set(set) => set::run(session, set).await,
        Verb::List(list) => list::run(session, &list).await,
        Verb::Rm(rm) => rm::run(session, &rm).await,
        Verb::Import(import) => import::run(session, &import).await,
        Verb::Export(export) => export::run(session, &export).await,
    }
}

/// Whether to bring a change to the running app at once.
#[derive(Debug, Clone, Copy, Default, Args)]
struct Bring {
    /// Restart the app by rolling afterwards, so that it gets the change
    #[arg(long)]
    restart: bool,
}

impl Bring {
    /// Restarts, or says that a restart brings it.
    async fn bring(
        self,
        session: &Session,
        target: &Target,
        replies: &[SecretsReply],
    ) -> Result<(), Failure> {
        if self.restart {
            each::change(session, &target.servers, |_| vec![AppRestart { app: target.app.clone() }]).await?;
        } else if replies.iter().any(is_pending) {
            session.output.note("the app that runs has what it had: `allod restart` brings the change");
        }
        Ok(())
    }
}

fn is_pending(reply: &SecretsReply) -> bool {
    reply
        .secrets
        .iter()
        .any(|SecretEntry { version, in_use, .. }| in_use.is_some_and(|used| used != *version))
}
