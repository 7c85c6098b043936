//! TLS to a coordinator, by `ring`: believed are the authorities that this system believes, or those of one file.

use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

/// Where systems keep the authorities they believe: Debian, Fedora, Alpine and macOS.
const BUNDLES: [&str; 3] =
    ["/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem"];

/// Why no certificate can be checked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TlsError {
    /// There is no file to look into.
    #[error("this system has no file of certificate authorities (package ca-certificates)")]
    NoFile,
    /// There is nothing in it that could be believed.
    #[error("{}: {why}", file.display())]
    Unusable {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
}

/// How to be a client: with the authorities of `file`, or with the system's.
///
/// # Errors
/// [`TlsError`]; nobody could be believed then.
pub fn client_config(file: Option<&Path>) -> Result<Arc<ClientConfig>, TlsError> {
    let bundle = match file {
        Some(file) => file.to_owned(),
        None => {
            let found = BUNDLES.iter().map(PathBuf::from).find(|path| path.exists());
            found.ok_or(TlsError::NoFile)?
        }
    };
    let named = |why: String| TlsError::Unusable { file: bundle.clone(), why };
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(&bundle).map_err(|error| named(error.to_string()))?;
    roots.add_parsable_certificates(certificates.filter_map(Result::ok));
    if roots.is_empty() {
        return Err(named("no certificate authority is in it".to_owned()));
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| named(error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_without_an_authority_lets_nobody_be_believed() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("authorities.pem");
        assert!(client_config(Some(&file)).is_err());
        std::fs::write(&file, "nothing").unwrap();
        let refused = client_config(Some(&file)).unwrap_err().to_string();
        assert!(refused.contains("no certificate authority is in it"), "{refused}");
    }
}
