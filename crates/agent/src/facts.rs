//! What the agent knows of itself and of the machine.

use crate::agent::Agent;
use allod_proto::{
    Command, Fault, FaultCode, OLDEST_VERSION, VERSION,
    messages::server::{HelloReply, ServerInfoReply},
};
use allod_signing::Signer;
use serde_json::Value;
use std::{path::Path, sync::PoisonError};

/// Answers one of the two probes: no more than anybody may know.
pub(crate) fn probe(agent: &Agent, command: &Command) -> Result<Value, Fault> {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    let identity = agent.identity.fingerprint();
    let reply = match command {
        Command::Hello(_) => {
            let epoch = agent.window.lock().unwrap_or_else(PoisonError::into_inner).epoch().clone();
            serde_json::to_value(HelloReply {
                oldest: OLDEST_VERSION,
                newest: VERSION,
                version,
                identity,
                epoch,
                succession: agent.attached.succession.clone(),
            })
        }
        Command::ServerInfo(_) => serde_json::to_value(ServerInfoReply {
            name: agent.settings.name.clone(),
            address: agent.place(),
            version,
            identity,
        }),
        other => return Err(Fault::new(FaultCode::Refused, format!("{} must be signed", other.name()))),
    };
    reply.map_err(|error| Fault::new(FaultCode::Internal, error.to_string()))
}

/// Bytes free and in all where `path` lies; zeros if that can't be told.
pub(crate) fn disk(path: &Path) -> (u64, u64) {
    match rustix::fs::statvfs(path) {
        Ok(facts) => {
            (facts.f_bavail.saturating_mul(facts.f_frsize), facts.f_blocks.saturating_mul(facts.f_frsize))
        }
        Err(_) => (0, 0),
    }
}

/// The load average of the last minute, in hundredths.
pub(crate) fn load_hundredths() -> u64 {
    let Ok(text) = std::fs::read_to_string("/proc/loadavg") else { return 0 };
    let first = text.split(' ').next().unwrap_or_default();
    let (whole, part) = first.split_once('.').unwrap_or((first, "0"));
    whole.parse::<u64>().unwrap_or(0).saturating_mul(100).saturating_add(part.parse::<u64>().unwrap_or(0))
}
