//! Names that people choose or read. Each is checked once, when it is made; a value of the type is always well formed.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// Why a text is not a name of the asked kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not {kind}: {rule}")]
pub struct NameError {
    /// What was expected, with its article: `an app name`.
    pub kind: &'static str,
    /// The rule that the text breaks.
    pub rule: &'static str,
    /// The refused text, cut to 80 characters.
    pub text: String,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $kind:literal, $rule:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks `text`; the error says which rule it breaks.
            ///
            /// # Errors
            /// [`NameError`] when the text breaks the rule of this kind of name.
            pub fn new(text: impl Into<String>) -> Result<Self, NameError> {
                let text = text.into();
                let check: fn(&str) -> bool = $check;
                if check(&text) {
                    return Ok(Self(text));
                }
                Err(NameError { kind: $kind, rule: $rule, text: text.chars().take(80).collect() })
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }
        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", self.0)
            }
        }
        impl FromStr for $type {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
        impl TryFrom<String> for $type {
            type Error = NameError;
            fn try_from(text: String) -> Result<Self, NameError> {
                Self::new(text)
            }
        }
        impl From<$type> for String {
            fn from(name: $type) -> String {
                name.0
            }
        }
        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }
    };
}

fn is_label(text: &str) -> bool {
    let mut bytes = text.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_lowercase())
        && text.len() <= 31
        && bytes.all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
}

fn is_token(text: &str, shortest: usize, longest: usize) -> bool {
    (shortest..=longest).contains(&text.len())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}

name!(
    /// The first half of an app's name: `[a-z][a-z0-9-]{0,30}`.
    AppName, "an app name", "a lower-case letter, then up to 30 of a-z, 0-9 and -", is_label
);
name!(
    /// The second half of an app's name, `production` unless said otherwise: `[a-z][a-z0-9-]{0,30}`.
    EnvName, "an environment name", "a lower-case letter, then up to 30 of a-z, 0-9 and -", is_label
);
name!(
    /// A unit of an app, such as `web` or `worker`: `[a-z][a-z0-9-]{0,30}`.
    UnitName, "a unit name", "a lower-case letter, then up to 30 of a-z, 0-9 and -", is_label
);
name!(
    /// A secret's name, which is also its environment variable: `[A-Z_][A-Z0-9_]{0,63}`.
    SecretName, "a secret name", "an upper-case letter or _, then up to 63 of A-Z, 0-9 and _",
    |text| text.len() <= 64
        && text.bytes().next().is_some_and(|b| b.is_ascii_uppercase() || b == b'_')
        && text.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_')
);
name!(
    /// What a client calls one request of its own, so that it can be retried: 16 to 64 of `[A-Za-z0-9_-]`.
    CommandId, "a command id", "16 to 64 of A-Z, a-z, 0-9, _ and -", |text| is_token(text, 16, 64)
);
name!(
    /// A long operation on one server: `op-` and 12 hexadecimal digits.
    OperationId, "an operation id", "op- and 12 of 0-9 and a-f",
    |text| text.strip_prefix("op-").is_some_and(|rest| rest.len() == 12 && is_lower_hex(rest))
);
name!(
    /// A release of an app: the first 12 hexadecimal digits of the digest that names its content.
    ReleaseId, "a release id", "12 of 0-9 and a-f", |text| text.len() == 12 && is_lower_hex(text)
);
name!(
    /// One running copy of a unit: `<unit>-<8 hexadecimal digits>`.
    InstanceId, "an instance id", "a unit name, - and 8 of 0-9 and a-f",
    |text| text.rsplit_once('-').is_some_and(|(unit, tail)| is_label(unit) && tail.len() == 8 && is_lower_hex(tail))
);

