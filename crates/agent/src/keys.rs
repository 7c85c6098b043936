//! The enrolled keys as the agent believes them: the executor's files, read whenever they have changed.

use allod_proto::{Fingerprint, executor::KeyFiles};
use allod_rpc::server::Keys;
use allod_signing::{EnrolledKeys, Revoked};
use std::sync::{Arc, Mutex, PoisonError};

/// The keys in force.
pub(crate) struct KeyRing {
    audience: Fingerprint,
    held: Mutex<(u64, Arc<Keys>)>,
}

impl KeyRing {
    /// The keys for a server with this identity.
    pub(crate) fn new(audience: Fingerprint, files: &KeyFiles) -> Self {
        let keys = Arc::new(read(&audience, files));
        Self { audience, held: Mutex::new((files.generation, keys)) }
    }

    pub(crate) fn set(&self, files: &KeyFiles) {
        let keys = Arc::new(read(&self.audience, files));
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = (files.generation, keys);
    }

    pub(crate) fn get(&self) -> Arc<Keys> {
        Arc::clone(&self.held.lock().unwrap_or_else(PoisonError::into_inner).1)
    }

    pub(crate) fn generation(&self) -> u64 {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).0
    }
}

/// Revocations that are not understood could be anybody's: then nobody is believed.
fn read(audience: &Fingerprint, files: &KeyFiles) -> Keys {
    match Revoked::parse(&files.revoked) {
        Ok(revoked) => {
            Keys { audience: audience.clone(), enrolled: EnrolledKeys::parse(&files.enrolled), revoked }
        }
        Err(complaints) => {
            let lines: Vec<_> = complaints.iter().map(|it| it.line).collect();
            tracing::error!(?lines, "the list of revoked keys is not understood, so no key is believed");
            Keys {
                audience: audience.clone(),
                enrolled: EnrolledKeys::parse(""),
                revoked: Revoked::default(),
            }
        }
    }
}
