//! `allod audit verify`: reads every line there is and checks it here. The chain must pass through the head that was
//! seen last and end in a head that the pinned record key signed; the server's own opinion is not asked.

use super::broken;
use crate::{failure::Failure, inventory::Server, session::Session};
use allod_audit::Chain;
use allod_proto::{
    FaultCode,
    messages::audit::AuditShow,
    record::{Head, SignedHead},
};
use allod_rpc::client::{Client, verify_head};
use clap::Args;
use serde_json::json;

/// Lines a page.
const PAGE: u32 = 1000;

/// `allod audit verify`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod audit verify --server web1")]
pub(super) struct Verify {}

struct Checked {
    oldest: u64,
    lines: u64,
    head: SignedHead,
    passed_known: Option<Head>,
    known: Option<Head>,
    incidents: Vec<u64>,
}

/// Runs it.
pub(super) async fn run(session: &Session, _verify: &Verify) -> Result<(), Failure> {
    let server = session.one_server()?;
    // What was seen before this very command, which itself makes the record longer.
    let known = session.known().load(&server.identity)?.head;
    let mut client = session.connect(&server).await?;
    let checked = check(&mut client, &server, known, |lines, of| {
        if lines % 50_000 == 0 {
            session.output.note(&format!("{lines} of {of} lines"));
        }
    })
    .await
    .map_err(|failure| failure.on(&server.name))?;
    let passed = known.is_none_or(|known| known.seq == 0 || checked.passed_known.is_some());
    let document = json!({
        "server": server.name, "lines": checked.lines, "oldest": checked.oldest, "head": checked.head,
        "known": checked.known, "passed_known": passed, "incidents": checked.incidents,
    });
    if !checked.incidents.is_empty() {
        let lines: Vec<_> = checked.incidents.iter().map(u64::to_string).collect();
        let message = format!(
            "the record of {} says itself that it was cut or damaged: see line {}",
            server.name,
            lines.join(", ")
        );
        let failure = Failure::new(FaultCode::Untrusted, message)
            .hint("`allod audit show --from LINE` shows what it says; everything after is whole");
        return Err(failure.with("verified", document));
    }
    session.output.document(&document, |style| {
        let upto = checked.head.head;
        let mut text = format!(
            "{} {}: {} lines from {} to {} follow from each other, and the record key signed the last\n",
            style.good("✓"),
            server.name,
            checked.lines,
            checked.oldest,
            upto.seq
        );
        match known {
            Some(known) if checked.passed_known.is_some() => {
                text.push_str(&format!(
                    "{} line {} is the one that was seen before\n",
                    style.good("✓"),
                    known.seq
                ));
            }
            Some(known) if known.seq > 0 => text.push_str(&format!(
                "{} line {}, seen before, is older than what is kept\n",
                style.warn("note:"),
                known.seq
            )),
            Some(_) | None => {}
        }
        text
    })
}

async fn check(
    client: &mut Client,
    server: &Server,
    known: Option<Head>,
    progress: impl Fn(u64, u64),
) -> Result<Checked, Failure> {
    let record_key = server.record_key.as_ref().ok_or_else(|| {
        Failure::new(FaultCode::Untrusted, format!("the record key of {} is not pinned", server.name))
            .hint(format!("`allod servers trust {}` pins it", server.name))
    })?;
    let mut chain = Chain::start(None);
    let mut checked =
        Checked { oldest: 0, lines: 0, head: empty(), passed_known: None, known, incidents: Vec::new() };
    let mut goal: Option<u64> = None;
    let mut from = 1;
    loop {
        let reply = client.call(AuditShow { from, limit: PAGE }).await?;
        verify_head(&server.name, record_key, &reply.head)?;
        if goal.is_none() {
            checked.oldest = reply.oldest;
            checked.head = reply.head.clone();
        }
        let goal = *goal.get_or_insert(reply.head.head.seq);
        for line in &reply.lines {
            let head = chain.push(line).map_err(|found| broken(&server.name, &found))?;
            checked.lines += 1;
            compare(&server.name, &mut checked, head)?;
            progress(checked.lines, goal);
            if head.seq == goal {
                checked.incidents = chain.incidents().to_vec();
                return Ok(checked);
            }
        }
        let Some(newest) = chain.head().filter(|_| !reply.lines.is_empty()) else {
            if goal == 0 {
                return Ok(checked);
            }
            let message =
                format!("the record of {} ends before line {goal}, which its head names", server.name);
            return Err(Failure::new(FaultCode::Untrusted, message));
        };
        from = i64::try_from(newest.seq.saturating_add(1)).unwrap_or(i64::MAX);
    }
}

/// A line that was seen, or signed, under a number must be that line.
fn compare(server: &str, checked: &mut Checked, head: Head) -> Result<(), Failure> {
    let other = |what: &str, expected: Head| {
        let message =
            format!("line {} of the record of {server} is {}, {what} {}", head.seq, head.hash, expected.hash);
        Failure::new(FaultCode::Untrusted, message)
            .hint("the line, or one before it, was edited")
            .with("line", head.seq)
    };
    if let Some(known) = checked.known.filter(|known| known.seq == head.seq) {
        if known.hash != head.hash {
            return Err(other("what was seen before is", known));
        }
        checked.passed_known = Some(known);
    }
    let signed = checked.head.head;
    if signed.seq == head.seq && signed.hash != head.hash {
        return Err(other("what the record key signed is", signed));
    }
    Ok(())
}

fn empty() -> SignedHead {
    SignedHead { head: Head::EMPTY, at: allod_proto::Timestamp(0), signature: String::new() }
}
