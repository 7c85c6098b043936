//! The coordinator that this hub runs where it is told to. It listens on its own port, which may be a public one, and answers
//! there what a coordinator answers and nothing of the hub; it needs no place on the mesh, as that place may come from it.

mod administer;
mod flags;
mod node;
mod policy;
mod tls;

pub use flags::CoordinatorFlags;
pub use policy::{FIRST as FIRST_POLICY, first as first_policy};

use allod_coordinator::{Coordinator, CoordinatorError, RelaySettings, Settings, has_root_key};
use allod_daemon::{Clock, Shutdown};
use allod_proto::{Fault, FaultCode, Timestamp};
use flags::{Stun, Url};
use serde::{Deserialize, Serialize};
use std::{
    io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::net::{TcpListener, UdpSocket};
use zeroize::Zeroizing;

/// The number of the relay's region.
const REGION: u32 = 900;
/// How often it is looked whether the certificate was renewed.
const RENEWAL: Duration = Duration::from_secs(60);
/// How long the root key's private half may lie here before no more join keys are made.
pub const ROOT_KEY_STAY: Duration = Duration::from_secs(3600);

/// Why there is no coordinator.
#[derive(Debug, thiserror::Error)]
pub enum CoordinationError {
    /// What it was told makes no sense.
    #[error("{0}")]
    Settings(String),
    /// The certificate.
    #[error(transparent)]
    Certificate(#[from] tls::CertificateError),
    /// It can't listen.
    #[error("listening on {address} for {what} failed")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// For what.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// The coordinator itself.
    #[error("the coordinator can't begin")]
    Coordinator(#[from] CoordinatorError),
}

/// Where it listens.
#[derive(Debug)]
pub struct Doors {
    listener: TcpListener,
    stun: Option<UdpSocket>,
    renewal: Option<tls::Renewal>,
}

impl Doors {
    /// Where nodes connect to.
    ///
    /// # Errors
    /// When the system doesn't know.
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// The coordinator of this hub.
pub struct Coordination {
    coordinator: Coordinator,
    urls: Vec<String>,
    domain: String,
    folder: PathBuf,
    state: PathBuf,
    clock: Clock,
    backups: tokio::sync::Mutex<()>,
}

impl std::fmt::Debug for Coordination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Coordination").field("urls", &self.urls).finish_non_exhaustive()
    }
}

/// How things stand with it, as everybody on the mesh may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CoordinatorStatus {
    /// Where nodes reach it.
    pub urls: Vec<String>,
    /// How many nodes there are.
    pub nodes: usize,
    /// How many of them are there now.
    pub online: usize,
    /// How many machines wait for a person.
    pub waiting: usize,
    /// What is to be done with the root key, while something is.
    pub root_key: Option<String>,
    /// Whether that is overdue.
    pub root_key_is_overdue: bool,
}

impl CoordinatorFlags {
    /// Opens the network in the hub's folder, or makes one, and listens; nothing without `--coordinator`.
    ///
    /// # Errors
    /// [`CoordinationError`]; nothing is made then.
    pub async fn open(
        &self,
        state: &Path,
        clock: Clock,
    ) -> Result<Option<(Arc<Coordination>, Doors)>, CoordinationError> {
        let Some(address) = self.coordinator else { return Ok(None) };
        let (tls, renewal) = self.certificate()?.map(|(pem, key)| tls::load(pem, key)).transpose()?.unzip();
        let listening = |what| move |source| CoordinationError::Listen { address, what, source };
        let listener = TcpListener::bind(address).await.map_err(listening("nodes"))?;
        let bound = listener.local_addr().map_err(listening("nodes"))?;
        let urls = self.urls(bound, tls.is_some())?;
        let stun = match self.stun(bound) {
            Stun::Off => None,
            Stun::At(address) => {
                let failed = |source| CoordinationError::Listen { address, what: "STUN", source };
                Some(UdpSocket::bind(address).await.map_err(failed)?)
            }
        };
        let stun_port = stun.as_ref().and_then(|stun| stun.local_addr().ok()).map(|stun| stun.port());
        let first = urls.first().map(Url::parts).unwrap_or_default();
        let relay =
            RelaySettings { region: REGION, name: "own".to_owned(), host: first.0, port: first.1, stun_port };
        let urls: Vec<String> = urls.into_iter().map(|url| url.text).collect();
        let folder = folder(state);
        let settings = Settings {
            folder: folder.clone(),
            url: urls.first().cloned().unwrap_or_default(),
            domain: self.domain.clone(),
            relay,
            tls,
            first_policy: first_policy().map_err(|error| CoordinationError::Settings(error.to_string()))?,
        };
        let coordinator = Coordinator::open(settings, Arc::new(move || clock.now()))?;
        // Tried now, so that no token fails later.
        coordinator.join_token(urls.clone(), Zeroizing::new("tried".to_owned()))?;
        let coordination = Coordination {
            coordinator,
            urls,
            domain: self.domain.clone(),
            folder,
            state: state.to_owned(),
            clock,
            backups: tokio::sync::Mutex::default(),
        };
        coordination.sweep();
        Ok(Some((Arc::new(coordination), Doors { listener, stun, renewal })))
    }
}

/// Takes up a certificate that was renewed. Never ends.
async fn renew(renewal: Option<tls::Renewal>) {
    let Some(renewal) = renewal else { return std::future::pending().await };
    let renewal = Arc::new(renewal);
    let mut before = None;
    loop {
        tokio::time::sleep(RENEWAL).await;
        let looking = Arc::clone(&renewal);
        let Ok(looked) = tokio::task::spawn_blocking(move || looking.look()).await else { continue };
        let complaint = match looked {
            Ok(true) => {
                tracing::info!("the certificate was renewed");
                None
            }
            Ok(false) => None,
            Err(error) => Some(error.to_string()),
        };
        if complaint != before
            && let Some(complaint) = &complaint
        {
            tracing::error!(complaint, "the certificate can't be renewed; the one before is shown");
        }
        before = complaint;
    }
}

/// The coordinator's folder.
#[must_use]
pub fn folder(state: &Path) -> PathBuf {
    state.join("hub").join("coordinator")
}

impl Coordination {
    /// Serves until it is told to end; members are told to come back.
    pub async fn serve(&self, doors: Doors, shutdown: Shutdown) {
        if let Some(sentence) = self.root_key() {
            tracing::warn!("{sentence}");
        }
        tracing::info!(urls = ?self.urls, listen = ?doors.address().ok(), stun = doors.stun.is_some(), "the coordinator begins");
        tokio::select! {
            () = self.coordinator.serve(doors.listener, doors.stun, shutdown) => {}
            () = renew(doors.renewal) => {}
        }
        tracing::info!("the coordinator ends");
    }

    /// How things stand.
    #[must_use]
    pub fn status(&self) -> CoordinatorStatus {
        let nodes = self.coordinator.nodes();
        CoordinatorStatus {
            urls: self.urls.clone(),
            nodes: nodes.len(),
            online: nodes.iter().filter(|node| node.is_online).count(),
            waiting: self.coordinator.waiting().len(),
            root_key: self.root_key(),
            root_key_is_overdue: self.root_key_is_overdue(),
        }
    }

    /// What is to be done with the root key, while its private half lies here.
    fn root_key(&self) -> Option<String> {
        let command = take_command(&self.state);
        has_root_key(&self.folder).then(|| {
            format!(
                "the private half of the network's root key lies on this machine, where nothing needs it and a thief wants it: \
                 take it away with `{command}`"
            )
        })
    }

    fn root_key_is_overdue(&self) -> bool {
        has_root_key(&self.folder) && is_overdue(self.coordinator.made(), self.clock.now())
    }

    fn refuse_overdue(&self) -> Result<(), Fault> {
        if !self.root_key_is_overdue() {
            return Ok(());
        }
        let message = "no join key is made while the network's root key lies on this machine";
        let hint = format!("take it away first: {}", take_command(&self.state));
        Err(Fault::new(FaultCode::Conflict, message).hint(hint))
    }
}

/// The command that takes the root key away.
#[must_use]
pub fn take_command(state: &Path) -> String {
    let elsewhere = state != Path::new(crate::program::STATE);
    let state = if elsewhere { format!("--state {} ", state.display()) } else { String::new() };
    format!("allod hub {state}root-key take --to FILE")
}

/// A network without a time of its making is an old one.
fn is_overdue(made: Option<Timestamp>, now: Timestamp) -> bool {
    made.is_none_or(|made| now.since(made) >= ROOT_KEY_STAY)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_key_may_stay_for_an_hour_and_no_longer() {
        let made = Timestamp(1_800_000_000_000);
        assert!(is_overdue(Some(made), made.plus(ROOT_KEY_STAY)) && is_overdue(None, made));
        assert!(!is_overdue(Some(made), made.plus(ROOT_KEY_STAY).minus(Duration::from_secs(1))));
        assert!(!is_overdue(Some(made), made), "the first minutes work");
    }

    #[test]
    fn the_command_names_the_folder_where_it_isnt_the_usual_one() {
        assert_eq!(take_command(Path::new(crate::program::STATE)), "allod hub root-key take --to FILE");
        assert_eq!(take_command(Path::new("s")), "allod hub --state s root-key take --to FILE");
    }
}
