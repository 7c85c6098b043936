//! `allod run`: a named command on one server or several, with its output live, and its exit code.

mod follow;

use crate::{
    failure::Failure,
    inventory::Server,
    render::{
        Style, Table, safe,
        table::{Cell, Tone},
        time::took,
    },
    session::Session,
};
use allod_proto::{
    CommandId, FaultCode,
    messages::named::CommandRun,
    named::{RunEnd, RunState, RunSummary, STDIN, Stream},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use clap::Args;
pub(super) use follow::{Followed, Follower};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    io::{IsTerminal as _, Read as _},
};

/// `allod run`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  allod run deploy-site branch=main --on web1\n  allod run restart-nginx --on web1 --on web2\n\nIts exit code is the command's own; 124 when its time was over, 128 and the signal when one ended it."
)]
pub struct Run {
    /// Which command; `allod commands list` shows the ones you may run
    name: String,
    /// Its parameters
    #[arg(value_name = "PARAM=VALUE")]
    params: Vec<String>,
    /// On which server; may be given more than once
    #[arg(long, value_name = "SERVER")]
    on: Vec<String>,
    /// Don't wait for its end: `allod runs attach` shows it later
    #[arg(long)]
    detach: bool,
    /// Send standard input along, for a command that takes any
    #[arg(long)]
    stdin: bool,
    /// The same word for the same run: asked again within a day, it is not run again
    #[arg(long, value_name = "16 TO 64 CHARACTERS")]
    idempotency_key: Option<CommandId>,
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when it does not end well, with the command's own exit code.
pub async fn run(session: &Session, run: Run) -> Result<(), Failure> {
    let servers = match session.servers_on(&run.on)? {
        Some(servers) => servers,
        None => vec![session.one_server()?],
    };
    let ask = CommandRun {
        name: run.name.clone(),
        params: params(&run.params)?,
        stdin: if run.stdin { Some(input()?) } else { None },
        detach: run.detach,
    };
    match servers.as_slice() {
        [server] => alone(session, server, ask, run.idempotency_key.as_ref()).await,
        servers => on_several(session, servers, &ask, run.idempotency_key.as_ref()).await,
    }
}

/// `name=value` words.
///
/// # Errors
/// [`Failure`] for a word that is none, and for a name that is given twice.
pub(super) fn params(words: &[String]) -> Result<BTreeMap<String, String>, Failure> {
    let mut params = BTreeMap::new();
    for word in words {
        let (name, value) = word.split_once('=').ok_or_else(|| {
            Failure::usage(format!("{word:?} is no parameter")).hint("write it as name=value")
        })?;
        if params.insert(name.to_owned(), value.to_owned()).is_some() {
            return Err(Failure::usage(format!("{name} is given twice")));
        }
    }
    Ok(params)
}

fn input() -> Result<String, Failure> {
    let mut bytes = Vec::new();
    std::io::stdin()
        .take(STDIN.saturating_add(1))
        .read_to_end(&mut bytes)
        .map_err(|error| Failure::new(FaultCode::Internal, format!("stdin: {error}")))?;
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > STDIN {
        return Err(Failure::new(
            FaultCode::TooLarge,
            format!("standard input is larger than {STDIN} bytes"),
        )
        .hint("put it where the command finds it, and name it by a parameter"));
    }
    Ok(STANDARD.encode(bytes))
}

/// On one server: its output is ours.
async fn alone(
    session: &Session,
    server: &Server,
    ask: CommandRun,
    id: Option<&CommandId>,
) -> Result<(), Failure> {
    let detach = ask.detach;
    let name = ask.name.clone();
    let mut shown = Shown::new(session);
    let followed =
        Follower { session, server }.run(ask, id, &mut |stream, bytes| shown.take(stream, bytes)).await?;
    if detach && !matches!(followed.run.state, RunState::Ended(_)) {
        return session.output.document(&json!({ "run": followed.run }), |_| {
            format!(
                "{} is {name} on {}\nfollow it: allod runs attach {}\n",
                followed.run.id, server.name, followed.run.id
            )
        });
    }
    conclude(session, server, followed, &shown)
}

/// What a run printed, shown as it comes; with `--json` kept for the one document.
pub(super) struct Shown<'a> {
    session: &'a Session,
    is_terminal: bool,
    out: Vec<u8>,
    err: Vec<u8>,
}

impl<'a> Shown<'a> {
    pub(super) fn new(session: &'a Session) -> Self {
        Self { session, is_terminal: std::io::stdout().is_terminal(), out: Vec::new(), err: Vec::new() }
    }

    pub(super) fn take(&mut self, stream: Stream, bytes: &[u8]) -> Result<(), Failure> {
        if self.session.output.is_json() {
            match stream {
                Stream::Out => self.out.extend_from_slice(bytes),
                Stream::Err => self.err.extend_from_slice(bytes),
            }
            return Ok(());
        }
        match stream {
            // A file or a program gets what was printed; a terminal is shown nothing that could move its cursor.
            Stream::Out if !self.is_terminal => self.session.output.bytes(bytes),
            Stream::Out => self.session.output.print(&lines_of(bytes)),
            Stream::Err => {
                self.session.output.say(&lines_of(bytes));
                Ok(())
            }
        }
    }

