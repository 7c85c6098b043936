//! Reaching a host by URL or address, with TLS where it is wanted: for the coordinator and for relays.

use crate::engine::{Footing, Standing};
use http::Uri;
use rustls::pki_types::ServerName;
use std::{io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpStream, lookup_host},
    sync::watch,
    task::JoinSet,
    time::timeout,
};
use tokio_rustls::TlsConnector;

/// How long one address may take.
const EACH: Duration = Duration::from_secs(5);
/// How many addresses of a name are tried.
const MOST_ADDRESSES: usize = 8;

/// Any stream of bytes.
pub(crate) trait Bytestream: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + std::fmt::Debug> Bytestream for T {}

/// A stream, whatever it is made of.
pub(crate) type Stream = Box<dyn Bytestream>;

/// Why a host can't be reached.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// The URL is none.
    #[error("{0:?} is not http://HOST[:PORT] or https://HOST[:PORT]")]
    Url(String),
    /// There is nothing to check a certificate by.
    #[error("{0} needs TLS, and there are no certificates to believe in")]
    NoTls(String),
    /// The name can't be found.
    #[error("{host} can't be found")]
    Name {
        /// The name.
        host: String,
        /// The cause.
        source: io::Error,
    },
    /// Nobody answers there.
    #[error("{host} can't be reached")]
    Connect {
        /// Whom.
        host: String,
        /// The cause, of the last address.
        source: io::Error,
    },
    /// TLS failed.
    #[error("TLS with {host} failed")]
    Tls {
        /// With whom.
        host: String,
        /// The cause.
        source: io::Error,
    },
}

/// Where a coordinator is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Place {
    authority: String,
    host: String,
    port: u16,
    is_tls: bool,
}

impl Place {
    pub(crate) fn parse(url: &str) -> Result<Self, DialError> {
        let bad = || DialError::Url(url.chars().take(200).collect());
        let uri: Uri = url.parse().map_err(|_| bad())?;
        let is_tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(bad()),
        };
        let authority = uri.authority().filter(|all| !all.as_str().contains('@')).ok_or_else(bad)?;
        if uri.path() != "/" || uri.query().is_some() || authority.host().is_empty() {
            return Err(bad());
        }
        let usual = if is_tls { 443 } else { 80 };
        let only_host = authority.as_str() == authority.host();
        let port = authority.port_u16().or_else(|| only_host.then_some(usual)).ok_or_else(bad)?;
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        Ok(Self { authority: authority.as_str().to_owned(), host, port, is_tls })
    }

    pub(crate) const fn is_tls(&self) -> bool {
        self.is_tls
    }

    /// What goes into `Host`.
    pub(crate) fn authority(&self) -> &str {
        &self.authority
    }

    pub(crate) async fn connect(&self, tls: Option<&Arc<rustls::ClientConfig>>) -> Result<Stream, DialError> {
        let tls = match (self.is_tls, tls) {
            (false, _) => None,
            (true, Some(tls)) => Some(tls),
            (true, None) => return Err(DialError::NoTls(self.authority.clone())),
        };
        connect(&self.host, self.port, None, tls).await
    }
}

/// Connects to a host by name, or at a known address; `host` is also the name that a certificate must have.
pub(crate) async fn connect(
    host: &str,
    port: u16,
    at: Option<SocketAddr>,
    tls: Option<&Arc<rustls::ClientConfig>>,
) -> Result<Stream, DialError> {
    let stream = match at {
        Some(address) => open(address).await,
        None => open_any(host, port).await?,
    };
    let stream = stream.map_err(|source| DialError::Connect { host: host.to_owned(), source })?;
    let Some(tls) = tls else { return Ok(Box::new(stream)) };
    let failed = |source| DialError::Tls { host: host.to_owned(), source };
    let name = ServerName::try_from(host.to_owned()).map_err(|error| failed(io::Error::other(error)))?;
    let handshake = TlsConnector::from(Arc::clone(tls)).connect(name, stream);
    let stream = timeout(EACH, handshake).await.map_err(|_| failed(io::ErrorKind::TimedOut.into()))?;
    Ok(Box::new(stream.map_err(failed)?))
}

async fn open_any(host: &str, port: u16) -> Result<io::Result<TcpStream>, DialError> {
    let name_failed = |source| DialError::Name { host: host.to_owned(), source };
    let found = timeout(EACH, lookup_host((host, port))).await;
    let found = found.map_err(|_| name_failed(io::ErrorKind::TimedOut.into()))?.map_err(name_failed)?;
    let mut last = Err(io::ErrorKind::AddrNotAvailable.into());
    for address in found.take(MOST_ADDRESSES) {
        last = open(address).await;
        if last.is_ok() {
            break;
        }
    }
    Ok(last)
}

async fn open(address: SocketAddr) -> io::Result<TcpStream> {
    let stream = timeout(EACH, TcpStream::connect(address)).await.map_err(io::Error::from)??;
    // Small packets through a relay must not wait for each other.
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// Waits until this machine stands elsewhere than `known`, or slept, and then knows that. Never ends once nobody says so any more.
pub(crate) async fn moved(standing: &mut watch::Receiver<Standing>, known: &mut Footing) {
    let new = standing.wait_for(|standing| standing.footing() != *known).await.map(|new| new.footing());
    match new {
        Ok(new) => *known = new,
        Err(_) => std::future::pending().await,
    }
}

/// Lets a connection make progress until it ends or the guard is dropped with what it drives still unused.
pub(crate) fn spawn<F>(driver: F) -> Driving
where
    F: Future<Output = Result<(), hyper::Error>> + Send + 'static,
{
    let mut tasks = JoinSet::new();
    tasks.spawn(async move {
        if let Err(error) = driver.await {
            tracing::debug!(%error, "a connection ended");
        }
    });
    Driving { _tasks: tasks }
}

/// A connection that is driven for as long as this is held.
#[derive(Debug)]
pub(crate) struct Driving {
    _tasks: JoinSet<()>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_are_more_than_a_place_are_refused() {
        for url in [
            "",
            "hub",
            "ftp://hub",
            "http://a@hub",
            "http://hub/x",
            "http://hub?x",
            "http://",
            "http://hub:99999",
        ] {
            assert!(matches!(Place::parse(url), Err(DialError::Url(_))), "{url}");
        }
        let place = Place::parse("https://[2001:db8::1]:8443").unwrap();
        assert_eq!((place.host.as_str(), place.port, place.is_tls), ("2001:db8::1", 8443, true));
        let place = Place::parse("http://hub.example").unwrap();
        assert_eq!((place.host.as_str(), place.port, place.authority()), ("hub.example", 80, "hub.example"));
    }
}
