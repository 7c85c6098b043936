//! Nonces, command ids and the clock: what a client takes from its machine.

use super::ClientError;
use allod_proto::{CommandId, Nonce, Timestamp};
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::time::UNIX_EPOCH;

fn token() -> Result<String, ClientError> {
    let mut bytes = [0; 18];
    SystemRandom::new().fill(&mut bytes).map_err(|_| ClientError::Sign {
        key: "of this client".to_owned(),
        why: "the system gives no random numbers".to_owned(),
    })?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}

/// 144 random bits.
pub(super) fn nonce() -> Result<Nonce, ClientError> {
    Ok(Nonce::new(token()?).expect("24 characters of url-safe base64 are a nonce"))
}

/// 144 random bits.
pub(super) fn command_id() -> Result<CommandId, ClientError> {
    Ok(CommandId::new(token()?).expect("24 characters of url-safe base64 are a command id"))
}

/// The machine's clock.
pub(super) fn system_clock() -> Timestamp {
    #[expect(clippy::disallowed_methods, reason = "where the client reads its clock; tests give another")]
    let now = std::time::SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Timestamp(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}
