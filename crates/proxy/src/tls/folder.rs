//! The folder of certificates: `NAME.pem` is a chain, `NAME.key` its key. The names that count are those in the
//! certificate. What can't be used is named and hurts no other pair; a pair that worked before works on.

use rustix::fs::{FileType, Mode, OFlags};
use rustls::{
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
};

/// No chain and no key is larger.
const LARGEST: u64 = 256 * 1024;

/// Why there are no certificates.
#[derive(Debug, thiserror::Error)]
pub enum CertificatesError {
    /// The folder can't be read.
    #[error("the folder of certificates {} can't be read", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
}

/// Why one pair is not in use.
#[derive(Debug, thiserror::Error)]
enum PairError {
    #[error("{} can't be read: {source}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} is no regular file, or larger than {LARGEST} bytes", path.display())]
    NoFile { path: PathBuf },
    #[error("{} may be read or written by others: mode {mode:04o}, uid {uid}", path.display())]
    Open { path: PathBuf, mode: u32, uid: u32 },
    #[error("{} holds no usable PEM: {source}", path.display())]
    Pem { path: PathBuf, source: rustls::pki_types::pem::Error },
    #[error("{} and its key are no pair: {source}", path.display())]
    Pair { path: PathBuf, source: rustls::Error },
    #[error("{} names no host", path.display())]
    NoName { path: PathBuf },
}

/// What a reading of the folder gave.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) names: Vec<String>,
    pub(crate) complaints: Vec<String>,
}

#[derive(Debug, Clone)]
struct Pair {
    key: Arc<CertifiedKey>,
    names: Vec<String>,
}

#[derive(Debug, Default)]
struct Store {
    /// By the file's name.
    pairs: BTreeMap<String, Pair>,
    /// By host; a wildcard stands with its `*.`.
    hosts: BTreeMap<String, Arc<CertifiedKey>>,
}

/// The certificates in use.
#[derive(Debug)]
pub(crate) struct Certificates {
    folder: PathBuf,
    provider: CryptoProvider,
    store: RwLock<Store>,
}

impl Certificates {
    /// Reads the folder for the first time.
    pub(crate) fn load(folder: &Path) -> Result<Self, CertificatesError> {
        let provider = rustls::crypto::ring::default_provider();
        let certificates = Self { folder: folder.to_owned(), provider, store: RwLock::default() };
        certificates.reload()?;
        Ok(certificates)
    }

    /// Reads the folder again. New connections get what was found; a pair that is broken now is served as it was.
    pub(crate) fn reload(&self) -> Result<Read, CertificatesError> {
        let failed = |source| CertificatesError::Folder { path: self.folder.clone(), source };
        let mut stems = Vec::new();
        for file in std::fs::read_dir(&self.folder).map_err(failed)? {
            let name = file.map_err(failed)?.file_name();
            stems.extend(name.to_str().and_then(|name| name.strip_suffix(".pem")).map(str::to_owned));
        }
        stems.sort();
        let mut read = Read::default();
        let mut store = Store::default();
        for stem in stems {
            let pair = match self.pair(&stem) {
                Ok(pair) => Some(pair),
                Err(error) => {
                    read.complaints.push(error.to_string());
                    let known = self.store.read().unwrap_or_else(PoisonError::into_inner);
                    known.pairs.get(&stem).cloned()
                }
            };
            if let Some(pair) = pair {
                store.insert(&stem, pair, &mut read.complaints);
            }
        }
        read.names = store.hosts.keys().cloned().collect();
        for complaint in &read.complaints {
            tracing::error!(complaint, "a certificate is not in use as it stands");
        }
        tracing::info!(names = read.names.len(), folder = %self.folder.display(), "read the certificates");
        *self.store.write().unwrap_or_else(PoisonError::into_inner) = store;
        Ok(read)
    }

