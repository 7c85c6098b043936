//! A change on one server of an app after the other: begin, follow to its end, go on. The first that fails ends it, and
//! what was done before is told.

use super::target::{Target, names};
use crate::{
    failure::Failure,
    inventory::Server,
    render::{Style, Table, follow, table::Cell},
    session::Session,
};
use allod_proto::{OperationId, ReleaseId, command::Call, messages::app::Accepted};
use allod_rpc::client::Client;
use serde::Serialize;
use serde_json::{Value, json};

/// What came of one server.
#[derive(Debug, Clone, Serialize)]
pub struct Changed {
    /// Which.
    pub server: String,
    /// What did it.
    pub operation: OperationId,
    /// What serves now.
    pub serving: Option<ReleaseId>,
}

/// Begins the change that `begin` makes for each server, and follows it. `skipped` servers are none of these.
///
/// # Errors
/// [`Failure`] of the first server that fails, with what was done before.
pub async fn change<C>(
    session: &Session,
    servers: &[Server],
    begin: impl Fn(&Server) -> Vec<C>,
) -> Result<Vec<Changed>, Failure>
where
    C: Call<Reply = Accepted>,
{
    let mut done: Vec<Changed> = Vec::new();
    for (at, server) in servers.iter().enumerate() {
        for call in begin(server) {
            let changed = one(session, server, servers.len() > 1, call).await;
            match changed {
                Ok(changed) => done.push(changed),
                Err(failure) => return Err(stopped(session, failure, server, &done, servers.get(at + 1..))),
            }
        }
    }
    Ok(done)
}

async fn one<C: Call<Reply = Accepted>>(
    session: &Session,
    server: &Server,
    several: bool,
    call: C,
) -> Result<Changed, Failure> {
    if several {
        session.output.note(&format!("{}:", server.name));
    }
    let mut client: Client = session.connect(server).await?;
    let accepted = client.call(call).await?;
    let ended = follow(session, &mut client, &accepted.operation).await?;
    let serving = ended.into_result()?;
    Ok(Changed { server: server.name.clone(), operation: accepted.operation, serving })
}

fn stopped(
    session: &Session,
    failure: Failure,
    server: &Server,
    done: &[Changed],
    rest: Option<&[Server]>,
) -> Failure {
    let rest = rest.unwrap_or_default();
    if !rest.is_empty() {
        session.output.note(&format!("not touched: {}", names(rest)));
    }
    let rest: Vec<Value> = rest.iter().map(|server| server.name.clone().into()).collect();
    failure
        .on(&server.name)
        .with("done", serde_json::to_value(done).unwrap_or_default())
        .with("not_touched", rest)
}

/// The document at the end.
///
/// # Errors
/// [`Failure`] when stdout can't be written.
pub fn conclude(session: &Session, target: &Target, done: &[Changed]) -> Result<(), Failure> {
    session.output.document(&json!({"app": target.app, "servers": done}), |style| table(done, style))
}

fn table(done: &[Changed], style: Style) -> String {
    let mut table = Table::new(&["server", "serves"]);
    let mut last: Vec<&Changed> = Vec::new();
    for changed in done {
        last.retain(|other| other.server != changed.server);
        last.push(changed);
    }
    for Changed { server, serving, .. } in last {
        let serving = serving.as_ref().map_or("nothing", ReleaseId::as_str);
        table.row(vec![server.into(), Cell::from(serving)]);
    }
    table.render(style)
}
