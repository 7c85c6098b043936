//! Who each program runs as. As root every program gets a user of its own, and runs from a copy of the binary that those
//! users can reach; where that can't be done everything runs as one user, and that is said.

use super::{places::Places, program::Program};
use allod_store::create_folder;
use std::{
    io,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _, chown},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// How far above the first one those of apps begin.
const APPS: u32 = 100;

/// What keeps the programs apart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Users {
    /// Nothing: one user runs all.
    One {
        /// Why.
        why: String,
    },
    /// Each its own. Two servers on one machine need different ones: an app's user is its own and nobody else's, so
    /// that whatever runs as it may be killed with it.
    Own {
        /// The agent's; the others follow.
        first: u32,
    },
}

/// Who runs what, and from which file.
#[derive(Debug, Clone)]
pub(super) struct Staff {
    /// What keeps the programs apart.
    pub(super) users: Users,
    /// The binary that runs.
    pub(super) binary: PathBuf,
    /// What it is a copy of, if it is one.
    original: Option<Original>,
}

/// The file that was copied, and what it was then.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Original {
    path: PathBuf,
    bytes: u64,
    changed: (i64, i64),
}

impl Original {
    fn at(path: &Path) -> io::Result<Self> {
        let facts = std::fs::metadata(path)?;
        Ok(Self { path: path.to_owned(), bytes: facts.len(), changed: (facts.mtime(), facts.mtime_nsec()) })
    }
}

impl Staff {
    /// Copies the binary again if the original was replaced meanwhile and its successor runs here.
    pub(super) fn renew(&mut self) -> io::Result<()> {
        let Some(known) = &self.original else { return Ok(()) };
        let now = match Original::at(&known.path) {
            Ok(now) if now != *known => now,
            // Without an original, the copy is what there is.
            Ok(_) | Err(_) => return Ok(()),
        };
        try_out(&now.path, None)?;
        let state = self.binary.parent().and_then(Path::parent).ok_or(io::ErrorKind::NotFound)?;
        copy_binary(state, &now.path)?;
        self.original = Some(now);
        Ok(())
    }
}

impl Users {
    /// The user id of a program; `None` is the supervisor's own.
    pub(super) fn of(&self, program: Program) -> Option<u32> {
        match (self, program) {
            (Self::One { .. }, _) | (Self::Own { .. }, Program::Executor) => None,
            (Self::Own { first }, Program::Agent) => Some(*first),
            (Self::Own { first }, Program::Proxy) => Some(first.saturating_add(1)),
            (Self::Own { first }, Program::Hub) => Some(first.saturating_add(2)),
            (Self::Own { first }, Program::Node) => Some(first.saturating_add(3)),
            (Self::Own { first }, Program::ClientNode) => Some(first.saturating_add(4)),
        }
    }

    /// The first user id of apps; `None` when they have none of their own.
    pub(super) fn apps(&self) -> Option<u32> {
        match self {
            Self::One { .. } => None,
            Self::Own { first } => Some(first.saturating_add(APPS)),
        }
    }
}

/// Decides, makes the folders and tries it out.
pub(super) fn settle(places: &Places, own_binary: &Path, first: u32) -> io::Result<Staff> {
    // A copy stays what it is when the original is built anew, and others can reach it.
    let copy = copy_binary(places.state(), own_binary).and_then(|copy| try_out(&copy, None).map(|()| copy));
    let original = if copy.is_ok() { Some(Original::at(own_binary)?) } else { None };
    let binary = copy.unwrap_or_else(|_| own_binary.to_owned());
    let users = if rustix::process::geteuid().is_root() {
        let own = Users::Own { first };
        match make_folders(places, &own).and_then(|()| try_out(&binary, own.of(Program::Agent))) {
            Ok(()) => own,
            Err(error) => Users::One { why: format!("programs can't get users of their own here: {error}") },
        }
    } else {
        Users::One { why: "not started as root".to_owned() }
    };
    make_folders(places, &users)?;
    Ok(Staff { users, binary, original })
}

