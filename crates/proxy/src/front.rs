//! The client's side of a connection: bytes in and out with the timeouts hyper lacks. Between requests the connection may
//! be idle for the keep-alive time, a head that has begun must end in time, and a client that takes nothing is cut.
//! It also looks at each HTTP/1 head for the pair of length headers that hyper resolves in silence.

use crate::tls::Stream;
use bytes::{Buf, Bytes};
use memchr::{memchr_iter, memmem};
use std::{
    io,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, ready},
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

/// What the reading side and the requests know of each other.
#[derive(Debug)]
pub(crate) struct Activity(Mutex<State>);

#[derive(Debug)]
struct State {
    active: u32,
    /// Requests begun so far.
    begun: u64,
    quiet_since: Instant,
    head_since: Option<Instant>,
    verdict: Verdict,
    lingers: bool,
    /// Shortens the time a quiet connection is kept.
    quiet_bound: Option<Duration>,
}

/// What was seen in the raw head of the coming request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The head was not seen on its own, as it came together with bytes of an earlier request.
    Unseen,
    /// The head has at most one of `Content-Length` and `Transfer-Encoding`.
    Clear,
    /// The head has both.
    Both,
}

impl Activity {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self(Mutex::new(State {
            active: 0,
            begun: 0,
            quiet_since: Instant::now(),
            head_since: None,
            verdict: Verdict::Unseen,
            lingers: false,
            quiet_bound: None,
        })))
    }

    /// Begins a request; it lasts until the guard is dropped.
    pub(crate) fn begin(self: &Arc<Self>) -> (Active, Verdict) {
        let mut state = self.lock();
        state.active = state.active.saturating_add(1);
        state.begun = state.begun.wrapping_add(1);
        state.head_since = None;
        let verdict = std::mem::replace(&mut state.verdict, Verdict::Unseen);
        drop(state);
        (Active(Arc::clone(self)), verdict)
    }

    /// At the end, what the client still sends is read and dropped for a while. Closed at once, the connection would be
    /// reset, and a client that sends before it reads would never see its answer.
    pub(crate) fn linger(&self) {
        self.lock().lingers = true;
    }

    /// From now on the connection is kept for this long at most while it is quiet.
    pub(crate) fn bound_quiet(&self, bound: Duration) {
        self.lock().quiet_bound = Some(bound);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request that is not over yet.
#[derive(Debug)]
pub(crate) struct Active(Arc<Activity>);

impl Drop for Active {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.active = state.active.saturating_sub(1);
        if state.active == 0 {
            state.quiet_since = Instant::now();
            state.head_since = None;
        }
    }
}

/// How long a client may take.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    pub(crate) head: Duration,
    pub(crate) keep_alive: Duration,
    pub(crate) send: Duration,
}

#[derive(Debug)]
pub(crate) struct Front {
    stream: Stream,
    prefix: Bytes,
    activity: Arc<Activity>,
    patience: Patience,
    /// HTTP/2 sends frames at any time, so a byte begins no head there.
    has_heads: bool,
    scan: HeadScan,
    quiet_timer: Pin<Box<Sleep>>,
    send_timer: Option<Pin<Box<Sleep>>>,
    linger_timer: Option<Pin<Box<Sleep>>>,
}

const LINGER: Duration = Duration::from_secs(2);

impl Front {
    /// Serves `prefix`, which was read already, and then the stream.
    pub(crate) fn new(
        stream: Stream,
        prefix: Bytes,
        activity: Arc<Activity>,
        patience: Patience,
        is_h2: bool,
    ) -> Self {
        let quiet_timer = Box::pin(sleep_until(Instant::now() + patience.head));
        let scan = HeadScan::default();
        let (send_timer, linger_timer) = (None, None);
        Self {
            stream,
            prefix,
            activity,
            patience,
            has_heads: !is_h2,
            scan,
            quiet_timer,
            send_timer,
            linger_timer,
        }
    }

    fn saw(&mut self, new: &[u8]) {
        let mut state = self.activity.lock();
        if !self.has_heads || state.active > 0 || new.is_empty() {
            return;
        }
        state.head_since.get_or_insert_with(Instant::now);
        if let Some(verdict) = self.scan.feed(new, state.begun) {
            state.verdict = verdict;
        }
    }

