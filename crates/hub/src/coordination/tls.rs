//! The coordinator's certificate: a chain and its key, two files of PEM. A key that others may read is refused. One that no
//! authority signed is told to stock clients by its SHA-256, so that their relay clients can compare.

use allod_coordinator::Tls;
use rustls::{
    ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
};
use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};
use zeroize::Zeroizing;

/// No chain and no key is larger.
const LARGEST: u64 = 256 * 1024;

/// Why a certificate is not used.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file can't be read.
    #[error("{} can't be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Others may read the key.
    #[error("{} may be read or written by others (mode {mode:04o}): chmod 600 it", path.display())]
    Open {
        /// Which.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// A file holds no such thing.
    #[error("{} holds no usable PEM", path.display())]
    Pem {
        /// Which.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// Certificate and key don't go together.
    #[error("{} and its key are no pair", path.display())]
    Pair {
        /// The certificate.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// Reads both.
pub(super) fn load(certificate: &Path, key: &Path) -> Result<Tls, CertificateError> {
    let in_file = |path: &Path| {
        let path = path.to_owned();
        move |source| CertificateError::Pem { path, source }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(certificate, false)?)
        .collect::<Result<_, _>>()
        .map_err(in_file(certificate))?;
    let first = chain.first().ok_or(pem::Error::NoItemsFound).map_err(in_file(certificate))?;
    let pin = is_of_its_own(&chain).then(|| {
        let digest = ring::digest::digest(&ring::digest::SHA256, first);
        digest.as_ref().iter().fold(String::new(), |mut text, byte| {
            // Writing to a String can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    });
    let private = PrivateKeyDer::from_pem_slice(&read(key, true)?).map_err(in_file(key))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|source| CertificateError::Pair { path: certificate.to_owned(), source })?;
    Ok(Tls { config: Arc::new(config), pin })
}

/// Whether the certificate vouches for itself: alone, and issued by its own subject.
fn is_of_its_own(chain: &[CertificateDer<'static>]) -> bool {
    let [only] = chain else { return false };
    webpki::EndEntityCert::try_from(only).is_ok_and(|only| only.issuer() == only.subject())
}

fn read(path: &Path, is_secret: bool) -> Result<Zeroizing<Vec<u8>>, CertificateError> {
    let failed = |source| CertificateError::Read { path: path.to_owned(), source };
    let file = File::open(path).map_err(failed)?;
    let facts = file.metadata().map_err(failed)?;
    let mode = facts.permissions().mode() & 0o7777;
    if is_secret && mode & 0o027 != 0 {
        return Err(CertificateError::Open { path: path.to_owned(), mode });
    }
    if !facts.is_file() || facts.len() > LARGEST {
        return Err(failed(io::ErrorKind::InvalidInput.into()));
    }
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}
