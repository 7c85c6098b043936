//! HTTP/2 inside Noise: the requests of a node, each with a bound on what it reads. One connection carries them all; the map's
//! stream and the updates run side by side.

use crate::{
    NoiseStream,
    dial::{self, Driving},
};
use allod_meshproto::{
    control::{MapRequest, MapResponse, Message, PingRequest, RegisterReply, RegisterRequest},
    json::JsonError,
    limits,
    map_frame::{MapFrameError, MapFrames},
};
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{
    body::Incoming,
    client::conn::http2::{self, SendRequest},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::timeout,
};

/// What a stream may send before it is read.
const WINDOW: u32 = 1 << 20;
/// How long the answer to a ping may take.
const PING: Duration = Duration::from_secs(5);

/// Why a session is over.
#[derive(Debug, thiserror::Error)]
pub enum SessionError {
    /// HTTP/2 failed.
    #[error("the connection to the coordinator broke")]
    Http(#[from] hyper::Error),
    /// It says nothing any more.
    #[error("the coordinator fell silent")]
    Silent,
    /// It ended the stream.
    #[error("the coordinator ended the stream")]
    Ended,
    /// It does not know the node.
    #[error("the coordinator does not know this node")]
    Unknown,
    /// It refused a request.
    #[error("the coordinator answered {path} with status {status}: {text}")]
    Status {
        /// What was asked.
        path: &'static str,
        /// Its status.
        status: StatusCode,
        /// What it said about it.
        text: String,
    },
    /// A body was too long or broke off.
    #[error("the coordinator's answer to {0} is too long or broke off")]
    Body(&'static str),
    /// A message can't be read or written.
    #[error("a message that can't be read")]
    Json(#[from] JsonError),
    /// A frame of the map can't be read.
    #[error("a map that can't be read")]
    Frame(#[from] MapFrameError),
    /// The request can't be made.
    #[error("a request that can't be made")]
    Request(#[from] http::Error),
}

/// A connection on which the coordinator has proven itself.
#[derive(Debug)]
pub(super) struct Session {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
    _driving: Driving,
}

impl Session {
    pub(super) async fn begin<T>(stream: NoiseStream<T>, authority: &str) -> Result<Self, SessionError>
    where
        T: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW)
            .handshake(TokioIo::new(stream))
            .await?;
        Ok(Self { sender, authority: authority.to_owned(), _driving: dial::spawn(connection) })
    }

    /// Asks for a place.
    pub(super) async fn register(&self, ask: &RegisterRequest) -> Result<RegisterReply, SessionError> {
        const PATH: &str = "/machine/register";
        let answer = good(PATH, self.post(PATH, ask).await?).await?;
        let body = Limited::new(answer.into_body(), limits::SMALL_BODY).collect().await;
        let body = body.map_err(|_| SessionError::Body(PATH))?.to_bytes();
        Ok(RegisterReply::read(&body)?)
    }

    /// Asks for the map's stream.
    pub(super) async fn map(&self, ask: &MapRequest) -> Result<Frames, SessionError> {
        let answer = good(MAP, self.post(MAP, ask).await?).await?;
        Ok(Frames { body: answer.into_body(), frames: MapFrames::default(), chunk: Bytes::new() })
    }

    /// Says where the node is.
    pub(super) async fn tell(&self, update: &MapRequest) -> Result<(), SessionError> {
        let answer = good(MAP, self.post(MAP, update).await?).await?;
        // Some answer with a map; it says nothing that the stream doesn't.
        let body = Limited::new(answer.into_body(), limits::MAP_FRAME).collect().await;
        body.map(drop).map_err(|_| SessionError::Body(MAP))
    }

    /// Says that the node is there. Nobody waits for it. Where to say it, the coordinator may choose only within itself.
    pub(super) fn answer_ping(&self, ping: &PingRequest) {
        let path = ping.url.parse::<http::Uri>().ok().and_then(|uri| uri.path_and_query().cloned());
        let Some(path) = path else { return };
        let request = Request::builder()
            .method(Method::HEAD)
            .uri(format!("https://{}{path}", self.authority))
            .body(Full::new(Bytes::new()));
        let (Ok(request), mut sender) = (request, self.sender.clone()) else { return };
        tokio::spawn(async move {
            let sent = timeout(PING, sender.send_request(request)).await;
            tracing::debug!(answered = sent.is_ok(), "the coordinator asked for a sign of life");
        });
    }

    async fn post<M: Message>(
        &self,
        path: &'static str,
        message: &M,
    ) -> Result<Response<Incoming>, SessionError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://{}{path}", self.authority))
            .header(CONTENT_TYPE, "application/json")
            .body(Full::new(Bytes::from(message.write()?)))?;
        Ok(self.sender.clone().send_request(request).await?)
    }
}

const MAP: &str = "/machine/map";

/// The answer, if it is one: what else there is, in words.
async fn good(path: &'static str, answer: Response<Incoming>) -> Result<Response<Incoming>, SessionError> {
    let status = answer.status();
    if status == StatusCode::OK {
        return Ok(answer);
    }
    if path == MAP && matches!(status, StatusCode::UNAUTHORIZED | StatusCode::NOT_FOUND) {
        return Err(SessionError::Unknown);
    }
    let body = Limited::new(answer.into_body(), 4096).collect().await.map(|body| body.to_bytes());
    let text = super::printable(&String::from_utf8_lossy(&body.unwrap_or_default()));
    Err(SessionError::Status { path, status, text })
}

/// The map's stream.
#[derive(Debug)]
pub(super) struct Frames {
    body: Incoming,
    frames: MapFrames,
    chunk: Bytes,
}

impl Frames {
    /// The next response. What was read of one is kept when this is dropped half way.
    pub(super) async fn next(&mut self) -> Result<MapResponse, SessionError> {
        loop {
            let mut rest: &[u8] = &self.chunk;
            let response = self.frames.push(&mut rest)?;
            let left = rest.len();
            let taken = self.chunk.len().saturating_sub(left);
            self.chunk = self.chunk.slice(taken..);
            if let Some(response) = response {
                return Ok(response);
            }
            match self.body.frame().await {
                Some(Ok(frame)) => self.chunk = frame.into_data().unwrap_or_default(),
                Some(Err(error)) => return Err(error.into()),
                None => return Err(SessionError::Ended),
            }
        }
    }
}
