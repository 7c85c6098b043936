//! `allod keys revoke`: on one server or on all; names those it has not reached, and goes on trying if asked to.

use super::{Reach, show, which::Which};
use crate::{
    commands::fleet::{Asked, ask_all},
    failure::Failure,
    inventory::Server,
    session::Session,
};
use allod_proto::{
    FaultCode,
    messages::keys::{KeysList, KeysListReply, KeysRevoke},
};
use allod_rpc::client::Client;
use clap::Args;
use std::time::Duration;

/// How long to wait before the servers that were not reached are tried again.
const PAUSE: Duration = Duration::from_secs(10);

/// `allod keys revoke`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example:\n  allod keys revoke ana@laptop --all-servers\n  allod keys revoke SHA256:… --server web1"
)]
pub(super) struct Revoke {
    /// Its fingerprint, its public key file, or the name it is enrolled under
    #[arg(value_name = "KEY")]
    key: String,
    /// Go on trying servers that can't be reached, until Ctrl-C
    #[arg(long)]
    keep_trying: bool,
    #[command(flatten)]
    reach: Reach,
}

/// Runs it.
pub(super) async fn run(session: &Session, revoke: Revoke) -> Result<(), Failure> {
    let which = Which::parse(&revoke.key)?;
    let servers = revoke.reach.servers(session)?;
    let names: Vec<_> = servers.iter().map(|server| server.name.as_str()).collect();
    session.confirm(&format!("Revoke {} on {}?", revoke.key, names.join(", ")))?;
    let mut answers = attempt(session, &which, servers).await;
    loop {
        let missed = unreached(&answers);
        if missed.is_empty() || !revoke.keep_trying {
            break;
        }
        session.output.note(&format!(
            "not reached yet: {}; trying again in {} s",
            list(&missed),
            PAUSE.as_secs()
        ));
        tokio::time::sleep(PAUSE).await;
        let again = attempt(session, &which, missed).await;
        answers.retain(|answer| !again.iter().any(|other| other.server.name == answer.server.name));
        answers.extend(again);
    }
    let missed = unreached(&answers);
    if missed.is_empty() {
        return show(session, &answers, "revoked");
    }
    conclude_partly(session, &answers, &missed)
}

async fn attempt(session: &Session, which: &Which, servers: Vec<Server>) -> Vec<Asked<KeysListReply>> {
    ask_all(session, servers, |_, client| revoke_on(client, which.clone())).await
}

async fn revoke_on(mut client: Client, which: Which) -> Result<KeysListReply, Failure> {
    let fingerprint = match &which {
        Which::Fingerprint(fingerprint) => fingerprint.clone(),
        Which::Name(_) => which.find(&client.call(KeysList {}).await?)?,
    };
    Ok(client.call(KeysRevoke { fingerprint }).await?)
}

fn unreached(answers: &[Asked<KeysListReply>]) -> Vec<Server> {
    let missed = answers.iter().filter(|answer| {
        let code = answer.outcome.as_ref().err().map(|failure| failure.fault.code);
        matches!(code, Some(FaultCode::Unreachable | FaultCode::Timeout))
    });
    missed.map(|answer| answer.server.clone()).collect()
}

fn list(servers: &[Server]) -> String {
    servers.iter().map(|server| server.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Where the key still works must not be overlooked: exit code 7 names the servers.
fn conclude_partly(
    session: &Session,
    answers: &[Asked<KeysListReply>],
    missed: &[Server],
) -> Result<(), Failure> {
    let names: Vec<_> = missed.iter().map(|server| server.name.clone()).collect();
    let shown = show(session, answers, "revoked");
    let mut failure = Failure::new(
        FaultCode::Unreachable,
        format!("the key may still work on {}, which can't be reached", list(missed)),
    )
    .hint("run it again when they are back, or with --keep-trying")
    .with("not_reached", names);
    if let Err(shown) = shown {
        failure.details.extend(shown.details);
    }
    Err(failure)
}
