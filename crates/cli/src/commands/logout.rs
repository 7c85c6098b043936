//! `allod logout`: ends every login of this machine. The servers need not be asked: without its key a delegation is
//! nothing.

use crate::{failure::Failure, session::Session};
use clap::Args;
use serde_json::json;

/// `allod logout`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod logout")]
pub struct Logout {}

/// Runs it.
///
/// # Errors
/// [`Failure`] when a login can't be wiped.
pub fn run(session: &Session, _: &Logout) -> Result<(), Failure> {
    let ended = session.logins().end_all()?;
    session.output.document(&json!({ "ended": ended }), |style| match ended {
        0 => "there was no login\n".to_owned(),
        1 => format!("{} the login is ended\n", style.good("✓")),
        many => format!("{} {many} logins are ended\n", style.good("✓")),
    })
}
