//! What stands behind both doors: who is calling becomes a `Caller`, and everything asked goes through `dispatch`, a
//! read here, a change at the executor.

use crate::{agent::Agent, commands, drive, executor_link::unexpected, facts, recorder::ReadRecorder, tidy};
use allod_commands::{Caller, Door, Permit, authorize, dispatch};
use allod_proto::{
    Command, CommandId, Fault, FaultCode, Request, Timestamp,
    command::Kind,
    executor::{Action, Done, SignedCall},
    messages::{app::Accepted, server::ChunkReply},
    record::SignedHead,
};
use allod_rpc::server::{Answer, Chunk, Incoming, Keys, Presented, Service};
use allod_signing::{Signer, Verified, Window};
use serde_json::Value;
use std::sync::{Arc, Mutex};

/// The service.
pub(crate) struct AgentService(pub(crate) Arc<Agent>);

impl Service for AgentService {
    fn identity(&self) -> &dyn Signer {
        &self.0.identity
    }

    fn keys(&self) -> Arc<Keys> {
        self.0.keys.get()
    }

    fn window(&self) -> &Mutex<Window> {
        &self.0.window
    }

    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn head(&self) -> SignedHead {
        self.0.head()
    }

    fn probe(&self, command: &Command) -> Result<Value, Fault> {
        facts::probe(&self.0, command)
    }

    async fn call(&self, incoming: Incoming) -> Answer {
        let id = incoming.request.id.clone();
        let answered = match caller(&incoming) {
            Ok(caller) => answer(&self.0, caller, incoming).await,
            Err(fault) => Err(fault),
        };
        answered.unwrap_or_else(|fault| Answer::Fault(fault.request(id.as_str())))
    }

    fn may(&self, verified: &Verified, command: &Command) -> Result<(), Fault> {
        let caller = Caller::signed(verified, Door::Rpc, None);
        authorize(&caller, command).map(|_| ()).map_err(|denied| denied.to_fault(&caller))
    }

    async fn chunk(&self, chunk: Chunk) -> Result<Value, Fault> {
        let caller =
            Caller::signed(&chunk.verified, Door::Rpc, chunk.source.map(|source| source.to_string()));
        // A chunk has no id of its own; its nonce is as good.
        let id: String = chunk.verified.nonce().as_str().chars().take(64).collect();
        let id = CommandId::new(id).map_err(|_| unexpected())?;
        let request = Request { v: allod_proto::VERSION, id, command: chunk.command() };
        let agent = Arc::clone(&self.0);
        let keep = async move |_: Permit, _: Request| {
            tidy::learn(&agent, &chunk.app).await?;
            let kept = tokio::task::spawn_blocking(move || {
                agent.chunks.keep(&chunk.app, &chunk.digest, &chunk.bytes, agent.now()).map(|()| chunk.digest)
            });
            let chunk = kept.await.map_err(|_| unexpected())??;
            commands::reply(ChunkReply { chunk })
        };
        match dispatch(&ReadRecorder(Arc::clone(&self.0)), None, caller, request, keep).await? {
            Answer::Reply(value) => Ok(value),
            Answer::Fault(fault) => Err(fault),
            Answer::Stream(_) => Err(unexpected()),
        }
    }

    fn refused(&self, source: &str, reason: &'static str) {
        self.0.observations.refused(source, reason, self.0.now());
    }
}

fn caller(incoming: &Incoming) -> Result<Caller, Fault> {
    let door = if incoming.door == "socket" { Door::Socket } else { Door::Rpc };
    let source = incoming.source.map(|source| source.to_string());
    match &incoming.presented {
        Presented::Signed(verified) => Ok(Caller::signed(verified, door, source)),
        Presented::Local(peer) => Caller::local(peer).ok_or_else(|| {
            Fault::new(FaultCode::Refused, format!("uid {} may not call unsigned", peer.uid()))
                .hint("sign the request, as on the mesh")
        }),
    }
}

async fn answer(agent: &Arc<Agent>, caller: Caller, incoming: Incoming) -> Result<Answer, Fault> {
    match incoming.request.command.name().kind() {
        Kind::Probe => facts::probe(agent, &incoming.request.command).map(Answer::Reply),
        Kind::Change => {
            // A change goes on to its end, whether or not the client waits for it.
            let acting = Arc::clone(agent);
            let changing = async move { change(&acting, incoming.request.command, incoming.call).await };
            tokio::spawn(changing).await.map_err(|_| unexpected())?.map(Answer::Reply)
        }
        Kind::Read | Kind::Stream => {
            let acting = Arc::clone(agent);
            let run = async move |permit: Permit, request: Request| {
                commands::run(&acting, &permit, request.command).await
            };
            dispatch(&ReadRecorder(Arc::clone(agent)), None, caller, incoming.request, run).await
        }
    }
}

/// The executor verifies the caller's own request again, decides, and records; the agent only carries out.
async fn change(agent: &Arc<Agent>, command: Command, call: Option<SignedCall>) -> Result<Value, Fault> {
    let call = call.ok_or_else(|| {
        Fault::new(
            FaultCode::Refused,
            "a change must be signed, also on this machine: the executor verifies the caller",
        )
        .hint("use a key that is enrolled: `allod --key FILE …`")
    })?;
    let mut reply = match agent.link.ask(Action::Perform(call)).await? {
        Done::Replied { reply } => reply,
        Done::Begun(begun) => {
            let operation = begun.operation.id.clone();
            let accepted = Accepted { operation, release: begun.operation.release().cloned() };
            drive::spawn(agent, begun.operation, false);
            serde_json::to_value(accepted).map_err(|_| unexpected())?
        }
        _ => return Err(unexpected()),
    };
    match &command {
        // In force before the reply is on its way.
        Command::KeysAdd(_) | Command::KeysRevoke(_) | Command::KeysRotate(_) => agent.refresh_keys().await?,
        Command::ServerPrune(params) => reply = tidy::prune(agent, params.app.as_ref(), reply).await?,
        Command::ServerRotateIdentity(_) => drop(agent.rotated.send_replace(true)),
        Command::OpsCancel(params) => {
            if let Some(running) = agent.operations.running(&params.operation) {
                running.cancel();
            }
        }
        _ => {}
    }
    Ok(reply)
}
