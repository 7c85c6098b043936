//! `READY=1`, as sd_notify(3) sends it: a datagram socket with a name that only this shim's program is told, which
//! listens to its own user only.

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg, sockopt::set_socket_passcred,
};
use std::{
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
};

/// The longest message that is read.
const MESSAGE: usize = 4096;

pub(super) struct Notify {
    socket: UnixDatagram,
    name: String,
}

impl Notify {
    pub(super) fn bind() -> io::Result<Self> {
        let mut random = [0_u8; 16];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let name = format!("allod-notify-{:032x}", u128::from_ne_bytes(random));
        let socket = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name)?)?;
        set_socket_passcred(&socket, true)?;
        Ok(Self { socket, name })
    }

    /// The value of `NOTIFY_SOCKET`: `@` stands for the byte that makes a name abstract.
    pub(super) fn variable(&self) -> String {
        format!("@{}", self.name)
    }

    /// Waits until the program says that it is ready. Whatever else it says is passed over.
    pub(super) fn wait_ready(&self) -> io::Result<()> {
        loop {
            if self.receive()?.split(|byte| *byte == b'\n').any(|line| line == b"READY=1") {
                return Ok(());
            }
        }
    }

    /// A message of our own user; empty when it was from another.
    fn receive(&self) -> io::Result<Vec<u8>> {
        let mut message = vec![0; MESSAGE];
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmCredentials(1), ScmRights(8))];
        let mut control = RecvAncillaryBuffer::new(&mut space);
        let mut parts = [IoSliceMut::new(&mut message)];
        let size = recvmsg(&self.socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)?.bytes;
        let me = rustix::process::getuid();
        // Descriptors that came along are closed here.
        let mine = control.drain().fold(false, |mine, part| match part {
            RecvAncillaryMessage::ScmCredentials(sender) => mine || sender.uid == me,
            _ => mine,
        });
        message.truncate(if mine { size } else { 0 });
        Ok(message)
    }
}
