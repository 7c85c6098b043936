//! The control socket: the agent asks in lines of JSON, each answered in turn. A connection that waits for a drain holds
//! up no other.

use crate::shared::Shared;
use allod_proto::{
    limits,
    routes::{ProxyAnswer, ProxyAsk, ProxyStatus},
};
use std::{
    fs, io,
    net::SocketAddr,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};

/// Binds the socket so that it never exists with another mode than it is to have: under another name first. That is 0600,
/// or 0660 in a folder whose group its maker meant to pass on (setgid): there the agent has another user, and that group.
pub(crate) fn bind(path: &Path) -> io::Result<UnixListener> {
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    let temporary = Path::new(&name);
    match fs::remove_file(temporary) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(temporary)?;
    let folder = path.parent().filter(|folder| *folder != Path::new("")).map(fs::metadata).transpose()?;
    let is_shared = folder.is_some_and(|folder| folder.permissions().mode() & 0o2000 != 0);
    fs::set_permissions(temporary, fs::Permissions::from_mode(if is_shared { 0o660 } else { 0o600 }))?;
    fs::rename(temporary, path)?;
    Ok(listener)
}

/// Answers until dropped.
pub(crate) async fn serve(listener: UnixListener, shared: Arc<Shared>, listen: Arc<[SocketAddr]>) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => {
                    let (shared, listen) = (Arc::clone(&shared), Arc::clone(&listen));
                    connections.spawn(async move {
                        if let Err(error) = connection(stream, &shared, &listen).await {
                            tracing::warn!(%error, "a control connection broke");
                        }
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "the control socket can't accept");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn connection(stream: UnixStream, shared: &Arc<Shared>, listen: &[SocketAddr]) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        line.clear();
        if (&mut stream).take(limits::LINE as u64).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let answer = match serde_json::from_slice(&line) {
            Ok(ask) => answer(ask, shared, listen).await,
            Err(error) => ProxyAnswer::Failed { message: format!("not an ask: {error}") },
        };
        let mut text = serde_json::to_vec(&answer).map_err(io::Error::other)?;
        text.push(b'\n');
        stream.get_mut().write_all(&text).await?;
    }
}

async fn answer(ask: ProxyAsk, shared: &Arc<Shared>, listen: &[SocketAddr]) -> ProxyAnswer {
    match ask {
        ProxyAsk::Load => load(shared).await,
        ProxyAsk::Drain { upstream, timeout_ms } => {
            match shared.drain(upstream, Duration::from_millis(timeout_ms)).await {
                Ok(cut) => ProxyAnswer::Drained { cut },
                Err(message) => ProxyAnswer::Failed { message },
            }
        }
        ProxyAsk::Pause { app, timeout_ms } => {
            shared.pauses.pause(app, Duration::from_millis(timeout_ms));
            ProxyAnswer::Done
        }
        ProxyAsk::Resume { app } => {
            shared.pauses.resume(&app);
            ProxyAnswer::Done
        }
        ProxyAsk::Status => ProxyAnswer::Status(ProxyStatus {
            generation: shared.generation(),
            listen: listen.to_vec(),
            requests: shared.requests.load(Ordering::Relaxed),
            in_flight: shared.in_flight.load(Ordering::Relaxed),
            own_errors: shared.own_errors.load(Ordering::Relaxed),
        }),
    }
}

async fn load(shared: &Arc<Shared>) -> ProxyAnswer {
    let shared = Arc::clone(shared);
    let loaded = tokio::task::spawn_blocking(move || shared.reload()).await;
    let message = match loaded {
        Ok(Ok(generation)) => return ProxyAnswer::Loaded { generation },
        Ok(Err(error)) => with_causes(&error),
        Err(error) => error.to_string(),
    };
    tracing::error!(message, "the routes were not loaded; those of before are served on");
    ProxyAnswer::Failed { message }
}

fn with_causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}
