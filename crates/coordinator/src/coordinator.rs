//! The coordinator as others use it: opened on a folder, served on a listener, administered by typed calls. A call that returned
//! `Ok` is stored.

use crate::{
    door,
    keys::{Keys, KeysError},
    map::Mapper,
    policy::{Policy, PolicyError},
    server::{Now, Server},
    settings::Settings,
    state::{JoinKeyRecord, JoinKeySpec, NodeRecord, Pending, Refusal, Row},
    store::{Database, Draft, Store, StoreFault},
    stun,
    view::Viewer,
};
use allod_daemon::shutdown::Shutdown;
use allod_meshproto::{
    MachineKey,
    control::NodeId,
    token::{JoinToken, RootKey, RootPrivate, SignedNoiseKey, TokenError},
};
use allod_proto::Timestamp;
use ring::rand::SystemRandom;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};
use tokio::{
    net::{TcpListener, UdpSocket},
    task::JoinSet,
};
use zeroize::Zeroizing;

/// What time brings is looked after this often.
const TICK: Duration = Duration::from_secs(5);
/// After an accept that failed.
const PAUSE: Duration = Duration::from_millis(50);
/// The file that the root key's private half is put in.
const ROOT_FILE: &str = "root.key";
/// Bytes of it.
const ROOT_BYTES: usize = 32;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
pub enum CoordinatorError {
    /// The settings.
    #[error("the settings: {0}")]
    Settings(String),
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreFault),
    /// It is refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The keys.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A join token can't be made of these parts.
    #[error(transparent)]
    Token(#[from] TokenError),
}

/// A node, and whether it is there.
#[derive(Debug, Clone)]
pub struct NodeStatus {
    /// The node.
    pub node: Arc<NodeRecord>,
    /// Whether it has a stream of maps, or had one a moment ago.
    pub is_online: bool,
}

/// A coordinator.
pub struct Coordinator {
    server: Arc<Server>,
}

impl Coordinator {
    /// Opens the network in the settings' folder, and makes one if there is none: then the root key's private half is put into
    /// `root.key` beside it, to be taken away ([`read_root_key`], [`remove_root_key`]).
    ///
    /// # Errors
    /// When the settings are wrong, the folder can't be used, or another coordinator uses it.
    pub fn open(settings: Settings, now: Now) -> Result<Self, CoordinatorError> {
        if let Some(complaint) = settings.complaint() {
            return Err(CoordinatorError::Settings(complaint));
        }
        let folder = settings.folder.clone();
        allod_store::create_folder(&folder, 0o700).map_err(StoreFault::from)?;
        let mut database = Database::open(&folder)?;
        let (mut state, keys) = database.load()?;
        let keys = match keys {
            Some(keys) => keys,
            None => {
                state.set_policy(settings.first_policy.clone())?;
                first_keys(&mut database, &folder, &state.take_rows(), now())?
            }
        };
        let draft = Draft { state, keys: Arc::new(keys) };
        let viewer = Arc::new(Viewer::new(&draft, now()));
        let (shown, clock) = (Arc::clone(&viewer), Arc::clone(&now));
        let publish = move |draft: &Draft, is_well: bool| shown.stored(draft, is_well, clock());
        let (store, _) = Store::start(database, draft, publish)?;
        let server = Server::new(viewer, store, Mapper::new(settings), now);
        Ok(Self { server: Arc::new(server) })
    }

