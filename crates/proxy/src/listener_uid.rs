//! Whose program listens on a local address, from `/proc/net/tcp` and `/proc/net/tcp6` (proc(5)). An instance that died
//! leaves its port to whoever takes it, so the proxy asks before it hands over a visitor's request.

use crate::instance::Instance;
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    sync::Arc,
};

const LISTEN: &str = "0A";

/// What stands between a request and an instance.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CheckError {
    #[error("a program of uid {found} listens where one of uid {expected} should")]
    Foreign { expected: u32, found: u32 },
    #[error("nobody listens there")]
    Nobody,
    #[error("/proc/net can't be read")]
    Unreadable(#[source] io::Error),
}

/// Checks the listener once for each generation of the table, and again after a connection to it has ended.
pub(crate) async fn check(
    instance: &Arc<Instance>,
    uid: Option<u32>,
    generation: u64,
) -> Result<(), CheckError> {
    let Some(expected) = uid else { return Ok(()) };
    if instance.is_checked(generation, expected) {
        return Ok(());
    }
    let address = instance.address;
    let uids = tokio::task::spawn_blocking(move || listening_uids(address))
        .await
        .map_err(|error| CheckError::Unreadable(io::Error::other(error)))?
        .map_err(CheckError::Unreadable)?;
    judge(&uids, expected)?;
    instance.set_checked(generation, expected);
    Ok(())
}

fn judge(uids: &[u32], expected: u32) -> Result<(), CheckError> {
    // With SO_REUSEPORT several sockets share an address; one stranger among them would get its share of requests.
    match uids.iter().find(|uid| **uid != expected) {
        Some(found) => Err(CheckError::Foreign { expected, found: *found }),
        None if uids.is_empty() => Err(CheckError::Nobody),
        None => Ok(()),
    }
}

fn listening_uids(address: SocketAddr) -> io::Result<Vec<u32>> {
    let v4 = std::fs::read_to_string("/proc/net/tcp")?;
    let v6 = match std::fs::read_to_string("/proc/net/tcp6") {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    Ok(uids_in(&v4, &v6, address))
}

/// The uids of the sockets that a connection to `address` can reach: those bound to exactly it, else to all addresses.
fn uids_in(v4: &str, v6: &str, address: SocketAddr) -> Vec<u32> {
    let rows: Vec<(SocketAddr, u32)> = v4.lines().chain(v6.lines()).filter_map(parse_row).collect();
    let same_port = |row: &&(SocketAddr, u32)| row.0.port() == address.port();
    let wanted = address.ip().to_canonical();
    let exact: Vec<u32> = rows
        .iter()
        .filter(same_port)
        .filter(|row| row.0.ip().to_canonical() == wanted)
        .map(|row| row.1)
        .collect();
    if !exact.is_empty() {
        return exact;
    }
    rows.iter()
        .filter(same_port)
        .filter(|row| row.0.ip().is_unspecified() && (row.0.is_ipv6() || wanted.is_ipv4()))
        .map(|row| row.1)
        .collect()
}

/// `sl local_address rem_address st tx:rx tr:when retrnsmt uid …`, addresses in hexadecimal words of the machine's order.
fn parse_row(line: &str) -> Option<(SocketAddr, u32)> {
    let mut fields = line.split_ascii_whitespace();
    let local = fields.nth(1)?;
    if fields.nth(1)? != LISTEN {
        return None;
    }
    let uid = fields.nth(3)?.parse().ok()?;
    let (address, port) = local.split_once(':')?;
    Some((SocketAddr::new(parse_address(address)?, u16::from_str_radix(port, 16).ok()?), uid))
}

fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| -> Option<[u8; 4]> {
        Some(u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes())
    };
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let bytes: Vec<u8> = [word(0)?, word(1)?, word(2)?, word(3)?].concat();
            Some(IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes).ok()?)))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V4: &str =
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1001        0 1 1 0 100 0 0 10 0
   1: 00000000:1F91 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1002        0 1 1 0 100 0 0 10 0
   2: 0100007F:1F91 0100007F:1F92 01 00000000:00000000 00:00000000 00000000  1003        0 1 1 0 100 0 0 10 0
";
    const V6: &str = "  sl  local_address                         remote_address                        st tx_queue
   0: 00000000000000000000000000000000:1F92 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1004        0 1 1 0 100 0 0 10 0
   1: 00000000000000000000000001000000:1F90 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000  1005        0 1 1 0 100 0 0 10 0
";

    fn uids(address: &str) -> Vec<u32> {
        uids_in(V4, V6, address.parse().unwrap())
    }

    #[test]
    fn a_stranger_on_the_port_is_found() {
        assert!(matches!(judge(&[1001, 1002], 1001), Err(CheckError::Foreign { found: 1002, .. })));
        assert!(matches!(judge(&[], 1001), Err(CheckError::Nobody)));
        assert!(judge(&[1001, 1001], 1001).is_ok());
    }

    #[cfg(target_endian = "little")]
    #[test]
    fn the_listener_of_exactly_the_address_comes_before_one_of_all_addresses() {
        assert_eq!(uids("127.0.0.1:8080"), [1001]);
        assert_eq!(uids("127.0.0.1:8081"), [1002], "an established connection is no listener");
        assert_eq!(uids("127.0.0.1:8082"), [1004], "a listener of [::] takes IPv4 connections too");
        assert_eq!(uids("[::1]:8080"), [1005]);
        assert_eq!(uids("127.0.0.1:8083"), [0_u32; 0]);
        assert_eq!(uids("[::1]:8081"), [0_u32; 0]);
    }

    #[test]
    fn our_own_listener_is_ours() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let found = listening_uids(listener.local_addr().unwrap()).unwrap();
        assert_eq!(found, [rustix::process::getuid().as_raw()]);
    }
}
