//! What carries a connection: a stream on the mesh, or, between two programs of this machine, one in memory that behaves alike.

use allod_meshnode::MeshStream;
use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};
use tokio::io::{AsyncRead, AsyncWrite, DuplexStream, ReadBuf};

/// Bytes on their way between two programs of this machine, each way.
const BUFFER: usize = 64 * 1024;

/// A connection, whatever carries it.
#[derive(Debug)]
pub(crate) enum Stream {
    Mesh(MeshStream),
    Own(OwnStream),
}

/// One end of a connection of this machine with itself.
#[derive(Debug)]
pub(crate) struct OwnStream {
    bytes: DuplexStream,
    is_reset: Arc<AtomicBool>,
}

/// A connection that came in, with its two ends.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) stream: Stream,
    pub(crate) peer: SocketAddr,
    pub(crate) local: SocketAddr,
}

impl Incoming {
    pub(crate) fn of_mesh(stream: MeshStream) -> Self {
        let (peer, local) = (stream.peer_addr(), stream.local_addr());
        Self { stream: Stream::Mesh(stream), peer, local }
    }
}

impl Stream {
    /// Two ends of a connection within this machine.
    pub(crate) fn pair() -> (Self, Self) {
        let (one, other) = tokio::io::duplex(BUFFER);
        let is_reset = Arc::new(AtomicBool::new(false));
        let end = |bytes| Self::Own(OwnStream { bytes, is_reset: Arc::clone(&is_reset) });
        (end(one), end(other))
    }

    /// Ends both directions, so that the other side sees an error and no end.
    pub(crate) fn reset(self) {
        match self {
            Self::Mesh(stream) => stream.reset(),
            Self::Own(stream) => stream.is_reset.store(true, Ordering::Release),
        }
    }
}

impl OwnStream {
    fn check(&self) -> io::Result<()> {
        if self.is_reset.load(Ordering::Acquire) {
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for OwnStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = room.filled().len();
        let read = Pin::new(&mut self.bytes).poll_read(cx, room);
        match read {
            Poll::Ready(Ok(())) if room.filled().len() == before => Poll::Ready(self.check()),
            other => other,
        }
    }
}

impl AsyncWrite for OwnStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.bytes).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.bytes).poll_shutdown(cx)
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Mesh(stream) => Pin::new(stream).poll_read(cx, room),
            Self::Own(stream) => Pin::new(stream).poll_read(cx, room),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Self::Mesh(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Own(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Mesh(stream) => Pin::new(stream).poll_flush(cx),
            Self::Own(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Self::Mesh(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Own(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_reset_is_an_error_at_the_other_end_after_what_was_sent() {
        let (mut one, mut other) = Stream::pair();
        one.write_all(b"half").await.unwrap();
        one.reset();
        let mut said = Vec::new();
        let ended = other.read_to_end(&mut said).await;
        assert_eq!(
            (said.as_slice(), ended.unwrap_err().kind()),
            (&b"half"[..], io::ErrorKind::ConnectionReset)
        );
        assert!(other.write_all(b"x").await.is_err());
    }

    #[tokio::test]
    async fn one_direction_ends_without_the_other() {
        let (mut one, mut other) = Stream::pair();
        one.write_all(b"question").await.unwrap();
        one.shutdown().await.unwrap();
        let mut said = String::new();
        other.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "question");
        other.write_all(b"answer").await.unwrap();
        drop(other);
        said.clear();
        one.read_to_string(&mut said).await.unwrap();
        assert_eq!(said, "answer");
    }
}
