//! Whatever can sign: a key in memory, an agent, a hardware key.

use crate::{
    canonical::RequestFields, delegation::Delegation, public_key::PublicKey, request_head::RequestHead,
};
use allod_proto::{Fingerprint, headers::MANAGEMENT_NAMESPACE};

/// Signs in the name of one key.
pub trait Signer: Send + Sync {
    /// The key. With a certificate, the key that it certifies.
    fn public_key(&self) -> &PublicKey;

    /// The SSHSIG in `namespace` over `message`.
    ///
    /// # Errors
    /// [`SignError`] when the key can't be used.
    fn sign(&self, namespace: &str, message: &[u8]) -> Result<Vec<u8>, SignError>;

    /// What the key signs under, if it signs requests in another's name.
    fn delegation(&self) -> Option<&Delegation> {
        None
    }

    /// The fingerprint of [`Signer::public_key`].
    fn fingerprint(&self) -> Fingerprint {
        self.public_key().fingerprint().clone()
    }
}

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The key, its agent or its device failed.
    #[error("the key could not sign: {0}")]
    Failed(String),
    /// The person or the agent said no.
    #[error("signing was refused: {0}")]
    Declined(String),
    /// The last frame of the stream was signed already.
    #[error("the stream has ended")]
    StreamEnded,
}

/// Signs a request.
///
/// # Errors
/// [`SignError`] when the key can't be used.
pub fn sign_request(signer: &dyn Signer, fields: &RequestFields<'_>) -> Result<RequestHead, SignError> {
    let delegation = signer.delegation();
    let signature = signer.sign(MANAGEMENT_NAMESPACE, &fields.bytes_under(delegation))?;
    Ok(RequestHead {
        fingerprint: signer.fingerprint(),
        timestamp: fields.timestamp,
        nonce: fields.nonce.clone(),
        epoch: fields.epoch.clone(),
        body: *fields.body,
        signature,
        delegation: delegation.cloned(),
    })
}
