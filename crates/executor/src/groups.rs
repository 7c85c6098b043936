//! Control groups for what the executor starts: a run of a named command and an instance of an app each have one. It bounds
//! what the whole tree uses, and nothing in the tree can get away from being killed. A shim is put into the group before it
//! hears what to start, makes the process there that will be the program, and is taken out again, so that it neither counts nor
//! dies with it. Where no groups can be made, that is said, and trees are found by descent.

mod folder;
mod group;
mod places;
mod root;

pub use group::{Bounds, Group};

use allod_proto::{Digest, InstanceId, named::OVER_MEMORY};
use folder::Folder;
use places::{Place, Version};
use root::Root;
use std::{
    collections::BTreeSet,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

/// Where it is said that systemd is the first process, sd_booted(3).
const SYSTEMD: &str = "/run/systemd/system";
/// How long what is left in a group may take to die.
const DYING: Duration = Duration::from_secs(10);
/// How long what an earlier life left may take to die.
const LEFTOVERS: Duration = Duration::from_secs(5);

/// Where groups are to be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Base {
    /// Below the executor's own.
    Own,
    /// Below this one, a path as in `/proc/self/cgroup`: in each hierarchy.
    Below(PathBuf),
    /// Nowhere.
    None,
}

impl std::str::FromStr for Base {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "own" => Ok(Self::Own),
            "none" => Ok(Self::None),
            path => places::below_mount(Path::new(path))
                .map(|_| Self::Below(path.into()))
                .ok_or("neither own nor none nor an absolute path such as /allod"),
        }
    }
}

/// Whose a group is.
#[derive(Debug, Clone, Copy)]
pub enum Whose<'a> {
    /// A run of a named command: made before anybody knows which.
    Run(u64),
    /// An instance of an app, or what runs once for it.
    App(&'a InstanceId),
    /// A health check of an instance; with a number, as there may be two at once.
    Check(&'a InstanceId, u32),
}

impl std::fmt::Display for Whose<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Run(number) => write!(f, "run-{number:016x}"),
            Self::App(id) => write!(f, "app-{id}"),
            Self::Check(id, number) => write!(f, "check-{id}-{number:08x}"),
        }
    }
}

/// What there is of control groups on this machine, for one state folder.
#[derive(Debug)]
pub struct Groups {
    roots: Vec<Root>,
    /// What can't be used, and why.
    complaints: Vec<String>,
}

impl Groups {
    /// Finds out where groups can be made, and makes ready what they are made in.
    #[must_use]
    pub fn open(base: &Base, state: &Path) -> Self {
        let none = |why: String| Self { roots: Vec::new(), complaints: vec![why] };
        if *base == Base::None {
            return none("they are turned off: --groups none".to_owned());
        }
        let key = match key(state) {
            Ok(key) => key,
            Err(error) => return none(format!("{}: {error}", state.display())),
        };
        let read = |path: &str| std::fs::read(path).unwrap_or_default();
        let places = places::parse(&read("/proc/self/cgroup"), &read("/proc/self/mountinfo"));
        Self::at(places, base, &key)
    }

    fn at(places: Vec<Place>, base: &Base, key: &str) -> Self {
        let useful = |name: &String| matches!(name.as_str(), "memory" | "pids" | "freezer");
        let systemd = Path::new(SYSTEMD).exists();
        let (mut roots, mut complaints) = (Vec::new(), Vec::new());
        for place in places {
            if place.version == Version::One && !place.controllers.iter().any(useful) {
                continue;
            }
            match Root::open(&place, base, key, systemd) {
                Ok(root) => roots.push(root),
                Err(why) => complaints.push(why),
            }
        }
        if roots.is_empty() && complaints.is_empty() {
            complaints.push("none are mounted here".to_owned());
        }
        Self { roots, complaints }
    }

    /// Whether groups can be made at all.
    #[must_use]
    pub fn can_be_made(&self) -> bool {
        !self.roots.is_empty()
    }

    /// Whether they bound memory.
    #[must_use]
    pub fn bound_memory(&self) -> bool {
        self.roots.iter().any(|root| root.memory)
    }

    /// Whether they bound processes.
    #[must_use]
    pub fn bound_processes(&self) -> bool {
        self.roots.iter().any(|root| root.processes)
    }

    /// Why something of it is missing.
    #[must_use]
    pub fn why_not(&self) -> String {
        match self.complaints.as_slice() {
            [] => "the kernel offers no such controller to the executor's control group".to_owned(),
            complaints => format!("no control groups: {}", complaints.join("; ")),
        }
    }

