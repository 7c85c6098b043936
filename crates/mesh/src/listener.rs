//! Accepting on all of a machine's mesh addresses at once, by sockets or through `allod node`. Who can't be a peer is dropped
//! before a byte is read; an error of accept is waited out.

use crate::{
    Mode,
    embedded::{Accepting, NodeStream},
    guard,
};
use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    task::{Context, Poll},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
};

/// How long a listener rests after accepts that failed, the first time and at most: out of descriptors, it would fail
/// again at once.
const REST: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));

/// A bound listener on one or several mesh addresses.
#[derive(Debug)]
pub struct Listener {
    addresses: Vec<SocketAddr>,
    by: By,
}

/// What connections come in by.
#[derive(Debug)]
enum By {
    Sockets(Sockets),
    Node(Accepting),
}

#[derive(Debug)]
struct Sockets {
    sockets: Vec<TcpListener>,
    addresses: Vec<SocketAddr>,
    mode: Mode,
    /// Which socket is asked first: each in its turn, so that a flood at one address leaves room for the others.
    first: AtomicUsize,
    /// How often accept failed for want of something on this machine.
    failures: AtomicU64,
}

impl Listener {
    /// Of sockets that were bound where [`crate::may_listen`] allows it.
    pub(crate) fn of(sockets: Vec<TcpListener>, mode: Mode) -> io::Result<Self> {
        let addresses: Vec<_> = sockets.iter().map(TcpListener::local_addr).collect::<io::Result<_>>()?;
        let first = AtomicUsize::new(0);
        let by = Sockets { sockets, addresses: addresses.clone(), mode, first, failures: AtomicU64::new(0) };
        Ok(Self { addresses, by: By::Sockets(by) })
    }

    /// Of a port that the node listens on for us.
    pub(crate) fn of_node(accepting: Accepting, addresses: Vec<SocketAddr>) -> Self {
        Self { addresses, by: By::Node(accepting) }
    }

    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// How often accepting failed since the start, for want of something on this machine.
    #[must_use]
    pub fn failures(&self) -> u64 {
        match &self.by {
            By::Sockets(sockets) => sockets.failures.load(Ordering::Relaxed),
            By::Node(accepting) => accepting.failures(),
        }
    }

    /// Resolves when nothing will come in any more, so that it is to be listened anew.
    pub(crate) async fn is_over(&self) {
        match &self.by {
            By::Sockets(_) => std::future::pending().await,
            By::Node(accepting) => accepting.is_over().await,
        }
    }

    /// The next connection from an address that may be a peer. Never fails: what goes wrong is logged and waited out.
    /// Whether the mesh knows the peer is [`crate::Mesh::whois`]'s to say.
    pub async fn accept(&self) -> Connection {
        match &self.by {
            By::Sockets(sockets) => sockets.accept().await,
            By::Node(accepting) => accepting.accept().await,
        }
    }
}

impl Sockets {
    async fn accept(&self) -> Connection {
        let mut rest = REST.0;
        loop {
            match poll_fn(|cx| self.poll_accept(cx)).await {
                Ok((stream, peer, local)) => {
                    if guard::may_be_peer(local.ip(), peer.ip(), &self.mode) {
                        return Connection::of(stream, peer, local);
                    }
                    tracing::warn!(%peer, %local, "dropped a connection from outside the mesh");
                }
                // The peer gave up before it was accepted; the next one is waiting.
                Err(error) if is_of_the_peer(&error) => {}
                Err(error) => {
                    self.failures.fetch_add(1, Ordering::Relaxed);
                    if rest == REST.0 {
                        tracing::warn!(%error, "accept failed; trying again");
                    }
                    tokio::time::sleep(rest).await;
                    rest = (rest * 2).min(REST.1);
                }
            }
        }
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<(TcpStream, SocketAddr, SocketAddr)>> {
        let first = self.first.fetch_add(1, Ordering::Relaxed).checked_rem(self.sockets.len()).unwrap_or(0);
        let sockets = self.sockets.iter().zip(&self.addresses);
        for (socket, local) in sockets.clone().skip(first).chain(sockets.take(first)) {
            if let Poll::Ready(accepted) = socket.poll_accept(cx) {
                return Poll::Ready(accepted.map(|(stream, peer)| (stream, peer, *local)));
            }
        }
        Poll::Pending
    }
}

/// Linux hands out what went wrong on the new connection's network as an error of accept; the listener is fine.
fn is_of_the_peer(error: &io::Error) -> bool {
    use io::ErrorKind::{
        ConnectionAborted, ConnectionRefused, ConnectionReset, HostUnreachable, NetworkDown,
        NetworkUnreachable, TimedOut,
    };
    matches!(
        error.kind(),
        ConnectionAborted
            | ConnectionReset
            | ConnectionRefused
            | HostUnreachable
            | NetworkDown
            | NetworkUnreachable
            | TimedOut
    )
}

/// A connection over the mesh, whatever carries it.
#[derive(Debug)]
pub struct Connection {
    stream: Carrier,
    peer: SocketAddr,
    local: SocketAddr,
}

#[derive(Debug)]
enum Carrier {
    Socket(TcpStream),
    Node(NodeStream),
}

impl Connection {
    pub(crate) fn of(stream: TcpStream, peer: SocketAddr, local: SocketAddr) -> Self {
        // Small replies must not wait for an acknowledgement; without the option they only are slower.
        let _ = stream.set_nodelay(true);
        Self { stream: Carrier::Socket(stream), peer, local }
    }

    pub(crate) fn of_node(stream: NodeStream, peer: SocketAddr, local: SocketAddr) -> Self {
        Self { stream: Carrier::Node(stream), peer, local }
    }

    /// The other side's address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.peer
    }

    /// This side's address.
    #[must_use]
    pub fn local(&self) -> SocketAddr {
        self.local
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Carrier::Socket(stream) => Pin::new(stream).poll_read(cx, buffer),
            Carrier::Node(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Carrier::Socket(stream) => Pin::new(stream).poll_write(cx, bytes),
            Carrier::Node(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }
    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Carrier::Socket(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Carrier::Node(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
        }
    }
    fn is_write_vectored(&self) -> bool {
        match &self.stream {
            Carrier::Socket(stream) => stream.is_write_vectored(),
            Carrier::Node(stream) => stream.is_write_vectored(),
        }
    }
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Carrier::Socket(stream) => Pin::new(stream).poll_flush(cx),
            Carrier::Node(stream) => Pin::new(stream).poll_flush(cx),
        }
    }
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Carrier::Socket(stream) => Pin::new(stream).poll_shutdown(cx),
            Carrier::Node(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
