//! One group: the bounds on what is in it, and its end. In version 1 it is a folder in each of a few hierarchies.

use super::{folder::Folder, places::Version};
use std::{
    io,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

/// The most that is waited between two looks at what dies.
const PAUSE: Duration = Duration::from_millis(20);
/// How long freezing may take. What does not freeze in time is killed as it runs.
const FREEZING: Duration = Duration::from_millis(200);

/// What everything in a group may use together. `None` is no bound.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bounds {
    /// Bytes of memory, swap included.
    pub memory_bytes: Option<u64>,
    /// Processes and threads.
    pub processes: Option<u64>,
}

/// A group that was made, or found again.
#[derive(Debug)]
pub struct Group {
    parts: Vec<Folder>,
}

impl Group {
    pub(super) fn of(parts: Vec<Folder>) -> Self {
        Self { parts }
    }

    /// Finds a group again by the folders that [`Group::paths`] told. Those that are gone are left out.
    #[must_use]
    pub fn find(paths: &[PathBuf]) -> Self {
        Self { parts: paths.iter().filter_map(|path| Folder::open(path).ok()).collect() }
    }

    /// Its folders.
    #[must_use]
    pub fn paths(&self) -> Vec<PathBuf> {
        self.parts.iter().map(|part| part.path.clone()).collect()
    }

    /// Sets the bounds, each where the kernel has it.
    ///
    /// # Errors
    /// What the kernel refuses, although it has such a bound.
    pub fn bound(&self, bounds: Bounds) -> io::Result<()> {
        for part in &self.parts {
            if let Some(processes) = bounds.processes.filter(|_| part.has("pids.max")) {
                part.write("pids.max", &processes.to_string())?;
            }
            if let Some(memory) = bounds.memory_bytes {
                bound_memory(part, memory)?;
            }
        }
        Ok(())
    }

    /// Puts a process in. What it starts from now on is in it too.
    pub(super) fn take(&self, pid: u32) -> io::Result<()> {
        self.parts.iter().try_for_each(|part| part.take(pid))
    }

    /// Every process in it.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let mut pids: Vec<u32> = self.parts.iter().flat_map(|part| part.pids().unwrap_or_default()).collect();
        pids.sort_unstable();
        pids.dedup();
        pids
    }

    /// SIGKILL to everything in it, at once: nothing is started meanwhile that would be missed.
    pub fn strike(&self) {
        let somebody = |part: &&Folder| part.pids().is_ok_and(|pids| !pids.is_empty());
        let killed = |part: &Folder| part.has("cgroup.kill") && part.write("cgroup.kill", "1").is_ok();
        let left: Vec<&Folder> = self.parts.iter().filter(somebody).collect();
        // Whoever is in one hierarchy is in the others too, unless root has moved them: then there is another round.
        if left.iter().any(|part| killed(part)) {
            return;
        }
        self.freeze();
        for part in left {
            part.signal_all();
        }
        self.thaw();
    }

    /// Kills everything in it, for as long as it takes but no longer than `patience`.
    ///
    /// # Errors
    /// `TimedOut` when something is left: in a call to the kernel that can't be interrupted.
    pub fn kill(&self, patience: Duration) -> io::Result<()> {
        let began = Instant::now();
        let mut pause = Duration::from_millis(1);
        while !self.pids().is_empty() {
            if began.elapsed() > patience {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.strike();
            thread::sleep(pause);
            pause = pause.saturating_mul(2).min(PAUSE);
        }
        Ok(())
    }

    fn freeze(&self) {
        for part in &self.parts {
            let frozen = || match part.version {
                Version::One => part.read("freezer.state").is_ok_and(|state| state.trim() == "FROZEN"),
                Version::Two => part.count("cgroup.events", "frozen") == Some(1),
            };
            let asked = match part.version {
                Version::One if part.has("freezer.state") => part.write("freezer.state", "FROZEN"),
                Version::Two if part.has("cgroup.freeze") => part.write("cgroup.freeze", "1"),
                Version::One | Version::Two => continue,
            };
            let began = Instant::now();
            while asked.is_ok() && !frozen() && began.elapsed() < FREEZING {
                thread::sleep(Duration::from_millis(1));
            }
        }
    }

    fn thaw(&self) {
        for part in &self.parts {
            // Where there is no such file nothing was frozen.
            let _ = match part.version {
                Version::One => part.write("freezer.state", "THAWED"),
                Version::Two => part.write("cgroup.freeze", "0"),
            };
        }
    }

    /// The bound on its memory, in bytes, if something in it was killed for being over it.
    #[must_use]
    pub fn killed_over_memory(&self) -> Option<u64> {
        self.parts.iter().find_map(|part| {
            let (events, bound) = match part.version {
                Version::One => ("memory.oom_control", "memory.limit_in_bytes"),
                Version::Two => ("memory.events", "memory.max"),
            };
            let bound = part.read(bound).ok()?.trim().parse().ok()?;
            // A kernel before 4.13 counts how often the bound was met, and not who was killed for it.
            let failures = || part.read("memory.failcnt").ok()?.trim().parse().ok();
            let killed = part.count(events, "oom_kill").or_else(failures)?;
            (killed > 0).then_some(bound)
        })
    }

    /// Removes it. Nothing may run in it any more.
    ///
    /// # Errors
    /// The first folder that can't be removed; the others are.
    pub fn remove(&self) -> io::Result<()> {
        let mut removed = Ok(());
        for part in &self.parts {
            let (Some(above), Some(name)) = (part.path.parent(), part.path.file_name()) else { continue };
            let gone = Folder::open(above).and_then(|above| above.remove(&name.to_string_lossy()));
            removed = removed.and(gone);
        }
        removed
    }
}

fn bound_memory(part: &Folder, bytes: u64) -> io::Result<()> {
    let bytes = bytes.to_string();
    match part.version {
        Version::One if part.has("memory.limit_in_bytes") => {
            part.write("memory.limit_in_bytes", &bytes)?;
            // Memory and swap together; absent where the kernel does not count swap.
            if part.has("memory.memsw.limit_in_bytes") {
                part.write("memory.memsw.limit_in_bytes", &bytes)?;
            }
        }
        Version::Two if part.has("memory.max") => {
            part.write("memory.max", &bytes)?;
            if part.has("memory.swap.max") {
                part.write("memory.swap.max", "0")?;
            }
            // Half a tree is worth nothing: all of it ends, and says why.
            if part.has("memory.oom.group") {
                part.write("memory.oom.group", "1")?;
            }
        }
        Version::One | Version::Two => {}
    }
    Ok(())
}
