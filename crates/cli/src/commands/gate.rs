//! `allod gate panic` and `resume`: all callers of a server at once. What else `allod gate` does, it does on the server itself.

use crate::{failure::Failure, inventory::Server, session::Session};
use allod_proto::messages::named::GatePanic;
use clap::{Args, Subcommand};
use serde_json::json;

/// `allod gate panic|resume`.
#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    after_help = "Example:\n  allod gate panic --server web1\n\nOn a server, as root: allod gate install|remove|doctor|run; see `allod gate doctor --help`."
)]
pub struct Gate {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Stop all callers, by every door, and end what they run
    #[command(after_help = "Example:\n  allod gate panic --server web1")]
    Panic,
    /// Let callers in again
    #[command(after_help = "Example:\n  allod gate resume --server web1")]
    Resume,
}

/// Runs it.
///
/// # Errors
/// [`Failure`] of the worst server; the others are done.
pub async fn run(session: &Session, gate: Gate) -> Result<(), Failure> {
    let held = matches!(gate.verb, Verb::Panic);
    let servers = session.servers()?;
    if !held {
        let names: Vec<&str> = servers.iter().map(|server| server.name.as_str()).collect();
        session.confirm(&format!("Let callers in again on {}?", names.join(", ")))?;
    }
    // Side by side, and each to its end: one that does not answer must not keep the others open.
    let asking = servers.iter().map(|server| async move {
        let outcome = one(session, server, held).await;
        outcome.map_err(|failure| failure.on(&server.name))
    });
    let mut rows = Vec::new();
    let mut worst = None;
    for (server, outcome) in servers.iter().zip(futures_util::future::join_all(asking).await) {
        match outcome {
            Ok(ended) => rows.push(json!({"server": server.name, "ok": true, "held": held, "ended": ended})),
            Err(failure) => {
                rows.push(json!({"server": server.name, "ok": false, "fault": failure.fault}));
                if !session.output.is_json() {
                    session.output.failure(&failure);
                }
                worst = Some(failure.already_said());
            }
        }
    }
    match worst {
        Some(failure) => Err(failure.with("servers", rows)),
        None => session.output.document(&json!({ "servers": rows }), |_| text(&servers, held)),
    }
}

async fn one(session: &Session, server: &Server, held: bool) -> Result<usize, Failure> {
    let mut client = session.connect(server).await?;
    Ok(client.call(GatePanic { held }).await?.ended.len())
}

fn text(servers: &[Server], held: bool) -> String {
    let what = if held { "all callers are stopped" } else { "callers are let in again" };
    servers.iter().map(|server| format!("{}: {what}\n", server.name)).collect()
}
