//! A person's own key, used once for something that is not a request: a login, an approval.

use crate::{failure::Failure, inventory::Server, session::Session};
use allod_proto::FaultCode;
use allod_rpc::client::{ClientError, Keys as _};
use allod_signing::Signer;
use std::{fmt::Display, sync::Arc};

/// Has the first key that can sign do it, and tells which it was: a key itself, never one that signs in another's name.
/// `what` goes on after the key: `signs the approval`.
///
/// # Errors
/// [`Failure`] when no key can, or when the one that was asked for can't.
pub(super) async fn first_that_signs<T: Send + 'static, E: Display + Send + 'static>(
    session: &Session,
    server: &Server,
    what: &str,
    sign: impl FnOnce(&dyn Signer) -> Result<T, E> + Clone + Send + 'static,
) -> Result<(Arc<dyn Signer>, T), Failure> {
    let mut candidates = session.own_keys(server)?;
    loop {
        let signer = candidates.next()?.ok_or_else(|| ClientError::NoKey(String::new()))?;
        let (key, signing, sign) = (signer.fingerprint(), Arc::clone(&signer), sign.clone());
        session.output.note(&format!("{key} {what}"));
        // An agent may wait for a finger on its key.
        let signed = tokio::task::spawn_blocking(move || sign(signing.as_ref())).await;
        match signed.map_err(|error| Failure::new(FaultCode::Internal, error.to_string()))? {
            Ok(signed) => return Ok((signer, signed)),
            Err(error) if session.globals.key.is_some() => {
                return Err(Failure::new(FaultCode::Refused, error.to_string()));
            }
            Err(error) => session.output.note(&format!("{key} is passed over: {error}")),
        }
    }
}
