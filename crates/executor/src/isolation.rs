//! What keeps apps apart from each other, from the agent and from the executor: a uid of its own for each app where the
//! executor may give one, and plain words about what is not in force.

use crate::{failure, groups::Groups, layout::Layout};
use allod_proto::{AppRef, Fault, FaultCode, NamedCommandName, messages::server::IsolationFact};
use allod_store::Format;
use rustix::fs::{CWD, Gid, Mode, OFlags, Uid, fchown};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{Mutex, PoisonError},
};

/// The most apps and commands that ever get a uid on one server.
const UIDS: u32 = 4096;
/// What is done where a uid is given out.
const ALLOT: &str = "read or save the uids of apps and commands";

/// Whether apps have users of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Isolation {
    /// Everything runs as the user that the executor runs as: development, or a machine without root.
    SameUser,
    /// Each app has a uid, and the group of the same number.
    OwnUids {
        /// The first uid for apps.
        base: u32,
        /// The agent's uid.
        agent: u32,
        /// The proxy's uid.
        proxy: u32,
    },
}

/// Which app has which uid. A uid is never given to another app, not even after its app is gone.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct UidsRecord {
    apps: BTreeMap<AppRef, u32>,
}

impl Format for UidsRecord {
    const NAME: &'static str = "uids";
    const FORMAT: u32 = 1;
}

/// Which named command has which uid. The same as for apps, from the same numbers.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct CommandUidsRecord {
    commands: BTreeMap<NamedCommandName, u32>,
}

impl Format for CommandUidsRecord {
    const NAME: &'static str = "command-uids";
    const FORMAT: u32 = 1;
}

/// Two apps that ask at once must not get the same uid.
static ALLOTTING: Mutex<()> = Mutex::new(());

impl Isolation {
    /// The uid of an app, allotted and saved at the first call; `None` where apps have no uid of their own.
    ///
    /// # Errors
    /// `DiskFull` or `Internal` when the list can't be read or saved, `TooMany` when none is left.
    pub fn uid_of(&self, layout: &Layout, app: &AppRef) -> Result<Option<u32>, Fault> {
        let _one_at_a_time = ALLOTTING.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut apps, commands) = allotted(layout)?;
        if let (Self::OwnUids { .. }, Some(uid)) = (self, apps.apps.get(app)) {
            return Ok(Some(*uid));
        }
        let Some(uid) = self.next_uid(&apps, &commands, app)? else { return Ok(None) };
        apps.apps.insert(app.clone(), uid);
        allod_store::save(&layout.uids(), &apps, 0o600).map_err(|error| failure::of_store(ALLOT, &error))?;
        Ok(Some(uid))
    }

    /// The uid of a named command that runs as nobody in particular; the same way.
    ///
    /// # Errors
    /// As [`Isolation::uid_of`].
    pub(crate) fn uid_of_command(
        &self,
        layout: &Layout,
        name: &NamedCommandName,
    ) -> Result<Option<u32>, Fault> {
        let _one_at_a_time = ALLOTTING.lock().unwrap_or_else(PoisonError::into_inner);
        let (apps, mut commands) = allotted(layout)?;
        if let (Self::OwnUids { .. }, Some(uid)) = (self, commands.commands.get(name)) {
            return Ok(Some(*uid));
        }
        let Some(uid) = self.next_uid(&apps, &commands, name)? else { return Ok(None) };
        commands.commands.insert(name.clone(), uid);
        allod_store::save(&layout.command_uids(), &commands, 0o600)
            .map_err(|error| failure::of_store(ALLOT, &error))?;
        Ok(Some(uid))
    }

    /// The uids that are named commands' alone.
    ///
    /// # Errors
    /// When it can't be read which are.
    pub(crate) fn uids_of_commands(&self, layout: &Layout) -> Result<BTreeSet<u32>, Fault> {
        let Self::OwnUids { .. } = self else { return Ok(BTreeSet::new()) };
        let (_, commands) = allotted(layout)?;
        Ok(commands.commands.into_values().collect())
    }

    /// A uid that nobody has had; `None` where there are none of their own.
    fn next_uid(
        &self,
        apps: &UidsRecord,
        commands: &CommandUidsRecord,
        whose: &impl std::fmt::Display,
    ) -> Result<Option<u32>, Fault> {
        let Self::OwnUids { base, agent, proxy } = *self else { return Ok(None) };
        let highest = apps.apps.values().chain(commands.commands.values()).copied().max();
        let first = highest.map_or(base, |highest| highest.saturating_add(1).max(base));
        let next = (first..base.saturating_add(UIDS)).find(|uid| ![0, agent, proxy].contains(uid));
        let none = || Fault::new(FaultCode::TooMany, format!("there is no uid left for {whose}"));
        next.ok_or_else(none).map(Some)
    }

    /// Makes an app's writable folders, owned by the app's uid: its data and its logs.
    ///
    /// # Errors
    /// `DiskFull` or `Internal` with what could not be made.
    pub fn create_app_folders(&self, layout: &Layout, app: &AppRef) -> Result<(), Fault> {
        let uid = self.uid_of(layout, app)?;
        for folder in [layout.data(app), layout.logs(app)] {
            let doing = format!("make the folders of {app}");
            if let Some(parent) = folder.parent() {
                allod_store::create_folder(parent, 0o711)
                    .map_err(|error| failure::of_store(&doing, &error))?;
            }
            allod_store::create_folder(&folder, 0o700).map_err(|error| failure::of_store(&doing, &error))?;
            give(&folder, uid, uid).map_err(|error| failure::of_io(&doing, &error.into()))?;
        }
        Ok(())
    }

    /// What is in force and what is not, each with why not and what it takes.
    #[must_use]
    pub fn facts(&self, groups: &Groups) -> Vec<IsolationFact> {
        let own = matches!(self, Self::OwnUids { .. });
        let root = "run the executor as root with uids for apps (--uids)";
        vec![
            fact("own user per app", own, &format!("everything runs as one user; {root}")),
            fact(
                "agent can't write the record",
                own,
                &format!("agent and executor are the same user; {root}"),
            ),
            fact("agent can't read secrets", own, &format!("agent and executor are the same user; {root}")),
            fact(
                "apps can't change their release",
                own,
                &format!("releases belong to the apps' user; {root}"),
            ),
            fact("apps can't read each other's data", own, &format!("all data belong to one user; {root}")),
            fact("no new privileges", true, ""),
            fact("no core dumps", true, ""),
            fact("no inherited descriptors", true, ""),
            fact(
                "limits of memory and processes",
                groups.unbounded().is_none(),
                &groups.unbounded().unwrap_or_default(),
            ),
            fact(
                "killing by control group",
                groups.can_be_made(),
                &format!("what an app or a command has started is found by descent; {}", groups.why_not()),
            ),
            fact(
                "own file system and network view",
                false,
                "this version starts apps without namespaces: they see the machine's file tree and its loopback",
            ),
        ]
    }
}

