//! TLS 1.3 and 1.2 towards clients. The name that a client asks for chooses the certificate, and a name that has none is
//! refused before anything is computed for it. Handshakes that compute are bounded, and each has one deadline.

mod folder;
mod stream;

pub(crate) use folder::Certificates;
pub use folder::CertificatesError;
pub(crate) use stream::{Replay, Stream};

use rustls::{
    ServerConfig,
    server::{Acceptor, ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{io, sync::Arc};
use tokio::{io::AsyncWriteExt, sync::Semaphore};
use tokio_rustls::LazyConfigAcceptor;

const H2: &[u8] = b"h2";
const HTTP_1_1: &[u8] = b"http/1.1";
/// A fatal alert, unrecognized_name (RFC 6066, 3; RFC 8446, 6), as the plain record that may answer a hello.
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 0x03, 0x03, 0x00, 0x02, 0x02, 112];

/// What handshakes need, for all workers.
#[derive(Debug)]
pub(crate) struct Tls {
    pub(crate) certificates: Arc<Certificates>,
    config: Arc<ServerConfig>,
    places: Semaphore,
}

/// Why a client got no TLS connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("its handshake failed")]
    Socket(#[from] io::Error),
    #[error("it asks for {name:?}, which has no certificate")]
    Name { name: String },
    #[error("there is no place for its handshake")]
    Place,
}

impl Tls {
    /// With the certificates as they are; `handshakes` of them may be computed at one time.
    pub(crate) fn new(certificates: Certificates, handshakes: usize) -> Result<Self, rustls::Error> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let certificates = Arc::new(certificates);
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])?
            .with_no_client_auth()
            .with_cert_resolver(Arc::new(ByName(Arc::clone(&certificates))));
        config.alpn_protocols = vec![H2.to_vec(), HTTP_1_1.to_vec()];
        // Sessions are resumed from what the client keeps, so that they cost no memory here.
        config.ticketer = rustls::crypto::ring::Ticketer::new()?;
        Ok(Self { certificates, config: Arc::new(config), places: Semaphore::new(handshakes) })
    }

    /// Makes the connection a TLS one, and tells whether HTTP/2 was agreed on. The deadline is the caller's.
    pub(crate) async fn accept(&self, stream: Replay) -> Result<(Stream, bool), HandshakeError> {
        let mut start = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
        let name = start.client_hello().server_name().unwrap_or_default().to_owned();
        if self.certificates.find(&name).is_none() {
            start.io.write_all(&UNRECOGNIZED_NAME).await?;
            start.io.shutdown().await?;
            return Err(HandshakeError::Name { name });
        }
        // Only now does it compute. Who merely connects and says nothing takes no place.
        let _place = self.places.acquire().await.map_err(|_| HandshakeError::Place)?;
        let stream = start.into_stream(Arc::clone(&self.config)).await?;
        let is_h2 = stream.get_ref().1.alpn_protocol() == Some(H2);
        Ok((Stream::Tls(Box::new(stream)), is_h2))
    }
}

/// Chooses the certificate for the name in a hello.
#[derive(Debug)]
struct ByName(Arc<Certificates>);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0.find(hello.server_name()?)
    }
}
