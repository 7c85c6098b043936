//! Whether a server answers: `hello` to its management port, at the address its reports come from and no other, so that
//! nobody can point the hub at a third machine.

use crate::registry::{Registry, Watched};
use allod_daemon::Clock;
use allod_mesh::Mesh;
use allod_proto::{
    Command, CommandId, Fingerprint, Request,
    command::ReplyBody,
    headers,
    messages::server::{Hello, HelloReply},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::{sync::Semaphore, task::JoinSet};

/// How often each server is asked.
const EVERY: Duration = Duration::from_secs(10);
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(4);
/// How many are asked at the same time.
const AT_ONCE: usize = 32;
const ANSWER_LIMIT: usize = 16 * 1024;

/// Asks every server again and again. Never ends.
pub async fn run(registry: Arc<Registry>, mesh: Arc<dyn Mesh>, clock: Clock) {
    let mut tick = tokio::time::interval(EVERY);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        ask_all(&registry, &mesh, clock).await;
    }
}

async fn ask_all(registry: &Arc<Registry>, mesh: &Arc<dyn Mesh>, clock: Clock) {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    let mut asking = JoinSet::new();
    for server in registry.all() {
        let (registry, mesh, places) = (Arc::clone(registry), Arc::clone(mesh), Arc::clone(&places));
        asking.spawn(async move {
            let Ok(_place) = places.acquire().await else { return };
            let answer = tokio::time::timeout(PATIENCE, ask(mesh.as_ref(), &server)).await;
            let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
            registry.set_answer(&server.record.identity, answer, clock.now());
        });
    }
    asking.join_all().await;
}

/// Sends `hello` and looks who answers. The answer isn't signed: it says that something answers there in this name, no
/// more. What the record says is proved by signatures alone.
async fn ask(mesh: &dyn Mesh, server: &Watched) -> Result<(), String> {
    let address = SocketAddr::new(server.record.source, server.record.port);
    let connection = mesh.connect(address).await.map_err(|error| in_full(&error))?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(connection))
        .await
        .map_err(|error| error.to_string())?;
    // Ends with the sender.
    let driving = tokio::spawn(connection);
    let identity = exchange(&mut sender, address).await;
    driving.abort();
    let identity = identity?;
    if identity == server.record.identity {
        Ok(())
    } else {
        Err(format!("another server answers there: {identity}"))
    }
}

async fn exchange(
    sender: &mut hyper::client::conn::http1::SendRequest<Full<Bytes>>,
    address: SocketAddr,
) -> Result<Fingerprint, String> {
    let id = CommandId::new("hub-asks-whether-it-answers").map_err(|error| error.to_string())?;
    let body = Request { v: allod_proto::OLDEST_VERSION, id, command: Command::Hello(Hello {}) }.to_body();
    let request = hyper::Request::post(headers::RPC_PATH)
        .header(hyper::header::HOST, address.to_string())
        .header(hyper::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let reply = sender.send_request(request).await.map_err(|error| in_full(&error))?;
    let status = reply.status();
    let body =
        Limited::new(reply.into_body(), ANSWER_LIMIT).collect().await.map_err(|error| error.to_string())?;
    let reply: ReplyBody = serde_json::from_slice(&body.to_bytes())
        .map_err(|_| format!("what answers there (status {status}) is no allod agent"))?;
    let hello: HelloReply = reply
        .result
        .and_then(|result| serde_json::from_value(result).ok())
        .ok_or_else(|| format!("hello was answered with status {status}"))?;
    Ok(hello.identity)
}

fn in_full(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
