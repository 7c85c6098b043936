//! A certificate for an address of a lab, made by openssl for one run, and what believes it.

use crate::peer::program;
use allod_coordinator::Tls;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::{net::IpAddr, path::Path, sync::Arc};

/// The file of the certificate, in the folder that it was made in.
pub const PEM: &str = "here.pem";
/// The file of its key.
pub const KEY: &str = "here.key";

/// A certificate of its own, and what believes it.
#[derive(Clone)]
pub struct Certificate {
    /// For who serves.
    pub server: Tls,
    /// For who asks.
    pub client: Arc<rustls::ClientConfig>,
}

impl Certificate {
    /// Made in this folder, for this address.
    #[must_use]
    pub fn make(folder: &Path, address: IpAddr) -> Self {
        let (pem, key) = (folder.join(PEM), folder.join(KEY));
        let made = program("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"])
            .args(["-days", "2", "-subj", "/CN=hub", "-addext", &format!("subjectAltName=IP:{address}")])
            .args(["-addext", "basicConstraints=critical,CA:FALSE", "-keyout"])
            .args([key.as_os_str(), "-out".as_ref(), pem.as_os_str()])
            .output()
            .unwrap();
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let certificate = CertificateDer::from_pem_file(&pem).unwrap();
        let digest = ring::digest::digest(&ring::digest::SHA256, &certificate);
        let pin = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let server = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate], PrivateKeyDer::from_pem_file(&key).unwrap())
            .unwrap();
        Self { server: Tls { config: Arc::new(server), pin: Some(pin) }, client: believed(&pem) }
    }
}

/// What believes the certificate in this file, and no other.
#[must_use]
pub fn believed(pem: &Path) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pem).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Arc::new(client)
}
