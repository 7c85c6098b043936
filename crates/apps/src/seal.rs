//! Sealing a secret for a server: only its executor can open it, and only as what it was sealed as, because app,
//! environment and name are within the sealed text.

use age::x25519::Recipient;
use allod_proto::{AppRef, SecretName, limits};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

/// Why a secret can't be sealed. None of these says anything of the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The recipient is not one.
    #[error("{0:?} is not an age recipient (age1…)")]
    Recipient(String),
    /// The value is too large.
    #[error("the value of {name} has {size} bytes; at most {} are taken", limits::SECRET)]
    TooLarge {
        /// Which secret.
        name: SecretName,
        /// Its size.
        size: usize,
    },
    /// The value has a NUL byte.
    #[error("the value of {0} has a NUL byte, which no environment variable can carry")]
    Nul(SecretName),
    /// The cipher failed.
    #[error("can't seal {0}")]
    Cipher(SecretName),
}

/// What is sealed ahead of the value: `<app>/<env>`, newline, `<NAME>`, newline.
#[must_use]
pub fn seal_prefix(app: &AppRef, name: &SecretName) -> String {
    format!("{app}\n{name}\n")
}

/// Seals the exact bytes of a value to an `age` X25519 recipient, as
/// [`SealedSecret::sealed`](allod_proto::messages::secrets::SealedSecret::sealed) says.
///
/// # Errors
/// [`SealError`] when the recipient is not one, or the value has a NUL byte or more than [`limits::SECRET`] bytes.
pub fn seal(recipient: &str, app: &AppRef, name: &SecretName, value: &[u8]) -> Result<String, SealError> {
    let recipient: Recipient =
        recipient.trim().parse().map_err(|_| SealError::Recipient(recipient.chars().take(80).collect()))?;
    if value.len() > limits::SECRET {
        return Err(SealError::TooLarge { name: name.clone(), size: value.len() });
    }
    if value.contains(&0) {
        return Err(SealError::Nul(name.clone()));
    }
    let prefix = seal_prefix(app, name);
    let mut text = Zeroizing::new(Vec::with_capacity(prefix.len().saturating_add(value.len())));
    text.extend_from_slice(prefix.as_bytes());
    text.extend_from_slice(value);
    let sealed = age::encrypt(&recipient, &text).map_err(|_| SealError::Cipher(name.clone()))?;
    Ok(STANDARD.encode(sealed))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn app() -> AppRef {
        "shop/staging".parse().unwrap()
    }

    fn name() -> SecretName {
        SecretName::new("KEY").unwrap()
    }

    #[test]
    fn a_value_that_can_not_be_handed_over_is_refused_without_being_shown() {
        let identity = age::x25519::Identity::generate();
        let to = identity.to_public().to_string();
        let error = seal(&to, &app(), &name(), b"hush\0hush").unwrap_err();
        assert_eq!(error, SealError::Nul(name()));
        assert!(!error.to_string().contains("hush"));
        assert!(matches!(
            seal(&to, &app(), &name(), &vec![b'x'; limits::SECRET + 1]),
            Err(SealError::TooLarge { .. })
        ));
        assert!(matches!(seal("age1nonsense", &app(), &name(), b"x"), Err(SealError::Recipient(_))));
    }

    #[test]
    fn the_sealed_text_names_app_environment_and_secret_and_keeps_the_exact_bytes() {
        let identity = age::x25519::Identity::generate();
        let sealed = seal(&identity.to_public().to_string(), &app(), &name(), b"a\"b\n\xff").unwrap();
        let text = age::decrypt(&identity, &STANDARD.decode(sealed).unwrap()).unwrap();
        assert_eq!(text, b"shop/staging\nKEY\na\"b\n\xff");
    }
}
