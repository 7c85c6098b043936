//! A server that does what its script says, once a request, and remembers what it was asked.

use super::key;
use crate::client::Peer;
use allod_proto::{
    Digest, Epoch, Fault, Fingerprint, Nonce, Timestamp,
    command::{Frame, ReplyBody, StreamItem},
    headers::{EPOCH, FRAME_NAMESPACE, HEAD_NAMESPACE, RECORD, REPLY_NAMESPACE, REPLY_SIGNATURE},
    messages::server::Succession,
    record::{Head, SignedHead},
};
use allod_signing::{
    FrameFields, KeySigner, ReplyFields, RequestFields, RequestHead, Route, Signer as _, sshsig,
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

pub(super) fn identity() -> KeySigner {
    key(100)
}

pub(super) fn record_key() -> KeySigner {
    key(101)
}

pub(super) fn epoch(n: u8) -> Epoch {
    Epoch::from_random([n; 16])
}

pub(super) fn head(seq: u64) -> Head {
    Head { seq, hash: Digest::of(seq.to_string()) }
}

pub(super) fn signed_head(head: Head) -> SignedHead {
    sign_head(&record_key(), head)
}

fn sign_head(key: &KeySigner, head: Head) -> SignedHead {
    let at = Timestamp(1);
    let signature = key.sign(HEAD_NAMESPACE, &SignedHead::signed_bytes(&head, at)).unwrap();
    SignedHead { head, at, signature: sshsig::to_base64(&signature) }
}

/// What to do with one request.
pub(super) enum Act {
    /// Answer `hello` with this identity and these versions.
    Hello(Fingerprint, u32, u32),
    /// The same, with a chain of identities that leads to this one.
    Successor(Vec<Succession>),
    Raw(u16, String),
    Reply(Box<Reply>),
    Stream(Vec<Cut>),
    HangUp,
    /// As a server that the request was not signed for.
    Refuse,
}

pub(super) fn hello() -> Act {
    Act::Hello(identity().fingerprint(), 1, 1)
}

impl From<Reply> for Act {
    fn from(reply: Reply) -> Self {
        Self::Reply(Box::new(reply))
    }
}

/// A reply, and how it lies.
pub(super) struct Reply {
    pub(super) body: ReplyBody,
    pub(super) status: u16,
    pub(super) epoch: Epoch,
    pub(super) head: Head,
    pub(super) signer: Option<KeySigner>,
    pub(super) record_signer: KeySigner,
    pub(super) signed_status: u16,
    pub(super) signed_body: Option<Bytes>,
    pub(super) signed_nonce: Option<Nonce>,
    pub(super) signed_head: Option<Head>,
}

impl Reply {
    fn of(outcome: Result<Value, Fault>) -> Self {
        let status = outcome.as_ref().err().map_or(200, |fault| fault.code.status());
        Self {
            body: ReplyBody::of(None, outcome),
            status,
            epoch: epoch(1),
            head: head(5),
            signer: Some(identity()),
            record_signer: record_key(),
            signed_status: status,
            signed_body: None,
            signed_nonce: None,
            signed_head: None,
        }
    }

    pub(super) fn ok(value: Value) -> Self {
        Self::of(Ok(value))
    }

    pub(super) fn fault(fault: Fault) -> Self {
        Self::of(Err(fault))
    }

    pub(super) fn epoch(self, epoch: Epoch) -> Self {
        Self { epoch, ..self }
    }

    pub(super) fn head(self, head: Head) -> Self {
        Self { head, ..self }
    }

    pub(super) fn unsigned(self) -> Self {
        Self { signer: None, ..self }
    }

    fn response(self, nonce: &Nonce) -> Response<Full<Bytes>> {
        let bytes = Bytes::from(serde_json::to_vec(&self.body).unwrap());
        self.with_body(nonce, bytes.clone(), &bytes)
    }

    fn with_body(self, nonce: &Nonce, bytes: Bytes, signed: &[u8]) -> Response<Full<Bytes>> {
        let mut response = Response::builder().status(self.status).header(EPOCH, self.epoch.as_str());
        if let Some(signer) = &self.signer {
            let head = sign_head(&self.record_signer, self.head);
            let fields = ReplyFields {
                nonce: self.signed_nonce.as_ref().unwrap_or(nonce),
                status: self.signed_status,
                body: &Digest::of(self.signed_body.as_deref().unwrap_or(signed)),
                head: self.signed_head.as_ref().unwrap_or(&self.head),
                epoch: &self.epoch,
            };
            let signature = signer.sign(REPLY_NAMESPACE, &fields.bytes()).unwrap();
            response = response
                .header(RECORD, serde_json::to_string(&head).unwrap())
                .header(REPLY_SIGNATURE, sshsig::to_base64(&signature));
        }
        response.body(Full::new(bytes)).unwrap()
    }
}

/// One frame, and how it lies.
pub(super) enum Cut {
    Frame(StreamItem, bool),
    /// Signed by this key.
    By(Box<KeySigner>, StreamItem),
    /// Its payload is exchanged after signing.
    Exchanged(StreamItem, StreamItem),
    /// Its signature is for another request.
    ForAnother(StreamItem),
    /// The frame before it is left out.
    Skipping(StreamItem),
    Raw(&'static str),
}

fn frames(nonce: &Nonce, cuts: Vec<Cut>) -> Bytes {
    let mut text = String::new();
    let (mut seq, mut before) = (0, Digest::ZERO);
    for cut in cuts {
        let (item, last, signer, shown, nonce) = match cut {
            Cut::Frame(item, last) => (item, last, identity(), None, nonce.clone()),
            Cut::By(signer, item) => (item, false, *signer, None, nonce.clone()),
            Cut::Exchanged(item, shown) => (item, false, identity(), Some(shown), nonce.clone()),
            Cut::ForAnother(item) => (item, false, identity(), None, Nonce::new("n".repeat(22)).unwrap()),
            Cut::Skipping(item) => {
                seq += 1;
                (item, false, identity(), None, nonce.clone())
            }
            Cut::Raw(raw) => {
                text.push_str(raw);
                continue;
            }
        };
        let payload = serde_json::to_string(&item).unwrap();
        let fields = FrameFields {
            nonce: &nonce,
            sequence: seq,
            before: &before,
            payload: &Digest::of(&payload),
            last,
        };
        let bytes = fields.bytes();
        let signature = sshsig::to_base64(&signer.sign(FRAME_NAMESPACE, &bytes).unwrap());
        let payload = shown.map_or(payload, |shown| serde_json::to_string(&shown).unwrap());
        let frame = Frame { seq, before, payload, last, signature };
        text.push_str(&format!("{}\n", serde_json::to_string(&frame).unwrap()));
        (seq, before) = (seq + 1, Digest::of(&bytes));
    }
    Bytes::from(text)
}

/// What the server was asked.
#[derive(Clone)]
pub(super) struct Request {
    path: String,
    head: Option<RequestHead>,
    body: Bytes,
}

impl Request {
    fn head(&self) -> &RequestHead {
        self.head.as_ref().expect("a signed request")
    }
    pub(super) fn id(&self) -> String {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        body["id"].as_str().unwrap().to_owned()
    }
    pub(super) fn version(&self) -> u64 {
        let body: Value = serde_json::from_slice(&self.body).unwrap();
        body["v"].as_u64().unwrap()
    }
    pub(super) fn nonce(&self) -> Nonce {
        self.head().nonce.clone()
    }
    pub(super) fn timestamp(&self) -> Timestamp {
        self.head().timestamp
    }
    pub(super) fn key(&self) -> Fingerprint {
        self.head().fingerprint.clone()
    }
    pub(super) fn path(&self) -> &str {
        &self.path
    }
    pub(super) fn body(&self) -> &[u8] {
        &self.body
    }

    /// Every signed request must be good for this server and this request alone.
    fn check(&self, method: &str) {
        let Some(head) = &self.head else { return };
        let key = sshsig::signer_key(&head.signature).unwrap();
        assert_eq!(*key.fingerprint(), head.fingerprint);
        let fields = RequestFields {
            audience: &identity().fingerprint(),
            epoch: &head.epoch,
            route: Route::new(method, &self.path).unwrap(),
            timestamp: head.timestamp,
            nonce: &head.nonce,
            body: &Digest::of(&self.body),
        };
        let namespace = allod_proto::headers::MANAGEMENT_NAMESPACE;
        let bytes = fields.bytes_under(head.delegation.as_ref());
        allod_signing::verify_signature(&key, namespace, &bytes, &head.signature).unwrap();
    }
}

#[derive(Default)]
struct State {
    script: VecDeque<Act>,
    requests: Vec<Request>,
}

/// The server.
pub(super) struct Fake {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

impl Fake {
    pub(super) async fn serve(script: impl IntoIterator<Item = Act>) -> Self {
        let state = State { script: script.into_iter().collect(), requests: Vec::new() };
        let state = Arc::new(Mutex::new(state));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&shared);
                let service = service_fn(move |request| answer(Arc::clone(&shared), request));
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service);
                tokio::spawn(serving);
            }
        });
        Self { address, state }
    }

    pub(super) fn peer(&self) -> Peer {
        Peer {
            name: "web1".to_owned(),
            address: self.address,
            identity: identity().fingerprint(),
            record_key: Some(record_key().fingerprint()),
        }
    }

    pub(super) fn requests(&self) -> Vec<Request> {
        self.state.lock().unwrap().requests.clone()
    }

    pub(super) fn signed_requests(&self) -> usize {
        self.requests().iter().filter(|request| request.head.is_some()).count()
    }

    pub(super) fn epochs(&self) -> Vec<Epoch> {
        self.requests().iter().filter_map(|request| Some(request.head.as_ref()?.epoch.clone())).collect()
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: hyper::Request<Incoming>,
) -> io::Result<Response<Full<Bytes>>> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let head = RequestHead::parse(|name| parts.headers.get(name)?.to_str().ok()).ok();
    let request = Request { path: parts.uri.to_string(), head, body };
    let act = {
        let mut state = state.lock().unwrap();
        state.requests.push(request.clone());
        state.script.pop_front()
    };
    if !matches!(act, Some(Act::Refuse)) {
        request.check(parts.method.as_str());
    }
    let nonce = request.head.as_ref().map(|head| head.nonce.clone());
    let nonce = || nonce.clone().expect("a signed request");
    match act {
        None | Some(Act::HangUp) => Err(io::ErrorKind::ConnectionReset.into()),
        Some(Act::Refuse) => {
            let fault = Fault::new(allod_proto::FaultCode::Refused, "no");
            Ok(Reply::fault(fault).unsigned().response(&Nonce::new("n".repeat(22)).unwrap()))
        }
        Some(Act::Raw(status, text)) => {
            Ok(Response::builder().status(status).body(Full::new(text.into())).unwrap())
        }
        Some(Act::Hello(identity, oldest, newest)) => {
            let reply = json!({"oldest": oldest, "newest": newest, "version": "1.0.0", "identity": identity,
                "epoch": epoch(1)});
            Ok(Reply::ok(reply).unsigned().response(&Nonce::new("n".repeat(22)).unwrap()))
        }
        Some(Act::Successor(succession)) => {
            let reply = json!({"oldest": 1, "newest": 2, "version": "1.0.0", "epoch": epoch(1),
                "identity": identity().fingerprint(), "succession": succession});
            Ok(Reply::ok(reply).unsigned().response(&Nonce::new("n".repeat(22)).unwrap()))
        }
        Some(Act::Reply(reply)) => Ok(reply.response(&nonce())),
        Some(Act::Stream(cuts)) => {
            let bytes = frames(&nonce(), cuts);
            Ok(Reply::ok(Value::Null).with_body(&nonce(), bytes, b""))
        }
    }
}
