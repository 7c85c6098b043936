//! A byte stream inside Noise records, for HTTP/2 to run in. The early payload, if there is one, is taken off.

use allod_meshproto::noise::{NoiseError, Opener, Sealer, Session, early::EarlyReader};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes read from the wire at a time.
const READ: usize = 16 * 1024;
/// Sealed bytes that may wait to be written.
const PENDING: usize = 64 * 1024;

#[derive(Debug)]
pub(super) struct NoiseStream<T> {
    inner: T,
    opener: Opener,
    early: EarlyReader,
    sealer: Sealer,
    raw: Vec<u8>,
    opened: Vec<u8>,
    /// Plaintext that was not taken yet, from `taken` on.
    plain: Vec<u8>,
    taken: usize,
    /// Sealed bytes that were not sent yet, from `sent` on.
    wire: Vec<u8>,
    sent: usize,
}

impl<T> NoiseStream<T> {
    /// `already` is what came after the handshake's response.
    pub(super) fn new(inner: T, session: Session, already: &[u8]) -> io::Result<Self> {
        let (sealer, opener) = session.split();
        let mut stream = Self {
            inner,
            opener,
            early: EarlyReader::default(),
            sealer,
            raw: vec![0; READ],
            opened: Vec::new(),
            plain: Vec::new(),
            taken: 0,
            wire: Vec::new(),
            sent: 0,
        };
        stream.open(already)?;
        Ok(stream)
    }

    fn open(&mut self, sealed: &[u8]) -> io::Result<()> {
        self.opener.push(sealed, &mut self.opened).map_err(broken)?;
        self.early.push(&self.opened, &mut self.plain).map_err(broken)?;
        self.opened.clear();
        Ok(())
    }
}

fn broken(error: NoiseError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<T: AsyncWrite + Unpin> NoiseStream<T> {
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.wire.get(self.sent..).filter(|rest| !rest.is_empty()) {
            let count = ready!(Pin::new(&mut self.inner).poll_write(cx, rest))?;
            if count == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent = self.sent.saturating_add(count);
        }
        self.wire.clear();
        self.sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for NoiseStream<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let rest = this.plain.get(this.taken..).unwrap_or_default();
            if !rest.is_empty() {
                let count = rest.len().min(into.remaining());
                into.put_slice(rest.get(..count).unwrap_or_default());
                this.taken = this.taken.saturating_add(count);
                return Poll::Ready(Ok(()));
            }
            this.plain.clear();
            this.taken = 0;
            let mut raw = std::mem::take(&mut this.raw);
            let mut reading = ReadBuf::new(&mut raw);
            let read = Pin::new(&mut this.inner).poll_read(cx, &mut reading);
            let count = reading.filled().len();
            let opened = this.open(raw.get(..count).unwrap_or_default());
            this.raw = raw;
            opened?;
            ready!(read)?;
            if count == 0 {
                // Cut in the middle of a record is not an end that the other side chose.
                let whole = this.opener.is_between_records();
                return Poll::Ready(if whole { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) });
            }
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for NoiseStream<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.wire.len().saturating_sub(this.sent) >= PENDING {
            ready!(this.poll_drain(cx))?;
        }
        let part = bytes.get(..bytes.len().min(READ)).unwrap_or_default();
        this.sealer.seal(part, &mut this.wire).map_err(broken)?;
        // What can't go now goes with the next write or flush.
        if let Poll::Ready(Err(error)) = this.poll_drain(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(part.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(this.poll_drain(cx))?;
        Pin::new(&mut this.inner).poll_shutdown(cx)
    }
}
