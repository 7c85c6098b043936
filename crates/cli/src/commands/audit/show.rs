//! `allod audit show`: the newest lines, or those from a number on, checked to follow from each other.

use super::{broken, line::describe};
use crate::{failure::Failure, session::Session};
use allod_audit::Chain;
use allod_proto::messages::audit::{AuditShow, AuditShowReply};
use allod_rpc::client::verify_head;
use clap::Args;

/// `allod audit show`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  allod audit show --last 50\n  allod audit show --from 1200 --last 20 --json"
)]
pub(super) struct Show {
    /// How many lines
    #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    last: u32,
    /// Begin at this line instead of counting from the end
    #[arg(long, value_name = "NUMBER")]
    from: Option<i64>,
    /// The exact lines, as `sha256sum` needs them
    #[arg(long)]
    raw: bool,
}

/// Runs it.
pub(super) async fn run(session: &Session, show: &Show) -> Result<(), Failure> {
    let server = session.one_server()?;
    let mut client = session.connect(&server).await?;
    let mut from = show.from.unwrap_or(-i64::from(show.last));
    let mut left = show.last;
    let mut chain = Chain::start(None);
    let mut whole: Option<AuditShowReply> = None;
    while left > 0 {
        let reply = client.call(AuditShow { from, limit: left }).await.map_err(Failure::from);
        let reply = reply.map_err(|failure| failure.on(&server.name))?;
        if let Some(record_key) = &server.record_key {
            verify_head(&server.name, record_key, &reply.head)?;
        }
        for line in &reply.lines {
            chain.push(line).map_err(|found| broken(&server.name, &found))?;
        }
        let Some(newest) = chain.head().filter(|_| !reply.lines.is_empty()) else {
            whole.get_or_insert(reply);
            break;
        };
        left = left.saturating_sub(u32::try_from(reply.lines.len()).unwrap_or(u32::MAX));
        from = i64::try_from(newest.seq.saturating_add(1)).unwrap_or(i64::MAX);
        let done = newest.seq >= reply.head.head.seq;
        match &mut whole {
            Some(whole) => {
                whole.lines.extend(reply.lines);
                whole.head = reply.head;
            }
            None => whole = Some(reply),
        }
        if done {
            break;
        }
    }
    let Some(reply) = whole else { return Ok(()) };
    session.output.document(&reply, |style| {
        if show.raw {
            return reply.lines.iter().map(|line| format!("{line}\n")).collect();
        }
        reply.lines.iter().map(|line| describe(line, style)).collect()
    })
}
