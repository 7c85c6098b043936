//! A TCP stream on the mesh.

use super::Netstack;
use smoltcp::{
    iface::SocketHandle,
    socket::tcp::{RecvError, State},
};
use std::{
    fmt,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Room in the receive buffer that is worth telling the other end of.
const WINDOW: usize = 64 * 1024;

/// A TCP connection with a peer. Shutting it down ends one direction; dropping it ends it as closing a socket does, with a reset if
/// something was not read.
pub struct MeshStream {
    net: Arc<Netstack>,
    handle: SocketHandle,
    local: SocketAddr,
    peer: SocketAddr,
}

impl MeshStream {
    pub(super) fn new(net: Arc<Netstack>, handle: SocketHandle, local: SocketAddr, peer: SocketAddr) -> Self {
        Self { net, handle, local, peer }
    }

    /// This node's end.
    #[must_use]
    pub const fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// The peer's end: an address that is the peer's alone.
    #[must_use]
    pub const fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// Ends both directions at once, so that the peer sees an error and no end.
    pub fn reset(self) {
        self.net.lock().socket(self.handle).abort();
    }

    /// Waits until the connection has come about.
    pub(super) async fn connected(&self) -> io::Result<()> {
        poll_fn(|cx| {
            let mut stack = self.net.lock();
            let socket = stack.socket(self.handle);
            match socket.state() {
                State::SynSent | State::SynReceived => {
                    socket.register_send_waker(cx.waker());
                    Poll::Pending
                }
                State::Closed => Poll::Ready(Err(io::ErrorKind::ConnectionRefused.into())),
                _ => Poll::Ready(Ok(())),
            }
        })
        .await
    }
}

impl AsyncRead for MeshStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if buffer.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let mut stack = self.net.lock();
        let socket = stack.socket(self.handle);
        let waiting = socket.recv_queue();
        match socket.recv_slice(buffer.initialize_unfilled()) {
            Ok(0) => {
                socket.register_recv_waker(cx.waker());
                Poll::Pending
            }
            Ok(length) => {
                drop(stack);
                buffer.advance(length);
                if waiting >= WINDOW {
                    self.net.kick();
                }
                Poll::Ready(Ok(()))
            }
            Err(RecvError::Finished) => Poll::Ready(Ok(())),
            Err(RecvError::InvalidState) => Poll::Ready(Err(io::ErrorKind::ConnectionReset.into())),
        }
    }
}

impl AsyncWrite for MeshStream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut stack = self.net.lock();
        let socket = stack.socket(self.handle);
        if !socket.may_send() {
            let reset = socket.state() == State::Closed;
            let kind = if reset { io::ErrorKind::ConnectionReset } else { io::ErrorKind::BrokenPipe };
            return Poll::Ready(Err(kind.into()));
        }
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        match socket.send_slice(bytes) {
            Ok(0) => {
                socket.register_send_waker(cx.waker());
                Poll::Pending
            }
            Ok(length) => {
                drop(stack);
                self.net.kick();
                Poll::Ready(Ok(length))
            }
            Err(_) => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    /// The stack sends as soon as it may; there is nothing to be pushed.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.net.lock().socket(self.handle).close();
        self.net.kick();
        Poll::Ready(Ok(()))
    }
}

impl Drop for MeshStream {
    fn drop(&mut self) {
        self.net.lock().let_go(self.handle);
        self.net.kick();
    }
}

impl fmt::Debug for MeshStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "MeshStream({} to {})", self.local, self.peer)
    }
}
