//! One request to a coordinator: over TLS unless allowed otherwise, no redirects, all of it within a deadline, the answer
//! bounded and wiped. What is refused becomes an error in the coordinator's own, tamed words.

mod complaint;
mod tls;

use super::{CoordinationError, Endpoint, Secret};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, client::conn::http1, header, header::HeaderValue,
};
use hyper_util::rt::TokioIo;
use std::time::Duration;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::TlsConnector;
use zeroize::Zeroizing;

/// How long a request and its answer may take together.
const PATIENCE: Duration = Duration::from_secs(20);
/// The largest answer that is read: a network of thousands of machines.
const ANSWER: usize = 16 * 1024 * 1024;
const HEAD: usize = 64 * 1024;

/// A coordinator's front.
pub(super) struct Http {
    endpoint: Endpoint,
    tls: Option<TlsConnector>,
}

/// What is asked.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) path: &'a str,
    /// `Authorization: Bearer …`.
    pub(super) bearer: Option<&'a Secret>,
    pub(super) accept: &'static str,
    /// Only if the thing is still of this version.
    pub(super) if_match: Option<&'a str>,
    /// Its type and its bytes.
    pub(super) body: Option<(&'static str, Zeroizing<Vec<u8>>)>,
}

/// What is answered to something that was not refused.
pub(super) struct Answer {
    pub(super) body: Zeroizing<Vec<u8>>,
    pub(super) version: Option<String>,
}

impl Answer {
    pub(super) fn read<T: serde::de::DeserializeOwned>(&self) -> Result<T, CoordinationError> {
        // The text that is wrong is not shown: it may be a key.
        serde_json::from_slice(&self.body).map_err(|error| CoordinationError::Unreadable {
            why: format!("{:?} at line {}, column {}", error.classify(), error.line(), error.column()),
        })
    }
}

impl Http {
    pub(super) fn new(endpoint: Endpoint) -> Result<Self, CoordinationError> {
        let tls = if endpoint.tls { Some(tls::connector(endpoint.authorities.as_deref())?) } else { None };
        Ok(Self { endpoint, tls })
    }

    pub(super) fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Asks, and refuses what is not a success.
    pub(super) async fn ask(&self, ask: Ask<'_>) -> Result<Answer, CoordinationError> {
        let bearer = ask.bearer;
        let (status, answer) = timeout(PATIENCE, self.exchange(ask))
            .await
            .unwrap_or_else(|_| Err(self.unreachable("no answer in time")))?;
        if status.is_success() {
            return Ok(answer);
        }
        Err(complaint::of(status, &answer.body, bearer))
    }

    async fn exchange(&self, ask: Ask<'_>) -> Result<(StatusCode, Answer), CoordinationError> {
        let request = self.request(ask)?;
        let stream = self.connect().await?;
        let response = match &self.tls {
            None => self.send(stream, request).await?,
            Some(tls) => {
                let name = tls::name(&self.endpoint.host)?;
                let stream =
                    tls.connect(name, stream).await.map_err(|error| self.unreachable(&error.to_string()))?;
                self.send(stream, request).await?
            }
        };
        let status = response.status();
        let version =
            response.headers().get(header::ETAG).and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        let body = self.body(response.into_body()).await?;
        Ok((status, Answer { body, version }))
    }

    /// Connects to the very address that was found good.
    async fn connect(&self) -> Result<TcpStream, CoordinationError> {
        let place = (self.endpoint.host.as_str(), self.endpoint.port);
        let found =
            tokio::net::lookup_host(place).await.map_err(|error| self.unreachable(&error.to_string()))?;
        let mut last = self.unreachable("its name has no address that may be used");
        for address in found.filter(|address| self.endpoint.may_be_at(*address)) {
            match TcpStream::connect(address).await {
                Ok(stream) => {
                    // Small requests must not wait; without the option they are only slower.
                    let _ = stream.set_nodelay(true);
                    return Ok(stream);
                }
                Err(error) => last = self.unreachable(&error.to_string()),
            }
        }
        Err(last)
    }

    async fn send<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        &self,
        stream: S,
        request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, CoordinationError> {
        let (mut sender, connection) = http1::Builder::new()
            .max_buf_size(HEAD)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| self.unreachable(&error.to_string()))?;
        // Ends with the answer's body, which the deadline bounds.
        tokio::spawn(connection);
        sender.send_request(request).await.map_err(|error| self.unreachable(&error.to_string()))
    }

    fn request(&self, ask: Ask<'_>) -> Result<Request<Full<Bytes>>, CoordinationError> {
        let unwritable = |why: String| CoordinationError::Unreadable { why };
        let mut request = Request::builder()
            .method(ask.method)
            .uri(format!("{}{}", self.endpoint.prefix, ask.path))
            .header(header::HOST, self.endpoint.authority())
            .header(header::ACCEPT, ask.accept)
            .header(header::USER_AGENT, "allod");
        if let Some(bearer) = ask.bearer {
            let text = Zeroizing::new(format!("Bearer {}", bearer.expose()));
            let mut value = HeaderValue::from_str(&text)
                .map_err(|_| unwritable("the key has characters that no key has".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(header::AUTHORIZATION, value);
        }
        if let Some(version) = ask.if_match {
            request = request.header(header::IF_MATCH, version);
        }
        let body = match ask.body {
            None => Bytes::new(),
            Some((kind, body)) => {
                request = request.header(header::CONTENT_TYPE, kind);
                Bytes::from(body.to_vec())
            }
        };
        request.body(Full::new(body)).map_err(|error| unwritable(error.to_string()))
    }

    async fn body(&self, mut body: Incoming) -> Result<Zeroizing<Vec<u8>>, CoordinationError> {
        let mut whole = Zeroizing::new(Vec::new());
        while let Some(frame) = body.frame().await {
            let part = frame.map_err(|error| self.unreachable(&error.to_string()))?;
            let part = part.into_data().unwrap_or_default();
            if whole.len().saturating_add(part.len()) > ANSWER {
                return Err(CoordinationError::Unreadable {
                    why: format!("it is longer than {ANSWER} bytes"),
                });
            }
            whole.extend_from_slice(&part);
        }
        Ok(whole)
    }

    fn unreachable(&self, why: &str) -> CoordinationError {
        CoordinationError::Unreachable { at: self.endpoint.to_string(), why: why.to_owned() }
    }
}

impl std::fmt::Debug for Http {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Http({})", self.endpoint)
    }
}
