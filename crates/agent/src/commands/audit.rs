//! Reading the record.

use crate::{agent::Agent, executor_link::expect_done};
use allod_proto::{
    Fault,
    command::StreamItem,
    executor::{Action, Done},
    messages::audit::{AuditFollow, AuditShow, AuditShowReply, AuditStatsReply, AuditVerifyReply},
};
use allod_rpc::server::Answer;
use std::{sync::Arc, time::Duration};
use tokio::sync::mpsc;

const EVERY: Duration = Duration::from_millis(300);
/// Lines asked for at once while following.
const BATCH: u32 = 500;
/// A reply must fit what clients accept.
const REPLY: usize = 512 * 1024;

pub(super) async fn show(agent: &Agent, params: &AuditShow) -> Result<AuditShowReply, Fault> {
    let action = Action::RecordRead { from: params.from, limit: params.limit.min(10_000) };
    let mut reply = expect_done!(agent.link.ask(action).await, Done::Lines(lines) => lines)?;
    let mut bytes = 0usize;
    let fits = reply.lines.iter().take_while(|line| {
        bytes = bytes.saturating_add(line.len());
        bytes < REPLY
    });
    let fits = fits.count().max(1);
    reply.lines.truncate(fits);
    Ok(reply)
}

pub(super) async fn verify(agent: &Agent) -> Result<AuditVerifyReply, Fault> {
    expect_done!(agent.link.ask(Action::RecordVerify {}).await, Done::Verified(reply) => reply)
}

pub(super) async fn stats(agent: &Agent) -> Result<AuditStatsReply, Fault> {
    expect_done!(agent.link.ask(Action::RecordStats {}).await, Done::Stats(reply) => reply)
}

pub(super) fn follow(agent: &Arc<Agent>, params: &AuditFollow) -> Answer {
    let (send, receive) = mpsc::channel(16);
    let after = params.after.unwrap_or_else(|| agent.head().head.seq);
    tokio::spawn(pump(Arc::clone(agent), after, send));
    Answer::Stream(receive)
}

async fn pump(agent: Arc<Agent>, mut after: u64, send: mpsc::Sender<StreamItem>) {
    loop {
        let from = i64::try_from(after.saturating_add(1)).unwrap_or(i64::MAX);
        let asked = agent.link.ask(Action::RecordRead { from, limit: BATCH }).await;
        let lines = match expect_done!(asked, Done::Lines(reply) => reply.lines) {
            Ok(lines) => lines,
            Err(fault) => {
                let _ = send.send(StreamItem::Fault(fault)).await;
                return;
            }
        };
        if lines.is_empty() {
            tokio::select! {
                () = tokio::time::sleep(EVERY) => {}
                () = send.closed() => return,
            }
            continue;
        }
        after = last_seq(&lines).unwrap_or(after);
        if send.send(StreamItem::Record(lines)).await.is_err() {
            return;
        }
    }
}

fn last_seq(lines: &[String]) -> Option<u64> {
    allod_audit::Line::parse(lines.last()?).ok().map(|line| line.seq)
}