    /// The certificate for a host: its own before that of a wildcard one label up.
    pub(crate) fn find(&self, host: &str) -> Option<Arc<CertifiedKey>> {
        // A wildcard is no host.
        let host = Some(host.to_ascii_lowercase()).filter(|host| !host.starts_with('*'))?;
        let store = self.store.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(own) = store.hosts.get(&host) {
            return Some(Arc::clone(own));
        }
        let (label, parent) = host.split_once('.')?;
        if label.is_empty() {
            return None;
        }
        store.hosts.get(&format!("*.{parent}")).map(Arc::clone)
    }

    fn pair(&self, stem: &str) -> Result<Pair, PairError> {
        let path = self.folder.join(format!("{stem}.pem"));
        let key_path = self.folder.join(format!("{stem}.key"));
        let pem = |path: &Path| {
            let path = path.to_owned();
            move |source| PairError::Pem { path, source }
        };
        let chain: Vec<CertificateDer<'static>> =
            CertificateDer::pem_slice_iter(&read(&path, Secrecy::Public)?)
                .collect::<Result<_, _>>()
                .map_err(pem(&path))?;
        let first = chain.first().ok_or(rustls::pki_types::pem::Error::NoItemsFound).map_err(pem(&path))?;
        let names = names(first).ok_or_else(|| PairError::NoName { path: path.clone() })?;
        let key =
            PrivateKeyDer::from_pem_slice(&read(&key_path, Secrecy::Private)?).map_err(pem(&key_path))?;
        let key = CertifiedKey::from_der(chain, key, &self.provider)
            .map_err(|source| PairError::Pair { path, source })?;
        Ok(Pair { key: Arc::new(key), names })
    }
}

impl Store {
    fn insert(&mut self, stem: &str, pair: Pair, complaints: &mut Vec<String>) {
        for name in &pair.names {
            if self.hosts.contains_key(name) {
                let first = self.pairs.iter().find(|(_, other)| other.names.contains(name));
                let first = first.map_or("another file", |(stem, _)| stem);
                complaints.push(format!("{stem}.pem: {name} is served with {first}.pem already"));
            } else {
                self.hosts.insert(name.clone(), Arc::clone(&pair.key));
            }
        }
        self.pairs.insert(stem.to_owned(), pair);
    }
}

/// The host names of a certificate, lower-case; `None` if it has none.
fn names(certificate: &CertificateDer<'_>) -> Option<Vec<String>> {
    let certificate = webpki::EndEntityCert::try_from(certificate).ok()?;
    let names: Vec<String> = certificate.valid_dns_names().map(str::to_ascii_lowercase).collect();
    (!names.is_empty()).then_some(names)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Secrecy {
    Public,
    Private,
}

/// Reads a whole file. A key must be closed to others: nobody but its owner, who is this user or root, may write it, and
/// where root owns it its group may read it.
fn read(path: &Path, secrecy: Secrecy) -> Result<Vec<u8>, PairError> {
    let failed = |source: io::Error| PairError::Read { path: path.to_owned(), source };
    // Opening a pipe must not wait for its writer.
    let flags = OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let file = rustix::fs::open(path, flags, Mode::empty()).map_err(|error| failed(error.into()))?;
    let facts = rustix::fs::fstat(&file).map_err(|error| failed(error.into()))?;
    let is_file = FileType::from_raw_mode(facts.st_mode) == FileType::RegularFile;
    if !is_file || !u64::try_from(facts.st_size).is_ok_and(|size| size <= LARGEST) {
        return Err(PairError::NoFile { path: path.to_owned() });
    }
    if secrecy == Secrecy::Private {
        let (mode, uid) = (facts.st_mode & 0o7777, facts.st_uid);
        let ours = rustix::process::geteuid().as_raw();
        let open_to = if uid == 0 { 0o037 } else { 0o077 };
        if mode & open_to != 0 || (uid != 0 && uid != ours) {
            return Err(PairError::Open { path: path.to_owned(), mode, uid });
        }
    }
    let mut bytes = Vec::new();
    File::from(file).take(LARGEST).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests;
