//! How the agent writes a read down: one line, when it is done. Changes are written by the executor.

use crate::agent::Agent;
use allod_commands::{Caller, Door, Entry, Permit, Recorder};
use allod_proto::{AppRef, Fault, FaultCode, Fingerprint, Request, Role, Timestamp, executor::Observation};
use allod_rpc::server::Answer;
use std::sync::Arc;
use tokio::sync::mpsc::OwnedPermit;

/// Writes reads.
pub(crate) struct ReadRecorder(pub(crate) Arc<Agent>);

/// A read that has begun.
pub(crate) struct ReadEntry {
    agent: Arc<Agent>,
    place: Option<OwnedPermit<Observation>>,
    facts: Facts,
    began: Timestamp,
}

#[derive(Clone)]
struct Facts {
    request: String,
    key: Option<Fingerprint>,
    delegate: Option<Fingerprint>,
    name: String,
    role: Role,
    door: &'static str,
    source: Option<String>,
    command: &'static str,
    app: Option<AppRef>,
}

impl Facts {
    fn of(caller: &Caller, request: &Request) -> Self {
        Self {
            request: request.id.to_string(),
            key: caller.key().cloned(),
            delegate: caller.delegate().cloned(),
            name: caller.name().to_owned(),
            role: caller.role(),
            door: match caller.door() {
                Door::Socket => "socket",
                Door::Rpc | Door::Gate | Door::Recovery | Door::System => "rpc",
            },
            source: caller.source().map(str::to_owned),
            command: request.command.name().as_str(),
            app: request.command.app().cloned(),
        }
    }

    fn read(self, code: Option<FaultCode>, took_ms: u64) -> Observation {
        Observation::Read {
            request: self.request,
            key: self.key,
            delegate: self.delegate,
            name: self.name,
            role: self.role,
            door: self.door.to_owned(),
            source: self.source,
            command: self.command.to_owned(),
            app: self.app,
            code,
            took_ms,
        }
    }
}

impl Recorder for ReadRecorder {
    type Answer = Answer;
    type Entry = ReadEntry;

    async fn open(&self, permit: &Permit, request: &Request) -> Result<ReadEntry, Fault> {
        let place = Some(self.0.observations.reserve()?);
        let facts = Facts::of(permit.caller(), request);
        Ok(ReadEntry { agent: Arc::clone(&self.0), place, facts, began: self.0.now() })
    }

    async fn denied(&self, caller: &Caller, request: &Request, fault: &Fault) {
        match self.0.observations.reserve() {
            Ok(place) => {
                place.send(Facts::of(caller, request).read(Some(fault.code), 0));
            }
            Err(fault) => tracing::error!(%fault, "a denial could not be recorded"),
        }
    }
}

impl ReadEntry {
    fn write(&mut self, code: Option<FaultCode>) {
        let took = self.agent.now().since(self.began).as_millis();
        if let Some(place) = self.place.take() {
            place.send(self.facts.clone().read(code, u64::try_from(took).unwrap_or(u64::MAX)));
        }
    }
}

impl Entry for ReadEntry {
    type Answer = Answer;

    async fn close(mut self, outcome: &Result<Answer, Fault>) -> Result<(), Fault> {
        self.write(match outcome {
            Ok(Answer::Fault(fault)) | Err(fault) => Some(fault.code),
            Ok(Answer::Reply(_) | Answer::Stream(_)) => None,
        });
        Ok(())
    }
}

impl Drop for ReadEntry {
    fn drop(&mut self) {
        self.write(Some(FaultCode::Internal));
    }
}
