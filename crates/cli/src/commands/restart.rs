//! `allod restart`: replaces every copy by rolling, with the newest secrets, on each server in turn.

use super::{each, target::Which};
use crate::{failure::Failure, session::Session};
use allod_proto::messages::app::AppRestart;
use clap::Args;

/// `allod restart`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod restart\n  allod restart --app blog/staging")]
pub struct Restart {
    #[command(flatten)]
    which: Which,
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when it does not end well on a server.
pub async fn run(session: &Session, restart: Restart) -> Result<(), Failure> {
    let target = restart.which.target(session)?;
    let done =
        each::change(session, &target.servers, |_| vec![AppRestart { app: target.app.clone() }]).await?;
    each::conclude(session, &target, &done)
}
