//! The folder that root writes: one file a command, a counter, and who may be run as whom. Only what nobody else could
//! have put there is read.

use super::name_of;
use crate::{
    failure,
    named::trusted::{self, Untrusted},
};
use allod_commands::{Registry, registry::Choices};
use allod_proto::{
    Fault, NamedCommandName,
    named::{COMMANDS, DEFINITION},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// The most bytes of a file whose lines are values.
const LIST: u64 = 4 * 1024 * 1024;
/// How far from its beginning the counter's file is read.
const SMALL: u64 = 64 * 1024;

/// The folder.
#[derive(Debug)]
pub(super) struct Folder(pub(super) PathBuf);

/// What the files look like from outside: inode, size and both times of each.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Stamp(BTreeMap<PathBuf, (u64, u64, i64, i64, i64, i64)>);

/// What is in the folder.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) texts: BTreeMap<NamedCommandName, String>,
    /// The counter beside the files, where there is one.
    pub(super) counter: Option<u64>,
}

impl Folder {
    pub(super) fn counter(&self) -> PathBuf {
        self.0.join("counter")
    }

    pub(super) fn run_as(&self) -> PathBuf {
        self.0.join("run-as")
    }

    /// What everything that is read looks like, without reading it.
    pub(super) fn stamp(&self, registry: &Registry) -> Stamp {
        let entries = std::fs::read_dir(&self.0).into_iter().flatten().filter_map(Result::ok);
        let files = entries.take(COMMANDS.saturating_mul(2)).map(|entry| entry.path());
        let lists = registry.lists().into_iter().map(PathBuf::from);
        let look = |path: PathBuf| {
            let facts = std::fs::symlink_metadata(&path).ok()?;
            let times = (facts.mtime(), facts.mtime_nsec(), facts.ctime(), facts.ctime_nsec());
            Some((path, (facts.ino(), facts.size(), times.0, times.1, times.2, times.3)))
        };
        Stamp([self.0.clone()].into_iter().chain(files).chain(lists).filter_map(look).collect())
    }

    /// Reads all of it.
    pub(super) fn read(&self) -> Result<Found, Vec<String>> {
        let closed = trusted::open_folder(&self.0);
        if let Err(Untrusted::Missing { .. }) = &closed {
            return Ok(Found { texts: BTreeMap::new(), counter: None });
        }
        closed.map_err(|error| vec![error.to_string()])?;
        let entries =
            std::fs::read_dir(&self.0).map_err(|error| vec![format!("{}: {error}", self.0.display())])?;
        let mut complaints = Vec::new();
        let mut texts = BTreeMap::new();
        for entry in entries {
            let entry = entry.map_err(|error| vec![format!("{}: {error}", self.0.display())])?;
            match file(&entry.path()) {
                Ok(Some((name, text))) => drop(texts.insert(name, text)),
                Ok(None) => {}
                Err(why) => complaints.push(why),
            }
            if texts.len() > COMMANDS {
                return Err(vec![format!("more than {COMMANDS} commands")]);
            }
        }
        if !complaints.is_empty() {
            return Err(complaints);
        }
        let counter = match trusted::read(&self.counter(), SMALL) {
            Ok(bytes) => Some(
                number(&bytes).ok_or_else(|| vec![format!("{} has no number", self.counter().display())])?,
            ),
            Err(Untrusted::Missing { .. }) => None,
            Err(error) => return Err(vec![error.to_string()]),
        };
        Ok(Found { texts, counter })
    }

    /// Who may be run as whom, as root wrote it: `COMMAND USER` a line.
    pub(super) fn grants(&self) -> Vec<(String, String)> {
        let text = trusted::read(&self.run_as(), SMALL).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = |line: &str| {
            let (name, user) = line.trim().split_once(' ')?;
            Some((name.to_owned(), user.trim().to_owned()))
        };
        text.unwrap_or_default().lines().filter(|line| !line.starts_with('#')).filter_map(pair).collect()
    }

    /// Writes or removes one file.
    pub(super) fn write(&self, name: &NamedCommandName, text: Option<&str>) -> Result<(), Fault> {
        let doing = format!("write the definition of {name}");
        let failed = |error: &allod_store::StoreError| failure::of_store(&doing, error);
        allod_store::create_folder(&self.0, 0o755).map_err(|error| failed(&error))?;
        let path = self.0.join(format!("{name}.toml"));
        match text {
            Some(text) => {
                allod_store::write_atomic(&path, text.as_bytes(), 0o644).map_err(|error| failed(&error))
            }
            None => allod_store::remove_file(&path).map(|_| ()).map_err(|error| failed(&error)),
        }
    }

    pub(super) fn write_counter(&self, counter: u64) -> Result<(), Fault> {
        let failed =
            |error: &allod_store::StoreError| failure::of_store("write the registry's counter", error);
        allod_store::create_folder(&self.0, 0o755).map_err(|error| failed(&error))?;
        allod_store::write_atomic(&self.counter(), format!("{counter}\n").as_bytes(), 0o644)
            .map_err(|error| failed(&error))
    }
}

fn file(path: &Path) -> Result<Option<(NamedCommandName, String)>, String> {
    let Some(name) = name_of(path)? else { return Ok(None) };
    let most = u64::try_from(DEFINITION).unwrap_or(u64::MAX);
    let bytes = trusted::read(path, most).map_err(|error| error.to_string())?;
    let text = String::from_utf8(bytes).map_err(|_| format!("{} is not UTF-8", path.display()))?;
    Ok(Some((name, text)))
}

fn number(bytes: &[u8]) -> Option<u64> {
    std::str::from_utf8(bytes).ok()?.trim().parse().ok()
}

/// The lines of the files that parameters take their values from.
pub(super) fn choices(registry: &Registry) -> Result<Choices, Vec<String>> {
    let mut files = BTreeMap::new();
    let mut complaints = Vec::new();
    for path in registry.lists() {
        match trusted::read(Path::new(path), LIST) {
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let lines: BTreeSet<String> = text.lines().map(|line| line.trim().to_owned()).collect();
                files.insert(path.to_owned(), lines);
            }
            Err(error) => complaints.push(format!("a list of values: {error}")),
        }
    }
    if complaints.is_empty() { Ok(Choices::new(files)) } else { Err(complaints) }
}