    /// What of a run or an instance has no bound here, and why; nothing where all has.
    #[must_use]
    pub fn unbounded(&self) -> Option<String> {
        let what = match (self.bound_memory(), self.bound_processes()) {
            (true, true) => return None,
            (false, true) => "memory has",
            (true, false) => "the number of processes has",
            (false, false) => "memory and the number of processes have",
        };
        Some(format!("{what} no bound: {}", self.why_not()))
    }

    /// Makes a group with its bounds; `None` where none can be made here.
    ///
    /// # Errors
    /// What the kernel refuses, although it let groups be made before.
    pub fn make(&self, whose: Whose<'_>, bounds: Bounds) -> io::Result<Option<Group>> {
        if self.roots.is_empty() {
            return Ok(None);
        }
        let name = whose.to_string();
        let make = |root: &Root| root.folder()?.make(&name);
        let parts: io::Result<Vec<Folder>> = self.roots.iter().map(make).collect();
        let made = parts.map(Group::of).and_then(|group| group.bound(bounds).map(|()| group));
        if made.is_err() {
            let _ = self.find(&name).remove();
        }
        made.map(Some)
    }

    /// The folders that [`Groups::make`] makes.
    #[must_use]
    pub fn paths(&self, whose: Whose<'_>) -> Vec<PathBuf> {
        self.roots.iter().map(|root| root.path().join(whose.to_string())).collect()
    }

    /// Puts a shim into a group that has yet to hear what to start. It must be this process's own child, not collected.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn enter(&self, group: &Group, shim: u32) -> io::Result<()> {
        group.take(shim)
    }

    /// Takes a shim out again, once its launcher is there: to where this process is.
    ///
    /// # Errors
    /// What the kernel refuses.
    pub fn leave(&self, shim: u32) -> io::Result<()> {
        self.roots.iter().try_for_each(|root| root.take_home(shim))
    }

    /// Kills and removes what an earlier life left, but for what `keeps` says is somebody's: instances survive their
    /// executor, runs do not. Says what it was.
    pub fn sweep(&self, keeps: impl Fn(&str) -> bool) -> Vec<String> {
        let children = |root: &Root| root.folder().and_then(|folder| folder.children()).unwrap_or_default();
        let names: BTreeSet<String> = self.roots.iter().flat_map(children).collect();
        let ours = |name: &String| ["run-", "app-", "check-"].iter().any(|word| name.starts_with(word));
        let left: Vec<String> = names.into_iter().filter(ours).filter(|name| !keeps(name)).collect();
        for name in &left {
            let group = self.find(name);
            let gone = group.kill(LEFTOVERS).and_then(|()| group.remove());
            if let Err(error) = gone {
                tracing::warn!(group = name, %error, "what an earlier life left could not be cleared away");
            }
        }
        left
    }

    fn find(&self, name: &str) -> Group {
        let part = |root: &Root| root.folder().and_then(|folder| folder.below(Path::new(name))).ok();
        Group::of(self.roots.iter().filter_map(part).collect())
    }
}

impl Drop for Groups {
    /// Removes what groups are made in, where none is left.
    fn drop(&mut self) {
        self.roots.iter().for_each(Root::close);
    }
}

/// Ends a group: whatever is left in it is killed, and it is removed. Says what its memory was bounded to, if something in it
/// was killed for that. What can't be killed is logged, and tried again at the next start.
#[must_use]
pub fn end(group: &Group) -> Option<u64> {
    let killed = group.kill(DYING);
    let over = group.killed_over_memory();
    let shown = group.paths();
    if let Err(error) = killed.and_then(|()| group.remove()) {
        tracing::warn!(?shown, %error, "a control group could not be ended");
    }
    over
}

/// How something ended that was killed for its memory.
#[must_use]
pub fn over_memory(bound: u64) -> String {
    let (whole, unit) = match bound {
        bytes if bytes.is_multiple_of(1 << 30) => (bytes >> 30, "GB"),
        bytes if bytes.is_multiple_of(1 << 20) => (bytes >> 20, "MB"),
        bytes => (bytes >> 10, "KB"),
    };
    format!("{OVER_MEMORY}{whole} {unit}")
}

/// A name for a state folder that no other one has while it is there, whatever its path is to whom: several executors may be
/// in one group, and none must take another's runs for its own.
fn key(state: &Path) -> io::Result<String> {
    let facts = std::fs::metadata(state)?;
    let mut key = Digest::of(format!("{}:{}", facts.dev(), facts.ino())).to_string();
    key.truncate(16);
    Ok(key)
}

#[cfg(test)]
mod tests;
