//! Before anything is sent: would the deploy have a chance on each server, what serves there, which chunks does it lack?

use crate::{failure::Failure, inventory::Server, render::safe, session::Session};
use allod_apps::{
    Packed,
    plan::{PlanLine, Upload, describe},
};
use allod_proto::{
    Digest, FaultCode, limits,
    manifest::EntryKind,
    messages::app::{AppMissing, AppPreflight, AppPreflightReply, Obstacle},
};
use allod_rpc::client::Client;
use futures_util::future::join_all;
use serde_json::{Value, json};
use std::collections::HashSet;

/// A server that was asked.
pub(super) struct Prepared {
    pub(super) server: Server,
    pub(super) client: Client,
    pub(super) found: AppPreflightReply,
    /// In the order they are to be sent.
    pub(super) missing: Vec<Digest>,
    pub(super) upload: Upload,
}

impl Prepared {
    /// Whether a deploy would change nothing.
    pub(super) fn is_unchanged(&self, packed: &Packed) -> bool {
        self.found.unchanged_manifest == Some(packed.index_digest)
    }

    /// What a deploy would change.
    pub(super) fn lines(&self, packed: &Packed) -> Vec<PlanLine> {
        describe(self.found.current_spec.as_ref(), &packed.manifest.spec, &self.found.scale, self.upload)
    }
}

/// Asks all servers side by side. One that can't be asked, or that has something in the way, ends the deploy.
pub(super) async fn all(
    session: &Session,
    servers: &[Server],
    packed: &Packed,
) -> Result<Vec<Prepared>, Failure> {
    let asking = servers.iter().map(|server| async {
        one(session, server, packed).await.map_err(|failure| failure.on(&server.name))
    });
    let prepared = join_all(asking).await.into_iter().collect::<Result<Vec<_>, Failure>>()?;
    let obstacles: Vec<(&str, &Obstacle)> = prepared
        .iter()
        .flat_map(|one| one.found.obstacles.iter().map(|obstacle| (one.server.name.as_str(), obstacle)))
        .collect();
    if obstacles.is_empty() {
        return Ok(prepared);
    }
    Err(in_the_way(session, &obstacles))
}

async fn one(session: &Session, server: &Server, packed: &Packed) -> Result<Prepared, Failure> {
    let mut client = session.connect(server).await?;
    let ask = AppPreflight {
        spec: packed.manifest.spec.clone(),
        bytes: packed.bytes,
        architecture: packed.manifest.architecture.clone(),
    };
    let found = client.call(ask).await?;
    // Nothing is sent where something is in the way.
    let missing = if found.obstacles.is_empty() { missing(&mut client, packed).await? } else { Vec::new() };
    let missing_bytes = missing.iter().filter_map(|digest| packed.chunk_size(digest)).sum();
    let files =
        packed.manifest.entries.iter().filter(|entry| matches!(entry.what, EntryKind::File { .. })).count();
    let upload = Upload { files, bytes: packed.bytes, missing: missing.len(), missing_bytes };
    Ok(Prepared { server: server.clone(), client, found, missing, upload })
}

async fn missing(client: &mut Client, packed: &Packed) -> Result<Vec<Digest>, Failure> {
    let all: Vec<Digest> = packed.chunks().collect();
    let mut lacking: HashSet<Digest> = HashSet::new();
    for batch in all.chunks(limits::MISSING_HASHES) {
        let ask = AppMissing { app: packed.manifest.spec.app.clone(), chunks: batch.to_vec() };
        lacking.extend(client.call(ask).await?.missing);
    }
    // A server can ask for nothing but what it was told of.
    Ok(all.into_iter().filter(|digest| lacking.contains(digest)).collect())
}

fn in_the_way(session: &Session, obstacles: &[(&str, &Obstacle)]) -> Failure {
    let all: Vec<Value> = obstacles
        .iter()
        .map(|(server, obstacle)| {
            json!({"server": server, "about": obstacle.about, "message": obstacle.message, "fix": obstacle.fix})
        })
        .collect();
    let code = code(obstacles.iter().map(|(_, obstacle)| obstacle.about.as_str()));
    let failure = match obstacles {
        [(server, only)] => {
            let failure = Failure::new(code, format!("{}; nothing was deployed", only.message)).on(server);
            only.fix.iter().fold(failure, |failure, fix| failure.hint(fix))
        }
        several => {
            several.iter().for_each(|(server, obstacle)| say(session, server, obstacle));
            Failure::new(code, format!("{} things stand in the way; nothing was deployed", several.len()))
        }
    };
    failure.with("obstacles", all)
}

fn say(session: &Session, server: &str, obstacle: &Obstacle) {
    let style = session.output.error_style();
    session.output.say(&format!("{} {server}: {}\n", style.bad("✗"), safe(&obstacle.message)));
    if let Some(fix) = &obstacle.fix {
        session.output.say(&format!("    {} {}\n", style.dim("fix:"), safe(fix)));
    }
}

/// What waiting can cure counts only if nothing else is in the way.
fn code<'o>(about: impl Iterator<Item = &'o str>) -> FaultCode {
    let one = |about: &str| match about {
        "busy" => FaultCode::Busy,
        "disk" => FaultCode::DiskFull,
        "route" => FaultCode::Conflict,
        // `runtime`, `architecture`, `secret`, and what a newer server may find.
        _ => FaultCode::Invalid,
    };
    let codes: Vec<FaultCode> = about.map(one).collect();
    codes.iter().copied().find(|code| *code != FaultCode::Busy).unwrap_or(FaultCode::Busy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waiting_can_not_cure_decides_the_exit_code() {
        let code = |about: &[&str]| super::code(about.iter().copied());
        assert_eq!(code(&["busy", "route"]), FaultCode::Conflict);
        assert_eq!(code(&["secret", "disk"]), FaultCode::Invalid);
        assert_eq!(code(&["disk"]), FaultCode::DiskFull);
        assert_eq!(code(&["from_the_future"]), FaultCode::Invalid);
        assert_eq!(code(&["busy", "busy"]), FaultCode::Busy);
    }
}
