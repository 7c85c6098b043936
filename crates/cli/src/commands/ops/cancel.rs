//! `allod ops cancel`.

use super::server_of;
use crate::{failure::Failure, session::Session};
use allod_proto::{OperationId, messages::ops::OpsCancel};
use clap::Args;

/// `allod ops cancel`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod ops cancel op-0123456789ab")]
pub(super) struct Cancel {
    /// Which
    operation: OperationId,
}

/// Runs it.
pub(super) async fn run(session: &Session, cancel: Cancel) -> Result<(), Failure> {
    let server = server_of(session, &cancel.operation).await?;
    let mut client = session.connect(&server).await?;
    let reply = client.call(OpsCancel { operation: cancel.operation }).await.map_err(Failure::from);
    let reply = reply.map_err(|failure| failure.on(&server.name))?;
    session.output.document(&reply, |_| {
        format!(
            "{} of {} is asked to end; what served before still serves\n",
            reply.operation.id, reply.operation.app
        )
    })
}
