//! The socket: where it is, who may use it, how many at once. The kernel says whose program is at the other end.

use crate::{
    activity::{Activity, MOST, Open},
    place::Place,
    talk,
};
use allod_proto::{Fault, FaultCode, node::SOCKET};
use std::{
    collections::BTreeSet,
    io,
    os::unix::fs::{FileTypeExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinSet,
};

/// How long the socket rests when a connection can't be taken for want of something on this machine.
const REST: Duration = Duration::from_millis(50);

/// The bound socket; its name goes with it.
#[derive(Debug)]
pub(crate) struct Door {
    listener: UnixListener,
    path: PathBuf,
    users: BTreeSet<u32>,
}

impl Door {
    /// Binds it in `run`, for root, for our own user and for `clients`. The state folder is ours, so a socket that nobody answers
    /// is a dead node's; one that is answered is another node's, of another folder.
    pub(crate) async fn open(run: &Path, clients: &[u32]) -> io::Result<Self> {
        let path = run.join(SOCKET);
        match UnixStream::connect(&path).await {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => remove_dead(&path)?,
            Ok(_) => return Err(io::Error::new(io::ErrorKind::AddrInUse, "another node answers there")),
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(&path)?;
        // Everybody may knock where others than we are served; who is let in is decided by who they are.
        let mode = if clients.is_empty() { 0o600 } else { 0o666 };
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))?;
        let own = rustix::process::geteuid().as_raw();
        Ok(Self { listener, path, users: clients.iter().copied().chain([0, own]).collect() })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Serves until it is dropped.
    pub(crate) async fn serve(&self, place: &Arc<Place>, activity: &Activity) {
        let mut talks = JoinSet::new();
        let mut refused = BTreeSet::new();
        let mut is_failing = false;
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => {
                    is_failing = false;
                    // Whoever is refused is told beside, a few at a time: they hold nothing else up.
                    match self.admit(&stream, activity, &mut refused) {
                        Ok((user, open)) => {
                            let place = Arc::clone(place);
                            talks.spawn(async move { talk_with(stream, user, &place, open).await });
                        }
                        Err(fault) if talks.len() < MOST.saturating_mul(2) => {
                            talks.spawn(async move { drop(talk::fail(stream, fault).await) });
                        }
                        Err(_) => {}
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut is_failing, true) {
                        tracing::warn!(%error, "accept failed on the node's socket; trying again");
                    }
                    tokio::time::sleep(REST).await;
                }
            }
            while let Some(ended) = talks.try_join_next() {
                if let Err(error) = ended {
                    tracing::error!(%error, "a conversation on the node's socket failed");
                }
            }
        }
    }

    fn admit(
        &self,
        stream: &UnixStream,
        activity: &Activity,
        refused: &mut BTreeSet<u32>,
    ) -> Result<(u32, Open), Fault> {
        let user = match stream.peer_cred() {
            Ok(credentials) => credentials.uid(),
            Err(error) => {
                return Err(Fault::new(FaultCode::NotAllowed, format!("it can't be told who asks: {error}")));
            }
        };
        if !self.users.contains(&user) {
            // Once for each: whoever may not be here must not fill the log either.
            if refused.len() < MOST && refused.insert(user) {
                tracing::warn!(user, "a user that may not use this node's socket was refused");
            }
            let fault =
                Fault::new(FaultCode::NotAllowed, format!("user {user} may not use this machine's node"));
            return Err(fault.hint("it is started with --client UID for each user besides its own and root"));
        }
        match activity.of_user(user) {
            Some(open) => Ok((user, open)),
            None => Err(Fault::new(FaultCode::TooMany, "as many connections to this node as there may be")),
        }
    }
}

/// Whatever else than a socket is there is not ours to remove: binding fails.
fn remove_dead(path: &Path) -> io::Result<()> {
    let is_socket = std::fs::symlink_metadata(path)?.file_type().is_socket();
    if is_socket { std::fs::remove_file(path) } else { Ok(()) }
}

impl Drop for Door {
    fn drop(&mut self) {
        // Who comes after finds nothing rather than a socket that nobody answers.
        let _ = std::fs::remove_file(&self.path);
    }
}

async fn talk_with(stream: UnixStream, user: u32, place: &Arc<Place>, open: Open) {
    if let Err(error) = talk::serve(stream, user, place).await {
        tracing::debug!(%error, user, "a conversation on the node's socket ended early");
    }
    drop(open);
}
