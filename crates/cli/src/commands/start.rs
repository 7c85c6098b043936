//! `allod start`: brings a stopped app back, on each of its servers in turn.

use super::{each, target::Which};
use crate::{failure::Failure, session::Session};
use allod_proto::messages::app::AppStart;
use clap::Args;

/// `allod start`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod start\n  allod start --app blog/staging")]
pub struct Start {
    #[command(flatten)]
    which: Which,
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when it does not end well on a server.
pub async fn run(session: &Session, start: Start) -> Result<(), Failure> {
    let target = start.which.target(session)?;
    let done = each::change(session, &target.servers, |_| vec![AppStart { app: target.app.clone() }]).await?;
    each::conclude(session, &target, &done)
}
