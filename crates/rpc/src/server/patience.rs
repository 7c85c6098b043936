//! A connection that must take what is written to it. Who does not read, or a byte now and then, loses the connection:
//! what waits to be sent is held in memory.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// The least that a peer has to take, in bytes per second, beyond what its patience covers.
const LEAST: u64 = 8 * 1024;

/// A stream whose writes have a deadline.
pub(super) struct Patient<S> {
    stream: S,
    pace: Pace,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Until when the peer must have taken something.
struct Pace {
    grace: Duration,
    until: Option<Instant>,
}

impl Pace {
    /// Nothing more can be written for now.
    fn blocked(&mut self, now: Instant) -> Instant {
        let grace = self.grace;
        *self.until.get_or_insert_with(|| now + grace)
    }

    /// The peer made room. All of what was offered: it keeps up. A part: that buys the time in which it has to take more.
    fn wrote(&mut self, taken: usize, offered: usize, now: Instant) {
        let Some(until) = self.until.filter(|_| taken < offered) else {
            self.until = None;
            return;
        };
        let taken = u64::try_from(taken).unwrap_or(u64::MAX);
        let bought = Duration::from_micros(taken.saturating_mul(1_000_000) / LEAST);
        self.until = Some((until + bought).min(now + self.grace));
    }
}

impl<S> Patient<S> {
    pub(super) fn new(stream: S, grace: Duration) -> Self {
        Self { stream, pace: Pace { grace, until: None }, timer: None }
    }

    fn judge(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<usize>>,
        offered: usize,
    ) -> Poll<io::Result<usize>> {
        if let Poll::Ready(written) = written {
            if let Ok(taken) = &written {
                self.pace.wrote(*taken, offered, Instant::now());
            }
            return Poll::Ready(written);
        }
        let until = self.pace.blocked(Instant::now());
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep_until(until)));
        if timer.deadline() != until {
            timer.as_mut().reset(until);
        }
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the peer does not read what it asked for")))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.judge(cx, written, bytes.len())
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        parts: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, parts);
        self.judge(cx, written, parts.iter().map(|part| part.len()).sum())
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    const GRACE: Duration = Duration::from_secs(30);

    #[tokio::test(start_paused = true)]
    async fn who_reads_nothing_is_given_up_after_the_grace() {
        let (ours, _theirs) = duplex(1024);
        let mut patient = Patient::new(ours, GRACE);
        let begin = Instant::now();
        let error = patient.write_all(&[0; 4096]).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert_eq!(begin.elapsed(), GRACE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_byte_now_and_then_is_not_enough() {
        let (ours, mut theirs) = duplex(1024);
        let mut patient = Patient::new(ours, GRACE);
        tokio::spawn(async move {
            while theirs.read_u8().await.is_ok() {
                tokio::time::sleep(Duration::from_secs(5)).await;
            }
        });
        let begin = Instant::now();
        patient.write_all(&[0; 65_536]).await.unwrap_err();
        assert!(begin.elapsed() <= GRACE + Duration::from_secs(1), "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_thin_line_that_keeps_going_gets_everything() {
        let (ours, mut theirs) = duplex(16 * 1024);
        let mut patient = Patient::new(ours, GRACE);
        let reading = tokio::spawn(async move {
            let (mut part, mut all) = (vec![0; 16 * 1024], 0);
            loop {
                match theirs.read(&mut part).await {
                    Ok(0) | Err(_) => return all,
                    Ok(size) => all += size,
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        });
        let begin = Instant::now();
        patient.write_all(&vec![0; 1024 * 1024]).await.unwrap();
        assert!(begin.elapsed() > GRACE * 2, "longer than the grace: {:?}", begin.elapsed());
        drop(patient);
        assert_eq!(reading.await.unwrap(), 1024 * 1024);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_between_replies_counts_for_nothing() {
        let (ours, mut theirs) = duplex(1024);
        let mut patient = Patient::new(ours, GRACE);
        let mut part = [0; 1024];
        for _ in 0..5 {
            patient.write_all(&[0; 1024]).await.unwrap();
            tokio::time::sleep(GRACE * 3).await;
            theirs.read_exact(&mut part).await.unwrap();
        }
    }
}
