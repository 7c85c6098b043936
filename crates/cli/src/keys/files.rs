//! Key files: what kind they are can be told without their passphrase, because the public half stands in the clear.

use super::KeysError;
use allod_signing::PublicKey;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};
use zeroize::Zeroizing;

/// Larger files are no keys, in bytes.
const LIMIT: u64 = 64 * 1024;
/// What `ssh` looks for by itself.
const DEFAULTS: [&str; 5] = ["id_ed25519", "id_ecdsa", "id_rsa", "id_ed25519_sk", "id_ecdsa_sk"];
const MAGIC: &[u8] = b"openssh-key-v1\0";

/// A key file that was looked at.
#[derive(Debug, Clone)]
pub struct FileKey {
    /// Where it is.
    pub path: PathBuf,
    /// The public half.
    pub key: PublicKey,
    /// What the file holds.
    pub content: Content,
}

/// What a key file holds.
#[derive(Debug, Clone)]
pub enum Content {
    /// Only the public half.
    Public,
    /// The private half, in the clear or not.
    Private {
        /// The file's text.
        text: Zeroizing<String>,
        /// Whether it is behind a passphrase.
        encrypted: bool,
        /// The text of the certificate beside it, `FILE-cert.pub`.
        certificate: Option<String>,
    },
}

impl FileKey {
    /// Reads a key file; `None` when there is no such file.
    ///
    /// # Errors
    /// [`KeysError`] when it can't be read, is no key that is accepted, or others may read a private one.
    pub fn load(path: &Path) -> Result<Option<Self>, KeysError> {
        let failed = |error| KeysError::Read { path: path.to_owned(), error };
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed(error)),
        };
        let mode = file.metadata().map_err(failed)?.permissions().mode() & 0o777;
        let mut text = Zeroizing::new(String::new());
        file.take(LIMIT).read_to_string(&mut text).map_err(failed)?;
        let unusable = |why: String| KeysError::Unusable { path: path.to_owned(), why };
        if !text.contains("PRIVATE KEY-----") {
            let key = PublicKey::from_openssh(&text).map_err(|why| unusable(why.to_string()))?;
            return Ok(Some(Self { path: path.to_owned(), key, content: Content::Public }));
        }
        if mode & 0o077 != 0 {
            return Err(KeysError::Exposed { path: path.to_owned(), mode });
        }
        let (blob, encrypted) = public_half(&text).ok_or_else(|| {
            unusable("it is not in OpenSSH's own form; `ssh-keygen -p -f FILE` rewrites it".to_owned())
        })?;
        let key = PublicKey::from_blob(&blob).map_err(|why| unusable(why.to_string()))?;
        let certificate = certificate_beside(path);
        Ok(Some(Self {
            path: path.to_owned(),
            key,
            content: Content::Private { text, encrypted, certificate },
        }))
    }
}

fn certificate_beside(path: &Path) -> Option<String> {
    let mut name = path.file_name()?.to_owned();
    name.push("-cert.pub");
    let mut text = String::new();
    File::open(path.with_file_name(name)).ok()?.take(LIMIT).read_to_string(&mut text).ok()?;
    Some(text)
}

/// The public half of a private key in OpenSSH's form, and whether the private half is encrypted (`PROTOCOL.key`).
fn public_half(text: &str) -> Option<(Vec<u8>, bool)> {
    let inner = text.split_once("-----BEGIN OPENSSH PRIVATE KEY-----")?.1;
    let inner = inner.split_once("-----END OPENSSH PRIVATE KEY-----")?.0;
    let compact: Zeroizing<String> = Zeroizing::new(inner.split_ascii_whitespace().collect());
    let bytes = Zeroizing::new(STANDARD.decode(compact.as_bytes()).ok()?);
    let mut rest = bytes.strip_prefix(MAGIC)?;
    let cipher = take(&mut rest)?;
    let (_kdf, _options) = (take(&mut rest)?, take(&mut rest)?);
    let (count, after) = rest.split_first_chunk::<4>()?;
    if u32::from_be_bytes(*count) != 1 {
        return None;
    }
    rest = after;
    Some((take(&mut rest)?.to_vec(), cipher != b"none"))
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let (length, after) = rest.split_first_chunk::<4>()?;
    let (string, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
    *rest = after;
    Some(string)
}

/// The files that `ssh` looks for by itself.
#[must_use]
pub fn default_files(home: &Path) -> Vec<PathBuf> {
    DEFAULTS.iter().map(|name| home.join(".ssh").join(name)).collect()
}
