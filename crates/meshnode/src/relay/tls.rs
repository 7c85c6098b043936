//! Which certificate a relay must have: the one that its map pins, any if the coordinator says so, or one that the system's
//! authorities vouch for. A relay of ours beside a coordinator without TLS has none: what passes is sealed end to end, and
//! whoever is between sees who talks to whom, as the relay itself does.

use crate::dial::DialError;
use allod_meshproto::control::DerpRelay;
use rustls::{
    ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, ring::default_provider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use std::{io, sync::Arc};

const PIN: &str = "sha256-raw:";

/// `None` for a relay without TLS.
pub(super) fn for_relay(
    relay: &DerpRelay,
    tls: Option<&Arc<ClientConfig>>,
) -> Result<Option<Arc<ClientConfig>>, DialError> {
    if relay.is_plain() {
        return Ok(None);
    }
    let accepted = match relay.cert_name.strip_prefix(PIN) {
        Some(digest) => Accepted::Pinned(digest.to_owned()),
        None if relay.insecure_for_tests => Accepted::Any,
        None => {
            let tls = tls.ok_or_else(|| DialError::NoTls(relay.host_name.clone()))?;
            return Ok(Some(Arc::clone(tls)));
        }
    };
    let provider = Arc::new(default_provider());
    let verifier = Arc::new(Verifier { accepted, provider: Arc::clone(&provider) });
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| DialError::Tls { host: relay.host_name.clone(), source: io::Error::other(error) })?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(Some(Arc::new(config)))
}

#[derive(Debug)]
enum Accepted {
    /// The SHA-256 of the certificate, 64 hexadecimal digits.
    Pinned(String),
    Any,
}

#[derive(Debug)]
struct Verifier {
    accepted: Accepted,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Accepted::Pinned(pinned) = &self.accepted else { return Ok(ServerCertVerified::assertion()) };
        let digest = ring::digest::digest(&ring::digest::SHA256, end_entity);
        let digits: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        if digits.eq_ignore_ascii_case(pinned) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(Error::General("the relay has another certificate than the one that its map pins".to_owned()))
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
