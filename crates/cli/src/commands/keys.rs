//! `allod keys`: who may call which server, on one server or on all.

mod add;
mod list;
mod revoke;
mod rotate;
pub(crate) mod which;

use crate::{
    commands::fleet::{Asked, conclude},
    failure::Failure,
    inventory::Server,
    render::{Style, Table, safe},
    session::Session,
};
use allod_proto::messages::keys::KeysListReply;
use clap::{Args, Subcommand};
use serde_json::{Value, json};

/// `allod keys`.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Example:\n  allod keys list\n  allod keys add ana.pub --role deployer --apps blog,shop/staging"
)]
pub struct Keys {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Who may call, and what each may do at most
    List(list::List),
    /// Enrol a key, or change what an enrolled one may do
    Add(add::Add),
    /// Revoke a key; works on the very next request
    Revoke(revoke::Revoke),
    /// Put one key in the place of another, with the same role and scopes
    Rotate(rotate::Rotate),
}

/// Which servers a change of keys is for.
#[derive(Debug, Clone, Copy, Default, Args)]
struct Reach {
    /// On every server you know
    #[arg(long, conflicts_with = "server")]
    all_servers: bool,
}

impl Reach {
    /// Those named by `--server`, all with `--all-servers`, else the only one there is.
    fn servers(self, session: &Session) -> Result<Vec<Server>, Failure> {
        if self.all_servers || !session.globals.server.is_empty() {
            return session.servers();
        }
        match session.one_server() {
            Ok(server) => Ok(vec![server]),
            Err(failure) => Err(failure.hint("`--server NAME` says which, `--all-servers` means every one")),
        }
    }
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when it does not end well.
pub async fn run(session: &Session, keys: Keys) -> Result<(), Failure> {
    match keys.verb {
        Verb::List(list) => list::run(session, &list).await,
        Verb::Add(add) => add::run(session, add).await,
        Verb::Revoke(revoke) => revoke::run(session, revoke).await,
        Verb::Rotate(rotate) => rotate::run(session, rotate).await,
    }
}

/// Ends a command with the keys of each server as they are now.
fn show(session: &Session, answers: &[Asked<KeysListReply>], done: &str) -> Result<(), Failure> {
    let rows = answers.iter().map(row).collect();
    let failures = answers.iter().filter_map(|answer| answer.outcome.as_ref().err().cloned()).collect();
    conclude(session, rows, failures, |style| text(answers, done, style))
}

fn row(answer: &Asked<KeysListReply>) -> Value {
    match &answer.outcome {
        Ok(reply) => json!({"server": answer.server.name, "ok": true, "keys": reply.keys,
            "complaints": reply.complaints, "revoked": reply.revoked}),
        Err(failure) => json!({"server": answer.server.name, "ok": false, "fault": failure.fault}),
    }
}

fn text(answers: &[Asked<KeysListReply>], done: &str, style: Style) -> String {
    let mut table = Table::new(&["server", "name", "role", "kind", "fingerprint", "limits"]);
    let mut notes = String::new();
    for Asked { server, outcome } in answers {
        let Ok(reply) = outcome else { continue };
        if !done.is_empty() {
            notes.push_str(&format!("{} {}: {done}\n", style.good("✓"), server.name));
        }
        for key in &reply.keys {
            table.row(vec![
                (&server.name).into(),
                (&key.name).into(),
                key.role.as_str().into(),
                (&key.algorithm).into(),
                key.fingerprint.as_str().into(),
                limits(&key.line).into(),
            ]);
        }
        for complaint in &reply.complaints {
            notes.push_str(&format!("{} {}: {}\n", style.warn("note:"), server.name, safe(complaint)));
        }
    }
    format!("{}{notes}", table.render(style))
}

/// What an enrolled line narrows, without its role and key.
fn limits(line: &str) -> String {
    let options = line.split_once(' ').map_or("", |(options, _)| options);
    options
        .split(',')
        .filter(|option| !option.is_empty() && !option.starts_with("role="))
        .collect::<Vec<_>>()
        .join(",")
}
