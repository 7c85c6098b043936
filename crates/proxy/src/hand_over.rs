//! Listeners that were bound by whoever supervises the proxy, which outlive every proxy: one as standard input, or any
//! number over a Unix socket that is standard input. The message has a byte for each of them, `h` for HTTP and `s` for
//! HTTPS, and their descriptors beside it (SCM_RIGHTS, unix(7)).

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg, sockopt,
};
use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    net::TcpListener,
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
};

/// As many as one message carries.
const MOST: usize = 16;
const HTTP: u8 = b'h';
const HTTPS: u8 = b's';

/// What was handed over.
#[derive(Debug, Default)]
pub struct Listeners {
    /// Those whose clients speak plain HTTP.
    pub http: Vec<TcpListener>,
    /// Those whose clients speak TLS.
    pub https: Vec<TcpListener>,
}

/// A socket to be a proxy's standard input, with these listeners in it.
///
/// # Errors
/// When there are none or more than 16, or the system has no sockets left.
pub fn pack(http: &[TcpListener], https: &[TcpListener]) -> io::Result<OwnedFd> {
    let kinds: Vec<u8> = http.iter().map(|_| HTTP).chain(https.iter().map(|_| HTTPS)).collect();
    let descriptors: Vec<BorrowedFd<'_>> = http.iter().chain(https).map(AsFd::as_fd).collect();
    if kinds.is_empty() || kinds.len() > MOST {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let (ours, theirs) = UnixStream::pair()?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut message = SendAncillaryBuffer::new(&mut space);
    if !message.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        return Err(io::ErrorKind::OutOfMemory.into());
    }
    sendmsg(&ours, &[IoSlice::new(&kinds)], &mut message, SendFlags::NOSIGNAL)?;
    Ok(theirs.into())
}

/// Takes them over from such a socket, or from a single listener.
///
/// # Errors
/// When it is neither, or what came over it is not what its message says.
pub fn unpack(given: OwnedFd) -> io::Result<Listeners> {
    let mut listeners = Listeners::default();
    if sockopt::socket_acceptconn(&given)? {
        listeners.http.push(listener(given)?);
        return Ok(listeners);
    }
    let mut kinds = [0; MOST];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
    let mut message = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::CMSG_CLOEXEC;
    let read = recvmsg(&given, &mut [IoSliceMut::new(&mut kinds)], &mut message, flags)?.bytes;
    let mut descriptors = message.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(descriptors) => Some(descriptors),
        _ => None,
    });
    let mut descriptors = descriptors.next().into_iter().flatten();
    for kind in kinds.iter().take(read) {
        let received = descriptors.next().ok_or(io::ErrorKind::InvalidData)?;
        match *kind {
            HTTP => listeners.http.push(listener(received)?),
            HTTPS => listeners.https.push(listener(received)?),
            _ => return Err(io::ErrorKind::InvalidData.into()),
        }
    }
    if read == 0 || descriptors.next().is_some() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Ok(listeners)
}

fn listener(socket: OwnedFd) -> io::Result<TcpListener> {
    if !sockopt::socket_acceptconn(&socket)? {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    let listener = TcpListener::from(socket);
    // Only a TCP listener has such an address.
    listener.local_addr()?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn what_is_no_listener_is_refused() {
        assert!(pack(&[], &[]).is_err());
        let (one, other) = UnixStream::pair().unwrap();
        drop(other);
        assert!(unpack(one.into()).is_err(), "an empty socket");
        let (one, other) = UnixStream::pair().unwrap();
        std::io::Write::write_all(&mut &other, b"h").unwrap();
        assert!(unpack(one.into()).is_err(), "a word without a descriptor");
        let file = tempfile::tempfile().unwrap();
        assert!(unpack(file.into()).is_err(), "a file");
        let folder = tempfile::tempdir().unwrap();
        let unix = std::os::unix::net::UnixListener::bind(folder.path().join("s")).unwrap();
        assert!(unpack(unix.into()).is_err(), "a listener that is not TCP");
    }

    #[test]
    fn listeners_arrive_each_as_what_it_was_sent_as() {
        let (http, https) = ([bound()], [bound(), bound()]);
        let arrived = unpack(pack(&http, &https).unwrap()).unwrap();
        let addresses = |all: &[TcpListener]| all.iter().map(|l| l.local_addr().unwrap()).collect::<Vec<_>>();
        assert_eq!(addresses(&arrived.http), addresses(&http));
        assert_eq!(addresses(&arrived.https), addresses(&https));
        let single = bound();
        let arrived = unpack(single.try_clone().unwrap().into()).unwrap();
        assert_eq!(addresses(&arrived.http), addresses(&[single]));
    }
}
