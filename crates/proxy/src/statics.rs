//! Answers from a folder of files. A path is decoded once, hidden and odd names are refused, and the kernel resolves it
//! beneath the folder (`openat2`), so no link leads out. The release is part of the ETag: files of two releases may have
//! one size and one time.

mod open;
mod range;
mod target;

use crate::{
    answer::Reason,
    body::{AnswerBody, BodyError},
};
use allod_proto::ReleaseId;
use bytes::Bytes;
use http::{
    HeaderMap, HeaderValue, Method, Response, StatusCode,
    header::{
        ACCEPT_ENCODING, ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, ETAG, IF_NONE_MATCH,
        IF_RANGE, LAST_MODIFIED, LOCATION, RANGE, VARY,
    },
};
use http_body::Frame;
use open::Opened;
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::Path,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};
use tokio::task::JoinHandle;

const PART: u64 = 128 * 1024;

/// A folder of one release.
pub(crate) struct Site<'s> {
    pub(crate) root: &'s Path,
    pub(crate) fallback: Option<&'s Path>,
    pub(crate) release: &'s ReleaseId,
}

impl Site<'_> {
    /// Answers a request for `path`, as the client wrote it, without the route's prefix if that is taken off.
    pub(crate) async fn answer(
        &self,
        method: &Method,
        path: &str,
        headers: &HeaderMap,
    ) -> Response<AnswerBody> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Reason::Method.answer();
        }
        let Some(wanted) = target::parse(path) else { return Reason::NoFile.answer() };
        let encodings = accepted(headers);
        let (root, fallback) = (self.root.to_owned(), self.fallback.map(Path::to_owned));
        let found =
            tokio::task::spawn_blocking(move || open::find(&root, &wanted, fallback.as_deref(), &encodings));
        match found.await {
            Ok(Ok(open::Found::File(file))) => self.file(file, method, headers),
            Ok(Ok(open::Found::Folder)) => to_folder(path),
            Ok(Ok(open::Found::Nothing)) => Reason::NoFile.answer(),
            Ok(Err(error)) => {
                tracing::warn!(%error, root = %self.root.display(), "a file can't be read");
                Reason::Internal.answer()
            }
            Err(error) => {
                tracing::error!(%error, "reading a file was cancelled");
                Reason::Internal.answer()
            }
        }
    }

    fn file(&self, found: Opened, method: &Method, headers: &HeaderMap) -> Response<AnswerBody> {
        let etag = format!("\"{}-{:x}-{:x}{}\"", self.release, found.length, found.modified, found.tag());
        let mut answer = Response::new(AnswerBody::full(Bytes::new()));
        describe(answer.headers_mut(), &found, &etag);
        if headers.get_all(IF_NONE_MATCH).iter().any(|value| range::matches_etag(value, &etag)) {
            *answer.status_mut() = StatusCode::NOT_MODIFIED;
            return answer;
        }
        let is_same = headers.get(IF_RANGE).is_none_or(|value| value.as_bytes() == etag.as_bytes());
        let wanted = headers.get(RANGE).filter(|_| is_same && *method == Method::GET);
        let part = match wanted.map_or(range::Part::Whole, |value| range::parse(value, found.length)) {
            range::Part::Whole => 0..found.length,
            range::Part::Bytes(part) => {
                *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
                let last = part.end.saturating_sub(1);
                insert(
                    answer.headers_mut(),
                    CONTENT_RANGE,
                    format!("bytes {}-{last}/{}", part.start, found.length),
                );
                part
            }
            range::Part::Outside => {
                let mut refusal = Reason::Range.answer();
                insert(refusal.headers_mut(), CONTENT_RANGE, format!("bytes */{}", found.length));
                return refusal;
            }
        };
        if *method == Method::HEAD {
            let length = part.end.saturating_sub(part.start);
            insert(answer.headers_mut(), http::header::CONTENT_LENGTH, length.to_string());
            return answer;
        }
        *answer.body_mut() = AnswerBody::file(FileBody::new(found.file, part));
        answer
    }
}