    /// Serves until it is told to end; connections are cut then, and come back to the next one without a login.
    pub async fn serve(&self, listener: TcpListener, stun: Option<UdpSocket>, shutdown: Shutdown) {
        let mut tasks = JoinSet::new();
        if let Some(stun) = stun {
            tasks.spawn(stun::serve(stun, shutdown.clone()));
        }
        let mut views = self.server.viewer.follow();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = shutdown.requested() => break,
                _ = ticks.tick() => {
                    let server = Arc::clone(&self.server);
                    tasks.spawn(async move { server.tick().await });
                }
                changed = views.changed() => {
                    let view = Arc::clone(&views.borrow_and_update());
                    if changed.is_err() { break }
                    self.server.relay.keep(|key| {
                        view.state.node_by_key(key).is_some_and(|node| view.compiled.members().contains_key(&node.id))
                    });
                }
                Some(_) = tasks.join_next() => {}
                accepted = listener.accept() => match accepted {
                    Ok((stream, from)) => {
                        tasks.spawn(door::connection(Arc::clone(&self.server), stream, from.ip()));
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection could not be accepted");
                        tokio::time::sleep(PAUSE).await;
                    }
                }
            }
        }
        self.server.relay.restarting();
        // Long enough to send what relay clients are told.
        let _ = tokio::time::timeout(PAUSE, async { while tasks.join_next().await.is_some() {} }).await;
    }

    /// All nodes.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeStatus> {
        let view = self.server.viewer.now();
        let status = |node: &Arc<NodeRecord>| NodeStatus {
            node: Arc::clone(node),
            is_online: view.online.contains(&node.id),
        };
        view.state.nodes().values().map(status).collect()
    }

    /// The machines that wait for a person.
    #[must_use]
    pub fn waiting(&self) -> Vec<Arc<Pending>> {
        self.server.viewer.now().state.pending().cloned().collect()
    }

    /// All join keys; what lets in is not among what is known of them.
    #[must_use]
    pub fn join_keys(&self) -> Vec<Arc<JoinKeyRecord>> {
        self.server.viewer.now().state.join_keys().cloned().collect()
    }

    /// The policy.
    #[must_use]
    pub fn policy(&self) -> Arc<Policy> {
        Arc::clone(self.server.viewer.now().state.policy())
    }

    /// Who vouches for the Noise keys.
    #[must_use]
    pub fn root(&self) -> RootKey {
        self.server.viewer.now().keys.root()
    }

    /// When the network was made, as far as that is known.
    #[must_use]
    pub fn made(&self) -> Option<Timestamp> {
        self.server.viewer.now().keys.made()
    }

    /// Lets a machine in that waits.
    ///
    /// # Errors
    /// When none waits under this id, or a tag or the name is none.
    pub async fn approve(
        &self,
        id: String,
        tags: Vec<String>,
        name: Option<String>,
    ) -> Result<NodeId, CoordinatorError> {
        self.change(move |draft, now| draft.state.approve(&id, tags, name, now)).await
    }

    /// Sends a machine away that waits.
    ///
    /// # Errors
    /// When none waits under this id.
    pub async fn reject(&self, id: String) -> Result<(), CoordinatorError> {
        self.change(move |draft, _| draft.state.reject(&id)).await
    }

    /// Gives a node a name.
    ///
    /// # Errors
    /// When it is none, or another node's, or there is no such node.
    pub async fn rename(&self, node: NodeId, name: String) -> Result<(), CoordinatorError> {
        self.change(move |draft, _| draft.state.rename(node, &name)).await
    }

    /// Gives a node tags.
    ///
    /// # Errors
    /// When one is none, or there is no such node.
    pub async fn set_tags(&self, node: NodeId, tags: Vec<String>) -> Result<(), CoordinatorError> {
        self.change(move |draft, _| draft.state.set_tags(node, tags)).await
    }

    /// Sets when a node's key expires: `None` for never, a time that has passed to shut it out now.
    ///
    /// # Errors
    /// When there is no such node.
    pub async fn set_expiry(&self, node: NodeId, expiry: Option<Timestamp>) -> Result<(), CoordinatorError> {
        self.change(move |draft, _| draft.state.set_expiry(node, expiry)).await
    }

    /// Deletes a node.
    ///
    /// # Errors
    /// When there is no such node.
    pub async fn delete(&self, node: NodeId) -> Result<(), CoordinatorError> {
        self.change(move |draft, _| draft.state.delete(node)).await
    }

    /// Makes a join key. Its text is shown here and never again.
    ///
    /// # Errors
    /// When a tag is none, or there are too many keys.
    pub async fn create_join_key(
        &self,
        spec: JoinKeySpec,
    ) -> Result<(Arc<JoinKeyRecord>, Zeroizing<String>), CoordinatorError> {
        self.change(move |draft, now| draft.state.create_join_key(spec, now, &SystemRandom::new())).await
    }

    /// Revokes a join key. Nodes that it let in stay.
    ///
    /// # Errors
    /// When there is no such key.
    pub async fn revoke_join_key(&self, id: String) -> Result<(), CoordinatorError> {
        self.change(move |draft, _| draft.state.revoke_join_key(&id)).await
    }

    /// Replaces the policy, if its cases hold in it.
    ///
    /// # Errors
    /// What is wrong with it; the former one stays.
    pub async fn set_policy(&self, policy: Policy) -> Result<(), CoordinatorError> {
        self.change(move |draft, _| draft.state.set_policy(policy)).await
    }

    /// Whether a policy would be taken.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn test_policy(&self, policy: &Policy) -> Result<(), PolicyError> {
        policy.check(self.server.viewer.now().state.nodes())
    }

    /// Writes all of the network, keys and policy too, into one new file.
    ///
    /// # Errors
    /// When it can't be written.
    pub async fn backup(&self, path: PathBuf) -> Result<(), CoordinatorError> {
        Ok(self.server.store.backup(path).await?)
    }

    /// What a machine is given to join: where, whom to trust, and what lets it in.
    ///
    /// # Errors
    /// When a URL or the key can't be part of a token.
    pub fn join_token(
        &self,
        urls: Vec<String>,
        join_key: Zeroizing<String>,
    ) -> Result<JoinToken, CoordinatorError> {
        Ok(JoinToken::new(urls, self.root(), join_key)?)
    }

    /// Prepares a new Noise key, for the root key to sign wherever it is kept: its public half and the number to sign it under.
    ///
    /// # Errors
    /// When it can't be made or stored.
    pub async fn prepare_noise_key(&self) -> Result<(MachineKey, u64), CoordinatorError> {
        self.change_keys(|keys, _| keys.prepare(&SystemRandom::new())).await
    }

    /// Takes the prepared Noise key into use. The one before serves for `overlap` still, so that clients that know only it stay.
    ///
    /// # Errors
    /// When the root key did not sign it.
    pub async fn rotate_noise_key(
        &self,
        signed: SignedNoiseKey,
        overlap: Duration,
    ) -> Result<(), CoordinatorError> {
        self.change_keys(move |keys, now| keys.rotate(signed, now.plus(overlap))).await
    }

    async fn change_keys<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Keys, Timestamp) -> Result<T, KeysError> + Send + 'static,
    ) -> Result<T, CoordinatorError> {
        let now = (self.server.now)();
        let change = move |draft: &mut Draft| change(Arc::make_mut(&mut draft.keys), now);
        Ok(self.server.store.change(change).await??)
    }

    async fn change<T: Send + 'static>(
        &self,
        change: impl FnOnce(&mut Draft, Timestamp) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, CoordinatorError> {
        let now = (self.server.now)();
        Ok(self.server.store.change(move |draft| change(draft, now)).await??)
    }
}

