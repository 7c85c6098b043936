//! Connections that the supervisor hands over, each as one descriptor on the control socket that only the two have. What
//! is no connected Unix stream is refused, whatever else it may be.

use super::{connection, seats::Seats};
use crate::Executor;
use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SocketType,
        getpeername, recvmsg,
        sockopt::{socket_acceptconn, socket_domain, socket_type},
    },
};
use std::{
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream as StdUnixStream,
    },
    sync::Arc,
};
use tokio::{io::Interest, net::UnixStream};

/// Takes each connection as a descriptor over the control socket on standard input. Ends when the other end closes.
///
/// # Errors
/// A sentence when standard input is no socket.
pub async fn take_from_stdin(executor: Arc<Executor>) -> Result<(), String> {
    let control =
        std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| format!("standard input: {error}"))?;
    take_from(executor, control).await
}

async fn take_from(executor: Arc<Executor>, control: OwnedFd) -> Result<(), String> {
    let control = as_stream(control).map_err(|why| format!("standard input: {why}"))?;
    let seats = Arc::new(Seats::default());
    loop {
        control.readable().await.map_err(|error| format!("the control socket: {error}"))?;
        let received = control.try_io(Interest::READABLE, || receive(&control).map_err(std::io::Error::from));
        match received {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(format!("the control socket: {error}")),
            Ok(Received::Nothing) => {}
            Ok(Received::Refused(why)) => tracing::warn!(why, "what was handed over is refused"),
            Ok(Received::One(fd)) => match as_stream(fd) {
                Ok(stream) => {
                    tokio::spawn(connection::serve(Arc::clone(&executor), stream, seats.take()));
                }
                Err(why) => tracing::warn!(why, "what was handed over is refused"),
            },
            Ok(Received::Closed) => {
                tracing::info!("the control socket was closed");
                // The supervisor is gone; what runs, runs on until a signal says otherwise.
                std::future::pending::<()>().await;
            }
        }
    }
}

/// A file, a device, a socket of the network or one that listens would be read as if the agent had written it.
fn as_stream(fd: OwnedFd) -> Result<UnixStream, String> {
    let kind = |fd: &OwnedFd| Ok::<_, Errno>((socket_domain(fd)?, socket_type(fd)?, socket_acceptconn(fd)?));
    match kind(&fd) {
        Ok((AddressFamily::UNIX, SocketType::STREAM, false)) => {}
        Ok(_) => return Err("a socket of another kind".to_owned()),
        Err(_) => return Err("no socket".to_owned()),
    }
    getpeername(&fd).map_err(|error| format!("a socket without another end: {error}"))?;
    let stream = StdUnixStream::from(fd);
    stream
        .set_nonblocking(true)
        .and_then(|()| UnixStream::from_std(stream))
        .map_err(|error| error.to_string())
}

enum Received {
    One(OwnedFd),
    Refused(&'static str),
    Nothing,
    Closed,
}

/// One message. Descriptors that are not taken are closed: by the kernel where there is no room for them, else here.
fn receive(control: &UnixStream) -> Result<Received, Errno> {
    let mut byte = [0u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let message =
        recvmsg(control, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)?;
    let mut taken = Vec::new();
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(fds) = part {
            taken.extend(fds);
        }
    }
    if message.flags.contains(ReturnFlags::CTRUNC) || taken.len() > 1 {
        return Ok(Received::Refused("more than one descriptor at once"));
    }
    Ok(match taken.pop() {
        Some(fd) => Received::One(fd),
        None if message.bytes == 0 => Received::Closed,
        None => Received::Nothing,
    })
}

#[cfg(test)]
mod tests;
