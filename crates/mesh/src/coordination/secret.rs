//! Something that opens the network to whoever has it: never shown, wiped when it goes.

use std::fmt;
use zeroize::Zeroizing;

/// A key or token.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes it over; what it was read from is the caller's to wipe.
    #[must_use]
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// The secret itself, to be handed on and nowhere kept.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `text` without the secret, should somebody have put it there.
    pub(crate) fn struck_from(&self, text: &str) -> String {
        if self.0.is_empty() { text.to_owned() } else { text.replace(self.0.as_str(), "[secret]") }
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl<'de> serde::Deserialize<'de> for Secret {
    fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_not_shown() {
        let secret = Secret::new("hskey-auth-1".to_owned());
        assert_eq!(format!("{secret:?}"), "Secret");
        assert_eq!(secret.struck_from("no hskey-auth-1 here"), "no [secret] here");
        assert_eq!(Secret::new(String::new()).struck_from("as it was"), "as it was");
    }
}
