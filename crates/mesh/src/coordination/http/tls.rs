//! TLS to a coordinator, by `ring`: believed are the authorities that this system believes, or those of one file.

use crate::coordination::CoordinationError;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};
use tokio_rustls::TlsConnector;

/// Where systems keep the authorities they believe: Debian, Fedora, Alpine and macOS.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

pub(super) fn connector(file: Option<&Path>) -> Result<TlsConnector, CoordinationError> {
    let bundle = match file {
        Some(file) => file.to_owned(),
        None => BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()).ok_or_else(|| {
            unusable(
                "this system has no file of certificate authorities (package ca-certificates)".to_owned(),
            )
        })?,
    };
    let named = |why: &dyn std::fmt::Display| unusable(format!("{}: {why}", bundle.display()));
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(&bundle).map_err(|error| named(&error))?;
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if roots.is_empty() {
        return Err(named(&"no certificate authority is in it"));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| named(&error))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

pub(super) fn name(host: &str) -> Result<ServerName<'static>, CoordinationError> {
    ServerName::try_from(host.to_owned()).map_err(|_| unusable(format!("`{host}` is no name of a host")))
}

fn unusable(why: String) -> CoordinationError {
    CoordinationError::Unreachable { at: "TLS".to_owned(), why }
}
