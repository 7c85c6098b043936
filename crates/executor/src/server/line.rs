//! Lines from a peer that may be anybody: bounded in bytes and in time, and whole. One that was cut off is none.

use allod_proto::{Fault, FaultCode};
use std::time::Duration;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, BufReader},
    time::timeout,
};

/// Why there is no line.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Cut {
    /// It is longer than allowed.
    #[error("a line has more than {0} bytes")]
    TooLong(usize),
    /// It was begun and not ended in time, or not begun in time.
    #[error("a line did not come within {} s", .0.as_secs())]
    TooSlow(Duration),
    /// The peer left in the middle of it.
    #[error("a line has no end")]
    Torn,
    /// The socket failed.
    #[error(transparent)]
    Io(#[from] std::io::Error),
}

impl Cut {
    /// As what the peer is told.
    pub(crate) fn to_fault(&self) -> Fault {
        let code = match self {
            Self::TooLong(_) => FaultCode::TooLarge,
            Self::TooSlow(_) => FaultCode::Timeout,
            Self::Torn | Self::Io(_) => FaultCode::Malformed,
        };
        Fault::new(code, self.to_string())
    }
}

/// What a peer writes, line by line.
#[derive(Debug)]
pub(crate) struct Lines<R> {
    read: BufReader<R>,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Of this peer.
    pub(crate) fn new(read: R) -> Self {
        Self { read: BufReader::new(read) }
    }

    /// The next line with its newline, of at most `limit` bytes; `None` when the peer has said all. From its first byte
    /// on, a line has `time`; for the first byte itself there is no bound.
    ///
    /// # Errors
    /// [`Cut`] when there is none: what came of it is gone.
    pub(crate) async fn next(&mut self, limit: usize, time: Duration) -> Result<Option<Vec<u8>>, Cut> {
        if self.read.fill_buf().await?.is_empty() {
            return Ok(None);
        }
        timeout(time, self.rest(limit)).await.map_err(|_| Cut::TooSlow(time))?.map(Some)
    }

    async fn rest(&mut self, limit: usize) -> Result<Vec<u8>, Cut> {
        let mut line = Vec::new();
        let most = u64::try_from(limit).unwrap_or(u64::MAX);
        (&mut self.read).take(most).read_until(b'\n', &mut line).await?;
        match line.last() {
            Some(b'\n') => Ok(line),
            _ if line.len() >= limit => Err(Cut::TooLong(limit)),
            _ => Err(Cut::Torn),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncWriteExt as _;

    const TIME: Duration = Duration::from_secs(20);

    #[tokio::test(start_paused = true)]
    async fn half_a_line_and_then_silence_is_too_slow_and_silence_alone_is_not() {
        let (mut peer, ours) = tokio::io::duplex(64);
        let mut lines = Lines::new(ours);
        let silent = tokio::time::timeout(TIME * 1000, lines.next(100, TIME)).await;
        assert!(silent.is_err(), "silence has no bound of its own");
        peer.write_all(b"half").await.unwrap();
        assert!(matches!(lines.next(100, TIME).await, Err(Cut::TooSlow(_))));
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_at_a_time_is_a_line_only_if_it_ends_in_time() {
        for (pause, comes) in [(1, true), (5, false)] {
            let (mut peer, ours) = tokio::io::duplex(64);
            let writing = async {
                for byte in b"slow\n" {
                    if peer.write_all(&[*byte]).await.is_err() {
                        return;
                    }
                    tokio::time::sleep(Duration::from_secs(pause)).await;
                }
            };
            let mut lines = Lines::new(ours);
            let (line, ()) = tokio::join!(lines.next(100, TIME), writing);
            assert_eq!(line.is_ok(), comes, "{line:?}");
        }
    }

    #[tokio::test]
    async fn a_line_over_the_limit_is_refused_at_the_limit_and_one_without_an_end_is_none() {
        let read = |text: &'static [u8]| async move { Lines::new(text).next(8, TIME).await };
        assert!(matches!(read(b"12345678\n").await, Err(Cut::TooLong(8))));
        assert!(matches!(read(b"123456789012345").await, Err(Cut::TooLong(8))));
        assert!(matches!(read(b"1234567").await, Err(Cut::Torn)));
        assert_eq!(read(b"1234567\n").await.unwrap(), Some(b"1234567\n".to_vec()));
        assert_eq!(read(b"").await.unwrap(), None);
    }
}
