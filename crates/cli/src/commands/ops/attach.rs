//! `allod ops attach`: an operation's events to its end. Its outcome is the exit code.

use super::server_of;
use crate::{
    failure::Failure,
    render::operation::{follow, follow_with},
    session::Session,
};
use allod_proto::OperationId;
use clap::Args;

/// `allod ops attach`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod ops attach op-0123456789ab")]
pub(super) struct Attach {
    /// Which
    operation: OperationId,
}

/// Runs it.
pub(super) async fn run(session: &Session, attach: Attach) -> Result<(), Failure> {
    let server = server_of(session, &attach.operation).await?;
    let mut client = session.connect(&server).await?;
    let ended = if session.output.is_json() {
        let show = |event: &_| session.output.item(event, |_| String::new());
        follow_with(session, &mut client, &attach.operation, show).await?
    } else {
        follow(session, &mut client, &attach.operation).await?
    };
    ended.into_result().map(|_| ())
}
