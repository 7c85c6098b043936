//! The first owner: a key of the person who runs `allod up`, made at the first start, whose line the executor enrols while
//! it has no key file.

use super::places::Places;
use allod_signing::{KeyError, KeySigner};
use allod_store::{StoreError, write_atomic};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::{io, path::PathBuf};
use zeroize::Zeroize as _;

/// Where the key and its line are.
#[derive(Debug, Clone)]
pub(super) struct Owner {
    /// The private key, in OpenSSH form, 0600.
    pub(super) key: PathBuf,
    /// The line for the executor.
    pub(super) line: PathBuf,
}

/// Why there is no owner.
#[derive(Debug, thiserror::Error)]
pub(super) enum OwnerError {
    /// A file can't be written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The key file can't be read.
    #[error("{} can't be read: {source}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The key file holds no usable key.
    #[error("{} can't be used: {source}", path.display())]
    Unusable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: KeyError,
    },
    /// There are no random numbers.
    #[error("the system gives no random numbers")]
    Random,
}

/// Loads the owner's key, or makes it.
pub(super) fn load_or_make(places: &Places) -> Result<Owner, OwnerError> {
    let key = places.client().join("owner");
    let unusable = |source| OwnerError::Unusable { path: key.clone(), source };
    let public = match std::fs::read_to_string(&key) {
        Ok(mut text) => {
            let loaded = KeySigner::from_openssh(&text, None);
            text.zeroize();
            loaded.map_err(unusable)?.public_openssh()
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let mut random = [0; 32];
            SystemRandom::new().fill(&mut random).map_err(|_| OwnerError::Random)?;
            let made = KeySigner::generate(random, "owner");
            random.zeroize();
            write_atomic(&key, made.to_openssh().as_bytes(), 0o600)?;
            made.public_openssh()
        }
        Err(source) => return Err(OwnerError::Unreadable { path: key, source }),
    };
    write_atomic(&key.with_extension("pub"), format!("{public}\n").as_bytes(), 0o644)?;
    let line = places.client().join("first-owner");
    write_atomic(&line, format!("role=owner {public}\n").as_bytes(), 0o644)?;
    Ok(Owner { key, line })
}

#[cfg(test)]
mod tests {
    use super::*;
    use allod_proto::Role;
    use allod_signing::EnrolledKeys;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_damaged_key_is_named_and_not_replaced() {
        let home = tempfile::tempdir().unwrap();
        let places = Places::take(Some(home.path().to_owned()), None).unwrap();
        std::fs::write(places.client().join("owner"), "torn").unwrap();
        assert!(matches!(load_or_make(&places), Err(OwnerError::Unusable { .. })));
        assert_eq!(std::fs::read_to_string(places.client().join("owner")).unwrap(), "torn");
    }

    #[test]
    fn the_line_enrols_the_key_as_owner_and_stays_the_same() {
        let home = tempfile::tempdir().unwrap();
        let places = Places::take(Some(home.path().to_owned()), None).unwrap();
        let owner = load_or_make(&places).unwrap();
        let line = std::fs::read_to_string(&owner.line).unwrap();
        let enrolled = EnrolledKeys::parse(&line);
        assert!(enrolled.complaints().is_empty(), "{:?}", enrolled.complaints());
        assert_eq!(enrolled.entries().len(), 1);
        assert_eq!(enrolled.entries()[0].grant().role, Role::Owner);
        let mode = std::fs::metadata(&owner.key).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        load_or_make(&places).unwrap();
        assert_eq!(std::fs::read_to_string(&owner.line).unwrap(), line);
    }
}
