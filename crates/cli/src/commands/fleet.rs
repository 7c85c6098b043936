//! Asking many servers at once, each with a deadline of its own: a dead one costs its own row and nothing else.

use crate::{failure::Failure, inventory::Server, session::Session};
use allod_proto::FaultCode;
use allod_rpc::client::Client;
use futures_util::future::join_all;
use std::{future::Future, time::Duration};
use tokio::time::timeout;

/// How long one server may take.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// What came of one server.
#[derive(Debug)]
pub struct Asked<T> {
    /// Which.
    pub server: Server,
    /// Its answer.
    pub outcome: Result<T, Failure>,
}

/// Asks all of them side by side; the answers are in the order of the servers.
pub async fn ask_all<T, F>(
    session: &Session,
    servers: Vec<Server>,
    ask: impl Fn(Server, Client) -> F,
) -> Vec<Asked<T>>
where
    F: Future<Output = Result<T, Failure>>,
{
    let (ask, known) = (&ask, session.known());
    // A sync for each server that was never heard of would take longer than asking all of them.
    known.put_off();
    let asking = servers.into_iter().map(|server| async move {
        let outcome = one(session, &server, ask).await.map_err(|failure| failure.on(&server.name));
        Asked { server, outcome }
    });
    let answers = join_all(asking).await;
    let settled = tokio::task::spawn_blocking(move || known.settle()).await;
    if let Ok(Err(error)) = settled {
        session.output.warn(&format!("{error}: the head of a record can't be remembered"));
    }
    answers
}

/// The one server that something is on: the one named, the only one, or the one whose answer knows it.
///
/// # Errors
/// What one of them failed with when none knows it, else `nobody`.
pub async fn server_that_knows<T, F>(
    session: &Session,
    ask: impl Fn(Server, Client) -> F,
    knows: impl Fn(&T) -> bool,
    nobody: Failure,
) -> Result<Server, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    if let Ok(server) = session.one_server() {
        return Ok(server);
    }
    let answers = ask_all(session, session.servers()?, ask).await;
    if let Some(found) = answers.iter().find(|answer| answer.outcome.as_ref().is_ok_and(&knows)) {
        return Ok(found.server.clone());
    }
    Err(answers.into_iter().find_map(|answer| answer.outcome.err()).unwrap_or(nobody))
}

async fn one<T, F>(
    session: &Session,
    server: &Server,
    ask: &impl Fn(Server, Client) -> F,
) -> Result<T, Failure>
where
    F: Future<Output = Result<T, Failure>>,
{
    let asking = async {
        let client = session.connect(server).await?;
        ask(server.clone(), client).await
    };
    timeout(DEADLINE, asking).await.unwrap_or_else(|_| {
        let seconds = DEADLINE.as_secs();
        Err(Failure::new(FaultCode::Timeout, format!("{} did not answer within {seconds} s", server.name)))
    })
}

/// Ends a command that asked several servers: its document if all answered, else the worst failure with the same rows
/// beside it, after what there is to see was printed.
///
/// # Errors
/// The worst failure: a server that isn't who it was before one that does not answer.
pub fn conclude(
    session: &Session,
    rows: Vec<serde_json::Value>,
    failures: Vec<Failure>,
    text: impl FnOnce(crate::render::Style) -> String,
) -> Result<(), Failure> {
    let worst = failures.iter().max_by_key(|failure| severity(failure)).cloned();
    let Some(mut worst) = worst else {
        return session.output.document(&serde_json::json!({ "servers": rows }), text);
    };
    let mut rows = serde_json::Value::Array(rows);
    crate::render::time::iso_times(&mut rows);
    if !session.output.is_json() {
        session.output.print(&text(session.output.style()))?;
        failures.iter().for_each(|failure| session.output.failure(failure));
    }
    worst.details.clear();
    Err(worst.with("servers", rows).already_said())
}

fn severity(failure: &Failure) -> u8 {
    match failure.fault.code {
        FaultCode::Untrusted => 3,
        FaultCode::Unreachable | FaultCode::Timeout => 1,
        _ => 2,
    }
}
