//! The UDP sockets of a node: one for IPv4 and, where there is any, one for IPv6, on the same port.

use super::Interfaces;
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket},
};
use tokio::net::UdpSocket;

/// What the kernel should hold of what comes and goes, if it may.
const BUFFER: usize = 4 * 1024 * 1024;
/// Datagrams that are read at once, before what they caused is sent.
const BATCH: usize = 64;
/// The longest datagram.
const LONGEST: usize = 65_535;

pub(super) struct Sockets {
    v4: Option<UdpSocket>,
    v6: Option<UdpSocket>,
    port: u16,
}

impl Sockets {
    /// On `port`, or on whichever is free if it is not.
    pub(super) fn bind(interfaces: &Interfaces, port: u16) -> io::Result<Self> {
        let (first, second) = match interfaces {
            Interfaces::Only(ip) => (*ip, None),
            Interfaces::System => (Ipv4Addr::UNSPECIFIED.into(), Some(IpAddr::from(Ipv6Addr::UNSPECIFIED))),
        };
        let bound = socket(first, port).or_else(|_| socket(first, 0))?;
        let port = bound.local_addr()?.port();
        // A machine without IPv6 is none the worse for it.
        let second = second.and_then(|ip| socket(ip, port).ok());
        let (v4, v6) = if first.is_ipv4() { (Some(bound), second) } else { (None, Some(bound)) };
        Ok(Self { v4, v6, port })
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// Sends it, or drops it: nothing waits for a socket. Whether it went.
    pub(super) fn send(&self, to: SocketAddr, datagram: &[u8]) -> bool {
        let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
        socket.as_ref().is_some_and(|socket| socket.try_send_to(datagram, to).is_ok())
    }

    /// Waits until something can be read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match (&self.v4, &self.v6) {
            (Some(v4), Some(v6)) => tokio::select! {
                result = v4.readable() => result,
                result = v6.readable() => result,
            },
            (Some(only), None) | (None, Some(only)) => only.readable().await,
            (None, None) => std::future::pending().await,
        }
    }

    /// Reads what there is, a batch at most.
    pub(super) fn read(&self, buffer: &mut Vec<u8>, mut each: impl FnMut(SocketAddr, &[u8])) {
        buffer.resize(LONGEST, 0);
        for socket in [&self.v4, &self.v6].into_iter().flatten() {
            for _ in 0..BATCH {
                match socket.try_recv_from(buffer) {
                    Ok((length, from)) => each(from, buffer.get(..length).unwrap_or_default()),
                    // An error that a datagram of ours caused (nobody listens there) says nothing of the next.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {}
                    Err(_) => break,
                }
            }
        }
    }
}

fn socket(ip: IpAddr, port: u16) -> io::Result<UdpSocket> {
    let family = if ip.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = rustix::net::socket(family, SocketType::DGRAM, None)?;
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
    if ip.is_ipv6() {
        sockopt::set_ipv6_v6only(&socket, true)?;
    }
    // A smaller buffer than wished for is a buffer.
    let _ = sockopt::set_socket_recv_buffer_size(&socket, BUFFER);
    let _ = sockopt::set_socket_send_buffer_size(&socket, BUFFER);
    rustix::net::bind(&socket, &SocketAddr::new(ip, port))?;
    let socket = StdSocket::from(socket);
    socket.set_nonblocking(true)?;
    UdpSocket::from_std(socket)
}
