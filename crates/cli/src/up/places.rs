//! Where `allod up` keeps things: one state folder for all programs, and a run folder for sockets, whose paths must be
//! short.

use allod_store::{Lock, StoreError, create_folder};
use ring::rand::{SecureRandom as _, SystemRandom};
use std::{
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

/// The longest run folder. What stands after it in a socket's path must fit into the 107 bytes there are.
const LONGEST_RUN: usize = 80;

/// The folders, ours alone while this lives.
#[derive(Debug)]
pub(super) struct Places {
    state: PathBuf,
    run: PathBuf,
    state_is_temporary: bool,
    _lock: Lock,
}

/// The folders of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct NodePlace {
    /// What it gets as `--state`.
    pub(super) state: PathBuf,
    /// What it gets as `--run`.
    pub(super) run: PathBuf,
}

impl NodePlace {
    /// What is its own alone.
    pub(super) fn folder(&self) -> PathBuf {
        self.state.join("node")
    }

    /// The token it is to join with, while it has not joined yet.
    pub(super) fn token(&self) -> PathBuf {
        self.folder().join("token")
    }

    /// Whom it is to believe when a coordinator is asked by https, where that isn't left to the system.
    pub(super) fn authorities(&self) -> PathBuf {
        self.folder().join(allod_proto::node::AUTHORITIES)
    }

    /// Its socket.
    pub(super) fn socket(&self) -> PathBuf {
        self.run.join(allod_proto::node::SOCKET)
    }

    /// Whether it was let in: it has a map of the mesh.
    pub(super) fn has_joined(&self) -> bool {
        self.folder().join("place/map.json").exists()
    }

    /// Whether it knows a mesh, on which it may or may not be.
    pub(super) fn knows_a_mesh(&self) -> bool {
        self.folder().join("network.json").exists()
    }
}

/// Why there is no place.
#[derive(Debug, thiserror::Error)]
pub(super) enum PlacesError {
    /// A folder could not be made or taken.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A fresh folder could not be made.
    #[error("a fresh folder {} can't be made: {source}", path.display())]
    Fresh {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl Places {
    /// Takes the folder `state`, or a fresh temporary one that is removed at the end.
    pub(super) fn take(state: Option<PathBuf>, runtime: Option<&Path>) -> Result<Self, PlacesError> {
        let temporary = std::env::temp_dir();
        let (state, state_is_temporary) = match state {
            Some(state) => (std::path::absolute(&state).unwrap_or(state), false),
            None => (fresh(&temporary)?, true),
        };
        // Others must pass through to their own folders when each program has a user of its own.
        let mode = if rustix::process::geteuid().is_root() { 0o755 } else { 0o700 };
        create_folder(&state, mode)?;
        let lock = Lock::take(&state)?;
        let beside = state.join("run");
        let run = if beside.as_os_str().len() <= LONGEST_RUN {
            create_folder(&beside, 0o711)?;
            beside
        } else {
            fresh(runtime.unwrap_or(&temporary))?
        };
        create_folder(&state.join("logs-programs"), 0o700)?;
        create_folder(&state.join("client"), 0o700)?;
        Ok(Self { state, run, state_is_temporary, _lock: lock })
    }

    /// The state folder.
    pub(super) fn state(&self) -> &Path {
        &self.state
    }

    /// The folder of sockets.
    pub(super) fn run(&self) -> &Path {
        &self.run
    }

    /// The client's home: `ALLOD_HOME`.
    pub(super) fn client(&self) -> PathBuf {
        self.state.join("client")
    }

    /// Where the agent writes what the proxy reads.
    pub(super) fn routes(&self) -> PathBuf {
        self.state.join("routes/routes.json")
    }

    /// The proxy's control socket.
    pub(super) fn proxy_control(&self) -> PathBuf {
        self.run.join("proxy/control.sock")
    }

    /// Where one of the two nodes has its folders.
    pub(super) fn node(&self, program: super::Program) -> NodePlace {
        // Below a folder that is root's alone: who listens in it is believed for that.
        let run = self.run.join("mesh");
        match program {
            super::Program::ClientNode => {
                NodePlace { state: self.state.join("client-mesh"), run: run.join("client") }
            }
            _ => NodePlace { state: self.state.clone(), run: run.join("node") },
        }
    }

    /// The log of a program.
    pub(super) fn log(&self, program: super::Program) -> PathBuf {
        self.state.join(format!("logs-programs/{program}.log"))
    }

    /// Whether the state goes at the end.
    pub(super) fn is_temporary(&self) -> bool {
        self.state_is_temporary
    }

    /// Removes what was only for this run.
    pub(super) fn clear(self) -> io::Result<()> {
        if !self.run.starts_with(&self.state) {
            remove(&self.run)?;
        }
        if self.state_is_temporary { remove(&self.state) } else { Ok(()) }
    }
}

/// A folder that was not there before, for this user alone (as root: to be passed through by others).
fn fresh(parent: &Path) -> Result<PathBuf, PlacesError> {
    let mut random = [0; 6];
    let path = |random: &[u8]| {
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        parent.join(format!("allod-{name}"))
    };
    SystemRandom::new().fill(&mut random).map_err(|_| PlacesError::Fresh {
        path: path(&random),
        source: io::Error::other("no random numbers"),
    })?;
    let path = path(&random);
    let mode = if rustix::process::geteuid().is_root() { 0o711 } else { 0o700 };
    match std::fs::DirBuilder::new().mode(mode).create(&path) {
        Ok(()) => Ok(path),
        Err(source) => Err(PlacesError::Fresh { path, source }),
    }
}

/// Releases are read-only folders, which an ordinary user must make writable to remove.
fn remove(folder: &Path) -> io::Result<()> {
    make_removable(folder)?;
    std::fs::remove_dir_all(folder)
}

fn make_removable(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let facts = std::fs::symlink_metadata(folder)?;
    if facts.permissions().mode() & 0o700 != 0o700 {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700))?;
    }
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            make_removable(&entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_second_one_on_the_same_state_is_refused_with_the_first_ones_process_id() {
        let home = tempfile::tempdir().unwrap();
        let _held = Places::take(Some(home.path().to_owned()), None).unwrap();
        let refused = Places::take(Some(home.path().to_owned()), None).unwrap_err().to_string();
        assert!(refused.contains(&format!("process {}", std::process::id())), "{refused}");
    }

    #[test]
    fn a_long_state_path_gets_its_sockets_elsewhere() {
        let home = tempfile::tempdir().unwrap();
        let long = home.path().join("x".repeat(80));
        let places = Places::take(Some(long.clone()), Some(home.path())).unwrap();
        assert!(!places.run().starts_with(&long) && places.run().starts_with(home.path()));
        let run = places.run().to_owned();
        places.clear().unwrap();
        assert!(!run.exists() && long.exists());
    }

    #[test]
    fn a_temporary_state_is_gone_at_the_end_with_its_read_only_folders() {
        let places = Places::take(None, None).unwrap();
        let state = places.state().to_owned();
        let release = state.join("releases/a");
        std::fs::create_dir_all(&release).unwrap();
        std::fs::write(release.join("file"), "x").unwrap();
        std::fs::set_permissions(&release, std::fs::Permissions::from_mode(0o555)).unwrap();
        std::fs::set_permissions(state.join("releases"), std::fs::Permissions::from_mode(0o555)).unwrap();
        assert!(places.is_temporary());
        places.clear().unwrap();
        assert!(!state.exists());
    }
}
