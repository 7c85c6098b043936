//! `allod ops`: long operations. They belong to their server and go on without a client.

mod attach;
mod cancel;
mod list;

use crate::{failure::Failure, inventory::Server, session::Session};
use allod_proto::{FaultCode, OperationId, messages::ops::OpsList};
use clap::{Args, Subcommand};

/// `allod ops`.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Example:\n  allod ops list\n  allod ops attach op-0123456789ab"
)]
pub struct Ops {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// What runs, and what ran lately
    List(list::List),
    /// Watch an operation to its end; Ctrl-C leaves it running
    Attach(attach::Attach),
    /// End an operation; what served before still serves
    Cancel(cancel::Cancel),
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when it does not end well.
pub async fn run(session: &Session, ops: Ops) -> Result<(), Failure> {
    match ops.verb {
        Verb::List(list) => list::run(session, list).await,
        Verb::Attach(attach) => attach::run(session, attach).await,
        Verb::Cancel(cancel) => cancel::run(session, cancel).await,
    }
}

/// The server that an operation runs on: the one named, the only one, or the one that knows it.
async fn server_of(session: &Session, operation: &OperationId) -> Result<Server, Failure> {
    if let Ok(server) = session.one_server() {
        return Ok(server);
    }
    let answers = crate::commands::fleet::ask_all(session, session.servers()?, |_, mut client| async move {
        Ok(client.call(OpsList::default()).await?)
    })
    .await;
    let knows = |answer: &&crate::commands::fleet::Asked<allod_proto::messages::ops::OpsListReply>| {
        answer.outcome.as_ref().is_ok_and(|reply| reply.operations.iter().any(|known| known.id == *operation))
    };
    if let Some(found) = answers.iter().find(knows) {
        return Ok(found.server.clone());
    }
    if let Some(failure) = answers.into_iter().find_map(|answer| answer.outcome.err()) {
        return Err(failure);
    }
    Err(Failure::new(FaultCode::NotFound, format!("no server knows the operation {operation}"))
        .hint("`allod ops list` shows the ones there are"))
}
