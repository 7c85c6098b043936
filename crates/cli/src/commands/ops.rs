//! `allod ops`: long operations. They belong to their server and go on without a client.

mod attach;
mod cancel;
mod list;

use crate::{commands::fleet::server_that_knows, failure::Failure, inventory::Server, session::Session};
use allod_proto::{
    FaultCode, OperationId,
    messages::ops::{OpsList, OpsListReply},
};
use allod_rpc::client::Client;
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
    let nobody = Failure::new(FaultCode::NotFound, format!("no server knows the operation {operation}"))
        .hint("`allod ops list` shows the ones there are");
    let ask = |_, mut client: Client| async move { Ok(client.call(OpsList::default()).await?) };
    let knows = |reply: &OpsListReply| reply.operations.iter().any(|known| known.id == *operation);
    server_that_knows(session, ask, knows, nobody).await
}
