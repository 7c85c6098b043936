//! Where groups are made in one hierarchy: below this process's own group, or below one that was handed over, in
//! `allod/KEY`. In version 2 a group that bounds others has no process of its own, so that whoever is in the way moves
//! into a group beside them first; but only where systemd, or who made the container, handed the group over.

use super::{
    Base,
    folder::Folder,
    places::{Place, Version, below_mount},
};
use std::{
    io,
    path::{Path, PathBuf},
};

/// Above all groups of Allod.
const ALLOD: &str = "allod";
/// Where this program itself is, with those that were started beside it, once the group above bounds others.
const PROGRAMS: &str = "programs";
/// How often it is looked who is in the way. Who is moved away may be starting another one at that moment.
const ROUNDS: u32 = 100;

/// One hierarchy, ready.
#[derive(Debug)]
pub(super) struct Root {
    base: Folder,
    home: Folder,
    key: String,
    pub(super) memory: bool,
    pub(super) processes: bool,
    pub(super) freezer: bool,
}

impl Root {
    /// Makes ready what is needed in a hierarchy, if this process may. Where `systemd` is the first process, groups of version
    /// 2 are its own, but for those that it has handed over.
    ///
    /// # Errors
    /// A clause that says why not.
    pub(super) fn open(place: &Place, wanted: &Base, key: &str, systemd: bool) -> Result<Self, String> {
        let shown = place.mount.join(&place.own);
        let failed = |error: io::Error| format!("{}: {error}", shown.display());
        let mount = Folder::open(&place.mount).map_err(failed)?;
        if mount.version != place.version {
            return Err(failed(io::Error::other("something else is mounted over it")));
        }
        let (base, home) =
            base_of(&mount, place, wanted, systemd).map_err(|why| format!("{}: {why}", shown.display()))?;
        let mut root =
            Self { base, home, key: key.to_owned(), memory: false, processes: false, freezer: false };
        let folder = root.prepare().map_err(failed)?;
        let controls = |name: &str| place.controllers.iter().any(|controller| controller == name);
        (root.memory, root.processes, root.freezer) = match place.version {
            Version::One => (controls("memory"), controls("pids"), controls("freezer")),
            Version::Two => (enables(&folder, "memory"), enables(&folder, "pids"), true),
        };
        Ok(root)
    }

    /// The folder of all groups of this state, made anew where somebody has removed it.
    pub(super) fn folder(&self) -> io::Result<Folder> {
        match self.base.below(&Path::new(ALLOD).join(&self.key)) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.prepare(),
            found => found,
        }
    }

    fn prepare(&self) -> io::Result<Folder> {
        enable(&self.base);
        let above = self.base.make(ALLOD)?;
        enable(&above);
        let folder = above.make(&self.key)?;
        enable(&folder);
        Ok(folder)
    }

    /// The path of that folder.
    pub(super) fn path(&self) -> PathBuf {
        self.base.path.join(ALLOD).join(&self.key)
    }

    /// Takes a process out of whatever group it is in, to where this program is.
    pub(super) fn take_home(&self, pid: u32) -> io::Result<()> {
        self.home.take(pid)
    }

    /// Leaves nothing behind, where nothing is left of any group.
    pub(super) fn close(&self) {
        // What is not empty stays, as it must.
        if let Ok(above) = self.base.below(Path::new(ALLOD)) {
            let _ = above.remove_empty(&self.key);
            let _ = self.base.remove_empty(ALLOD);
        }
    }
}

/// Where groups are made, and where this process is then.
fn base_of(mount: &Folder, place: &Place, wanted: &Base, systemd: bool) -> Result<(Folder, Folder), String> {
    let open = |relative: &Path| mount.below(relative).map_err(|error| error.to_string());
    let own = open(&place.own)?;
    if let Base::Below(path) = wanted {
        let path = below_mount(path).ok_or("--groups is no absolute path without . and ..")?;
        let base = mount.below(&path).map_err(|error| format!("--groups {}: {error}", path.display()))?;
        return Ok((base, own));
    }
    let is_top = place.version == Version::One || !own.has("cgroup.events");
    if is_top {
        return Ok((open(&place.own)?, own));
    }
    let ours = |folder: &Folder, relative: &Path| {
        folder.is_delegated() || (relative.as_os_str().is_empty() && folder.has("cgroup.events"))
    };
    if ours(&own, &place.own) {
        let home = move_away(&own).map_err(|error| error.to_string())?;
        return Ok((open(&place.own)?, home));
    }
    if let Some(above) = place.own.parent() {
        let parent = open(above)?;
        if ours(&parent, above) {
            return Ok((parent, own));
        }
    }
    if systemd {
        return Err("systemd has not handed this group over: Delegate=yes in the unit".to_owned());
    }
    Ok((open(&place.own)?, own))
}

/// Moves everybody who is directly in a group into one below it, where the group could bound others.
fn move_away(own: &Folder) -> io::Result<Folder> {
    let bounds = own.read("cgroup.controllers")?;
    if !bounds.split_ascii_whitespace().any(|name| matches!(name, "memory" | "pids")) {
        return own.below(Path::new(""));
    }
    vacate(own)
}

fn vacate(own: &Folder) -> io::Result<Folder> {
    let programs = own.make(PROGRAMS)?;
    for _ in 0..ROUNDS {
        let pids = own.own_pids()?;
        if pids.is_empty() {
            return Ok(programs);
        }
        for pid in pids {
            // One that has ended meanwhile is as good as moved.
            let _ = programs.take(pid);
        }
    }
    Err(io::Error::other("its processes could not be moved out of the way"))
}

/// Has the kernel bound memory and processes below a group of version 2, where it does that there. What it refuses is told
/// by [`enables`].
fn enable(folder: &Folder) {
    for name in ["memory", "pids"] {
        if folder.version == Version::Two && !enables(folder, name) {
            let _ = folder.write("cgroup.subtree_control", &format!("+{name}"));
        }
    }
}

fn enables(folder: &Folder, controller: &str) -> bool {
    let enabled = folder.read("cgroup.subtree_control").unwrap_or_default();
    enabled.split_ascii_whitespace().any(|name| name == controller)
}

#[cfg(test)]
mod tests;
