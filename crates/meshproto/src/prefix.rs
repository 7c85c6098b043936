//! An address prefix as Go's netip writes it: `100.64.0.7/32`, `fd7a:115c:a1e0::/48`.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

/// An address and how many of its bits count. The other bits may be set, as in Go: [`masked`](Self::masked) clears them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Prefix {
    address: IpAddr,
    length: u8,
}

/// The text or the numbers are not a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not an address, a slash and a number of bits")]
pub struct PrefixError;

impl Prefix {
    /// Every IPv4 address.
    pub const ALL_V4: Self = Self { address: IpAddr::V4(Ipv4Addr::UNSPECIFIED), length: 0 };
    /// Every IPv6 address.
    pub const ALL_V6: Self = Self { address: IpAddr::V6(Ipv6Addr::UNSPECIFIED), length: 0 };

    /// The first `length` bits of `address`; refused when it has fewer.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, PrefixError> {
        if length > bits(address) {
            return Err(PrefixError);
        }
        Ok(Self { address, length })
    }

    /// This one address.
    #[must_use]
    pub const fn host(address: IpAddr) -> Self {
        Self { address, length: bits(address) }
    }

    /// The address as written.
    #[must_use]
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// How many bits count.
    #[must_use]
    pub const fn length(&self) -> u8 {
        self.length
    }

    /// Whether it holds one address only.
    #[must_use]
    pub const fn is_host(&self) -> bool {
        self.length == bits(self.address)
    }

    /// With the bits that don't count cleared.
    #[must_use]
    pub fn masked(&self) -> Self {
        let address = match self.address {
            IpAddr::V4(address) => {
                let mask = u32::MAX.checked_shl(32_u32.saturating_sub(self.length.into())).unwrap_or(0);
                IpAddr::V4(Ipv4Addr::from_bits(address.to_bits() & mask))
            }
            IpAddr::V6(address) => {
                let mask = u128::MAX.checked_shl(128_u32.saturating_sub(self.length.into())).unwrap_or(0);
                IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & mask))
            }
        };
        Self { address, length: self.length }
    }

    /// Whether `address` lies in it. An IPv4 address lies in no IPv6 prefix, nor the other way round.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        Self { address, length: self.length }.masked().address == self.masked().address
            && address.is_ipv4() == self.address.is_ipv4()
    }
}

const fn bits(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(_) => 32,
        IpAddr::V6(_) => 128,
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl fmt::Debug for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Prefix {
    type Err = PrefixError;

    fn from_str(text: &str) -> Result<Self, PrefixError> {
        let (address, length) = text.split_once('/').ok_or(PrefixError)?;
        let canonical = !length.starts_with(['0', '+']) || length == "0";
        let length: u8 = length.parse().map_err(|_| PrefixError)?;
        let address: IpAddr = address.parse().map_err(|_| PrefixError)?;
        if !canonical {
            return Err(PrefixError);
        }
        Self::new(address, length)
    }
}

impl Serialize for Prefix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Prefix {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_prefix_is_refused() {
        for bad in [
            "",
            "/",
            "10.0.0.1",
            "10.0.0.1/",
            "10.0.0.1/33",
            "::1/129",
            "10.0.0.1/08",
            "10.0.0.1/+8",
            "010.0.0.1/8",
            "::1%eth0/64",
            "a/8",
        ] {
            assert_eq!(bad.parse::<Prefix>(), Err(PrefixError), "{bad}");
        }
    }

    #[test]
    fn it_says_itself_again() {
        for text in ["100.64.0.7/32", "10.1.2.3/8", "0.0.0.0/0", "fd7a:115c:a1e0::/48", "::/0"] {
            assert_eq!(text.parse::<Prefix>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn it_contains_its_own_family_only() {
        let all: Prefix = "0.0.0.0/0".parse().unwrap();
        assert!(all.contains("203.0.113.9".parse().unwrap()));
        assert!(!all.contains("::".parse().unwrap()));
        let mesh: Prefix = "100.64.0.1/10".parse().unwrap();
        assert!(mesh.contains("100.127.255.255".parse().unwrap()));
        assert!(!mesh.contains("100.128.0.0".parse().unwrap()));
        assert_eq!(mesh.masked().to_string(), "100.64.0.0/10");
    }

    proptest! {
        #[test]
        fn it_contains_itself_and_stays_masked(bits in any::<u128>(), length in 0..=128_u8) {
            let prefix = Prefix::new(IpAddr::V6(Ipv6Addr::from_bits(bits)), length).unwrap();
            prop_assert!(prefix.contains(prefix.address()));
            prop_assert!(prefix.contains(prefix.masked().address()));
            prop_assert_eq!(prefix.masked().masked(), prefix.masked());
            prop_assert_eq!(prefix.to_string().parse::<Prefix>().unwrap(), prefix);
        }
    }
}
