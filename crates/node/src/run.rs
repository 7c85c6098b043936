//! The program without its flags: takes the folder, finds out which mesh, takes the place there, and serves the socket until it is
//! told to end, has nothing to do, or something that must run has ended.

use crate::{
    activity::Activity,
    door::Door,
    forward::Forwards,
    network::{self, NetworkError, NetworkRecord, Wishes},
    place::Place,
    settings::Settings,
};
use allod_daemon::Shutdown;
use allod_mesh::tls::{self, TlsError};
use allod_meshnode::{
    Clock, Member, MemberError, MemberSettings, Random,
    control::{ControlSettings, ControlState, Trust},
};
use allod_proto::{Fault, node::AUTHORITIES};
use allod_store::{Lock, StoreError};
use ring::rand::SystemRandom;
use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// The folder in the node's where its place on the mesh is.
const PLACE: &str = "place";
/// How long to wait before a file that could not be written is written again.
const AGAIN: Duration = Duration::from_secs(30);

/// Why there is no node (any more).
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// A folder can't be used, or another node uses it.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Which mesh can't be told.
    #[error(transparent)]
    Network(#[from] NetworkError),
    /// There is nothing to check certificates by.
    #[error("the coordinator is asked by https")]
    Tls(#[from] TlsError),
    /// Nor who is to be believed instead of the system's authorities.
    #[error("{}", path.display())]
    Authorities {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no place on the mesh.
    #[error(transparent)]
    Member(#[from] MemberError),
    /// The socket.
    #[error("no socket at {}", path.display())]
    Socket {
        /// Where.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A port that is to be passed on.
    #[error("a port that is to be passed on")]
    Forward(#[from] Fault),
    /// A task that must run has ended: the supervisor is to start the program again.
    #[error("a part that must run has ended, so that nothing would be carried any more; the log says why")]
    Ended,
}

/// Owns the place until told to end.
///
/// # Errors
/// [`NodeError`], also for a folder that is another node's, with its process id.
pub async fn run(settings: Settings, clock: Clock, shutdown: Shutdown) -> Result<(), NodeError> {
    let folder = settings.folder.clone();
    allod_store::create_folder(&folder, 0o700)?;
    let _lock = Lock::take(&folder)?;
    allod_store::settle(&folder)?;
    let record = network(&settings)?;
    if let Some(file) = &settings.authorities {
        keep_authorities(file, &folder)?;
    }
    let random: Random = Arc::new(SystemRandom::new());
    let member = join(&settings, &record, &clock, &random)?;
    let place = Arc::new(Place::new(member, random, clock));
    let forwards = Forwards::take(&place, &settings.forwards)?;
    let door = open(&settings).await?;
    tracing::info!(socket = %door.path().display(), urls = ?record.urls, name = record.hostname, "node begins");

    let activity = Activity::new();
    let outcome = tokio::select! {
        () = door.serve(&place, &activity) => Ok(()),
        () = forwards.run(&activity) => Ok(()),
        () = forget_key(&folder, record, &place) => Ok(()),
        () = place.member().ended() => Err(NodeError::Ended),
        () = idle(&activity, settings.idle_end) => {
            tracing::info!("nobody used the mesh for a while");
            Ok(())
        }
        () = shutdown.requested() => Ok(()),
    };
    tracing::info!("node ends");
    outcome
}

/// Keeps who is to be believed, once it was tried that anybody could be by that.
fn keep_authorities(file: &Path, folder: &Path) -> Result<(), NodeError> {
    tls::client_config(Some(file))?;
    let read = std::fs::read(file);
    let pem = read.map_err(|source| NodeError::Authorities { path: file.to_owned(), source })?;
    Ok(allod_store::write_atomic(&folder.join(AUTHORITIES), &pem, 0o600)?)
}

/// Which mesh holds from now on; kept before anything is asked there.
fn network(settings: &Settings) -> Result<NetworkRecord, NodeError> {
    let known = network::load(&settings.folder)?;
    let wishes = Wishes {
        hostname: settings.hostname.clone(),
        ephemeral: settings.ephemeral,
        machine: rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    let record = network::decide(&settings.folder, known.clone(), &settings.way, &wishes)?;
    if known.as_ref() != Some(&record) {
        network::save(&settings.folder, &record)?;
    }
    Ok(record)
}

fn join(
    settings: &Settings,
    record: &NetworkRecord,
    clock: &Clock,
    random: &Random,
) -> Result<Member, NodeError> {
    let is_tls = |url: &String| url.starts_with("https://");
    let trust = match record.root {
        Some(root) => Trust::Root { root, seen: 0 },
        None if record.urls.iter().all(is_tls) => Trust::Certificate,
        None => {
            tracing::warn!(
                "the coordinator is asked by plain http without a join token: the key that it shows first is believed, and from \
                 then on no other"
            );
            Trust::FirstUse
        }
    };
    let kept = settings.folder.join(AUTHORITIES);
    let tls = match tls::client_config(Some(kept.as_path()).filter(|kept| kept.exists())) {
        Ok(tls) => Some(tls),
        Err(error) if record.urls.iter().any(is_tls) => return Err(error.into()),
        // Relays may want it; those of a coordinator that is asked by http seldom do.
        Err(error) => {
            tracing::debug!(%error, "no certificates to check relays by");
            None
        }
    };
    let control = ControlSettings {
        urls: record.urls.clone(),
        trust,
        tls,
        hostname: record.hostname.clone(),
        join_key: record.join_key.clone(),
        ephemeral: record.ephemeral,
    };
    Ok(Member::open(MemberSettings {
        folder: settings.folder.join(PLACE),
        control,
        interfaces: settings.interfaces.clone(),
        random: Arc::clone(random),
        clock: Arc::clone(clock),
    })?)
}

async fn open(settings: &Settings) -> Result<Door, NodeError> {
    let run = &settings.run;
    if !run.exists() {
        let mode = if settings.clients.is_empty() { 0o700 } else { 0o711 };
        allod_store::create_folder(run, mode)?;
    }
    Door::open(run, &settings.clients)
        .await
        .map_err(|source| NodeError::Socket { path: run.join(allod_proto::node::SOCKET), source })
}

/// Once the node is in, what let it in is of no use to it, and of use to whoever takes the disk. Never ends.
async fn forget_key(folder: &Path, mut record: NetworkRecord, place: &Place) {
    if record.join_key.is_some() {
        let mut state = place.member().control();
        // When the client has ended, so does the program.
        let _ = state.wait_for(|state| *state == ControlState::Connected).await.map(drop);
        record.join_key = None;
        while let Err(error) = network::save(folder, &record) {
            tracing::warn!(%error, "the join key is still on the disk");
            tokio::time::sleep(AGAIN).await;
        }
        tracing::info!("the node is in; its join key is forgotten");
    }
    std::future::pending().await
}

async fn idle(activity: &Activity, end: Option<Duration>) {
    match end {
        Some(span) => activity.has_been_idle(span).await,
        None => std::future::pending().await,
    }
}