    /// The moment at which a silent client is given up; `None` while a request is being answered.
    fn deadline(&self) -> Option<Instant> {
        let state = self.activity.lock();
        if state.active > 0 {
            return None;
        }
        let idle = if state.begun == 0 { self.patience.head } else { self.patience.keep_alive };
        let idle = state.quiet_bound.map_or(idle, |bound| idle.min(bound));
        let quiet = state.quiet_since + idle;
        Some(state.head_since.map_or(quiet, |since| (since + self.patience.head).min(quiet)))
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(mut deadline) = self.deadline() else { return Poll::Pending };
        loop {
            if deadline < self.quiet_timer.deadline() {
                self.quiet_timer.as_mut().reset(deadline);
            }
            ready!(self.quiet_timer.as_mut().poll(cx));
            deadline = match self.deadline() {
                None => return Poll::Pending,
                Some(deadline) if deadline <= Instant::now() => {
                    return Poll::Ready(Err(io::Error::new(
                        io::ErrorKind::TimedOut,
                        "the client was silent too long",
                    )));
                }
                Some(later) => later,
            };
            self.quiet_timer.as_mut().reset(deadline);
        }
    }

    fn watch_send<T>(&mut self, cx: &mut Context<'_>, outcome: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.send_timer = None;
            return outcome;
        }
        let patience = self.patience.send;
        let timer = self.send_timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + patience)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client takes nothing")))
    }
}

impl AsyncRead for Front {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.prefix.is_empty() {
            let part = this.prefix.split_to(this.prefix.len().min(buf.remaining()));
            this.saw(part.chunk());
            buf.put_slice(&part);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(outcome) => {
                this.saw(buf.filled().get(before..).unwrap_or_default());
                Poll::Ready(outcome)
            }
            Poll::Pending => this.poll_deadline(cx),
        }
    }
}

impl AsyncWrite for Front {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.watch_send(cx, outcome)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let outcome = Pin::new(&mut this.stream).poll_write_vectored(cx, bufs);
        this.watch_send(cx, outcome)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        if !this.activity.lock().lingers {
            return Poll::Ready(Ok(()));
        }
        let timer = this.linger_timer.get_or_insert_with(|| Box::pin(sleep_until(Instant::now() + LINGER)));
        let mut waste = [0; 16 * 1024];
        loop {
            if timer.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut waste);
            let read = ready!(this.stream.poll_read_raw(cx, &mut buf));
            if read.is_err() || buf.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }
}

/// Looks for both length headers in a head. hyper drops the `Content-Length` of such a head (RFC 9112, 6.1 lets it), so
/// the proxy can't see it in the parsed request; yet a client that sends both is broken or up to something.
#[derive(Debug, Default)]
struct HeadScan {
    pending: Vec<u8>,
    /// The request, by number, whose head was judged already.
    judged: Option<u64>,
}

impl HeadScan {
    fn feed(&mut self, new: &[u8], request: u64) -> Option<Verdict> {
        if self.judged == Some(request) {
            return None;
        }
        if self.pending.is_empty()
            && let Some(head) = whole_head(new)
        {
            self.judged = Some(request);
            return Some(judge(head));
        }
        // hyper bounds the head, and with it how often this is called.
        self.pending.extend_from_slice(new);
        let verdict = judge(whole_head(&self.pending)?);
        self.pending = Vec::new();
        self.judged = Some(request);
        Some(verdict)
    }
}

fn whole_head(bytes: &[u8]) -> Option<&[u8]> {
    let strict = memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4);
    // A bare newline ends a line too for hyper's parser.
    let end = strict.or_else(|| memmem::find(bytes, b"\n\n").map(|at| at + 2))?;
    bytes.get(..end)
}

fn judge(head: &[u8]) -> Verdict {
    let has = |name: &[u8]| {
        memchr_iter(b'\n', head).any(|at| {
            head.get(at + 1..at + 1 + name.len()).is_some_and(|start| start.eq_ignore_ascii_case(name))
        })
    };
    if has(b"transfer-encoding") && has(b"content-length") { Verdict::Both } else { Verdict::Clear }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_lengths_are_seen_however_the_head_is_cut() {
        let head =
            b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\ntransfer-ENCODING: chunked\r\n\r\n0\r\n\r\n";
        for cut in 0..head.len() {
            let mut scan = HeadScan::default();
            let (first, second) = head.split_at(cut);
            let verdict = scan.feed(first, 0).or_else(|| scan.feed(second, 0));
            assert_eq!(verdict, Some(Verdict::Both), "cut at {cut}");
        }
    }

    #[test]
    fn one_length_is_clear_and_the_body_is_not_looked_at() {
        let head = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\nContent-Length: 5\r\n\r\n";
        assert_eq!(HeadScan::default().feed(head, 0), Some(Verdict::Clear));
        let mut scan = HeadScan::default();
        assert_eq!(scan.feed(b"GET / HTTP/1.1\r\n\r\n", 0), Some(Verdict::Clear));
        assert_eq!(scan.feed(b"more", 0), None, "the head of request 0 was judged");
        assert_eq!(scan.feed(head, 1), Some(Verdict::Clear));
    }
}
