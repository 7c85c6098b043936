//! What the programs print: a file for each, bounded by one older half, and its last lines for when a start fails.

use std::{
    collections::VecDeque,
    fs::{File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};
use tokio::io::{AsyncRead, AsyncReadExt as _};

/// A file of this size becomes the older half.
const HALF: u64 = 4 * 1024 * 1024;
const TAIL_LINES: usize = 20;
const TAIL_LINE: usize = 400;

/// The log of one program.
#[derive(Debug, Clone)]
pub(super) struct ProgramLog {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    half: u64,
    file: Option<File>,
    size: u64,
    tail: VecDeque<String>,
    unfinished: Vec<u8>,
}

impl ProgramLog {
    /// The log at `path`, which goes on where it ended. Nothing is opened before something is printed.
    pub(super) fn at(path: PathBuf) -> Self {
        Self::with_half(path, HALF)
    }

    fn with_half(path: PathBuf, half: u64) -> Self {
        let inner = Inner { path, half, file: None, size: 0, tail: VecDeque::new(), unfinished: Vec::new() };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Copies all that comes, until the last writer is gone. A disk that refuses costs lines, never the program.
    pub(super) async fn fill_from(self, mut source: impl AsyncRead + Unpin) {
        let mut buffer = vec![0; 16 * 1024];
        while let Ok(count) = source.read(&mut buffer).await {
            let Some(bytes) = buffer.get(..count).filter(|bytes| !bytes.is_empty()) else { return };
            let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
            inner.remember(bytes);
            if inner.write(bytes).is_err() {
                inner.file = None;
            }
        }
    }

    /// The last lines.
    pub(super) fn tail(&self) -> Vec<String> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let unfinished = Some(&inner.unfinished).filter(|rest| !rest.is_empty()).map(|rest| show(rest));
        inner.tail.iter().cloned().chain(unfinished).collect()
    }
}

impl Inner {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.size >= self.half {
            self.file = None;
            std::fs::rename(&self.path, older(&self.path))?;
        }
        let file = match &mut self.file {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().append(true).create(true).mode(0o600).open(&self.path)?;
                self.size = file.metadata()?.len();
                self.file.insert(file)
            }
        };
        file.write_all(bytes)?;
        self.size = self.size.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        Ok(())
    }

    fn remember(&mut self, bytes: &[u8]) {
        for part in bytes.split_inclusive(|byte| *byte == b'\n') {
            let room = TAIL_LINE.saturating_sub(self.unfinished.len());
            self.unfinished.extend(part.iter().filter(|byte| **byte != b'\n').take(room));
            if part.ends_with(b"\n") {
                if self.tail.len() >= TAIL_LINES {
                    self.tail.pop_front();
                }
                let line = std::mem::take(&mut self.unfinished);
                self.tail.push_back(show(&line));
            }
        }
    }
}

fn show(line: &[u8]) -> String {
    String::from_utf8_lossy(line).into_owned()
}

fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_log_that_cannot_be_written_costs_lines_and_no_more() {
        let log = ProgramLog::at(PathBuf::from("/nonexistent/folder/agent.log"));
        log.clone().fill_from(&b"first\nsecond\n"[..]).await;
        assert_eq!(log.tail(), ["first", "second"]);
    }

    #[tokio::test]
    async fn a_log_never_outgrows_its_two_halves() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("agent.log");
        let log = ProgramLog::with_half(path.clone(), 100);
        for _ in 0..50 {
            log.clone().fill_from(&b"0123456789012345678\n"[..]).await;
        }
        let size = |path: &Path| std::fs::metadata(path).unwrap().len();
        assert!(size(&path) <= 120 && size(&older(&path)) <= 120);
    }

    #[tokio::test]
    async fn the_tail_is_the_last_lines_also_of_one_that_has_no_end() {
        let log = ProgramLog::at(PathBuf::from("/nonexistent/folder/agent.log"));
        let many: String = (0..100).map(|number| format!("line {number}\n")).collect();
        log.clone().fill_from(many.as_bytes()).await;
        log.clone().fill_from("x".repeat(10_000).as_bytes()).await;
        let tail = log.tail();
        assert_eq!((tail.len(), tail[0].as_str()), (TAIL_LINES + 1, "line 80"));
        assert_eq!(tail.last().unwrap().len(), TAIL_LINE);
    }
}
