//! How the agent gets its connection to the executor where no user id tells programs apart: the supervisor makes a fresh
//! pair of sockets for each life of the agent, and hands one end to the executor over a control socket that only the two
//! of them have.

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::net::UnixStream,
    },
};

/// The supervisor's end of the control socket to one life of the executor.
#[derive(Debug)]
pub(super) struct ExecutorLink {
    control: UnixStream,
}

impl ExecutorLink {
    /// A new one, and the end that the executor gets.
    pub(super) fn new() -> io::Result<(Self, OwnedFd)> {
        let (ours, theirs) = UnixStream::pair()?;
        Ok((Self { control: ours }, theirs.into()))
    }

    /// A fresh connection: one end goes to the executor, the other is for the agent.
    pub(super) fn connection(&self) -> io::Result<OwnedFd> {
        let (for_executor, for_agent) = UnixStream::pair()?;
        let ends = [for_executor.as_fd()];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = SendAncillaryBuffer::new(&mut space);
        if !message.push(SendAncillaryMessage::ScmRights(&ends)) {
            return Err(io::ErrorKind::OutOfMemory.into());
        }
        // A descriptor travels with at least one byte.
        sendmsg(&self.control, &[IoSlice::new(b"c")], &mut message, SendFlags::NOSIGNAL)?;
        Ok(for_agent.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
    use std::io::{IoSliceMut, Read as _, Write as _};

    fn receive(control: &UnixStream) -> Option<UnixStream> {
        let mut byte = [0; 1];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut message = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut byte)];
        recvmsg(control, &mut parts, &mut message, RecvFlags::CMSG_CLOEXEC).unwrap();
        let received = message.drain().find_map(|part| match part {
            RecvAncillaryMessage::ScmRights(mut fds) => fds.next(),
            _ => None,
        });
        received.map(UnixStream::from)
    }

    #[test]
    fn a_link_to_an_executor_that_is_gone_gives_no_connection() {
        let (link, theirs) = ExecutorLink::new().unwrap();
        drop(theirs);
        assert!(link.connection().is_err());
    }

    #[test]
    fn each_life_of_the_agent_gets_a_connection_of_its_own() {
        let (link, theirs) = ExecutorLink::new().unwrap();
        let control = UnixStream::from(theirs);
        for life in [b'1', b'2'] {
            let mut agent = UnixStream::from(link.connection().unwrap());
            let mut executor = receive(&control).unwrap();
            agent.write_all(&[life]).unwrap();
            drop(agent);
            let mut said = Vec::new();
            executor.read_to_end(&mut said).unwrap();
            assert_eq!(said, [life]);
        }
    }
}
