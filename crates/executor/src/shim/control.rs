//! The control socket: a status at once and after each change to everybody connected, and `stop` and `bye` from them.
//! Only the executor's user and root are listened to; the peer's user is told by the kernel.

use super::{
    keep::Kept,
    order::{LARGEST_LINE, ToShim},
};
use rustix::process::Signal;
use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::Shutdown,
    os::unix::net::{UnixListener, UnixStream},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

/// The most connections at once.
const CLIENTS: usize = 8;
/// How long a client may take to read what it is told.
const PATIENCE: Duration = Duration::from_secs(5);
/// The longest grace that is heeded.
const LONGEST_GRACE: Duration = Duration::from_secs(24 * 60 * 60);

/// Accepts connections until the shim ends.
pub(super) fn serve(kept: &Arc<Kept>, listener: &UnixListener, executor_uid: u32) {
    let clients = Arc::new(AtomicUsize::new(0));
    loop {
        let stream = match listener.accept() {
            Ok((stream, _)) => stream,
            Err(_) => {
                // Out of descriptors, say: try again, but not as fast as the machine can.
                std::thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        if !may_speak(&stream, executor_uid) || clients.load(Ordering::SeqCst) >= CLIENTS {
            continue;
        }
        clients.fetch_add(1, Ordering::SeqCst);
        let (kept, count) = (kept.clone(), clients.clone());
        let serving = super::spawn("client", move || {
            // A client that goes away in the middle is no news.
            let _ = converse(&kept, &stream);
            count.fetch_sub(1, Ordering::SeqCst);
        });
        if serving.is_err() {
            clients.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn may_speak(stream: &UnixStream, executor_uid: u32) -> bool {
    rustix::net::sockopt::socket_peercred(stream)
        .is_ok_and(|peer| peer.uid.is_root() || peer.uid.as_raw() == executor_uid)
}

fn converse(kept: &Arc<Kept>, stream: &UnixStream) -> io::Result<()> {
    stream.set_write_timeout(Some(PATIENCE))?;
    let writer = Arc::new(Mutex::new(stream.try_clone()?));
    let gone = Arc::new(AtomicBool::new(false));
    let pusher = super::spawn("push", {
        let (kept, writer, gone) = (kept.clone(), writer.clone(), gone.clone());
        move || push(&kept, &writer, &gone)
    })?;
    let heard = listen(kept, stream, &writer);
    gone.store(true, Ordering::SeqCst);
    kept.state.ring();
    let _ = stream.shutdown(Shutdown::Both);
    let _ = pusher.join();
    heard
}

/// Tells each change until the client is gone.
fn push(kept: &Kept, writer: &Mutex<UnixStream>, gone: &AtomicBool) {
    while !gone.load(Ordering::SeqCst) {
        let seen = match tell(kept, writer) {
            Ok(seen) => seen,
            Err(_) => {
                // The reading half notices.
                let _ = writer.lock().unwrap_or_else(PoisonError::into_inner).shutdown(Shutdown::Both);
                return;
            }
        };
        kept.state.wait_change(seen);
    }
}

fn tell(kept: &Kept, writer: &Mutex<UnixStream>) -> io::Result<u64> {
    let (status, seen) = kept.state.status(kept.log.dropped());
    let mut line = serde_json::to_vec(&status)?;
    line.push(b'\n');
    writer.lock().unwrap_or_else(PoisonError::into_inner).write_all(&line)?;
    Ok(seen)
}

fn listen(kept: &Arc<Kept>, stream: &UnixStream, writer: &Mutex<UnixStream>) -> io::Result<()> {
    let mut reader = BufReader::with_capacity(4096, stream);
    loop {
        let mut line = Vec::new();
        reader.by_ref().take(LARGEST_LINE).read_until(b'\n', &mut line)?;
        if line.last() != Some(&b'\n') {
            return Ok(());
        }
        match serde_json::from_slice(&line) {
            Ok(ToShim::Status {}) => {
                tell(kept, writer)?;
            }
            Ok(ToShim::Stop { grace_ms }) => {
                stop(kept, Duration::from_millis(grace_ms).min(LONGEST_GRACE));
            }
            Ok(ToShim::Bye {}) => {
                kept.state.say_bye();
            }
            // Of a newer program; it asks otherwise if this matters.
            Err(_) => {
                tell(kept, writer)?;
            }
        }
    }
}

fn stop(kept: &Arc<Kept>, grace: Duration) {
    let now = Instant::now();
    if !kept.state.ask_stop(now.checked_add(grace).unwrap_or(now)) {
        return;
    }
    kept.state.signal_group(Signal::TERM);
    let overdue = kept.clone();
    if super::spawn("stop", move || overdue.state.kill_when_overdue()).is_err() {
        // Without a thread there is no waiting; stopping was asked, so it is done.
        kept.state.ask_stop(now);
        kept.state.kill();
    }
}
