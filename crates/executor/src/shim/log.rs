//! The log of an instance: lines `<unix ms> <out|err> <text>` in a bounded file. Whatever the disk does, the app is
//! never made to wait: lines that can't be written are counted, and the log says so when it can.

use allod_daemon::clock::Clock;
use rustix::fs::{CWD, Mode, OFlags};
use std::{
    fs::File,
    io::{self, Read, Write as _},
    path::PathBuf,
    sync::{Mutex, PoisonError},
};

/// The longest line; what is longer goes on in the next.
pub(super) const LINE: usize = 64 * 1024;
/// At this size the file becomes the older half.
const HALF: u64 = 8 * 1024 * 1024;
/// How much is read at once.
const PART: usize = 16 * 1024;

/// Which of the two streams a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

impl Stream {
    fn as_str(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Err => "err",
        }
    }
}

/// Cuts a stream of bytes into lines of at most [`LINE`] bytes.
#[derive(Default)]
pub(super) struct Lines {
    rest: Vec<u8>,
}

impl Lines {
    /// Gives each complete line to `take`, without its newline.
    pub(super) fn push(&mut self, mut bytes: &[u8], mut take: impl FnMut(&[u8])) {
        while !bytes.is_empty() {
            let room = LINE.saturating_sub(self.rest.len());
            let end = bytes.iter().take(room.saturating_add(1)).position(|byte| *byte == b'\n');
            let (line, after, whole) = match end {
                Some(end) => (bytes.get(..end), bytes.get(end.saturating_add(1)..), true),
                None => {
                    let cut = room.min(bytes.len());
                    (bytes.get(..cut), bytes.get(cut..), bytes.len() > room)
                }
            };
            self.rest.extend_from_slice(line.unwrap_or_default());
            bytes = after.unwrap_or_default();
            if whole {
                take(&self.rest);
                self.rest.clear();
            }
        }
    }

    /// Gives what is left when the stream ends.
    pub(super) fn finish(self, mut take: impl FnMut(&[u8])) {
        if !self.rest.is_empty() {
            take(&self.rest);
        }
    }
}

/// The log file, for both streams.
pub(super) struct Log {
    inner: Mutex<Inner>,
}

struct Inner {
    clock: Clock,
    path: PathBuf,
    half: u64,
    file: Option<(File, u64)>,
    dropped: u64,
    untold: u64,
}

impl Log {
    pub(super) fn new(path: PathBuf, clock: Clock) -> Self {
        Self::with_half(path, clock, HALF)
    }

    fn with_half(path: PathBuf, clock: Clock, half: u64) -> Self {
        let inner = Inner { clock, path, half, file: None, dropped: 0, untold: 0 };
        Self { inner: Mutex::new(inner) }
    }

    /// Writes lines that came at once.
    pub(super) fn write(&self, stream: Stream, lines: &[Vec<u8>]) {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let now = inner.now();
        let mut bytes = Vec::with_capacity(lines.iter().map(|line| line.len().saturating_add(24)).sum());
        for line in lines {
            bytes.extend_from_slice(format!("{now} {} ", stream.as_str()).as_bytes());
            bytes.extend_from_slice(line);
            bytes.push(b'\n');
        }
        let count = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        inner.tell_dropped(now);
        if inner.append(&bytes).is_err() {
            inner.dropped = inner.dropped.saturating_add(count);
            inner.untold = inner.untold.saturating_add(count);
        }
    }

    /// Lines that could not be written.
    pub(super) fn dropped(&self) -> u64 {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).dropped
    }

    /// Reads a stream to its end, line by line.
    pub(super) fn follow(&self, stream: Stream, mut source: impl Read) {
        let mut lines = Lines::default();
        let mut part = vec![0; PART];
        loop {
            let mut ready = Vec::new();
            match source.read(&mut part) {
                Ok(0) => break,
                Ok(size) => {
                    lines.push(part.get(..size).unwrap_or_default(), |line| ready.push(line.to_vec()))
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
            if !ready.is_empty() {
                self.write(stream, &ready);
            }
        }
        lines.finish(|line| self.write(stream, &[line.to_vec()]));
    }
}

impl Inner {
    /// An instance may run for years: when somebody has set the wall clock, its log follows.
    fn now(&mut self) -> u64 {
        if self.clock.stepped().is_some() {
            self.clock = Clock::start();
        }
        self.clock.now().0
    }

    fn tell_dropped(&mut self, now: u64) {
        if self.untold == 0 {
            return;
        }
        let line = format!("{now} err allod: {} lines could not be written to the log\n", self.untold);
        if self.append(line.as_bytes()).is_ok() {
            self.untold = 0;
        }
    }

    /// Appends whole lines, or nothing: what a full disk took half of is taken back.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let full = |size: u64| size > 0 && size.saturating_add(length) > self.half;
        let (mut file, mut size) = match self.file.take() {
            Some(open) => open,
            None => open(&self.path)?,
        };
        if full(size) {
            let mut older = self.path.clone().into_os_string();
            older.push(".1");
            std::fs::rename(&self.path, older)?;
            (file, size) = open(&self.path)?;
        }
        match file.write_all(bytes) {
            Ok(()) => {
                self.file = Some((file, size.saturating_add(length)));
                Ok(())
            }
            Err(error) => {
                let _ = file.set_len(size);
                Err(error)
            }
        }
    }
}

fn open(path: &PathBuf) -> io::Result<(File, u64)> {
    let flags = OFlags::WRONLY
        | OFlags::CREATE
        | OFlags::APPEND
        | OFlags::NOFOLLOW
        | OFlags::NONBLOCK
        | OFlags::CLOEXEC;
    let file: File = rustix::fs::openat(CWD, path, flags, Mode::RUSR | Mode::WUSR)?.into();
    let facts = file.metadata()?;
    if facts.is_file() { Ok((file, facts.len())) } else { Err(io::ErrorKind::InvalidInput.into()) }
}

#[cfg(test)]
mod tests;
