//! `allod stop`: no copies until `allod start`. Asks first.

use super::{
    each,
    target::{Which, names},
};
use crate::{failure::Failure, session::Session};
use allod_proto::messages::app::AppStop;
use clap::Args;

/// `allod stop`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod stop\n  allod stop --app blog/staging --yes")]
pub struct Stop {
    #[command(flatten)]
    which: Which,
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when it does not end well on a server.
pub async fn run(session: &Session, stop: Stop) -> Result<(), Failure> {
    let target = stop.which.target(session)?;
    session.confirm(&format!(
        "Stop {} on {}? Its routes will answer 503.",
        target.app,
        names(&target.servers)
    ))?;
    let done = each::change(session, &target.servers, |_| vec![AppStop { app: target.app.clone() }]).await?;
    each::conclude(session, &target, &done)
}
