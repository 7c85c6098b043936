//! The access log: one JSON line a request, written by a thread of its own through a bounded queue. When the disk can't
//! keep up, lines are dropped and counted; requests never wait. One older file is kept. Several proxies may write to one
//! log, as when one takes over from another: each appends whole lines, and one of them sets the file aside.

use rustix::fs::{FlockOperation, flock};
use serde::Serialize;
use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel},
    },
    time::Duration,
};

const QUEUE: usize = 8_192;
const FLUSH: Duration = Duration::from_millis(500);

/// One line. Milliseconds and bytes.
#[derive(Debug, Serialize)]
pub(crate) struct Line<'l> {
    pub(crate) time: u64,
    pub(crate) client: std::net::IpAddr,
    pub(crate) host: &'l str,
    pub(crate) method: &'l str,
    pub(crate) path: &'l str,
    pub(crate) status: u16,
    pub(crate) bytes: u64,
    pub(crate) ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) app: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) unit: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) release: Option<&'l str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) upstream: Option<std::net::SocketAddr>,
    /// What the proxy itself answered with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<&'l str>,
    /// Whether the answer ended before its end.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cut: bool,
    pub(crate) request: &'l str,
}

/// Where lines go. Without a file they go nowhere.
#[derive(Debug, Default)]
pub(crate) struct AccessLog {
    queue: Option<SyncSender<Vec<u8>>>,
    writer: Option<std::thread::JoinHandle<()>>,
    dropped: AtomicU64,
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        self.queue = None;
        // The last lines are on their way until the thread has seen the end of the queue.
        if self.writer.take().is_some_and(|writer| writer.join().is_err()) {
            tracing::error!("the access log's thread panicked");
        }
    }
}

impl AccessLog {
    /// Opens the file and starts its thread, which ends when the log is dropped.
    pub(crate) fn open(path: &Path, bound: u64) -> io::Result<Self> {
        let mut file = LogFile::open(path.to_owned(), bound)?;
        let (queue, lines) = sync_channel(QUEUE);
        let writer = std::thread::Builder::new()
            .name("access-log".to_owned())
            .spawn(move || file.write_all(&lines))?;
        Ok(Self { queue: Some(queue), writer: Some(writer), dropped: AtomicU64::new(0) })
    }

    pub(crate) fn is_on(&self) -> bool {
        self.queue.is_some()
    }

    pub(crate) fn write(&self, line: &Line<'_>) {
        let Some(queue) = &self.queue else { return };
        let Ok(mut bytes) = serde_json::to_vec(line) else { return };
        bytes.push(b'\n');
        match queue.try_send(bytes) {
            Ok(()) => {}
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {
                let dropped = self.dropped.fetch_add(1, Ordering::Relaxed);
                if dropped.is_power_of_two() || dropped == 0 {
                    tracing::warn!(dropped = dropped + 1, "the access log can't keep up; lines were dropped");
                }
            }
        }
    }
}

struct LogFile {
    path: PathBuf,
    file: io::BufWriter<File>,
    bytes: u64,
    bound: u64,
}

impl LogFile {
    fn open(path: PathBuf, bound: u64) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).mode(0o640).open(&path)?;
        let bytes = file.metadata()?.len();
        Ok(Self { path, file: io::BufWriter::with_capacity(64 * 1024, file), bytes, bound })
    }

    fn write_all(&mut self, lines: &Receiver<Vec<u8>>) {
        loop {
            let outcome = match lines.recv_timeout(FLUSH) {
                Ok(line) => self.append(&line),
                Err(RecvTimeoutError::Timeout) => self.file.flush().and_then(|()| self.follow()),
                Err(RecvTimeoutError::Disconnected) => return self.end(),
            };
            if let Err(error) = outcome {
                tracing::warn!(%error, path = %self.path.display(), "the access log can't be written");
            }
        }
    }

    fn end(&mut self) {
        if let Err(error) = self.file.flush() {
            tracing::warn!(%error, path = %self.path.display(), "the access log's end can't be written");
        }
    }

    fn append(&mut self, line: &[u8]) -> io::Result<()> {
        if self.bytes > 0 && self.bytes.saturating_add(line.len() as u64) > self.bound {
            self.rotate()?;
        }
        self.file.write_all(line)?;
        self.bytes = self.bytes.saturating_add(line.len() as u64);
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        self.file.flush()?;
        // Who waits here for another finds the file moved.
        flock(self.file.get_ref(), FlockOperation::LockExclusive)?;
        if self.is_moved()? {
            return self.follow();
        }
        let mut older = self.path.clone().into_os_string();
        older.push(".1");
        std::fs::rename(&self.path, &older)?;
        self.reopen()
    }

    /// Goes on in the file that has the name now, if another proxy set ours aside.
    fn follow(&mut self) -> io::Result<()> {
        if self.is_moved()? { self.reopen() } else { Ok(()) }
    }

    fn is_moved(&self) -> io::Result<bool> {
        let ours = self.file.get_ref().metadata()?.ino();
        match std::fs::metadata(&self.path) {
            Ok(named) => Ok(named.ino() != ours),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            Err(error) => Err(error),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        *self = Self::open(self.path.clone(), self.bound)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_path_stays_on_its_line() {
        let line = Line {
            time: 1,
            client: [127, 0, 0, 1].into(),
            host: "a\nb",
            method: "GET",
            path: "/\u{1b}[2J\r\n{\"forged\":1}",
            status: 200,
            bytes: 0,
            ms: 0,
            app: None,
            unit: None,
            release: None,
            upstream: None,
            error: None,
            cut: false,
            request: "r",
        };
        let text = serde_json::to_string(&line).unwrap();
        assert!(!text.contains(|c: char| c.is_control()), "{text}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap()["path"], line.path);
    }

    #[test]
    fn two_that_write_to_one_log_lose_no_line_when_one_sets_it_aside() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let mut old = LogFile::open(path.clone(), 100).unwrap();
        let mut new = LogFile::open(path.clone(), 100).unwrap();
        old.append(b"old 1\n").unwrap();
        for at in 0..11 {
            new.append(format!("new {at:04}\n").as_bytes()).unwrap();
        }
        // The new one has set the file aside with its twelfth line, and the old one does not know.
        new.append(b"new last\n").unwrap();
        old.append(b"old 2\n").unwrap();
        old.file.flush().unwrap();
        old.append(&[&[b'x'; 95][..], b"\n"].concat()).unwrap();
        old.end();
        new.end();
        let read = |name: &str| std::fs::read_to_string(folder.path().join(name)).unwrap();
        let (log, older) = (read("access.log"), read("access.log.1"));
        assert_eq!(older.lines().count(), 13, "eleven of the new one, two of the old: {older}");
        assert_eq!(log.lines().count(), 2, "{log}");
    }

    #[test]
    fn the_log_stays_within_twice_its_bound_and_keeps_the_newest() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("access.log");
        let mut log = LogFile::open(path.clone(), 100).unwrap();
        for at in 0..50 {
            log.append(format!("line {at:04}\n").as_bytes()).unwrap();
        }
        log.end();
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("line 0049\n"));
        assert!(text.len() <= 100);
        assert!(std::fs::read(folder.path().join("access.log.1")).unwrap().len() <= 100);
    }
}
