//! The executor's only door: JSON lines from the agent, on a socket that nobody else may open.

use crate::{Executor, actions};
use allod_proto::{
    Fault, FaultCode,
    executor::{Action, Answer, Ask},
    limits,
};
use rustix::{
    io::Errno,
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};
use std::{
    io::IoSliceMut,
    mem::MaybeUninit,
    os::{
        fd::{AsFd, OwnedFd},
        unix::{fs::PermissionsExt as _, net::UnixStream as StdUnixStream},
    },
    path::Path,
    sync::Arc,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader, Interest},
    net::{UnixListener, UnixStream},
    sync::{Semaphore, mpsc},
};

const IN_FLIGHT: usize = 256;

/// Who may connect.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    /// The agent's uid, besides root and the executor's own.
    pub agent_uid: Option<u32>,
}

/// Listens on a Unix socket.
///
/// # Errors
/// A sentence when the socket can't be made.
pub async fn listen(executor: Arc<Executor>, path: &Path, access: Access) -> Result<(), String> {
    let _ = std::fs::remove_file(path);
    let named = |error: std::io::Error| format!("{}: {error}", path.display());
    let listener = UnixListener::bind(path).map_err(named)?;
    // The owner alone may connect, and that is the agent; root may anyway.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(named)?;
    std::os::unix::fs::chown(path, access.agent_uid, None).map_err(named)?;
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match stream.peer_cred() {
                Ok(peer) if may_connect(peer.uid(), access) => {
                    tokio::spawn(connection(Arc::clone(&executor), stream));
                }
                Ok(peer) => tracing::warn!(uid = peer.uid(), "a stranger knocked at the executor's socket"),
                Err(error) => tracing::warn!(%error, "a peer without credentials"),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        }
    }
}

fn may_connect(uid: u32, access: Access) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw() || Some(uid) == access.agent_uid
}

/// Takes each connection as a descriptor over the control socket on standard input. Ends when the other end closes.
///
/// # Errors
/// A sentence when standard input is no socket.
pub async fn take_from_stdin(executor: Arc<Executor>) -> Result<(), String> {
    let control =
        std::io::stdin().as_fd().try_clone_to_owned().map_err(|error| format!("standard input: {error}"))?;
    let control = StdUnixStream::from(control);
    control.set_nonblocking(true).map_err(|error| format!("standard input: {error}"))?;
    let control = UnixStream::from_std(control).map_err(|error| format!("standard input: {error}"))?;
    loop {
        control.readable().await.map_err(|error| format!("the control socket: {error}"))?;
        let received = control.try_io(Interest::READABLE, || receive(&control).map_err(std::io::Error::from));
        match received {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(format!("the control socket: {error}")),
            Ok(Received::Nothing) => {}
            Ok(Received::Connection(fd)) => take_over(&executor, fd),
            Ok(Received::Closed) => {
                tracing::info!("the control socket was closed");
                // The supervisor is gone; what runs, runs on until a signal says otherwise.
                std::future::pending::<()>().await;
            }
        }
    }
}

fn take_over(executor: &Arc<Executor>, fd: OwnedFd) {
    let stream = StdUnixStream::from(fd);
    match stream.set_nonblocking(true).and_then(|()| UnixStream::from_std(stream)) {
        Ok(stream) => {
            tokio::spawn(connection(Arc::clone(executor), stream));
        }
        Err(error) => tracing::warn!(%error, "a connection could not be taken over"),
    }
}

enum Received {
    Connection(OwnedFd),
    Nothing,
    Closed,
}

fn receive(control: &UnixStream) -> Result<Received, Errno> {
    let mut byte = [0u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(&mut byte)];
    let message =
        recvmsg(control, &mut parts, &mut ancillary, RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT)?;
    for part in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(mut fds) = part
            && let Some(fd) = fds.next()
        {
            return Ok(Received::Connection(fd));
        }
    }
    Ok(if message.bytes == 0 { Received::Closed } else { Received::Nothing })
}

/// One connection: asks are answered as they are done, many at a time, none without a bound.
async fn connection(executor: Arc<Executor>, stream: UnixStream) {
    let (read, mut write) = stream.into_split();
    let (answers, mut outgoing) = mpsc::channel::<Answer>(64);
    let writer = tokio::spawn(async move {
        while let Some(answer) = outgoing.recv().await {
            let mut line = serde_json::to_vec(&answer).unwrap_or_default();
            line.push(b'\n');
            if write.write_all(&line).await.is_err() {
                return;
            }
        }
    });
    if let Err(error) = read_asks(executor, read, answers).await {
        tracing::warn!(%error, "the agent's connection ended early");
    }
    let _ = writer.await;
}

async fn read_asks(
    executor: Arc<Executor>,
    read: tokio::net::unix::OwnedReadHalf,
    answers: mpsc::Sender<Answer>,
) -> std::io::Result<()> {
    let mut read = BufReader::new(read);
    let places = Arc::new(Semaphore::new(IN_FLIGHT));
    let mut attached = false;
    loop {
        let mut line = Vec::new();
        let limit = u64::try_from(limits::LINE).unwrap_or(u64::MAX);
        if (&mut read).take(limit).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let ask: Ask = match serde_json::from_slice(&line) {
            Ok(ask) => ask,
            Err(error) => {
                let fault = Fault::new(FaultCode::Malformed, format!("not an ask: {error}"));
                let _ = answers.send(Answer { id: 0, outcome: Err(fault), head: None }).await;
                return Ok(());
            }
        };
        if !attached && !matches!(ask.action, Action::Attach { .. }) {
            let fault = Fault::new(FaultCode::Malformed, "attach comes first on a connection");
            let _ = answers.send(Answer { id: ask.id, outcome: Err(fault), head: None }).await;
            continue;
        }
        attached = true;
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return Ok(()) };
        let (executor, answers) = (Arc::clone(&executor), answers.clone());
        tokio::spawn(async move {
            let outcome = actions::carry_out(&executor, ask.action).await;
            let head = executor.record().head().ok();
            let _ = answers.send(Answer { id: ask.id, outcome, head }).await;
            drop(place);
        });
    }
}
