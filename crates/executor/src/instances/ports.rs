//! Which ports an instance's processes really listen on: the sockets they hold, looked up among the machine's listening
//! ones.

use crate::shim::{order::Running, tree};
use allod_proto::InstanceId;
use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// `TCP_LISTEN` as proc_net_tcp(5) writes it.
const LISTEN: &str = "0A";

/// The listening addresses of each instance, sorted.
pub(super) fn listening(asked: &[(InstanceId, Running)]) -> BTreeMap<InstanceId, Vec<SocketAddr>> {
    let mut sockets = BTreeMap::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = std::fs::read_to_string(table).unwrap_or_default();
        sockets.extend(text.lines().skip(1).filter_map(parse_line));
    }
    let addresses = |running: Running| {
        if tree::stat(running.pid).is_none_or(|stat| stat.start != running.start) {
            return Vec::new();
        }
        let mut pids = tree::descendants(running.pid);
        pids.insert(running.pid);
        let inodes = pids.into_iter().flat_map(tree::socket_inodes);
        let found: BTreeSet<_> = inodes.filter_map(|inode| sockets.get(&inode).copied()).collect();
        found.into_iter().collect()
    };
    asked.iter().map(|(id, running)| (id.clone(), addresses(*running))).collect()
}

/// Inode and address of a listening socket.
fn parse_line(line: &str) -> Option<(u64, SocketAddr)> {
    let fields: Vec<&str> = line.split_ascii_whitespace().collect();
    if *fields.get(3)? != LISTEN {
        return None;
    }
    let (address, port) = fields.get(1)?.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    Some((fields.get(9)?.parse().ok()?, SocketAddr::new(parse_address(address)?, port)))
}

/// Groups of four bytes, each written as a number of this machine's byte order.
fn parse_address(text: &str) -> Option<IpAddr> {
    let mut bytes = Vec::with_capacity(16);
    if !text.len().is_multiple_of(8) {
        return None;
    }
    for group in text.as_bytes().chunks(8) {
        let number = u32::from_str_radix(std::str::from_utf8(group).ok()?, 16).ok()?;
        bytes.extend_from_slice(&number.to_ne_bytes());
    }
    match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok().map(|bytes| Ipv4Addr::from(bytes).into()),
        16 => <[u8; 16]>::try_from(bytes).ok().map(|bytes| Ipv6Addr::from(bytes).into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_does_not_listen_or_is_torn_is_no_port() {
        let connected = "0: 0100007F:1F90 0100007F:9C40 01 00000000:00000000 00:00000000 00000000 0 0 77 1";
        assert_eq!(parse_line(connected), None);
        assert_eq!(parse_line("0: 0100007F:1F90 00000000:0000 0A"), None);
        assert_eq!(parse_line("0: 01007F:1F90 00000000:0000 0A a b c d e 77 1"), None);
        assert_eq!(parse_line(""), None);
    }

    #[test]
    fn this_process_listens_where_it_listens() {
        let four = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let six = std::net::TcpListener::bind("[::1]:0").ok();
        let me = std::process::id();
        let running = Running { pid: me, start: tree::stat(me).unwrap().start };
        let id = InstanceId::new("web-0011aabb").unwrap();
        let found = listening(&[(id.clone(), running)]).remove(&id).unwrap();
        assert!(found.contains(&four.local_addr().unwrap()), "{found:?}");
        if let Some(six) = six {
            assert!(found.contains(&six.local_addr().unwrap()), "{found:?}");
        }
        let another = Running { pid: me, start: running.start + 1 };
        assert!(listening(&[(id.clone(), another)]).remove(&id).unwrap().is_empty());
    }
}
