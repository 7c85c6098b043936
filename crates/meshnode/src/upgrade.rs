//! `Upgrade` of HTTP/1.1 (RFC 9110, 7.8): how both the coordinator's Noise and a relay begin.

use crate::dial::{self, Stream};
use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, Request, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, HOST, UPGRADE},
};
use http_body_util::Empty;
use hyper::{client::conn::http1, upgrade::Upgraded};
use hyper_util::rt::TokioIo;

/// The most bytes of a head.
pub(crate) const HEAD: usize = 16 * 1024;

/// Why a connection did not switch protocols.
#[derive(Debug, thiserror::Error)]
pub enum UpgradeError {
    /// HTTP failed.
    #[error("the connection broke")]
    Http(#[from] hyper::Error),
    /// The other side answered something else. Proxies that drop `Upgrade` are the usual reason.
    #[error(
        "{path} has status {status} where it must switch protocols; is a proxy between that drops `Upgrade`?"
    )]
    Refused {
        /// What was asked.
        path: &'static str,
        /// Its status.
        status: StatusCode,
    },
    /// The request can't be made.
    #[error("a request that can't be made")]
    Request(#[from] http::Error),
}

/// What is asked for.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) method: Method,
    pub(crate) path: &'static str,
    pub(crate) protocol: &'static str,
    pub(crate) authority: &'a str,
    pub(crate) header: Option<(HeaderName, HeaderValue)>,
}

/// Switches protocols; what the other side sent behind its head is read first.
pub(crate) async fn upgrade(stream: Stream, wanted: Wanted<'_>) -> Result<TokioIo<Upgraded>, UpgradeError> {
    let Wanted { method, path, protocol, authority, header } = wanted;
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(HOST, authority)
        .header(CONNECTION, "upgrade")
        .header(UPGRADE, protocol)
        .header(CONTENT_LENGTH, "0")
        .body(Empty::<Bytes>::new())?;
    request.headers_mut().extend(header);
    let (mut sender, connection) =
        http1::Builder::new().max_buf_size(HEAD).handshake(TokioIo::new(stream)).await?;
    let _driving = dial::spawn(connection.with_upgrades());
    let answer = sender.send_request(request).await?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        return Err(UpgradeError::Refused { path, status: answer.status() });
    }
    Ok(TokioIo::new(hyper::upgrade::on(answer).await?))
}
