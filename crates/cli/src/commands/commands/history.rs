//! `allod commands history`.

use crate::{
    failure::Failure,
    render::{safe, time::local},
    session::Session,
};
use allod_proto::{NamedCommandName, messages::named::CommandHistory};
use clap::Args;

/// `allod commands history`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod commands history deploy-site --server web1")]
pub(super) struct History {
    /// Which
    name: NamedCommandName,
}

/// Runs it.
pub(super) async fn run(session: &Session, history: History) -> Result<(), Failure> {
    let server = session.one_server()?;
    let mut client = session.connect(&server).await?;
    let reply = client.call(CommandHistory { name: history.name }).await;
    let reply = reply.map_err(|error| Failure::from(error).on(&server.name))?;
    session.output.document(&reply, |style| {
        let mut text = String::new();
        for change in &reply.changes {
            let by = safe(&change.by);
            text.push_str(&format!(
                "{} {} by {by}\n",
                style.bold(&change.counter.to_string()),
                local(change.at)
            ));
            for line in &change.changes {
                text.push_str(&format!("  {}\n", safe(line)));
            }
        }
        text
    })
}
