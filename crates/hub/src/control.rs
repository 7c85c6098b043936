//! What only a person on the hub's own machine may do, through a socket in the hub's own folder: acknowledge what was
//! wrong with a record, and forget a server.

use crate::registry::Registry;
use allod_daemon::Clock;
use allod_proto::{Fault, FaultCode, Fingerprint};
use serde::{Deserialize, Serialize};
use std::{
    io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream},
};

const LINE: u64 = 4096;
const PATIENCE: Duration = Duration::from_secs(10);

/// One line to the socket.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case", deny_unknown_fields)]
pub enum ControlAsk {
    /// Take what the server says now for what counts.
    Acknowledge {
        /// Which server.
        identity: Fingerprint,
    },
    /// Forget a server.
    Forget {
        /// Which server.
        identity: Fingerprint,
    },
}

/// The socket of the hub whose folder is `folder`.
#[must_use]
pub fn socket_path(folder: &Path) -> PathBuf {
    folder.join("control.sock")
}

/// Binds the socket, for the hub's user alone. The caller holds the folder's lock, so a socket that is there is a dead one.
///
/// # Errors
/// When it can't be bound.
pub fn bind(folder: &Path) -> io::Result<UnixListener> {
    let path = socket_path(folder);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(&path)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Answers on the socket. Never ends.
pub async fn run(listener: UnixListener, registry: Arc<Registry>, clock: Clock) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let served = tokio::time::timeout(PATIENCE, serve(stream, &registry, clock)).await;
                if !matches!(served, Ok(Ok(()))) {
                    tracing::debug!("a conversation on the control socket ended early");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "accept failed on the control socket; trying again");
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

async fn serve(stream: UnixStream, registry: &Arc<Registry>, clock: Clock) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    (&mut stream).take(LINE).read_line(&mut line).await?;
    let outcome = match serde_json::from_str(&line) {
        Ok(ask) => obey(ask, registry, clock).await,
        Err(error) => Err(Fault::new(FaultCode::Malformed, error.to_string())),
    };
    let mut answer = serde_json::to_vec(&outcome)?;
    answer.push(b'\n');
    stream.write_all(&answer).await
}

async fn obey(ask: ControlAsk, registry: &Arc<Registry>, clock: Clock) -> Result<String, Fault> {
    let registry = Arc::clone(registry);
    let done = tokio::task::spawn_blocking(move || match ask {
        ControlAsk::Acknowledge { identity } => registry
            .acknowledge(&identity, clock.now())
            .map(|was| format!("acknowledged that {}; what it says now counts", was.in_words())),
        ControlAsk::Forget { identity } => registry.forget(&identity).map(|()| "forgotten".to_owned()),
    });
    done.await
        .unwrap_or_else(|_| Err(Fault::new(FaultCode::Internal, "the hub failed; its log has the cause")))
}

/// Asks the hub whose folder is `folder`. Gives a sentence about what was done.
///
/// # Errors
/// The hub's fault, or `Unreachable` when no hub answers there.
pub async fn ask(folder: &Path, ask: &ControlAsk) -> Result<String, Fault> {
    let path = socket_path(folder);
    let unreachable = |error: io::Error| {
        Fault::new(FaultCode::Unreachable, format!("no hub answers at {}: {error}", path.display()))
            .hint("is it running, and are you its user?")
    };
    let talk = async {
        let mut stream = BufReader::new(UnixStream::connect(&path).await?);
        let mut line = serde_json::to_vec(ask)?;
        line.push(b'\n');
        stream.write_all(&line).await?;
        let mut answer = String::new();
        (&mut stream).take(LINE).read_line(&mut answer).await?;
        Ok(serde_json::from_str::<Result<String, Fault>>(&answer)?)
    };
    tokio::time::timeout(PATIENCE, talk)
        .await
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map_err(unreachable)?
}
