//! A stream through the node. When the node, or the other side of the mesh, breaks it off, reading is an error rather than an end:
//! an end is a direction that the node shuts down, a break is a socket that it closes. Linux alone lets us tell them apart, and not
//! once we have ended our own direction.

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::{
    io,
    os::fd::AsFd as _,
    pin::Pin,
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::UnixStream,
};

/// A stream, whose first bytes came with the node's answer.
#[derive(Debug)]
pub(crate) struct NodeStream {
    stream: UnixStream,
    early: Vec<u8>,
    /// How much of that was read.
    taken: usize,
    has_ended: bool,
}

impl NodeStream {
    pub(super) fn new(stream: UnixStream, early: Vec<u8>) -> Self {
        Self { stream, early, taken: 0, has_ended: false }
    }

    fn is_broken(&self) -> bool {
        if self.has_ended || !cfg!(target_os = "linux") {
            return false;
        }
        let mut asked = [PollFd::from_borrowed_fd(self.stream.as_fd(), PollFlags::empty())];
        let is_told =
            poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).is_ok_and(|count| count > 0);
        is_told && asked.iter().any(|asked| asked.revents().contains(PollFlags::HUP))
    }
}

impl AsyncRead for NodeStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        room: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let early = self.early.get(self.taken..).unwrap_or_default();
        if !early.is_empty() {
            let count = early.len().min(room.remaining());
            room.put_slice(early.get(..count).unwrap_or_default());
            self.taken = self.taken.saturating_add(count);
            if self.taken >= self.early.len() {
                self.early = Vec::new();
                self.taken = 0;
            }
            return Poll::Ready(Ok(()));
        }
        let before = room.filled().len();
        let is_asked = room.remaining() > 0;
        match Pin::new(&mut self.stream).poll_read(cx, room) {
            Poll::Ready(Ok(())) if is_asked && room.filled().len() == before && self.is_broken() => {
                Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()))
            }
            other => other,
        }
    }
}

impl AsyncWrite for NodeStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, parts)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.has_ended = true;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    async fn ends(break_off: bool) -> (Vec<u8>, io::Result<usize>) {
        let (mut node, program) = UnixStream::pair().unwrap();
        let mut stream = NodeStream::new(program, b"first ".to_vec());
        node.write_all(b"then").await.unwrap();
        let mut kept = None;
        if break_off {
            drop(node);
        } else {
            node.shutdown().await.unwrap();
            kept = Some(node);
        }
        let mut said = Vec::new();
        let outcome = stream.read_to_end(&mut said).await;
        drop(kept);
        (said, outcome)
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_stream_that_breaks_off_is_an_error_after_what_was_said() {
        let (said, outcome) = ends(true).await;
        assert_eq!(said, b"first then");
        assert_eq!(outcome.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    }

    #[tokio::test]
    async fn a_stream_that_ends_is_an_end() {
        let (said, outcome) = ends(false).await;
        assert_eq!((said.as_slice(), outcome.unwrap()), (&b"first then"[..], 10));
    }
}
