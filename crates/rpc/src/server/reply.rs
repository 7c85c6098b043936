//! Replies: signed for who proved something, and holding what they take up until they are sent.

use crate::server::{Service, seats::Busy, shares::Share};
use allod_proto::{Digest, Nonce, command::ReplyBody, headers, record::SignedHead};
use allod_signing::{ReplyFields, sshsig};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, combinators::BoxBody};
use hyper::{
    HeaderMap, Response, StatusCode,
    body::{Body, Frame, SizeHint},
    header::{CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue},
};
use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

pub(super) type ReplyBytes = BoxBody<Bytes, Infallible>;

/// What a request takes up, given back when its reply has been sent or its connection is gone.
pub(super) struct Held {
    pub(super) _busy: Busy,
    pub(super) _request: Share,
    pub(super) large: Option<Share>,
}

/// A reply's body goes to the connection in pieces, so that what it takes up is held for as long as most of it waits
/// there: a whole body would be taken over at once.
const PIECE: usize = 16 * 1024;

/// A reply's body and what it takes up.
struct Holding {
    body: ReplyBytes,
    /// What is left of the last part.
    left: Bytes,
    _held: Held,
}

impl Body for Holding {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if self.left.is_empty() {
            let Some(Ok(frame)) = ready!(Pin::new(&mut self.body).poll_frame(cx)) else {
                return Poll::Ready(None);
            };
            match frame.into_data() {
                Ok(data) => self.left = data,
                Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
            }
        }
        let size = PIECE.min(self.left.len());
        Poll::Ready(Some(Ok(Frame::data(self.left.split_to(size)))))
    }

    fn is_end_stream(&self) -> bool {
        self.left.is_empty() && self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let left = u64::try_from(self.left.len()).unwrap_or(u64::MAX);
        match self.body.size_hint().exact() {
            Some(exact) => SizeHint::with_exact(exact.saturating_add(left)),
            None => SizeHint::new(),
        }
    }
}

/// The reply, which holds this until it is sent.
pub(super) fn holding(reply: Response<ReplyBytes>, held: Held) -> Response<ReplyBytes> {
    reply.map(|body| Holding { body, left: Bytes::new(), _held: held }.boxed())
}

/// How many bytes a reply's body has.
pub(super) fn length(reply: &Response<ReplyBytes>) -> usize {
    reply.body().size_hint().exact().and_then(|exact| usize::try_from(exact).ok()).unwrap_or(0)
}

pub(super) fn reply<S: Service>(
    service: &S,
    nonce: Option<&Nonce>,
    body: &ReplyBody,
) -> Response<ReplyBytes> {
    let status = body.fault.as_ref().map_or(200, |fault| fault.code.status());
    let bytes = Bytes::from(serde_json::to_vec(body).unwrap_or_default());
    let mut reply = Response::new(Full::new(bytes.clone()).boxed());
    *reply.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    sign(service, nonce, status, &Digest::of(&bytes), reply.headers_mut());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    reply
}

/// The head of a stream is signed over the empty body; each frame then signs itself.
pub(super) fn opening<S: Service>(service: &S, nonce: &Nonce, body: ReplyBytes) -> Response<ReplyBytes> {
    let mut reply = Response::new(body);
    sign(service, Some(nonce), 200, &Digest::of(""), reply.headers_mut());
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    reply
}

fn sign<S: Service>(service: &S, nonce: Option<&Nonce>, status: u16, body: &Digest, into: &mut HeaderMap) {
    into.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let epoch = match service.window().lock() {
        Ok(window) => window.epoch().clone(),
        Err(poisoned) => poisoned.into_inner().epoch().clone(),
    };
    set(into, headers::EPOCH, epoch.as_str());
    // Who proved nothing learns nothing of the record, and costs no signature.
    let Some(nonce) = nonce else { return };
    let head: SignedHead = service.head();
    set(into, headers::RECORD, &serde_json::to_string(&head).unwrap_or_default());
    let fields = ReplyFields { nonce, status, body, head: &head.head, epoch: &epoch };
    match service.identity().sign(headers::REPLY_NAMESPACE, &fields.bytes()) {
        Ok(signature) => set(into, headers::REPLY_SIGNATURE, &sshsig::to_base64(&signature)),
        Err(error) => tracing::error!(%error, "a reply could not be signed"),
    }
}

fn set(into: &mut HeaderMap, name: &'static str, value: &str) {
    if let Ok(value) = HeaderValue::from_str(value) {
        into.insert(HeaderName::from_static(name), value);
    }
}
