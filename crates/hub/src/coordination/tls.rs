//! The coordinator's certificate: a chain and its key, two files of PEM. A key that others may read is refused. One that no
//! authority signed is told to stock clients by its SHA-256, so that their relay clients can compare. One
//! that was renewed is taken up without a restart.

use allod_coordinator::Tls;
use rustls::{
    ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem, pem::PemObject as _},
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use std::{
    fmt::Write as _,
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
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
    /// A certificate that no authority signed came in the place of another, or the other way: nodes were told which one it is.
    #[error("{} is another certificate that no authority signed, or was one: nodes hear of it at the hub's next start", path.display())]
    Pinned {
        /// The certificate.
        path: PathBuf,
    },
}

/// What is shown to who connects: replaced under those that are connected.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

/// Two files that may be renewed.
#[derive(Debug)]
pub(super) struct Renewal {
    certificate: PathBuf,
    key: PathBuf,
    shown: Arc<Shown>,
    is_pinned: bool,
}

impl Renewal {
    /// Looks whether there is another certificate, and shows it from now on; whether there was.
    ///
    /// # Errors
    /// When it can't be used: the one before is shown still.
    pub(super) fn look(&self) -> Result<bool, CertificateError> {
        let (found, is_of_its_own) = read_pair(&self.certificate, &self.key)?;
        let is_same = self.shown.0.read().unwrap_or_else(PoisonError::into_inner).cert == found.cert;
        if is_same {
            return Ok(false);
        }
        if self.is_pinned || is_of_its_own {
            return Err(CertificateError::Pinned { path: self.certificate.clone() });
        }
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(found);
        Ok(true)
    }
}

/// Reads both.
pub(super) fn load(certificate: &Path, key: &Path) -> Result<(Tls, Renewal), CertificateError> {
    let (found, is_of_its_own) = read_pair(certificate, key)?;
    let pin = found.cert.first().filter(|_| is_of_its_own).map(|own| {
        let digest = ring::digest::digest(&ring::digest::SHA256, own);
        digest.as_ref().iter().fold(String::new(), |mut text, byte| {
            // Writing to a String can't fail.
            let _ = write!(text, "{byte:02x}");
            text
        })
    });
    let shown = Arc::new(Shown(RwLock::new(Arc::new(found))));
    let resolver: Arc<dyn ResolvesServerCert> = Arc::<Shown>::clone(&shown);
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|source| CertificateError::Pair { path: certificate.to_owned(), source })?
        .with_no_client_auth()
        .with_cert_resolver(resolver);
    let renewal =
        Renewal { certificate: certificate.to_owned(), key: key.to_owned(), shown, is_pinned: pin.is_some() };
    Ok((Tls { config: Arc::new(config), pin }, renewal))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// The pair, and whether no authority signed it.
fn read_pair(certificate: &Path, key: &Path) -> Result<(CertifiedKey, bool), CertificateError> {
    let in_file = |path: &Path| {
        let path = path.to_owned();
        move |source| CertificateError::Pem { path, source }
    };
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&read(certificate, false)?)
        .collect::<Result<_, _>>()
        .map_err(in_file(certificate))?;
    if chain.is_empty() {
        return Err(in_file(certificate)(pem::Error::NoItemsFound));
    }
    let is_of_its_own = is_of_its_own(&chain);
    let private = PrivateKeyDer::from_pem_slice(&read(key, true)?).map_err(in_file(key))?;
    let pair = CertifiedKey::from_der(chain, private, &provider())
        .map_err(|source| CertificateError::Pair { path: certificate.to_owned(), source })?;
    Ok((pair, is_of_its_own))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fixture(name: &str) -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/certificates").join(name)
    }

    /// A copy of a pair, with the key's mode as it is to be.
    fn put(folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (pem, key) = (folder.join("x.pem"), folder.join("x.key"));
        std::fs::write(&pem, std::fs::read(fixture(&format!("{name}.pem"))).unwrap()).unwrap();
        std::fs::write(&key, std::fs::read(fixture(&format!("{name}.key"))).unwrap()).unwrap();
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        (pem, key)
    }

    #[test]
    fn what_is_no_pair_or_open_to_others_is_refused_and_named() {
        let folder = tempfile::tempdir().unwrap();
        let (pem, key) = put(folder.path(), "here");
        for mode in [0o604, 0o640 | 0o020, 0o666, 0o601] {
            std::fs::set_permissions(&key, std::fs::Permissions::from_mode(mode)).unwrap();
            let refused = load(&pem, &key).map(drop).unwrap_err();
            assert!(matches!(refused, CertificateError::Open { .. }), "{mode:o}: {refused}");
        }
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        assert!(load(&key, &pem).is_err() && load(folder.path(), &key).is_err());
        assert!(load(&folder.path().join("none"), &key).is_err());
        std::fs::write(&pem, std::fs::read(fixture("own.pem")).unwrap()).unwrap();
        let refused = load(&pem, &key).map(drop).unwrap_err();
        assert!(matches!(refused, CertificateError::Pair { .. }), "{refused}");
    }

    #[test]
    fn only_a_certificate_that_no_authority_signed_is_told_by_its_digest() {
        let folder = tempfile::tempdir().unwrap();
        let (pem, key) = put(folder.path(), "own");
        let pin = load(&pem, &key).unwrap().0.pin.unwrap();
        assert!(pin.len() == 64 && pin.bytes().all(|byte| byte.is_ascii_hexdigit()), "{pin}");
        let (pem, key) = put(folder.path(), "here");
        assert_eq!(load(&pem, &key).unwrap().0.pin, None);
    }

    #[test]
    fn a_renewed_certificate_is_shown_and_a_broken_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (pem, key) = put(folder.path(), "here");
        let renewal = load(&pem, &key).unwrap().1;
        let shown = || renewal.shown.0.read().unwrap().cert.clone();
        let first = shown();
        assert!(!renewal.look().unwrap());
        std::fs::write(&pem, "-----BEGIN CERTIFICATE-----\n").unwrap();
        assert!(renewal.look().is_err());
        put(folder.path(), "own");
        assert!(matches!(renewal.look(), Err(CertificateError::Pinned { .. })));
        assert_eq!(shown(), first);
        put(folder.path(), "renewed");
        assert!(renewal.look().unwrap() && shown() != first);
        assert!(!renewal.look().unwrap());
    }
}
