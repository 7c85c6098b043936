//! One HTTP/1.1 connection with its deadlines. What went wrong is told apart only by whether sending again may help.

use super::{ClientError, Dialer};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt as _, Full};
use hyper::{Request, Response, body::Incoming, client::conn::http1::SendRequest};
use hyper_util::rt::TokioIo;
use std::{net::SocketAddr, time::Duration};
use tokio::time::timeout;

/// How long a connection may take to open.
const CONNECT: Duration = Duration::from_secs(5);
/// How long the body of an answer may be silent.
const SILENCE: Duration = Duration::from_secs(30);
/// The largest answer that is read; pages of the record are the largest there are.
const ANSWER: usize = allod_proto::limits::LINE;

pub(super) struct Connection {
    name: String,
    sender: SendRequest<Full<Bytes>>,
}

impl Connection {
    pub(super) async fn open(
        dialer: &dyn Dialer,
        name: &str,
        address: SocketAddr,
    ) -> Result<Self, ClientError> {
        let unreachable = |why: String| ClientError::Unreachable { what: format!("{name} ({address})"), why };
        let stream = match timeout(CONNECT, dialer.dial(address)).await {
            Ok(connected) => connected.map_err(|error| unreachable(plain(&error)))?,
            Err(_) => return Err(unreachable(format!("no answer within {} s", CONNECT.as_secs()))),
        };
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(error.to_string()))?;
        tokio::spawn(connection);
        Ok(Self { name: name.to_owned(), sender })
    }

    /// Whether another request may be sent, as far as can be told from here.
    pub(super) fn is_usable(&self) -> bool {
        self.sender.is_ready()
    }

    /// Sends a request and waits for the head of its answer.
    pub(super) async fn send(
        &mut self,
        request: Request<Full<Bytes>>,
        deadline: Duration,
    ) -> Result<Response<Incoming>, ClientError> {
        match timeout(deadline, self.sender.send_request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) if error.is_parse() => {
                Err(ClientError::BadReply(format!("{} does not speak HTTP: {error}", self.name)))
            }
            Ok(Err(error)) => Err(self.lost(&error)),
            Err(_) => Err(ClientError::Timeout { what: self.name.clone(), seconds: deadline.as_secs() }),
        }
    }

    /// Reads a whole body.
    pub(super) async fn body(&self, mut body: Incoming) -> Result<Bytes, ClientError> {
        let mut bytes = BytesMut::new();
        loop {
            let Ok(frame) = timeout(SILENCE, body.frame()).await else {
                return Err(ClientError::Timeout { what: self.name.clone(), seconds: SILENCE.as_secs() });
            };
            let Some(frame) = frame else { return Ok(bytes.freeze()) };
            let frame = frame.map_err(|error| self.lost(&error))?;
            let part = frame.into_data().unwrap_or_default();
            if bytes.len() + part.len() > ANSWER {
                return Err(ClientError::BadReply(format!("it is longer than {ANSWER} bytes")));
            }
            bytes.extend_from_slice(&part);
        }
    }

    fn lost(&self, error: &hyper::Error) -> ClientError {
        ClientError::Lost { what: self.name.clone(), why: error.to_string() }
    }
}

/// An error of the system in the words people know.
fn plain(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "no route to the host".to_owned(),
        std::io::ErrorKind::NetworkUnreachable => "no route to its network".to_owned(),
        _ => error.to_string(),
    }
}