/// Whether the root key's private half lies in a network's folder still.
#[must_use]
pub fn has_root_key(folder: &Path) -> bool {
    folder.join(ROOT_FILE).symlink_metadata().is_ok()
}

/// Reads the root key's private half in a network's folder, to be kept elsewhere.
///
/// # Errors
/// When it is not there any more, or is none.
pub fn read_root_key(folder: &Path) -> Result<RootPrivate, CoordinatorError> {
    let bytes =
        allod_store::read_beneath(folder, Path::new(ROOT_FILE), ROOT_BYTES).map_err(StoreFault::from)?;
    let bytes = Zeroizing::new(bytes);
    let seed: &[u8; ROOT_BYTES] = bytes.as_slice().try_into().map_err(|_| KeysError::Damaged)?;
    Ok(RootPrivate::import(seed)?)
}

/// Removes the root key's private half from a network's folder: from then on only who [read](read_root_key) it before has it.
///
/// # Errors
/// When it can't be removed.
pub fn remove_root_key(folder: &Path) -> Result<(), CoordinatorError> {
    allod_store::remove_file(&folder.join(ROOT_FILE)).map_err(StoreFault::from)?;
    Ok(())
}

/// The root key is on the disk before anything it signed is: a crash in between makes another one, never a network without.
fn first_keys(
    database: &mut Database,
    folder: &Path,
    rows: &[Row],
    now: Timestamp,
) -> Result<Keys, CoordinatorError> {
    let (keys, root) = Keys::generate(&SystemRandom::new(), now)?;
    allod_store::write_atomic(&folder.join(ROOT_FILE), root.export().as_ref(), 0o600)
        .map_err(StoreFault::from)?;
    database.write(rows, Some(&keys))?;
    Ok(keys)
}