fn fact(what: &str, on: bool, why_not: &str) -> IsolationFact {
    IsolationFact { what: what.to_owned(), on, why: (!on).then(|| why_not.to_owned()) }
}

fn allotted(layout: &Layout) -> Result<(UidsRecord, CommandUidsRecord), Fault> {
    let failed = |error: allod_store::StoreError| failure::of_store(ALLOT, &error);
    let apps = allod_store::load(&layout.uids()).map_err(failed)?.unwrap_or_default();
    let commands = allod_store::load(&layout.command_uids()).map_err(failed)?.unwrap_or_default();
    Ok((apps, commands))
}

/// Gives a folder or file to a user and group, through no link, durably; nothing where there is nobody to give it to.
pub(crate) fn give(path: &Path, uid: Option<u32>, gid: Option<u32>) -> rustix::io::Result<()> {
    if uid.is_none() && gid.is_none() {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let open = rustix::fs::openat(CWD, path, flags, Mode::empty())?;
    fchown(&open, uid.map(Uid::from_raw), gid.map(Gid::from_raw))?;
    rustix::fs::fsync(&open)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::groups::Base;

    const OWN: Isolation = Isolation::OwnUids { base: 61_200, agent: 61_100, proxy: 61_201 };

    fn layout() -> (tempfile::TempDir, Layout) {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path(), folder.path().join("run"));
        layout.create().unwrap();
        (folder, layout)
    }

    fn app(name: &str) -> AppRef {
        name.parse().unwrap()
    }

    #[test]
    fn a_uid_is_never_that_of_another_program_or_app() {
        let (_folder, layout) = layout();
        assert_eq!(OWN.uid_of(&layout, &app("a")).unwrap(), Some(61_200));
        assert_eq!(OWN.uid_of(&layout, &app("b")).unwrap(), Some(61_202));
        assert_eq!(OWN.uid_of(&layout, &app("a/staging")).unwrap(), Some(61_203));
        assert_eq!(OWN.uid_of(&layout, &app("a")).unwrap(), Some(61_200), "an app keeps its uid");
    }

    #[test]
    fn a_command_has_a_uid_that_no_app_and_no_other_command_has() {
        let (_folder, layout) = layout();
        let name = |text: &str| NamedCommandName::new(text).unwrap();
        assert_eq!(OWN.uid_of(&layout, &app("a")).unwrap(), Some(61_200));
        assert_eq!(OWN.uid_of_command(&layout, &name("a")).unwrap(), Some(61_202));
        assert_eq!(OWN.uid_of_command(&layout, &name("b")).unwrap(), Some(61_203));
        assert_eq!(OWN.uid_of(&layout, &app("b")).unwrap(), Some(61_204));
        assert_eq!(OWN.uid_of_command(&layout, &name("a")).unwrap(), Some(61_202));
        assert_eq!(Isolation::SameUser.uid_of_command(&layout, &name("c")).unwrap(), None);
    }

    #[test]
    fn a_damaged_list_of_uids_is_refused_and_never_begun_anew() {
        let (_folder, layout) = layout();
        std::fs::write(layout.uids(), "{").unwrap();
        assert!(OWN.uid_of(&layout, &app("a")).is_err());
        assert_eq!(std::fs::read_to_string(layout.uids()).unwrap(), "{");
    }

    #[test]
    fn many_apps_at_once_get_different_uids() {
        let (_folder, layout) = layout();
        let uids: std::collections::BTreeSet<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..8)
                .map(|n| {
                    let layout = &layout;
                    scope.spawn(move || OWN.uid_of(layout, &app(&format!("a{n}"))).unwrap())
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(uids.len(), 8);
    }

    #[test]
    fn one_user_for_all_is_said_plainly() {
        let facts = Isolation::SameUser.facts(&Groups::open(&Base::None, Path::new("/")));
        let own = facts.iter().find(|fact| fact.what == "own user per app").unwrap();
        assert!(!own.on && own.why.as_ref().unwrap().contains("--uids"));
        for what in ["limits of memory and processes", "killing by control group"] {
            let fact = facts.iter().find(|fact| fact.what == what).unwrap();
            assert!(!fact.on && fact.why.as_ref().unwrap().contains("--groups none"), "{fact:?}");
        }
        assert!(facts.iter().all(|fact| fact.on == fact.why.is_none()));
        assert_eq!(Isolation::SameUser.uid_of(&layout().1, &app("a")).unwrap(), None);
    }
}
