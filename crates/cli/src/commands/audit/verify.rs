//! `allod audit verify`: reads every line there is and checks it here. The chain must pass through the head that was
//! seen last, and through the one that the hub witnessed where that is asked for, and end in a head that the pinned record key
//! signed; the server's own opinion is not asked.

use super::{broken, hub};
use crate::{failure::Failure, inventory::Server, render::Style, session::Session};
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
#[command(after_help = "Example:\n  allod audit verify --server web1\n  allod audit verify --against-hub")]
pub(super) struct Verify {
    /// The record must hold what the hub has witnessed of it, too: the hub of this mesh, or the one at ADDRESS
    #[arg(long, value_name = "ADDRESS", num_args = 0..=1, default_missing_value = "")]
    against_hub: Option<String>,
}

struct Checked {
    oldest: u64,
    lines: u64,
    head: SignedHead,
    anchors: Vec<Anchor>,
    incidents: Vec<u64>,
}

/// A line that somebody remembers: under its number there must be that line.
struct Anchor {
    by: By,
    head: Head,
    passed: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Person,
    Hub,
}

impl By {
    fn in_words(self) -> &'static str {
        match self {
            Self::Person => "seen before",
            Self::Hub => "witnessed by the hub",
        }
    }
}

/// Runs it.
pub(super) async fn run(session: &Session, verify: &Verify) -> Result<(), Failure> {
    let server = session.one_server()?;
    // What was seen before this very command, which itself makes the record longer.
    let known = session.known().load(&server.identity)?.head;
    let witnessed = match &verify.against_hub {
        Some(address) => Some(hub::witnessed(session, &server, address).await?),
        None => None,
    };
    let remembered = [(By::Person, known), (By::Hub, witnessed.as_ref().map(|seen| seen.head.head))];
    let anchors = remembered
        .into_iter()
        .filter_map(|(by, head)| Some(Anchor { by, head: head.filter(|head| head.seq > 0)?, passed: false }))
        .collect();
    let mut client = session.connect(&server).await?;
    let checked = check(&mut client, &server, anchors, |lines, of| {
        if lines % 50_000 == 0 {
            session.output.note(&format!("{lines} of {of} lines"));
        }
    })
    .await
    .map_err(|failure| failure.on(&server.name))?;
    let passed = |by| checked.anchors.iter().filter(|anchor| anchor.by == by).all(|anchor| anchor.passed);
    let mut document = json!({
        "server": server.name, "lines": checked.lines, "oldest": checked.oldest, "head": checked.head,
        "known": known, "passed_known": passed(By::Person), "incidents": checked.incidents,
    });
    if let (Some(witnessed), Some(fields)) = (&witnessed, document.as_object_mut()) {
        fields.insert("witnessed".to_owned(), json!(witnessed.head));
        fields.insert("passed_witnessed".to_owned(), json!(passed(By::Hub)));
    }
    let failed = |message: String| Failure::new(FaultCode::Untrusted, message);
    if !checked.incidents.is_empty() {
        let lines: Vec<_> = checked.incidents.iter().map(u64::to_string).collect();
        let name = &server.name;
        let lines = lines.join(", ");
        let failure =
            failed(format!("the record of {name} says itself that it was cut or damaged: see line {lines}"))
                .hint("`allod audit show --from LINE` shows what it says; everything after is whole");
        return Err(failure.with("verified", document));
    }
    // What was lost may have been replaced since, line by line: then only the hub knows.
    if let Some(verdict) = witnessed.as_ref().and_then(|witnessed| witnessed.trouble) {
        let failure = failed(format!("the hub says of {}: {}", server.name, verdict.in_words())).hint(
            "look at the machine before trusting it; `allod hub acknowledge` on the hub is for after that",
        );
        return Err(failure.with("verified", document));
    }
    session.output.document(&document, |style| said(&server, &checked, style))
}

fn said(server: &Server, checked: &Checked, style: Style) -> String {
    let mut text = format!(
        "{} {}: {} lines from {} to {} follow from each other, and the record key signed the last\n",
        style.good("✓"),
        server.name,
        checked.lines,
        checked.oldest,
        checked.head.head.seq
    );
    for anchor in &checked.anchors {
        let (line, by) = (anchor.head.seq, anchor.by.in_words());
        text.push_str(&match anchor.passed {
            true => format!("{} line {line} is the one {by}\n", style.good("✓")),
            false => format!("{} line {line}, {by}, is older than what is kept\n", style.warn("note:")),
        });
    }
    text
}

async fn check(
    client: &mut Client,
    server: &Server,
    anchors: Vec<Anchor>,
    progress: impl Fn(u64, u64),
) -> Result<Checked, Failure> {
    let record_key = server.pinned_record_key()?;
    let mut chain = Chain::start(None);
    let mut checked = Checked { oldest: 0, lines: 0, head: empty(), anchors, incidents: Vec::new() };
    let mut goal: Option<u64> = None;
    let mut from = 1;
    loop {
        let reply = client.call(AuditShow { from, limit: PAGE }).await?;
        verify_head(&server.name, record_key, &reply.head)?;
        if goal.is_none() {
            checked.oldest = reply.oldest;
            checked.head = reply.head.clone();
            is_long_enough(&server.name, &checked)?;
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

/// What was remembered before this answer is in it.
fn is_long_enough(server: &str, checked: &Checked) -> Result<(), Failure> {
    let end = checked.head.head.seq;
    match checked.anchors.iter().find(|anchor| anchor.head.seq > end) {
        Some(anchor) => {
            let (line, by) = (anchor.head.seq, anchor.by.in_words());
            let message = format!("the record of {server} ends with line {end}; line {line}, {by}, is gone");
            Err(Failure::new(FaultCode::Untrusted, message)
                .hint("the record was cut, or an older copy of it was put back")
                .with("line", line))
        }
        None => Ok(()),
    }
}

/// A line that was seen, or signed, under a number must be that line.
fn compare(server: &str, checked: &mut Checked, head: Head) -> Result<(), Failure> {
    let other = |what: &str, expected: Head| {
        let message = format!(
            "line {} of the record of {server} is {}, what {what} is {}",
            head.seq, head.hash, expected.hash
        );
        Failure::new(FaultCode::Untrusted, message)
            .hint("the line, or one before it, was edited")
            .with("line", head.seq)
    };
    for anchor in checked.anchors.iter_mut().filter(|anchor| anchor.head.seq == head.seq) {
        if anchor.head.hash != head.hash {
            return Err(other(&format!("was {}", anchor.by.in_words()), anchor.head));
        }
        anchor.passed = true;
    }
    let signed = checked.head.head;
    if signed.seq == head.seq && signed.hash != head.hash {
        return Err(other("the record key signed", signed));
    }
    Ok(())
}

fn empty() -> SignedHead {
    SignedHead { head: Head::EMPTY, at: allod_proto::Timestamp(0), signature: String::new() }
}
