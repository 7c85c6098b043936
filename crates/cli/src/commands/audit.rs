//! `allod audit`: a server's record. What is read is checked as it comes: a line that does not follow from the one
//! before is an error.

mod follow;
mod hub;
mod line;
mod show;
mod stats;
mod verify;

use crate::{failure::Failure, session::Session};
use allod_audit::Found;
use allod_proto::FaultCode;
use clap::{Args, Subcommand};

/// `allod audit`.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Example:\n  allod audit show --last 50\n  allod audit verify"
)]
pub struct Audit {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// The newest lines of the record
    Show(show::Show),
    /// Lines as they come, until Ctrl-C
    Follow(follow::Follow),
    /// Read the whole record and check that nothing was cut, edited or put in another order
    Verify(verify::Verify),
    /// How often each command was called by whom
    Stats(stats::Stats),
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when it does not end well.
pub async fn run(session: &Session, audit: Audit) -> Result<(), Failure> {
    match audit.verb {
        Verb::Show(show) => show::run(session, &show).await,
        Verb::Follow(follow) => follow::run(session, follow).await,
        Verb::Verify(verify) => verify::run(session, &verify).await,
        Verb::Stats(stats) => stats::run(session, &stats).await,
    }
}

/// A record that contradicts itself.
fn broken(server: &str, found: &Found) -> Failure {
    Failure::new(FaultCode::Untrusted, format!("the record of {server} is not whole: {found}"))
        .hint("keep this output and a copy of the record; then look at the machine before trusting it")
        .with("line", found.seq)
}
