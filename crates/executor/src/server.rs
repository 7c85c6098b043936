//! The executor's only door for the agent: JSON lines on a socket that nobody else may open. Here is who comes in; what
//! each connection may cost is in `connection`, how many there are in `seats`.

mod connection;
mod handed;
mod lane;
mod line;
mod seats;

pub use handed::take_from_stdin;
pub(crate) use line::Lines;

use crate::Executor;
use seats::Seats;
use std::{os::unix::fs::PermissionsExt as _, path::Path, sync::Arc, time::Duration};
use tokio::net::{UnixListener, UnixStream};

/// How long those who came before have, while every place is taken, until the next one is let in.
const TURN: Duration = Duration::from_millis(5);
/// How long accepting rests after it failed.
const REST: Duration = Duration::from_millis(20);

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
    let listener = bind(path, access.agent_uid)?;
    let seats = Arc::new(Seats::default());
    loop {
        let stream = accept(&listener, |uid| may_connect(uid, access)).await;
        if seats.are_taken() {
            tokio::time::sleep(TURN).await;
        }
        tokio::spawn(connection::serve(Arc::clone(&executor), stream, seats.take()));
    }
}

/// A socket that its owner alone may open, and root anyway.
pub(crate) fn bind(path: &Path, owner: Option<u32>) -> Result<UnixListener, String> {
    let named = |error: std::io::Error| format!("{}: {error}", path.display());
    let _ = std::fs::remove_file(path);
    let listener = UnixListener::bind(path).map_err(named)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(named)?;
    std::os::unix::fs::chown(path, owner, None).map_err(named)?;
    Ok(listener)
}

/// The next connection of somebody who may. Whatever goes wrong, the next one is waited for.
pub(crate) async fn accept(listener: &UnixListener, may: impl Fn(u32) -> bool) -> UnixStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => match stream.peer_cred() {
                Ok(peer) if may(peer.uid()) => return stream,
                Ok(peer) => tracing::warn!(uid = peer.uid(), "a stranger knocked at the executor's socket"),
                Err(error) => tracing::warn!(%error, "a peer without credentials"),
            },
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                tokio::time::sleep(REST).await;
            }
        }
    }
}

fn may_connect(uid: u32, access: Access) -> bool {
    is_own(uid) || Some(uid) == access.agent_uid
}

/// Root, and whoever the executor itself runs as.
pub(crate) fn is_own(uid: u32) -> bool {
    uid == 0 || uid == rustix::process::geteuid().as_raw()
}
