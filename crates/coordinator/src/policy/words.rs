//! The words of a policy, each of which has one text form.

use crate::state::{is_label, is_tag};
use allod_meshproto::{Prefix, control::PortRange, filter};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{borrow::Cow, fmt, net::IpAddr, str::FromStr};

/// A text that is no word of a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}")]
pub struct WordError {
    text: String,
    wanted: &'static str,
}

fn wrong(text: &str, wanted: &'static str) -> WordError {
    WordError { text: text.chars().take(80).collect(), wanted }
}

/// The word for a person's own machines.
const MEMBER: &str = "autogroup:member";

/// Which nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selector {
    /// Every node: `*`.
    All,
    /// The nodes without tags, a person's own machines: `autogroup:member`.
    Member,
    /// The node of this name: `web1`.
    Name(String),
    /// The nodes with this tag: `tag:web`.
    Tag(String),
    /// The nodes with an address in it: `100.64.0.0/24`, `100.64.0.7`.
    Prefix(Prefix),
}

impl FromStr for Selector {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        if text == "*" {
            return Ok(Self::All);
        }
        if text == MEMBER {
            return Ok(Self::Member);
        }
        if is_tag(text) {
            return Ok(Self::Tag(text.to_owned()));
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self::Prefix(Prefix::host(address)));
        }
        if let Ok(prefix) = text.parse::<Prefix>()
            && prefix == prefix.masked()
        {
            return Ok(Self::Prefix(prefix));
        }
        if is_label(text) {
            return Ok(Self::Name(text.to_owned()));
        }
        Err(wrong(text, "`*`, `autogroup:member`, a node's name, a tag (`tag:web`), an address or a prefix"))
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("*"),
            Self::Member => f.write_str(MEMBER),
            Self::Name(text) | Self::Tag(text) => f.write_str(text),
            Self::Prefix(prefix) if prefix.is_host() => fmt::Display::fmt(&prefix.address(), f),
            Self::Prefix(prefix) => fmt::Display::fmt(prefix, f),
        }
    }
}

/// Which ports: `*`, `22`, `8000-8010`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports(PortRange);

impl Ports {
    /// The ports from the first to the last.
    #[must_use]
    pub const fn range(self) -> PortRange {
        self.0
    }
}

impl FromStr for Ports {
    type Err = WordError;

    fn from_str(text: &str) -> Result<Self, WordError> {
        let bad = || wrong(text, "`*`, a port, or two with a hyphen");
        if text == "*" {
            return Ok(Self(PortRange::ALL));
        }
        let port = |digits: &str| {
            let is_plain = digits.bytes().all(|byte| byte.is_ascii_digit());
            digits.parse::<u16>().ok().filter(|_| is_plain)
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let (first, last) = (port(first).ok_or_else(bad)?, port(last).ok_or_else(bad)?);
        if first == 0 || first > last { Err(bad()) } else { Ok(Self(PortRange { first, last })) }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            PortRange::ALL => f.write_str("*"),
            PortRange { first, last } if first == last => write!(f, "{first}"),
            PortRange { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

macro_rules! as_text {
    ($name:ident) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }
    };
}

as_text!(Selector);
as_text!(Ports);

/// Which protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Protocol {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
    /// ICMP of both kinds of addresses.
    Icmp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// Its numbers.
    pub(super) const fn numbers(self) -> &'static [u8] {
        match self {
            Self::Tcp => &[filter::TCP],
            Self::Udp => &[filter::UDP],
            Self::Icmp => &[filter::ICMP, filter::ICMP_V6],
            Self::Sctp => &[filter::SCTP],
        }
    }
}

/// What a case must come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Expect {
    /// It is allowed.
    Allow,
    /// It is refused.
    Deny,
}

impl Expect {
    pub(super) const fn from_allowed(is_allowed: bool) -> Self {
        if is_allowed { Self::Allow } else { Self::Deny }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Allow => "allowed",
            Self::Deny => "refused",
        })
    }
}
