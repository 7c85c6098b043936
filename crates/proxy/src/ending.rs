//! The end of a request, wherever it comes: with the last byte of its answer, with a tunnel, or when the client leaves.
//! Until then it counts as in flight; then its line goes to the access log.

use crate::{
    access_log::Line,
    answer,
    body::AnswerBody,
    forward::Client,
    front::Active,
    headers,
    instance::{InFlight, Instance},
    routing::Entry,
    shared::Shared,
};
use http::{HeaderValue, Method, Request, Response, header::HOST};
use std::sync::{Arc, atomic::Ordering};
use tokio::time::Instant;

/// What is held and noted until a request is over: it counts as in flight, and its line goes to the access log.
#[derive(Debug)]
pub(crate) struct Ending {
    shared: Arc<Shared>,
    in_flight: Option<InFlight>,
    line: Option<Note>,
    bytes: u64,
    is_whole: bool,
    _active: Active,
}

/// The parts of a line in the access log, as they become known.
#[derive(Debug)]
struct Note {
    begun: Instant,
    client: std::net::IpAddr,
    host: String,
    method: Method,
    path: String,
    status: u16,
    entry: Option<Arc<Entry>>,
    error: Option<HeaderValue>,
    request: Option<HeaderValue>,
}

/// The status that the log has for a client that left before its answer (nginx's custom).
const CLIENT_LEFT: u16 = 499;

impl Ending {
    pub(crate) fn new<B>(client: &Client, request: &Request<B>, active: Active) -> Self {
        let shared = &client.worker.shared;
        shared.in_flight.fetch_add(1, Ordering::Relaxed);
        let line = shared.log.is_on().then(|| {
            let host = request.headers().get(HOST).and_then(|host| host.to_str().ok());
            let host =
                host.or(request.uri().authority().map(http::uri::Authority::as_str)).unwrap_or_default();
            Note {
                begun: Instant::now(),
                client: client.address.ip(),
                host: host.to_owned(),
                method: request.method().clone(),
                path: request.uri().path().to_owned(),
                status: CLIENT_LEFT,
                entry: None,
                error: None,
                request: request.headers().get(headers::REQUEST_ID).cloned(),
            }
        });
        Self { shared: Arc::clone(shared), in_flight: None, line, bytes: 0, is_whole: false, _active: active }
    }

    pub(crate) fn set_route(&mut self, entry: &Arc<Entry>) {
        if let Some(line) = &mut self.line {
            line.entry = Some(Arc::clone(entry));
        }
    }

    pub(crate) fn set_instance(&mut self, in_flight: InFlight) {
        self.in_flight = Some(in_flight);
    }

    pub(crate) fn set_request_id(&mut self, id: &HeaderValue) {
        if let Some(line) = &mut self.line {
            line.request = Some(id.clone());
        }
    }

    pub(crate) fn set_answer(&mut self, answer: &Response<AnswerBody>) {
        self.shared.count_request();
        let is_own = answer.headers().contains_key(answer::ERROR);
        if is_own && answer.status().is_server_error() {
            self.shared.own_errors.fetch_add(1, Ordering::Relaxed);
        }
        if let Some(line) = &mut self.line {
            line.status = answer.status().as_u16();
            line.error = answer.headers().get(answer::ERROR).cloned();
        }
    }

    pub(crate) fn instance(&self) -> Option<&Arc<Instance>> {
        self.in_flight.as_ref().map(InFlight::instance)
    }

    pub(crate) fn add_bytes(&mut self, bytes: u64) {
        self.bytes = self.bytes.saturating_add(bytes);
    }

    /// The answer reached its end.
    pub(crate) fn set_whole(&mut self) {
        self.is_whole = true;
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        let Some(note) = self.line.take() else { return };
        let route = note.entry.as_ref().map(|entry| &entry.route);
        self.shared.log.write(&Line {
            time: self.shared.clock.now().0,
            client: note.client,
            host: &note.host,
            method: note.method.as_str(),
            path: &note.path,
            status: note.status,
            bytes: self.bytes,
            ms: u64::try_from(note.begun.elapsed().as_millis()).unwrap_or(u64::MAX),
            app: note.entry.as_ref().map(|entry| entry.app.as_str()),
            unit: route.map(|route| route.unit.as_str()),
            release: route.map(|route| route.release.as_str()),
            upstream: self.instance().map(|instance| instance.address),
            error: note.error.as_ref().and_then(|word| word.to_str().ok()),
            cut: !self.is_whole,
            request: note.request.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default(),
        });
    }
}
