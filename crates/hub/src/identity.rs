//! The hub's own key: made at the first start, kept 0600 beside its public half.

use allod_signing::{KeyError, KeySigner};
use allod_store::{StoreError, write_atomic};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::path::{Path, PathBuf};

const FILE: &str = "identity";

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Reading or writing the file failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The file can't be read.
    #[error("{} can't be read", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file holds no usable key.
    #[error("{} holds no usable key", path.display())]
    Damaged {
        /// Which.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Loads the key of `folder`, or makes it if there is none.
///
/// # Errors
/// [`IdentityError`]. A key that can't be read is never replaced.
pub fn load_or_make(folder: &Path) -> Result<KeySigner, IdentityError> {
    let path = folder.join(FILE);
    match std::fs::read_to_string(&path) {
        Ok(text) => {
            let key = KeySigner::from_openssh(&text, None)
                .map_err(|source| IdentityError::Damaged { path: path.clone(), source })?;
            // The power may have gone between the two halves.
            if !path.with_extension("pub").exists() {
                write_public(&path, &key)?;
            }
            Ok(key)
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => make(&path),
        Err(source) => Err(IdentityError::Unreadable { path, source }),
    }
}

fn make(path: &Path) -> Result<KeySigner, IdentityError> {
    let mut random = [0; 32];
    SystemRandom::new().fill(&mut random).map_err(|_| IdentityError::Random)?;
    let key = KeySigner::generate(random, "allod hub");
    let text = key.to_openssh();
    write_atomic(path, text.as_bytes(), 0o600)?;
    write_public(path, &key)?;
    Ok(key)
}

fn write_public(path: &Path, key: &KeySigner) -> Result<(), StoreError> {
    write_atomic(&path.with_extension("pub"), format!("{}\n", key.public_openssh()).as_bytes(), 0o644)
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_signing::Signer as _;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_damaged_key_is_named_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(FILE), "torn").unwrap();
        assert!(matches!(load_or_make(folder.path()), Err(IdentityError::Damaged { .. })));
        assert_eq!(std::fs::read_to_string(folder.path().join(FILE)).unwrap(), "torn");
    }

    #[test]
    fn the_key_made_at_first_is_the_key_ever_after_and_nobody_elses() {
        let folder = tempfile::tempdir().unwrap();
        let first = load_or_make(folder.path()).unwrap().fingerprint();
        assert_eq!(load_or_make(folder.path()).unwrap().fingerprint(), first);
        let mode = std::fs::metadata(folder.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
