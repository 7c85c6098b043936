//! `allod audit follow`: lines as they come. Every frame is signed, and every line must follow from the one before.

use super::{broken, line::describe};
use crate::{failure::Failure, session::Session};
use allod_audit::Chain;
use allod_proto::{command::StreamItem, messages::audit::AuditFollow};
use clap::Args;

/// `allod audit follow`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod audit follow --server web1")]
pub(super) struct Follow {
    /// Begin after this line instead of at the end
    #[arg(long, value_name = "NUMBER")]
    after: Option<u64>,
    /// The exact lines
    #[arg(long)]
    raw: bool,
}

/// Runs it.
pub(super) async fn run(session: &Session, follow: Follow) -> Result<(), Failure> {
    let server = session.one_server()?;
    let on = |failure: Failure| failure.on(&server.name);
    let mut client = session.connect(&server).await?;
    let opened = client.stream(AuditFollow { after: follow.after }).await;
    let mut stream = opened.map_err(Failure::from).map_err(on)?;
    let mut chain = Chain::start(None);
    loop {
        let item = tokio::select! {
            item = stream.next() => item.map_err(Failure::from).map_err(on)?,
            _ = tokio::signal::ctrl_c() => return Err(Failure::interrupted("stopped watching").already_said()),
        };
        match item {
            Some(StreamItem::Record(lines)) => {
                for line in lines {
                    chain.push(&line).map_err(|found| broken(&server.name, &found))?;
                    let value = serde_json::json!({ "line": line });
                    session.output.item(&value, |style| {
                        if follow.raw { format!("{line}\n") } else { describe(&line, style) }
                    })?;
                }
            }
            Some(
                StreamItem::Operation(_)
                | StreamItem::Log(_)
                | StreamItem::Run(_)
                | StreamItem::Idle {}
                | StreamItem::Fault(_)
                | StreamItem::End {},
            ) => {}
            None => return Ok(()),
        }
    }
}