name!(
    /// A named command: `[a-z][a-z0-9_-]{0,62}`.
    NamedCommandName, "a command's name", "a lower-case letter, then up to 62 of a-z, 0-9, _ and -",
    |text| text.len() <= 63
        && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
);
name!(
    /// A parameter of a named command: `[a-z][a-z0-9_]{0,30}`.
    ParamName, "a parameter's name", "a lower-case letter, then up to 30 of a-z, 0-9 and _",
    |text| text.len() <= 31
        && text.bytes().next().is_some_and(|b| b.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
);
name!(
    /// One run of a named command on one server: `run-` and 12 hexadecimal digits.
    RunId, "a run's id", "run- and 12 of 0-9 and a-f",
    |text| text.strip_prefix("run-").is_some_and(|rest| rest.len() == 12 && is_lower_hex(rest))
);

impl RunId {
    /// The id that belongs to this digest.
    #[must_use]
    pub fn of(digest: &crate::Digest) -> Self {
        Self(format!("run-{}", first_hex(digest, 12)))
    }
}

impl OperationId {
    /// The id that belongs to this digest.
    #[must_use]
    pub fn of(digest: &crate::Digest) -> Self {
        Self(format!("op-{}", first_hex(digest, 12)))
    }
}

impl ReleaseId {
    /// The id that belongs to this digest.
    #[must_use]
    pub fn of(digest: &crate::Digest) -> Self {
        Self(first_hex(digest, 12))
    }
}

impl InstanceId {
    /// The id of a copy of `unit` made with these random bytes.
    #[must_use]
    pub fn of(unit: &UnitName, random: [u8; 4]) -> Self {
        Self(format!("{unit}-{:08x}", u32::from_be_bytes(random)))
    }
}

fn first_hex(digest: &crate::Digest, digits: usize) -> String {
    digest.to_string().chars().take(digits).collect()
}

pub(crate) fn is_lower_hex(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

impl Default for EnvName {
    fn default() -> Self {
        Self("production".to_owned())
    }
}

/// An app in one environment, written `name/env`. Users, paths, scopes and secrets follow this pair.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AppRef {
    /// The app.
    pub name: AppName,
    /// Its environment.
    pub env: EnvName,
}

impl AppRef {
    /// Puts the pair together.
    #[must_use]
    pub fn new(name: AppName, env: EnvName) -> Self {
        Self { name, env }
    }
}

impl FromStr for AppRef {
    type Err = NameError;

    /// `name/env`; `name` alone means its production environment.
    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.split_once('/') {
            Some((name, env)) => Ok(Self::new(name.parse()?, env.parse()?)),
            None => Ok(Self::new(text.parse()?, EnvName::default())),
        }
    }
}
impl TryFrom<String> for AppRef {
    type Error = NameError;
    fn try_from(text: String) -> Result<Self, NameError> {
        text.parse()
    }
}
impl From<AppRef> for String {
    fn from(app: AppRef) -> String {
        app.to_string()
    }
}
impl fmt::Display for AppRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{}/{}", self.name, self.env))
    }
}
impl fmt::Debug for AppRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_outside_its_alphabet_is_refused_with_its_rule() {
        for bad in ["", "Blog", "1blog", "blog_1", "-blog", "blög", "a b", &"a".repeat(32)] {
            let error = AppName::new(bad).unwrap_err();
            assert!(error.rule.starts_with("a lower-case letter"), "{bad:?}");
        }
        assert_eq!(AppName::new("a".repeat(31)).unwrap().as_str().len(), 31);
    }

    #[test]
    fn an_app_without_environment_is_its_production() {
        assert_eq!("blog".parse::<AppRef>().unwrap().to_string(), "blog/production");
        assert_eq!("blog/staging".parse::<AppRef>().unwrap().to_string(), "blog/staging");
        assert!("blog/".parse::<AppRef>().is_err());
        assert!("blog/a/b".parse::<AppRef>().is_err());
    }

    #[test]
    fn ids_have_one_form() {
        assert!(OperationId::new("op-0123456789ab").is_ok());
        assert!(OperationId::new("op-0123456789AB").is_err());
        assert!(ReleaseId::new("../../../../etc").is_err());
        assert!(InstanceId::new("web-worker-0011aabb").is_ok());
        assert!(InstanceId::new("web-0011aab").is_err());
        assert!(SecretName::new("DATABASE_URL").is_ok());
        assert!(SecretName::new("database_url").is_err());
    }
}
