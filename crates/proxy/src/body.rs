//! Bodies on their way: the client's to the instance, bounded and watched while it streams, and the answer's to the
//! client, passed on frame by frame as it comes. When an answer's body is dropped its request is over.

use crate::{
    ending::Ending,
    pool::{Connection, Pool},
    statics::FileBody,
};
use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use std::{
    pin::Pin,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::time::{Instant, Sleep, sleep_until};

/// Why a body ended before its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BodyError {
    #[error("the body is larger than its route allows")]
    TooLarge,
    #[error("the body was silent too long")]
    Silent,
    #[error("the other side broke off")]
    Broken,
}

/// How the client's body fares, seen from outside.
#[derive(Debug)]
pub(crate) struct Upload(Mutex<(Instant, Option<BodyError>)>);

impl Upload {
    fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new((Instant::now(), None))))
    }

    /// When the instance last took a part.
    pub(crate) fn last_progress(&self) -> Instant {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0
    }

    pub(crate) fn error(&self) -> Option<BodyError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1
    }

    fn progress(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).0 = Instant::now();
    }

    fn fail(&self, error: BodyError) -> BodyError {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).1 = Some(error);
        error
    }
}

/// The client's body.
#[derive(Debug)]
pub(crate) enum RequestBody {
    Empty,
    Streaming { body: Incoming, left: u64, silence: Silence, upload: Arc<Upload> },
}

impl RequestBody {
    /// Watches a body that may have `most` bytes.
    pub(crate) fn streaming(body: Incoming, most: u64, patience: Duration) -> (Self, Arc<Upload>) {
        let upload = Upload::new();
        let watched = Self::Streaming {
            body,
            left: most,
            silence: Silence::new(patience),
            upload: Arc::clone(&upload),
        };
        (watched, upload)
    }
}

impl Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let Self::Streaming { body, left, silence, upload } = self.get_mut() else {
            return Poll::Ready(None);
        };
        let frame = match Pin::new(body).poll_frame(cx) {
            Poll::Pending => {
                ready!(silence.poll_over(cx));
                return Poll::Ready(Some(Err(upload.fail(BodyError::Silent))));
            }
            Poll::Ready(frame) => frame,
        };
        silence.end();
        upload.progress();
        Poll::Ready(frame.map(|frame| {
            let frame = frame.map_err(|_| upload.fail(BodyError::Broken))?;
            let length = frame.data_ref().map_or(0, |data| data.len() as u64);
            *left = left.checked_sub(length).ok_or_else(|| upload.fail(BodyError::TooLarge))?;
            Ok(frame)
        }))
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Streaming { body, .. } => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Streaming { body, .. } => body.size_hint(),
        }
    }
}

/// A timer for the time without progress, armed only when there is something to wait for.
#[derive(Debug)]
pub(crate) struct Silence {
    patience: Duration,
    since: Option<Instant>,
    timer: Option<Pin<Box<Sleep>>>,
}

impl Silence {
    pub(crate) fn new(patience: Duration) -> Self {
        Self { patience, since: None, timer: None }
    }

    pub(crate) fn end(&mut self) {
        self.since = None;
    }

    /// Ready when the silence has lasted too long.
    pub(crate) fn poll_over(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let deadline = *self.since.get_or_insert_with(Instant::now) + self.patience;
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        loop {
            ready!(timer.as_mut().poll(cx));
            if Instant::now() >= deadline {
                return Poll::Ready(());
            }
            timer.as_mut().reset(deadline);
        }
    }
}

/// The body of an answer, and with it the rest of its request's life.
#[derive(Debug)]
pub(crate) struct AnswerBody {
    source: Source,
    ending: Option<Box<Ending>>,
}

#[derive(Debug)]
enum Source {
    Full(Bytes),
    Instance(InstanceBody),
    File(FileBody),
}

impl AnswerBody {
    pub(crate) fn full(bytes: Bytes) -> Self {
        Self { source: Source::Full(bytes), ending: None }
    }

    pub(crate) fn instance(body: InstanceBody) -> Self {
        Self { source: Source::Instance(body), ending: None }
    }

    pub(crate) fn file(body: FileBody) -> Self {
        Self { source: Source::File(body), ending: None }
    }

    /// Ends the request when this body is dropped.
    pub(crate) fn end_with(&mut self, ending: Box<Ending>) {
        self.ending = Some(ending);
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = self.get_mut();
        let frame = match &mut this.source {
            Source::Full(bytes) if bytes.is_empty() => None,
            Source::Full(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Source::Instance(body) => ready!(body.poll_frame(cx)),
            Source::File(body) => ready!(body.poll_frame(cx)),
        };
        if let Some(ending) = &mut this.ending {
            match &frame {
                Some(Ok(frame)) => ending.add_bytes(frame.data_ref().map_or(0, |data| data.len() as u64)),
                Some(Err(_)) => {}
                None => ending.set_whole(),
            }
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Full(bytes) => bytes.is_empty(),
            Source::Instance(body) => body.body.is_end_stream(),
            Source::File(body) => body.is_end(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Full(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Source::Instance(body) => body.body.size_hint(),
            Source::File(body) => SizeHint::with_exact(body.left()),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        if self.is_end_stream()
            && let Some(ending) = &mut self.ending
        {
            ending.set_whole();
        }
    }
}

/// An instance's body. It drives the connection that it comes from and gives it back to the pool at its end.
#[derive(Debug)]
pub(crate) struct InstanceBody {
    body: Incoming,
    lease: Option<(Connection, Rc<Pool>)>,
    silence: Silence,
}

impl InstanceBody {
    pub(crate) fn new(body: Incoming, connection: Connection, pool: Rc<Pool>, patience: Duration) -> Self {
        Self { body, lease: Some((connection, pool)), silence: Silence::new(patience) }
    }

    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some((connection, _)) = &mut self.lease {
            connection.drive(cx);
        }
        match Pin::new(&mut self.body).poll_frame(cx) {
            Poll::Pending => {
                ready!(self.silence.poll_over(cx));
                self.lease = None;
                Poll::Ready(Some(Err(BodyError::Silent)))
            }
            Poll::Ready(Some(Ok(frame))) => {
                self.silence.end();
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                tracing::debug!(%error, "an instance broke off its answer");
                self.lease = None;
                Poll::Ready(Some(Err(BodyError::Broken)))
            }
            Poll::Ready(None) => {
                self.give_back();
                Poll::Ready(None)
            }
        }
    }

    fn give_back(&mut self) {
        if let Some((connection, pool)) = self.lease.take() {
            pool.put(connection);
        }
    }
}

impl Drop for InstanceBody {
    fn drop(&mut self) {
        if self.body.is_end_stream() {
            self.give_back();
        }
    }
}
