//! The records of Noise as a stream of bytes. Neither way keeps more than a few records: what the other end does not take is not
//! taken from this one.

use allod_meshproto::noise::{NoiseError, Opener, RECORD_PLAINTEXT, Sealer, Session, early::EarlyReader};
use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes that are sealed at once.
const AT_ONCE: usize = RECORD_PLAINTEXT * 4;
/// Bytes that are read at once.
const READ: usize = 4096;

/// One end of a session, over an open connection.
#[derive(Debug)]
pub struct NoiseStream<I> {
    io: I,
    sealer: Sealer,
    opener: Opener,
    /// At the node's end.
    early: Option<EarlyReader>,
    plain: Vec<u8>,
    plain_read: usize,
    wire: Vec<u8>,
    wire_sent: usize,
}

impl<I> NoiseStream<I> {
    /// The coordinator's end.
    #[must_use]
    pub fn of_coordinator(io: I, session: Session) -> Self {
        let (sealer, opener) = session.split();
        let (plain, wire) = (Vec::new(), Vec::new());
        Self { io, sealer, opener, early: None, plain, plain_read: 0, wire, wire_sent: 0 }
    }

    /// The node's end, which takes off the early payload if there is one; `already` is what came after the handshake's response.
    ///
    /// # Errors
    /// `InvalidData` when that does not open.
    pub fn of_node(io: I, session: Session, already: &[u8]) -> io::Result<Self> {
        let mut stream = Self { early: Some(EarlyReader::default()), ..Self::of_coordinator(io, session) };
        stream.open(already)?;
        Ok(stream)
    }

    fn open(&mut self, sealed: &[u8]) -> io::Result<()> {
        let Some(early) = &mut self.early else {
            return self.opener.push(sealed, &mut self.plain).map_err(broken);
        };
        let mut opened = Vec::new();
        self.opener.push(sealed, &mut opened).map_err(broken)?;
        early.push(&opened, &mut self.plain).map(drop).map_err(broken)
    }
}

fn broken(error: NoiseError) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, error)
}

impl<I: AsyncWrite + Unpin> NoiseStream<I> {
    fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while let Some(rest) = self.wire.get(self.wire_sent..).filter(|rest| !rest.is_empty()) {
            let sent = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.wire_sent = self.wire_sent.saturating_add(sent);
        }
        // Given back, so that an idle connection holds no buffer.
        self.wire = Vec::new();
        self.wire_sent = 0;
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for NoiseStream<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            if let Some(rest) = this.plain.get(this.plain_read..).filter(|rest| !rest.is_empty()) {
                let (now, _) = rest.split_at(rest.len().min(into.remaining()));
                into.put_slice(now);
                this.plain_read = this.plain_read.saturating_add(now.len());
                if this.plain_read == this.plain.len() {
                    this.plain = Vec::new();
                    this.plain_read = 0;
                }
                return Poll::Ready(Ok(()));
            }
            let mut bytes = [0; READ];
            let mut read = ReadBuf::new(&mut bytes);
            ready!(Pin::new(&mut this.io).poll_read(cx, &mut read))?;
            if read.filled().is_empty() {
                let is_whole = this.opener.is_between_records();
                let cut = || io::Error::from(io::ErrorKind::UnexpectedEof);
                return Poll::Ready(if is_whole { Ok(()) } else { Err(cut()) });
            }
            this.plain.clear();
            this.plain_read = 0;
            this.open(read.filled())?;
        }
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for NoiseStream<I> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        ready!(this.poll_sent(cx))?;
        let (now, _) = bytes.split_at(bytes.len().min(AT_ONCE));
        this.sealer.seal(now, &mut this.wire).map_err(broken)?;
        if let Poll::Ready(Err(error)) = this.poll_sent(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(now.len()))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(cx))?;
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_sent(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
