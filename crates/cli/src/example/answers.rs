//! What the example app answers: a page, its health, and what a proxy must get right (slow, large, streamed, upgraded).

use super::{Surroundings, body::AppBody, page, websocket};
use bytes::Bytes;
use hyper::{Method, Request, Response, StatusCode, body::Incoming, header};
use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};
use tokio::sync::watch;

const SLOWEST: u64 = 120_000;
const LARGEST: u64 = 1 << 30;
const PIECE: usize = 64 * 1024;

/// The app.
#[derive(Debug)]
pub(super) struct App {
    surroundings: Surroundings,
    healthy: bool,
    visits: AtomicU64,
    ended: watch::Receiver<bool>,
}

type Answer = Response<AppBody>;

impl App {
    pub(super) fn new(surroundings: Surroundings, healthy: bool, ended: watch::Receiver<bool>) -> Self {
        Self { surroundings, healthy, visits: AtomicU64::new(0), ended }
    }

    /// Tells when the app is to end.
    pub(super) fn ended(&self) -> watch::Receiver<bool> {
        self.ended.clone()
    }

    pub(super) async fn answer(&self, request: Request<Incoming>) -> Answer {
        let query = request.uri().query().unwrap_or_default().to_owned();
        match (request.method(), request.uri().path()) {
            (&Method::GET | &Method::HEAD, "/") => self.page(),
            (&Method::GET | &Method::HEAD, "/health") => self.health(),
            (&Method::GET, "/slow") => {
                tokio::time::sleep(Duration::from_millis(number(&query, "ms", 1000).min(SLOWEST))).await;
                text(StatusCode::OK, format!("{}\n", self.surroundings.version))
            }
            (&Method::GET, "/events") => self.events(&query),
            (&Method::GET, "/big") => big(number(&query, "bytes", 1 << 20).min(LARGEST)),
            (&Method::GET, "/ws") => websocket::answer(request),
            (_, "/" | "/health" | "/slow" | "/events" | "/big" | "/ws") => {
                text(StatusCode::METHOD_NOT_ALLOWED, "only GET\n".to_owned())
            }
            _ => text(StatusCode::NOT_FOUND, "there is nothing here\n".to_owned()),
        }
    }

    fn page(&self) -> Answer {
        let visit = self.visits.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        let page = page::render(&self.surroundings, visit);
        let mut answer = Response::new(AppBody::from(page));
        let headers = answer.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("text/html; charset=utf-8"));
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("no-store"));
        for (name, value) in
            [("x-version", &self.surroundings.version), ("x-instance", &self.surroundings.instance)]
        {
            if let Ok(value) = header::HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        answer
    }

    fn health(&self) -> Answer {
        if self.healthy {
            text(StatusCode::OK, "healthy\n".to_owned())
        } else {
            text(StatusCode::SERVICE_UNAVAILABLE, "never healthy, as asked\n".to_owned())
        }
    }

    /// Numbered events until the visitor or the app ends.
    fn events(&self, query: &str) -> Answer {
        let every = Duration::from_millis(number(query, "ms", 500).clamp(1, SLOWEST));
        let count = number(query, "count", u64::MAX);
        let (sender, body) = AppBody::pieces();
        let mut ended = self.ended();
        let version = self.surroundings.version.clone();
        tokio::spawn(async move {
            for event in 1..=count {
                if sender.send(Bytes::from(format!("id: {event}\ndata: {version}\n\n"))).await.is_err() {
                    return;
                }
                tokio::select! {
                    () = tokio::time::sleep(every) => {}
                    () = super::wish(&mut ended) => return,
                }
            }
        });
        let mut answer = Response::new(body);
        let kind = header::HeaderValue::from_static("text/event-stream");
        answer.headers_mut().insert(header::CONTENT_TYPE, kind);
        answer
    }
}

fn big(bytes: u64) -> Answer {
    let (sender, body) = AppBody::pieces();
    tokio::spawn(async move {
        let piece = Bytes::from(vec![b'x'; PIECE]);
        let mut left = bytes;
        while left > 0 {
            let size = usize::try_from(left).map_or(PIECE, |left| left.min(PIECE));
            if sender.send(piece.slice(..size)).await.is_err() {
                return;
            }
            left = left.saturating_sub(u64::try_from(size).unwrap_or(u64::MAX));
        }
    });
    let mut answer = Response::new(body);
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_LENGTH, header::HeaderValue::from(bytes));
    answer
}

pub(super) fn text(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(AppBody::from(text));
    *answer.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    answer.headers_mut().insert(header::CONTENT_TYPE, kind);
    answer
}

fn number(query: &str, name: &str, default: u64) -> u64 {
    let values = query.split('&').filter_map(|pair| pair.split_once('='));
    values.filter(|(key, _)| *key == name).find_map(|(_, value)| value.parse().ok()).unwrap_or(default)
}
