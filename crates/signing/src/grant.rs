//! What a line of the key file grants: a role, narrowed to apps, commands, addresses and a time.

use allod_proto::{AppName, AppRef, EnvName, NameError, Role, Timestamp};
use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// What a key may do at most. `None` narrows nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The ceiling.
    pub role: Role,
    /// Only these apps.
    pub apps: Option<Vec<AppPattern>>,
    /// Only these named commands.
    pub commands: Option<Vec<String>>,
    /// Only from these addresses; a request whose source is unknown is refused then.
    pub from: Option<Vec<AddressRange>>,
    /// Not at or after this time.
    pub expires: Option<Timestamp>,
}

impl Grant {
    /// A role that nothing narrows.
    #[must_use]
    pub fn of(role: Role) -> Self {
        Self { role, apps: None, commands: None, from: None, expires: None }
    }

    /// Whether it has ended at `now`.
    #[must_use]
    pub fn is_expired(&self, now: Timestamp) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    /// Whether it holds for a request from `source`.
    #[must_use]
    pub fn allows_source(&self, source: Option<IpAddr>) -> bool {
        self.from.as_ref().is_none_or(|ranges| any_contains(ranges, source))
    }

    /// Whether it reaches this app.
    #[must_use]
    pub fn allows_app(&self, app: &AppRef) -> bool {
        self.apps.as_ref().is_none_or(|patterns| patterns.iter().any(|pattern| pattern.matches(app)))
    }

    /// Whether it reaches this named command.
    #[must_use]
    pub fn allows_command(&self, name: &str) -> bool {
        self.commands.as_ref().is_none_or(|names| names.iter().any(|allowed| allowed == name))
    }
}

pub(crate) fn any_contains(ranges: &[AddressRange], source: Option<IpAddr>) -> bool {
    source.is_some_and(|source| ranges.iter().any(|range| range.contains(source)))
}

/// Why a part of a grant is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// Not an app pattern.
    #[error(transparent)]
    App(#[from] NameError),
    /// Not an address range.
    #[error("{0:?} is not an address or a range like 100.64.0.0/10 (host names and ! are not understood)")]
    Range(String),
    /// A range with bits below its prefix, which is usually a slip.
    #[error("{given:?} has bits outside its prefix; did you mean {meant}?")]
    HostBits {
        /// As written.
        given: String,
        /// With these bits cleared.
        meant: String,
    },
}

/// Which apps: `blog` is production of `blog`, as everywhere; `blog/staging` is that environment; `blog/*` is every
/// environment of `blog`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AppPattern {
    name: AppName,
    env: Option<EnvName>,
}

impl AppPattern {
    /// Whether it names this app.
    #[must_use]
    pub fn matches(&self, app: &AppRef) -> bool {
        self.name == app.name && self.env.as_ref().is_none_or(|env| *env == app.env)
    }
}

impl FromStr for AppPattern {
    type Err = GrantError;
    fn from_str(text: &str) -> Result<Self, GrantError> {
        if let Some(name) = text.strip_suffix("/*") {
            return Ok(Self { name: name.parse()?, env: None });
        }
        let AppRef { name, env } = text.parse()?;
        Ok(Self { name, env: Some(env) })
    }
}

impl fmt::Display for AppPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.env {
            None => write!(f, "{}/*", self.name),
            Some(env) if *env == EnvName::default() => f.pad(self.name.as_str()),
            Some(env) => write!(f, "{}/{env}", self.name),
        }
    }
}

/// An address, or a range of them: `100.64.0.0/10`, `fd7a:115c:a1e0::/48`, `10.0.0.1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddressRange {
    address: IpAddr,
    prefix: u32,
}

impl AddressRange {
    /// Whether `address` lies in it. An IPv4 address written as IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(_), IpAddr::V4(_)) | (IpAddr::V6(_), IpAddr::V6(_)) => {
                network(address.to_canonical(), self.prefix) == self.address
            }
            (IpAddr::V4(_), IpAddr::V6(_)) | (IpAddr::V6(_), IpAddr::V4(_)) => false,
        }
    }
}

fn width(address: IpAddr) -> u32 {
    if address.is_ipv4() { 32 } else { 128 }
}

/// The address with the bits below its prefix cleared.
fn network(address: IpAddr, prefix: u32) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(prefix)).unwrap_or(0);
            Ipv4Addr::from_bits(v4.to_bits() & mask).into()
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(prefix)).unwrap_or(0);
            Ipv6Addr::from_bits(v6.to_bits() & mask).into()
        }
    }
}

impl FromStr for AddressRange {
    type Err = GrantError;
    fn from_str(text: &str) -> Result<Self, GrantError> {
        let error = || GrantError::Range(text.chars().take(80).collect());
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| error())?;
        if address != address.to_canonical() {
            return Err(error());
        }
        let prefix = match prefix {
            None => width(address),
            Some(digits) if digits.len() <= 3 && digits.bytes().all(|b| b.is_ascii_digit()) => {
                digits.parse().ok().filter(|prefix| *prefix <= width(address)).ok_or_else(error)?
            }
            Some(_) => return Err(error()),
        };
        let meant = Self { address: network(address, prefix), prefix };
        if meant.address == address {
            Ok(meant)
        } else {
            Err(GrantError::HostBits { given: text.chars().take(80).collect(), meant: meant.to_string() })
        }
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.prefix == width(self.address) {
            write!(f, "{}", self.address)
        } else {
            write!(f, "{}/{}", self.address, self.prefix)
        }
    }
}

#[cfg(test)]
mod tests;
