//! `allod secrets set`: one secret on every server of the app.

use super::{Bring, send::send, value};
use crate::{
    commands::target::{Which, names},
    failure::Failure,
    session::Session,
};
use allod_proto::SecretName;
use clap::Args;
use std::path::PathBuf;

/// `allod secrets set`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod secrets set DATABASE_URL\n  \
    openssl rand -hex 32 | tr -d '\\n' | allod secrets set SESSION_KEY\n  \
    allod secrets set TLS_KEY --file key.pem --restart")]
pub(super) struct Set {
    /// Its name
    name: SecretName,
    /// Read the value from stdin; a pipe is read without it
    #[arg(value_parser = ["-"], conflicts_with = "file", hide_possible_values = true)]
    stdin: Option<String>,
    /// Read the value from this file, exactly as it is
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    bring: Bring,
    #[command(flatten)]
    which: Which,
}

/// Runs it.
pub(super) async fn run(session: &Session, set: Set) -> Result<(), Failure> {
    let target = set.which.target(session)?;
    let value = value::read(session, &set.name, set.stdin.is_some(), set.file.as_deref())?;
    if value.ends_with(b"\n") {
        session.output.note(&format!("the value of {} ends with a newline, which is part of it", set.name));
    }
    let replies = send(session, &target.app, &target.servers, &[(set.name.clone(), value)]).await?;
    set.bring.bring(session, &target, &replies).await?;
    let servers: Vec<_> = target.servers.iter().map(|server| server.name.clone()).collect();
    let value = serde_json::json!({"app": target.app, "set": [set.name], "servers": servers});
    session.output.document(&value, |_| {
        format!("{} is set for {} on {}\n", set.name, target.app, names(&target.servers))
    })
}
