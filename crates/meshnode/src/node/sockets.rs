//! The UDP sockets of a node: one for IPv4 and, where there is any, one for IPv6, on the same port. Datagrams of one length to one place
//! are given to the kernel together, and taken from it so, where it can do that.

#[cfg(target_os = "linux")]
mod segments;

use super::Interfaces;
use rustix::net::{AddressFamily, SocketType, sockopt};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket as StdSocket},
    sync::atomic::{AtomicBool, Ordering},
};
use tokio::net::UdpSocket;

/// What the kernel should hold of what comes and goes, if it may.
const BUFFER: usize = 4 * 1024 * 1024;
/// Datagrams that are read at once, before what they caused is sent; a few more where several come together.
const AT_ONCE: usize = 256;
/// The longest datagram, and what is read of several together.
const LONGEST: usize = 65_535;
/// Datagrams that are given to the kernel together; Linux takes 64 since it takes any.
const TOGETHER: usize = 64;
/// Bytes of these: headers count too.
const TOGETHER_BYTES: usize = 65_000;

pub(super) struct Sockets {
    v4: Option<Socket>,
    v6: Option<Socket>,
    port: u16,
}

struct Socket {
    udp: UdpSocket,
    /// Whether the kernel and the interfaces take several datagrams together, as far as is known.
    joins: AtomicBool,
}

/// Datagrams of one length to one place, of which the last may be shorter.
#[derive(Default)]
pub(super) struct Batch {
    to: Option<SocketAddr>,
    length: usize,
    count: usize,
    bytes: Vec<u8>,
}

/// What was read: datagrams from one place, each but the last of this length.
struct Received {
    from: SocketAddr,
    bytes: usize,
    length: usize,
}

impl Batch {
    /// Whether it goes with the others.
    fn takes(&self, to: SocketAddr, datagram: &[u8]) -> bool {
        let Some(own) = self.to else { return true };
        let is_whole = self.bytes.len() == self.length.saturating_mul(self.count);
        own == to
            && is_whole
            && datagram.len() <= self.length
            && self.count < TOGETHER
            && self.bytes.len().saturating_add(datagram.len()) <= TOGETHER_BYTES
    }

    fn push(&mut self, to: SocketAddr, datagram: &[u8]) {
        if self.to.is_none() {
            (self.to, self.length) = (Some(to), datagram.len());
        }
        self.count = self.count.saturating_add(1);
        self.bytes.extend_from_slice(datagram);
    }

    fn each(&self) -> impl Iterator<Item = &[u8]> {
        self.bytes.chunks(self.length.max(1))
    }

    fn clear(&mut self) {
        (self.to, self.count) = (None, 0);
        self.bytes.clear();
    }
}

impl Sockets {
    /// On `port`, or on whichever is free if it is not.
    pub(super) fn bind(interfaces: &Interfaces, port: u16) -> io::Result<Self> {
        let (first, second) = match interfaces {
            Interfaces::Only(ip) => (*ip, None),
            Interfaces::System => (Ipv4Addr::UNSPECIFIED.into(), Some(IpAddr::from(Ipv6Addr::UNSPECIFIED))),
        };
        let bound = Socket::bind(first, port).or_else(|_| Socket::bind(first, 0))?;
        let port = bound.udp.local_addr()?.port();
        // A machine without IPv6 is none the worse for it.
        let second = second.and_then(|ip| Socket::bind(ip, port).ok());
        let (v4, v6) = if first.is_ipv4() { (Some(bound), second) } else { (None, Some(bound)) };
        Ok(Self { v4, v6, port })
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    /// Sends it, now or with the next [`Self::flush`].
    pub(super) fn send(&self, batch: &mut Batch, to: SocketAddr, datagram: &[u8]) {
        if !batch.takes(to, datagram) {
            self.flush(batch);
        }
        batch.push(to, datagram);
    }

    /// Sends what waits, or drops it: nothing waits for a socket.
    pub(super) fn flush(&self, batch: &mut Batch) {
        if let Some(to) = batch.to {
            let socket = if to.is_ipv4() { &self.v4 } else { &self.v6 };
            if !socket.as_ref().is_some_and(|socket| socket.send(to, batch)) {
                tracing::trace!(%to, count = batch.count, "datagrams did not go");
            }
        }
        batch.clear();
    }

    /// Waits until something can be read.
    pub(super) async fn readable(&self) -> io::Result<()> {
        match (&self.v4, &self.v6) {
            (Some(v4), Some(v6)) => tokio::select! {
                result = v4.udp.readable() => result,
                result = v6.udp.readable() => result,
            },
            (Some(only), None) | (None, Some(only)) => only.udp.readable().await,
            (None, None) => std::future::pending().await,
        }
    }

    /// Reads what there is, but no more than it should be at once.
    pub(super) fn read(&self, buffer: &mut Vec<u8>, mut each: impl FnMut(SocketAddr, &[u8])) {
        buffer.resize(LONGEST, 0);
        for socket in [&self.v4, &self.v6].into_iter().flatten() {
            let mut count: usize = 0;
            while count < AT_ONCE {
                match socket.receive(buffer) {
                    Ok(Received { from, bytes, length }) => {
                        for datagram in buffer.get(..bytes).unwrap_or_default().chunks(length.max(1)) {
                            each(from, datagram);
                            count = count.saturating_add(1);
                        }
                        // An empty one is one too.
                        count = count.saturating_add(1);
                    }
                    // An error that a datagram of ours caused (nobody listens there) says nothing of the next.
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        count = count.saturating_add(1);
                    }
                    Err(_) => break,
                }
            }
        }
    }
}

impl Socket {
    fn bind(ip: IpAddr, port: u16) -> io::Result<Self> {
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
        #[cfg(target_os = "linux")]
        segments::take_together(&socket);
        Ok(Self { udp: UdpSocket::from_std(socket)?, joins: AtomicBool::new(cfg!(target_os = "linux")) })
    }

    /// Whether it went, or was dropped as a network drops.
    fn send(&self, to: SocketAddr, batch: &Batch) -> bool {
        #[cfg(target_os = "linux")]
        if batch.count > 1 && self.joins.load(Ordering::Relaxed) {
            match segments::send(&self.udp, to, &batch.bytes, batch.length) {
                Ok(()) => return true,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return false,
                Err(error) if segments::is_lasting(&error) => self.joins.store(false, Ordering::Relaxed),
                // They don't fit through this interface together, or not to there; one by one they may.
                Err(_) => {}
            }
        }
        let mut went = true;
        for datagram in batch.each() {
            went &= self.udp.try_send_to(datagram, to).is_ok();
        }
        went
    }

    #[cfg(target_os = "linux")]
    fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        segments::receive(&self.udp, buffer)
    }

    #[cfg(not(target_os = "linux"))]
    fn receive(&self, buffer: &mut [u8]) -> io::Result<Received> {
        let (bytes, from) = self.udp.try_recv_from(buffer)?;
        Ok(Received { from, bytes, length: bytes })
    }
}

#[cfg(test)]
mod tests;
