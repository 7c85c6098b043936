//! The bytes of SOCKS5 (RFC 1928) as far as they are needed: no authentication, and CONNECT.

use allod_proto::FaultCode;
use std::{
    io,
    net::{Ipv4Addr, Ipv6Addr},
};

const VERSION: u8 = 5;
const NO_AUTHENTICATION: u8 = 0;
const NO_METHOD: u8 = 0xff;
const CONNECT: u8 = 1;
/// Kinds of addresses.
const IPV4: u8 = 1;
const NAME: u8 = 3;
const IPV6: u8 = 4;

/// Why a client is not served.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error("a client does not speak SOCKS5")]
    Version,
    #[error("a SOCKS5 client offers no way of ours: it needs to come without a password")]
    Method,
    #[error("a SOCKS5 client asks for something else than CONNECT")]
    Command,
    #[error("a SOCKS5 client asks for an address that is none")]
    Address,
    #[error("a SOCKS5 client hung up before it said what it wants")]
    Gone(#[from] io::Error),
}

impl Refused {
    /// What it is told.
    pub(super) fn answer(&self) -> Answer {
        match self {
            Self::Command => Answer::NoSuchCommand,
            Self::Address => Answer::NoSuchAddress,
            Self::Version | Self::Method | Self::Gone(_) => Answer::Failed,
        }
    }
}

/// What a client is told, by its number in the RFC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Answer {
    Granted = 0,
    Failed = 1,
    NotAllowed = 2,
    HostUnreachable = 4,
    NoSuchCommand = 7,
    NoSuchAddress = 8,
}

impl Answer {
    /// For a fault.
    pub(super) fn of(code: FaultCode) -> Self {
        match code {
            FaultCode::Invalid => Self::NotAllowed,
            FaultCode::Unreachable | FaultCode::NotFound | FaultCode::Timeout => Self::HostUnreachable,
            _ => Self::Failed,
        }
    }

    /// The reply. The address in it, which is nobody's business, is 0.0.0.0:0.
    pub(super) fn to_bytes(self) -> [u8; 10] {
        [VERSION, self as u8, 0, IPV4, 0, 0, 0, 0, 0, 0]
    }
}

/// Where a client wants to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) host: String,
    pub(super) port: u16,
}

/// How many methods follow the first two bytes.
pub(super) fn greeting([version, methods]: [u8; 2]) -> Result<usize, Refused> {
    if version == VERSION { Ok(usize::from(methods)) } else { Err(Refused::Version) }
}

/// What is answered to the methods, and whether it goes on.
pub(super) fn method(offered: &[u8]) -> ([u8; 2], Result<(), Refused>) {
    if offered.contains(&NO_AUTHENTICATION) {
        ([VERSION, NO_AUTHENTICATION], Ok(()))
    } else {
        ([VERSION, NO_METHOD], Err(Refused::Method))
    }
}

/// The request in `bytes`; `None` while it isn't whole.
pub(super) fn request(bytes: &[u8]) -> Result<Option<Destination>, Refused> {
    if bytes.first().is_some_and(|version| *version != VERSION) {
        return Err(Refused::Version);
    }
    if bytes.get(1).is_some_and(|command| *command != CONNECT) {
        return Err(Refused::Command);
    }
    let (Some(kind), Some(rest)) = (bytes.get(3), bytes.get(4..)) else { return Ok(None) };
    let (host, port) = match *kind {
        IPV4 => match rest.split_first_chunk::<4>() {
            Some((address, port)) => (Ipv4Addr::from(*address).to_string(), port),
            None => return Ok(None),
        },
        IPV6 => match rest.split_first_chunk::<16>() {
            Some((address, port)) => (Ipv6Addr::from(*address).to_string(), port),
            None => return Ok(None),
        },
        NAME => match rest.split_first() {
            Some((0, _)) => return Err(Refused::Address),
            Some((length, rest)) => match rest.split_at_checked(usize::from(*length)) {
                Some((name, port)) => (name_of(name)?, port),
                None => return Ok(None),
            },
            None => return Ok(None),
        },
        _ => return Err(Refused::Address),
    };
    Ok(port.first_chunk().map(|port| Destination { host, port: u16::from_be_bytes(*port) }))
}

/// A host name: letters, digits, hyphens, full stops and underscores.
fn name_of(bytes: &[u8]) -> Result<String, Refused> {
    let is_good = bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(byte));
    let name = str::from_utf8(bytes).ok().filter(|_| is_good);
    name.map(str::to_owned).ok_or(Refused::Address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_ours_is_refused_as_soon_as_it_shows() {
        assert!(matches!(greeting([4, 1]), Err(Refused::Version)));
        assert_eq!(method(&[1, 2]).0, [5, 0xff]);
        assert!(method(&[]).1.is_err());
        assert!(matches!(request(&[4]), Err(Refused::Version)));
        assert!(matches!(request(&[5, 2]), Err(Refused::Command)));
        assert!(matches!(request(&[5, 1, 0, 2, 0]), Err(Refused::Address)));
        assert!(matches!(request(&[5, 1, 0, 3, 0]), Err(Refused::Address)));
        for bad in ["a b", "a\0", "a/b", "\u{e4}"] {
            let mut bytes = vec![5, 1, 0, 3, u8::try_from(bad.len()).unwrap()];
            bytes.extend(bad.as_bytes());
            bytes.extend([0, 80]);
            assert!(matches!(request(&bytes), Err(Refused::Address)), "{bad:?}");
        }
    }

    #[test]
    fn a_request_is_whole_at_its_last_byte_and_never_before() {
        let name = [&[5, 1, 0, 3, 3][..], b"hub", &[0x26, 0x75]].concat();
        let v4 = [5, 1, 0, 1, 100, 64, 0, 1, 0, 22].to_vec();
        let v6 = [&[5, 1, 0, 4][..], &Ipv6Addr::LOCALHOST.octets(), &[1, 0]].concat();
        for (bytes, host, port) in [(name, "hub", 9845), (v4, "100.64.0.1", 22), (v6, "::1", 256)] {
            for cut in 0..bytes.len() {
                assert!(matches!(request(&bytes[..cut]), Ok(None)), "{host} after {cut}");
            }
            let wanted = Destination { host: host.to_owned(), port };
            assert_eq!(request(&bytes).unwrap(), Some(wanted));
        }
        assert_eq!(method(&[2, 0]).0, [5, 0]);
        assert_eq!(greeting([5, 255]).unwrap(), 255);
    }

    #[test]
    fn every_answer_has_ten_bytes_and_its_number() {
        assert_eq!(Answer::of(FaultCode::Unreachable).to_bytes()[1], 4);
        assert_eq!(Answer::of(FaultCode::Invalid).to_bytes()[1], 2);
        assert_eq!(Answer::Granted.to_bytes(), [5, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    }
}
