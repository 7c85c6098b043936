//! Which keys to sign with, in which order, each made ready only when its turn comes.

use super::ClientError;
use allod_proto::Fingerprint;
use allod_signing::Signer;
use std::sync::Arc;

/// The keys a client may sign with.
pub trait Keys: Send {
    /// The next one to try; `None` when there is no other. A key behind a passphrase is asked for only here.
    ///
    /// # Errors
    /// [`ClientError`] when the keys can't be read at all; a key that fails alone is passed over.
    fn next(&mut self) -> Result<Option<Arc<dyn Signer>>, ClientError>;

    /// The server accepted this one.
    fn accepted(&mut self, key: &Fingerprint);
}

/// Just one key.
pub struct OneKey(Option<Arc<dyn Signer>>);

impl OneKey {
    /// This one.
    #[must_use]
    pub fn new(signer: Arc<dyn Signer>) -> Self {
        Self(Some(signer))
    }
}

impl Keys for OneKey {
    fn next(&mut self) -> Result<Option<Arc<dyn Signer>>, ClientError> {
        Ok(self.0.take())
    }

    fn accepted(&mut self, _key: &Fingerprint) {}
}
