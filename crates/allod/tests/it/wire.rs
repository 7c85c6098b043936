//! Requests at the signed door by hand, so that they can be wrong in exactly one way.

use crate::visitor::{Answer, exchange};
use allod_proto::{
    CommandId, Digest, Epoch, Fingerprint, Nonce, Request, Timestamp, VERSION,
    command::{Call, ReplyBody},
    executor::SignedCall,
    headers,
};
use allod_signing::{RequestFields, RequestHead, Route, Signer, sign_request};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::{net::SocketAddr, time::SystemTime};

/// A request before it is signed. Every part may be made wrong.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    pub(crate) audience: Fingerprint,
    pub(crate) epoch: Epoch,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) timestamp: Timestamp,
    pub(crate) nonce: Nonce,
    pub(crate) body: Vec<u8>,
}

/// A signed one.
#[derive(Debug, Clone)]
pub(crate) struct Signed {
    pub(crate) head: RequestHead,
    pub(crate) draft: Draft,
}

/// Random letters.
pub(crate) fn random_word() -> String {
    let mut random = [0; 16];
    SystemRandom::new().fill(&mut random).unwrap();
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(since.as_millis()).unwrap())
}

/// The body of a command under a fresh id.
pub(crate) fn body_of<C: Call>(params: C) -> Vec<u8> {
    let id = CommandId::new(random_word()).unwrap();
    Request { v: VERSION, id, command: params.into_command() }.to_body()
}

impl Draft {
    /// One that is good once it is signed by an enrolled key.
    pub(crate) fn new<C: Call>(audience: &Fingerprint, epoch: &Epoch, params: C) -> Self {
        Self {
            audience: audience.clone(),
            epoch: epoch.clone(),
            method: "POST",
            path: headers::RPC_PATH.to_owned(),
            timestamp: now(),
            nonce: Nonce::new(random_word()).unwrap(),
            body: body_of(params),
        }
    }

    pub(crate) fn sign(self, key: &dyn Signer) -> Signed {
        let fields = RequestFields {
            audience: &self.audience,
            epoch: &self.epoch,
            route: Route::new(self.method, &self.path).unwrap(),
            timestamp: self.timestamp,
            nonce: &self.nonce,
            body: &Digest::of(&self.body),
        };
        let head = sign_request(key, &fields).unwrap();
        Signed { head, draft: self }
    }
}

impl Signed {
    /// Sends it to its own route.
    pub(crate) async fn send(&self, to: SocketAddr) -> Reply {
        self.send_as(to, self.draft.method, &self.draft.path, &self.draft.body).await
    }

    /// Sends the same head to another route, or with another body.
    pub(crate) async fn send_as(&self, to: SocketAddr, method: &str, path: &str, body: &[u8]) -> Reply {
        let headers: Vec<_> = self.head.headers();
        send(to, method, path, &headers, body).await
    }

    /// As the agent passes it on.
    pub(crate) fn call(&self) -> SignedCall {
        SignedCall {
            method: self.draft.method.to_owned(),
            path: self.draft.path.clone(),
            headers: self.head.headers().into_iter().map(|(name, value)| (name.to_owned(), value)).collect(),
            body: String::from_utf8(self.draft.body.clone()).unwrap(),
            source: Some([127, 0, 0, 1].into()),
            door: "rpc".to_owned(),
        }
    }
}

/// What the door answered.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) answer: Answer,
    pub(crate) body: ReplyBody,
}

impl Reply {
    /// The fault's code as on the wire.
    pub(crate) fn code(&self) -> &'static str {
        self.body.fault.as_ref().map_or("none", |fault| fault.code.as_str())
    }

    /// Whether the server signed it.
    pub(crate) fn is_signed(&self) -> bool {
        self.answer.header(headers::REPLY_SIGNATURE).is_some()
    }
}

/// Sends a request with these headers and no other.
pub(crate) async fn send(
    to: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&'static str, String)],
    body: &[u8],
) -> Reply {
    let mut text = format!(
        "{method} {path} HTTP/1.1\r\nhost: {to}\r\nconnection: close\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str("\r\n");
    let answer = exchange(to, &[text.as_bytes(), body].concat()).await.unwrap();
    let body = serde_json::from_str(&answer.body).unwrap_or_else(|error| panic!("{error}: {answer:?}"));
    Reply { answer, body }
}