fn describe(headers: &mut HeaderMap, found: &Opened, etag: &str) {
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(found.content_type));
    headers.insert(ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    insert(headers, ETAG, etag.to_owned());
    insert(headers, LAST_MODIFIED, range::http_date(found.modified));
    if let Some(encoding) = found.encoding {
        headers.insert(CONTENT_ENCODING, HeaderValue::from_static(encoding));
    }
    if found.has_variants {
        headers.insert(VARY, HeaderValue::from_static("accept-encoding"));
    }
}

fn insert(headers: &mut HeaderMap, name: http::HeaderName, value: String) {
    if let Ok(value) = HeaderValue::try_from(value) {
        headers.insert(name, value);
    }
}

/// A folder is answered under its name with a slash, so that relative links in its index work. Only the last segment
/// is named: the route may have taken a prefix off, and a target that begins with `//` would lead to another host.
fn to_folder(path: &str) -> Response<AnswerBody> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let mut answer = Response::new(AnswerBody::full(Bytes::new()));
    *answer.status_mut() = StatusCode::PERMANENT_REDIRECT;
    insert(answer.headers_mut(), LOCATION, format!("./{name}/"));
    answer
}

/// The precompressed forms that the client takes, best first (RFC 9110, 12.5.3).
fn accepted(headers: &HeaderMap) -> Vec<&'static str> {
    let listed = headers.get_all(ACCEPT_ENCODING).into_iter().filter_map(|value| value.to_str().ok());
    let listed: Vec<&str> = listed.flat_map(|text| text.split(',')).collect();
    let takes = |coding: &str| {
        listed.iter().any(|entry| {
            let mut parts = entry.split(';').map(str::trim);
            let is_it = parts.next().is_some_and(|name| name.eq_ignore_ascii_case(coding));
            let is_refused = parts.any(|part| {
                let weight = part.strip_prefix("q=").or(part.strip_prefix("Q="));
                weight.and_then(|q| q.parse::<f32>().ok()).is_some_and(|q| q <= 0.0)
            });
            is_it && !is_refused
        })
    };
    ["br", "gzip"].into_iter().filter(|coding| takes(coding)).collect()
}

/// A file's bytes, read part by part off the worker's thread.
#[derive(Debug)]
pub(crate) struct FileBody {
    file: Arc<File>,
    at: u64,
    end: u64,
    reading: Option<JoinHandle<io::Result<Bytes>>>,
}

impl FileBody {
    fn new(file: File, part: std::ops::Range<u64>) -> Self {
        Self { file: Arc::new(file), at: part.start, end: part.end, reading: None }
    }

    pub(crate) fn left(&self) -> u64 {
        self.end.saturating_sub(self.at)
    }

    pub(crate) fn is_end(&self) -> bool {
        self.at >= self.end
    }

    pub(crate) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.is_end() {
            return Poll::Ready(None);
        }
        let (at, length) = (self.at, self.left().min(PART));
        let reading = self.reading.get_or_insert_with(|| {
            let file = Arc::clone(&self.file);
            tokio::task::spawn_blocking(move || read_part(&file, at, length))
        });
        let read = ready!(Pin::new(reading).poll(cx));
        self.reading = None;
        match read {
            Ok(Ok(bytes)) => {
                self.at = self.at.saturating_add(bytes.len() as u64);
                Poll::Ready(Some(Ok(Frame::data(bytes))))
            }
            Ok(Err(_)) | Err(_) => Poll::Ready(Some(Err(BodyError::Broken))),
        }
    }
}

fn read_part(file: &File, at: u64, length: u64) -> io::Result<Bytes> {
    let mut buffer = vec![0; usize::try_from(length).unwrap_or(0)];
    file.read_exact_at(&mut buffer, at)?;
    Ok(Bytes::from(buffer))
}
