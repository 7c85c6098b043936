//! The PROXY protocol, versions 1 and 2, as a load balancer sends it before the first byte of a connection
//! (haproxy.org, proxy-protocol.txt). Only reads; pure.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const LONGEST_V1: usize = 107;
/// A version 2 header longer than this has type-length-value parts nobody needs here.
const LONGEST_V2: usize = 4_096;

/// What the bytes so far are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A prefix of a header.
    More,
    /// A header of this length; `None` where it names no client (a health check of the balancer itself).
    Header { length: usize, client: Option<SocketAddr> },
    /// Not a header.
    Bad,
}

/// Reads the header at the start of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Parsed {
    let common = bytes.len().min(SIGNATURE.len());
    if bytes.get(..common) == SIGNATURE.get(..common) {
        return if bytes.len() < SIGNATURE.len() {
            Parsed::More
        } else {
            parse_v2(bytes).unwrap_or(Parsed::More)
        };
    }
    parse_v1(bytes)
}

fn parse_v1(bytes: &[u8]) -> Parsed {
    let start = b"PROXY ";
    let common = bytes.len().min(start.len());
    if bytes.get(..common) != start.get(..common) {
        return Parsed::Bad;
    }
    let Some(end) = bytes.iter().take(LONGEST_V1).position(|byte| *byte == b'\n') else {
        return if bytes.len() < LONGEST_V1 { Parsed::More } else { Parsed::Bad };
    };
    let line = bytes.get(..end).and_then(|line| line.strip_suffix(b"\r"));
    let Some(line) = line.and_then(|line| std::str::from_utf8(line).ok()) else { return Parsed::Bad };
    let length = end.saturating_add(1);
    let fields: Vec<&str> = line.split(' ').collect();
    match fields.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Parsed::Header { length, client: None },
        ["PROXY", family @ ("TCP4" | "TCP6"), source, target, source_port, target_port] => {
            let address =
                |text: &str| text.parse::<IpAddr>().ok().filter(|ip| ip.is_ipv4() == (*family == "TCP4"));
            let port = |text: &str| text.parse::<u16>().ok();
            match (address(source), address(target), port(source_port), port(target_port)) {
                (Some(ip), Some(_), Some(port), Some(_)) => {
                    Parsed::Header { length, client: Some(SocketAddr::new(ip, port)) }
                }
                _ => Parsed::Bad,
            }
        }
        _ => Parsed::Bad,
    }
}

/// `None` when more bytes are needed.
fn parse_v2(bytes: &[u8]) -> Option<Parsed> {
    let version_command = *bytes.get(12)?;
    let family = *bytes.get(13)?;
    let rest = usize::from(u16::from_be_bytes([*bytes.get(14)?, *bytes.get(15)?]));
    if version_command >> 4 != 2 || version_command & 0x0f > 1 || rest > LONGEST_V2 {
        return Some(Parsed::Bad);
    }
    let length = rest.saturating_add(16);
    let addresses = bytes.get(16..length)?;
    let is_local = version_command & 0x0f == 0;
    let client = match family {
        _ if is_local => Ok(None),
        0x11 => source::<4>(addresses, 8).map(Some),
        0x21 => source::<16>(addresses, 32).map(Some),
        _ => Ok(None),
    };
    Some(client.map_or(Parsed::Bad, |client| Parsed::Header { length, client }))
}

/// Source address of `N` bytes at the start and its port at `port_at`.
fn source<const N: usize>(addresses: &[u8], port_at: usize) -> Result<SocketAddr, ()> {
    let ip = addresses.first_chunk::<N>().ok_or(())?.as_slice();
    let ip = match (<[u8; 4]>::try_from(ip), <[u8; 16]>::try_from(ip)) {
        (Ok(v4), _) => IpAddr::V4(Ipv4Addr::from(v4)),
        (_, Ok(v6)) => IpAddr::V6(Ipv6Addr::from(v6)),
        (Err(_), Err(_)) => return Err(()),
    };
    let port = addresses.get(port_at..).and_then(|rest| rest.first_chunk::<2>()).ok_or(())?;
    Ok(SocketAddr::new(ip, u16::from_be_bytes(*port)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_header_is_refused() {
        for bad in [
            &b"GET / HTTP/1.1\r\n"[..],
            b"PROXY TCP4 1.2.3.4 5.6.7.8 80\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 80 99999\r\n",
            b"PROXY TCP4 ::1 ::1 80 80\r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 80 80 \r\n",
            b"PROXY TCP4 1.2.3.4 5.6.7.8 80 80\n",
            b"PROXY tcp4 1.2.3.4 5.6.7.8 80 80\r\n",
            &[&b"PROXY UNKNOWN "[..], &[b'a'; 120]].concat(),
            &[SIGNATURE, &[0x31, 0x11, 0, 12], &[0; 12]].concat(),
            &[SIGNATURE, &[0x21, 0x11, 0, 4], &[0; 4]].concat(),
            &[SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat(),
        ] {
            assert_eq!(parse(bad), Parsed::Bad, "{}", String::from_utf8_lossy(bad));
        }
    }

    #[test]
    fn both_versions_name_the_client() {
        let v1 = b"PROXY TCP4 192.0.2.1 192.0.2.9 5555 443\r\nGET /";
        assert_eq!(parse(v1), Parsed::Header { length: 41, client: "192.0.2.1:5555".parse().ok() });
        let v6 = [SIGNATURE, &[0x21, 0x21, 0, 36], &[0; 15], &[1], &[0; 16], &[0x12, 0x34, 0, 80], b"GET"]
            .concat();
        assert_eq!(parse(&v6), Parsed::Header { length: 52, client: "[::1]:4660".parse().ok() });
        let local = [SIGNATURE, &[0x20, 0, 0, 0]].concat();
        assert_eq!(parse(&local), Parsed::Header { length: 16, client: None });
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_and_a_prefix_of_a_header_asks_for_more(bytes: Vec<u8>, cut in 0_usize..41) {
            let _ = parse(&bytes);
            let _ = parse(&[SIGNATURE, &bytes].concat());
            let whole = b"PROXY TCP4 192.0.2.1 192.0.2.9 5555 443\r\n";
            prop_assert_eq!(parse(whole.get(..cut).unwrap()), Parsed::More);
        }
    }
}
