//! `allod logs`: the lines of an app from all its servers, in the order of time. What an app writes can't move a
//! terminal's cursor: control characters are shown as escapes; `--json` has the exact text.

mod merge;
mod since;

use super::target::Which;
use crate::{
    failure::Failure,
    inventory::Server,
    render::{Style, safe, time::local},
    session::Session,
};
use allod_proto::{
    InstanceId, UnitName,
    command::StreamItem,
    messages::app::{AppLogs, LogLine},
};
use clap::Args;
use merge::Merge;
use since::Since;
use std::time::Duration;
use tokio::{sync::mpsc, time::Instant};

/// How long a line waits for an earlier one from another server while following.
const WINDOW: Duration = Duration::from_millis(300);
/// How many batches of lines of one server may wait to be shown.
const WAITING: usize = 4;
/// How many lines are shown of each server when nothing else is said.
const TAIL: u32 = 100;

/// `allod logs`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod logs --follow\n  allod logs --since 10m --unit web --json")]
pub struct Logs {
    /// Go on as lines come, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Not before: 90s, 10m, 2h, 3d ago, or a time as 2030-12-31T23:59:00Z
    #[arg(long, value_name = "WHEN")]
    since: Option<Since>,
    /// Only this instance
    #[arg(long, value_name = "INSTANCE")]
    instance: Option<InstanceId>,
    /// Only this unit
    #[arg(long, value_name = "UNIT")]
    unit: Option<UnitName>,
    /// At most this many of the newest lines of each server; 100 if neither this nor --since is given
    #[arg(long, value_name = "N")]
    tail: Option<u32>,
    #[command(flatten)]
    which: Which,
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when a server can't be heard; the lines of the others are shown all the same.
pub async fn run(session: &Session, logs: Logs) -> Result<(), Failure> {
    let target = logs.which.target(session)?;
    let since = logs.since.map(|since| since.before(session.now()));
    let tail = logs.tail.or(if since.is_none() { Some(TAIL) } else { None });
    let (instance, unit) = (logs.instance, logs.unit);
    let ask = AppLogs { app: target.app, instance, unit, since, tail, follow: logs.follow };
    let (mut sources, mut failures) = (Vec::new(), Vec::new());
    for opened in open_all(session, &target.servers, &ask).await {
        match opened {
            Ok(source) => sources.push(source),
            Err(failure) => failures.push(failure),
        }
    }
    if !sources.is_empty() {
        failures.iter().for_each(|failure| session.output.warn(&describe(failure)));
        let showing = Showing { session, named: target.servers.len() > 1 };
        tokio::select! {
            ended = pump(showing, sources, logs.follow) => failures.extend(ended?),
            _ = tokio::signal::ctrl_c(), if logs.follow => {
                return Err(Failure::interrupted("stopped watching").already_said());
            }
        }
    }
    failures.into_iter().next().map_or(Ok(()), Err)
}

fn describe(failure: &Failure) -> String {
    let server = failure.details.get("server").and_then(serde_json::Value::as_str).unwrap_or_default();
    format!("{server}: {}; its lines are missing", failure.fault.message)
}

/// The lines of one server as they come; the last message says how it ended.
struct Source {
    server: String,
    lines: mpsc::Receiver<Result<Vec<LogLine>, Box<Failure>>>,
}

async fn open_all(session: &Session, servers: &[Server], ask: &AppLogs) -> Vec<Result<Source, Failure>> {
    let opening = servers.iter().map(|server| async {
        open(session, server, ask.clone()).await.map_err(|failure| failure.on(&server.name))
    });
    futures_util::future::join_all(opening).await
}

async fn open(session: &Session, server: &Server, ask: AppLogs) -> Result<Source, Failure> {
    let mut client = session.connect(server).await?;
    let mut stream = client.stream(ask).await?;
    let (send, lines) = mpsc::channel(WAITING);
    let name = server.name.clone();
    tokio::spawn(async move {
        loop {
            let message = match stream.next().await {
                Ok(Some(StreamItem::Log(lines))) => Ok(lines),
                Ok(Some(
                    StreamItem::Operation(_)
                    | StreamItem::Run(_)
                    | StreamItem::Record(_)
                    | StreamItem::Idle {}
                    | StreamItem::Fault(_)
                    | StreamItem::End {},
                )) => continue,
                Ok(None) => return,
                Err(error) => Err(Box::new(Failure::from(error).on(&name))),
            };
            let failed = message.is_err();
            if send.send(message).await.is_err() || failed {
                return;
            }
        }
    });
    Ok(Source { server: server.name.clone(), lines })
}

/// Shows everything until all have ended; the failures of those that ended badly.
async fn pump(showing: Showing<'_>, mut sources: Vec<Source>, follow: bool) -> Result<Vec<Failure>, Failure> {
    let mut merge = Merge::new(sources.len());
    let mut failures = Vec::new();
    loop {
        while let Some((at, line)) = merge.next(follow.then(Instant::now)) {
            showing.line(sources.get(at).map(|source| source.server.as_str()), &line)?;
        }
        if merge.is_over() {
            return Ok(failures);
        }
        // Without following, only a server whose lines are all shown is listened to, so that memory stays bounded.
        let waiting = |at: usize| !merge.has_ended(at) && (follow || merge.wants(at));
        let message = tokio::select! {
            message = next(&mut sources, waiting) => message,
            () = wait(merge.due()), if follow => continue,
        };
        match message {
            Some((at, Some(Ok(lines)))) => merge.push(at, lines, Instant::now() + WINDOW),
            Some((at, Some(Err(failure)))) => {
                merge.end(at);
                if follow && !merge.is_over() {
                    showing.session.output.warn(&describe(&failure));
                }
                failures.push(*failure);
            }
            Some((at, None)) => merge.end(at),
            None => return Ok(failures),
        }
    }
}

type Message = Option<Result<Vec<LogLine>, Box<Failure>>>;

/// The next message of any server that is listened to.
async fn next(sources: &mut [Source], listen: impl Fn(usize) -> bool) -> Option<(usize, Message)> {
    let receiving = sources
        .iter_mut()
        .enumerate()
        .filter(|(at, _)| listen(*at))
        .map(|(at, source)| Box::pin(async move { (at, source.lines.recv().await) }));
    let receiving: Vec<_> = receiving.collect();
    if receiving.is_empty() {
        return None;
    }
    Some(futures_util::future::select_all(receiving).await.0)
}

async fn wait(until: Option<Instant>) {
    match until {
        Some(until) => tokio::time::sleep_until(until).await,
        None => std::future::pending().await,
    }
}

struct Showing<'a> {
    session: &'a Session,
    named: bool,
}

impl Showing<'_> {
    fn line(&self, server: Option<&str>, line: &LogLine) -> Result<(), Failure> {
        let server = server.unwrap_or_default();
        let value = serde_json::json!({
            "server": server, "at": line.at, "instance": line.instance, "release": line.release,
            "stream": line.stream, "text": line.text,
        });
        self.session.output.item(&value, |style| format_line(self.named.then_some(server), line, style))
    }
}

fn format_line(server: Option<&str>, line: &LogLine, style: Style) -> String {
    let server = server.map(|server| format!("{} ", safe(server))).unwrap_or_default();
    let place = style.dim(&format!("{} {server}{}", local(line.at), line.instance));
    let mark = if line.stream == "err" { style.warn("!") } else { " ".to_owned() };
    format!("{place} {mark} {}\n", harmless(&line.text))
}

/// Tabs stay; every other control character, and what reorders or hides text, becomes an escape.
fn harmless(text: &str) -> String {
    text.split('\t').map(safe).collect::<Vec<_>>().join("\t")
}

#[cfg(test)]
mod tests;
