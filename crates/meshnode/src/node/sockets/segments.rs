//! Several datagrams in one call, as Linux does it: `UDP_SEGMENT` cuts what is sent, `UDP_GRO` joins what comes (udp(7)).

use super::Received;
use nix::{
    cmsg_space,
    errno::Errno,
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg, setsockopt,
        sockopt::UdpGroSegment,
    },
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    net::{SocketAddr, SocketAddrV4, SocketAddrV6, UdpSocket as StdSocket},
    os::fd::AsRawFd as _,
};
use tokio::{io::Interest, net::UdpSocket};

/// Several may be read together from now on; a kernel before 5.0 gives them one by one.
pub(super) fn take_together(socket: &StdSocket) {
    let _ = setsockopt(socket, UdpGroSegment, &true);
}

/// Sends these bytes as datagrams of this length, of which the last may be shorter.
pub(super) fn send(socket: &UdpSocket, to: SocketAddr, bytes: &[u8], length: usize) -> io::Result<()> {
    let length = u16::try_from(length).map_err(|_| io::ErrorKind::InvalidInput)?;
    let to = SockaddrStorage::from(to);
    let sent = socket.try_io(Interest::WRITABLE, || {
        let parts = [IoSlice::new(bytes)];
        let how = [ControlMessage::UdpGsoSegments(&length)];
        Ok(sendmsg(socket.as_raw_fd(), &parts, &how, MsgFlags::empty(), Some(&to))?)
    });
    sent.map(drop)
}

/// Whether it will be so with each: the kernel doesn't know it, or no interface computes the checksums for it.
pub(super) fn is_lasting(error: &io::Error) -> bool {
    let lasting = [Errno::EIO, Errno::ENOPROTOOPT, Errno::EOPNOTSUPP];
    error.raw_os_error().is_some_and(|error| lasting.contains(&Errno::from_raw(error)))
}

/// Reads one datagram, or several of one length that came from one place.
pub(super) fn receive(socket: &UdpSocket, buffer: &mut [u8]) -> io::Result<Received> {
    let mut told = cmsg_space!(i32);
    socket.try_io(Interest::READABLE, || {
        let mut parts = [IoSliceMut::new(buffer)];
        let read = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut parts,
            Some(told.as_mut_slice()),
            MsgFlags::empty(),
        )?;
        let joined = read.cmsgs()?.find_map(|told| match told {
            ControlMessageOwned::UdpGroSegments(length) => usize::try_from(length).ok(),
            _ => None,
        });
        let from = read.address.as_ref().and_then(place).ok_or(io::ErrorKind::InvalidData)?;
        Ok(Received { from, bytes: read.bytes, length: joined.unwrap_or(read.bytes) })
    })
}

fn place(address: &SockaddrStorage) -> Option<SocketAddr> {
    let v4 = address.as_sockaddr_in().map(|address| SocketAddr::V4(SocketAddrV4::from(*address)));
    v4.or_else(|| address.as_sockaddr_in6().map(|address| SocketAddr::V6(SocketAddrV6::from(*address))))
}