fn copy_binary(state: &Path, binary: &Path) -> io::Result<PathBuf> {
    let folder = state.join("bin");
    create_folder(&folder, 0o755).map_err(io::Error::other)?;
    let (new, copy) = (folder.join("allod.new"), folder.join("allod"));
    std::fs::copy(binary, &new)?;
    std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755))?;
    // Instances of an earlier run may still run from the old file.
    std::fs::rename(&new, &copy)?;
    Ok(copy)
}

/// Each program's folder is its own; the agent and the proxy share two doors: the agent writes what the proxy reads, and
/// may speak to the proxy's socket.
fn make_folders(places: &Places, users: &Users) -> io::Result<()> {
    use Program::{Agent, ClientNode, Executor, Hub, Node, Proxy};
    let (routes, control) = (places.routes(), places.proxy_control());
    let [node, client] = [Node, ClientNode].map(|program| places.node(program));
    let folders = [
        (places.state().join("agent"), 0o700, Agent, Agent),
        (routes.parent().unwrap_or(&routes).to_owned(), 0o755, Agent, Agent),
        (places.state().join("proxy"), 0o700, Proxy, Proxy),
        (places.state().join("hub"), 0o700, Hub, Hub),
        (places.run().join("mesh"), 0o711, Executor, Executor),
        // Who may use a node's socket is the node's to say.
        (node.folder(), 0o700, Node, Node),
        (node.run, 0o711, Node, Node),
        (client.state.clone(), 0o755, Executor, Executor),
        (client.folder(), 0o700, ClientNode, ClientNode),
        (client.run, 0o711, ClientNode, ClientNode),
        // The agent binds its socket here, and can't take away what is not its own (sticky).
        (places.run().to_owned(), 0o1771, Executor, Agent),
        // The socket in it gets the folder's group, the agent's.
        (control.parent().unwrap_or(&control).to_owned(), 0o2710, Proxy, Agent),
        (places.run().join("i"), 0o711, Executor, Executor),
        (places.run().join("recovery"), 0o711, Executor, Executor),
    ];
    for (folder, mode, owner, group) in folders {
        if matches!(users, Users::Own { .. }) {
            create_folder(&folder, mode).map_err(io::Error::other)?;
            chown(&folder, Some(users.of(owner).unwrap_or(0)), Some(users.of(group).unwrap_or(0)))?;
            // Changing the owner takes the group bit away.
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode))?;
        } else {
            create_folder(&folder, 0o700).map_err(io::Error::other)?;
        }
    }
    Ok(())
}

/// Whether the binary runs here, as another user if one is given.
#[expect(clippy::disallowed_methods, reason = "the supervisor starts programs, here to see whether it can")]
fn try_out(binary: &Path, uid: Option<u32>) -> io::Result<()> {
    let mut command = Command::new(binary);
    command
        .arg("--version")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    if let Some(uid) = uid {
        command.uid(uid).gid(uid);
    }
    let named = |what: String| {
        let who = uid.map_or_else(String::new, |uid| format!("user id {uid}: "));
        io::Error::other(format!("{who}{}: {what}", binary.display()))
    };
    let status = command.status().map_err(|error| named(error.to_string()))?;
    if status.success() { Ok(()) } else { Err(named(status.to_string())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: u32 = 61_100;

    #[test]
    fn no_two_programs_share_a_user_when_each_has_its_own() {
        let own = Users::Own { first: FIRST };
        let mut ids: Vec<_> = Program::ALL.map(|program| own.of(program)).into();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), Program::ALL.len());
        assert_eq!(own.of(Program::Executor), None, "root stays with the executor alone");
        assert!(ids.iter().flatten().all(|id| Some(*id) < own.apps()));
    }

    #[test]
    fn a_binary_that_others_cannot_run_makes_it_one_user_and_says_why() {
        let home = tempfile::tempdir().unwrap();
        let places = Places::take(Some(home.path().join("state")), None).unwrap();
        let broken = home.path().join("broken");
        std::fs::write(&broken, "no program").unwrap();
        let staff = settle(&places, &broken, FIRST).unwrap();
        let Users::One { why } = staff.users else { panic!("{staff:?}") };
        assert!(!why.is_empty());
        assert_eq!(staff.binary, broken);
        assert!(places.state().join("agent").is_dir() && places.state().join("hub").is_dir());
    }
}
