//! Tells the hub the newest head of the record, so that somebody else remembers it.

use crate::agent::Agent;
use allod_proto::{
    record::Head,
    witness::{AT_LEAST_EVERY, EVERY, NAMESPACE, PATH, WitnessReply, WitnessReport},
};
use allod_signing::{PublicKey, Signer, sshsig};
use http_body_util::{BodyExt, Full, Limited};
use hyper::{Method, header};
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, time::Duration};
use tokio::time::Instant;

const DEADLINE: Duration = Duration::from_secs(5);

/// Reports for ever: a head that changed soon, one that did not now and then.
pub(crate) async fn run(agent: &Agent, hub: SocketAddr) {
    let mut last: Option<(Head, Instant)> = None;
    let mut complained = false;
    loop {
        let head = agent.head().head;
        let due = last.is_none_or(|(sent, at)| sent != head || at.elapsed() >= AT_LEAST_EVERY);
        if due {
            match report(agent, hub).await {
                Ok(reply) => {
                    complained = false;
                    last = Some((head, Instant::now()));
                    if reply.verdict.is_trouble() {
                        tracing::error!(
                            verdict = reply.verdict.in_words(),
                            "THE HUB DOES NOT ACCEPT THE RECORD'S HEAD"
                        );
                    }
                }
                Err(why) if !complained => {
                    complained = true;
                    tracing::warn!(why, %hub, "the hub could not be told");
                }
                Err(_) => {}
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn report(agent: &Agent, hub: SocketAddr) -> Result<WitnessReply, String> {
    let record_key =
        PublicKey::from_openssh(&agent.attached.record_key).map_err(|error| error.to_string())?;
    let mut report = WitnessReport {
        name: agent.settings.name.clone(),
        port: agent.settings.listen.port,
        identity_key: agent.identity.public_openssh(),
        record_key: agent.attached.record_key.clone(),
        head: agent.head(),
        at: agent.now(),
        signature: String::new(),
        succession: agent.attached.succession.clone(),
    };
    let bytes = report.signed_bytes(&agent.identity.fingerprint(), record_key.fingerprint());
    let signature = agent.identity.sign(NAMESPACE, &bytes).map_err(|error| error.to_string())?;
    report.signature = sshsig::to_base64(&signature);
    let body = serde_json::to_vec(&report).map_err(|error| error.to_string())?;
    match tokio::time::timeout(DEADLINE, post(agent, hub, body)).await {
        Ok(answer) => answer,
        Err(_) => Err("no answer in time".to_owned()),
    }
}

async fn post(agent: &Agent, hub: SocketAddr, body: Vec<u8>) -> Result<WitnessReply, String> {
    let stream = agent.mesh.connect(hub).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    let driving = tokio::spawn(connection);
    let request = hyper::Request::builder()
        .method(Method::POST)
        .uri(PATH)
        .header(header::HOST, hub.to_string())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(bytes::Bytes::from(body)))
        .map_err(|error| error.to_string())?;
    let reply = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let status = reply.status();
    let body =
        Limited::new(reply.into_body(), 16 * 1024).collect().await.map_err(|error| error.to_string())?;
    driving.abort();
    let bytes = body.to_bytes();
    serde_json::from_slice(&bytes).map_err(|_| format!("the hub answered {status}"))
}
