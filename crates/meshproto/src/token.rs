//! What a machine is given to join: where the coordinator is, the root key that vouches for its Noise key, and a key that lets
//! one in. The root key is kept offline; it signs each Noise key with a serial number, so that a Noise key can be rotated, and
//! replaced after a theft: who has seen a number takes no lower one. With that, the first contact needs no TLS, CA or DNS.

mod root;
mod text;

pub use root::{RootKey, RootPrivate, SignedNoiseKey, newest};

use std::fmt;
use zeroize::Zeroizing;

/// The most URLs that a token has.
pub const MOST_URLS: usize = 4;
/// The most bytes that one URL has.
pub const URL_LENGTH: usize = 255;
/// The most bytes that a join key has.
pub const JOIN_KEY_LENGTH: usize = 128;

/// Why a token or a signed key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The text does not begin as a token does.
    #[error("not a join token: one begins with `{}`", text::BEGINNING)]
    NotAToken,
    /// The text is of a version that this program does not know.
    #[error("a join token of a newer version; update this program")]
    Version,
    /// Characters are missing, too many or changed.
    #[error("a join token that was cut or changed on the way; copy it again, whole")]
    Damaged,
    /// A coordinator's URL that can't be one.
    #[error("{0:?} is not http://HOST[:PORT] or https://HOST[:PORT]")]
    Url(String),
    /// No URL, or too many.
    #[error("a join token has 1 to {MOST_URLS} URLs")]
    Urls,
    /// A join key that is empty, too long, or has characters other than printable ASCII.
    #[error("a join key has 1 to {JOIN_KEY_LENGTH} printable ASCII characters")]
    JoinKey,
    /// The text of a root key is none.
    #[error("not a root key: `{}` and 64 hexadecimal digits", root::KIND)]
    RootKey,
    /// The system has no random numbers.
    #[error("no random numbers")]
    Random,
    /// A Noise key that the root key did not sign.
    #[error("the coordinator's key is not signed by the root key of the join token")]
    Unsigned,
    /// A Noise key older than one that was seen.
    #[error("the coordinator shows key {shown}, but {seen} was seen already; an older key is taken no more")]
    Older {
        /// The serial number that it shows.
        shown: u64,
        /// The highest that was seen.
        seen: u64,
    },
}

/// Where to join, whom to trust there, and what lets one in.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    urls: Vec<String>,
    root: RootKey,
    join_key: Zeroizing<String>,
}

impl JoinToken {
    /// A token of these parts. URLs are `http://HOST[:PORT]` or `https://HOST[:PORT]`, tried in this order.
    ///
    /// # Errors
    /// [`TokenError::Url`], [`TokenError::Urls`] or [`TokenError::JoinKey`].
    pub fn new(urls: Vec<String>, root: RootKey, join_key: Zeroizing<String>) -> Result<Self, TokenError> {
        if urls.is_empty() || urls.len() > MOST_URLS {
            return Err(TokenError::Urls);
        }
        if let Some(bad) = urls.iter().find(|url| !text::is_url(url)) {
            return Err(TokenError::Url(bad.chars().take(URL_LENGTH).collect()));
        }
        let is_good = (1..=JOIN_KEY_LENGTH).contains(&join_key.len())
            && join_key.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_good {
            return Err(TokenError::JoinKey);
        }
        Ok(Self { urls, root, join_key })
    }

    /// Where the coordinator is, best first.
    #[must_use]
    pub fn urls(&self) -> &[String] {
        &self.urls
    }

    /// Who vouches for its Noise key.
    #[must_use]
    pub const fn root(&self) -> RootKey {
        self.root
    }

    /// What lets a node in: the `AuthKey` of its registration. A secret.
    #[must_use]
    pub fn join_key(&self) -> &str {
        &self.join_key
    }

    /// Its one printable line, which is as secret as the join key.
    #[must_use]
    pub fn to_text(&self) -> Zeroizing<String> {
        text::write(self)
    }

    /// Reads that line; spaces and line ends around it are let go.
    ///
    /// # Errors
    /// Any [`TokenError`] but those of signed keys.
    pub fn parse(line: &str) -> Result<Self, TokenError> {
        text::parse(line.trim())
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("urls", &self.urls)
            .field("root", &self.root)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