    fn document(&self) -> Value {
        json!({ "stdout": String::from_utf8_lossy(&self.out), "stderr": String::from_utf8_lossy(&self.err) })
    }
}

/// Text whose control characters are escaped, but for ends of lines and tabs.
fn lines_of(bytes: &[u8]) -> String {
    let text = String::from_utf8_lossy(bytes);
    let parts: Vec<String> =
        text.split('\n').map(|line| line.split('\t').map(safe).collect::<Vec<_>>().join("\t")).collect();
    parts.join("\n")
}

/// How a run ended, as this program's own end.
pub(super) fn conclude(
    session: &Session,
    server: &Server,
    followed: Followed,
    shown: &Shown<'_>,
) -> Result<(), Failure> {
    let Followed { run, end } = followed;
    let Some(end) = end else {
        return Err(Failure::new(FaultCode::Unreachable, format!("how {} ended is not known", run.id))
            .hint("`allod audit show` has its outcome when there is one"));
    };
    if end.truncated && !session.output.is_json() {
        session
            .output
            .warn(&format!("only the first part of its {} bytes of output is kept", end.output_bytes));
    }
    if run.output_gone && !session.output.is_json() {
        session.output.warn(&format!("what {} printed is not kept any more", run.id));
    }
    let document = json!({ "run": run, "output": shown.document() });
    if end.code == Some(0) {
        return if session.output.is_json() {
            session.output.document(&document, |_| String::new())
        } else {
            Ok(())
        };
    }
    let failure = failure(&run, &end).on(&server.name);
    Err(failure.with("run", json!(run)).with("output", shown.document()))
}

fn failure(run: &RunSummary, end: &RunEnd) -> Failure {
    let failure = match &end.fault {
        Some(fault) => Failure::from(fault.clone()),
        None => {
            let message = format!("{} ({}) ended with {}", run.name, run.id, end.how);
            Failure::new(FaultCode::Invalid, message)
        }
    };
    Failure { exit: end.exit_code().max(1), ..failure }
}

/// On several servers at once: a line each, and the worst exit code.
async fn on_several(
    session: &Session,
    servers: &[Server],
    ask: &CommandRun,
    id: Option<&CommandId>,
) -> Result<(), Failure> {
    let running = servers.iter().map(|server| async move {
        let mut printed = Vec::new();
        let mut keep = |_, bytes: &[u8]| {
            printed.extend_from_slice(bytes);
            // The end of what it printed is all that one line has room for.
            let over = printed.len().saturating_sub(64 * 1024);
            printed.drain(..over);
            Ok(())
        };
        let outcome = Follower { session, server }.run(ask.clone(), id, &mut keep).await;
        let last = String::from_utf8_lossy(&printed).lines().last().map(str::to_owned).unwrap_or_default();
        (server, outcome, last)
    });
    let ended = futures_util::future::join_all(running).await;
    let mut worst: Option<Failure> = None;
    let mut rows = Vec::new();
    for (server, outcome, last) in &ended {
        let failed = match outcome {
            Ok(Followed { run, end: Some(end) }) if end.code != Some(0) => Some(failure(run, end)),
            Ok(_) => None,
            Err(failure) => Some(failure.clone()),
        };
        rows.push(json!({
            "server": server.name,
            "ok": failed.is_none(),
            "run": outcome.as_ref().ok().map(|followed| &followed.run),
            "fault": failed.as_ref().map(|failure| &failure.fault),
            "last_line": last,
        }));
        if let Some(failed) = failed {
            worst = Some(match worst {
                Some(worst) if worst.exit >= failed.exit => worst,
                Some(_) | None => failed.on(&server.name),
            });
        }
    }
    match worst {
        None => session.output.document(&json!({ "servers": rows }), |style| table(&ended, style)),
        Some(worst) => {
            if !session.output.is_json() {
                session.output.print(&table(&ended, session.output.style()))?;
            }
            Err(worst.with("servers", rows).already_said())
        }
    }
}

fn table(ended: &[(&Server, Result<Followed, Failure>, String)], style: Style) -> String {
    let mut table = Table::new(&["server", "ended", "took", "last line"]);
    for (server, outcome, last) in ended {
        let (how, time) = match outcome {
            Ok(Followed { end: Some(end), .. }) => {
                let tone = if end.code == Some(0) { Tone::Good } else { Tone::Bad };
                let how = end.fault.as_ref().map_or(end.how.clone(), |fault| fault.message.clone());
                (Cell::toned(tone, safe(&how)), took(end.took_ms))
            }
            Ok(Followed { run, end: None }) => {
                (Cell::toned(Tone::Dim, format!("goes on as {}", run.id)), String::new())
            }
            Err(failure) => (Cell::toned(Tone::Bad, safe(&failure.fault.message)), String::new()),
        };
        table.row(vec![server.name.as_str().into(), how, time.as_str().into(), safe(last).as_str().into()]);
    }
    table.render(style)
}
