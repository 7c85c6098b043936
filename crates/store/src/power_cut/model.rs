//! A disk as a power cut sees it: for each file and folder what is on the disk for certain, and what was done since, of
//! which any part may be there: bytes lost, torn or zeros, names there or not, in any combination. Only a rename within a
//! folder is one step, as on every file system with a journal.

use crate::disk::Operation;
use std::{
    collections::{BTreeMap, HashMap},
    ffi::{OsStr, OsString},
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

/// What decides, one unsynced thing after another.
#[derive(Debug)]
pub(super) struct Choices<'a> {
    bytes: &'a [u8],
    used: usize,
}

impl<'a> Choices<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, used: 0 }
    }

    fn next(&mut self) -> u8 {
        let length = self.bytes.len().max(1);
        let byte = self.bytes.get(self.used % length).copied().unwrap_or(0);
        // Another round decides otherwise, but all lost stays all lost, and all kept all kept.
        let turns = u32::try_from(self.used / length % 8).unwrap_or(0);
        self.used = self.used.saturating_add(1);
        byte.rotate_left(turns)
    }

    fn is_kept(&mut self) -> bool {
        self.next() >= 128
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Change {
    Write(u64, Vec<u8>),
    Truncate(u64),
}

impl Change {
    fn apply(&self, content: &mut Vec<u8>) {
        match self {
            Self::Write(at, bytes) => {
                let at = usize::try_from(*at).unwrap_or(usize::MAX);
                let end = at.saturating_add(bytes.len());
                if content.len() < end {
                    content.resize(end, 0);
                }
                if let Some(place) = content.get_mut(at..end) {
                    place.copy_from_slice(bytes);
                }
            }
            Self::Truncate(length) => content.resize(usize::try_from(*length).unwrap_or(usize::MAX), 0),
        }
    }

    /// What is there of it after a power cut, if anything.
    fn chosen(&self, choices: &mut Choices<'_>) -> Option<Self> {
        let choice = choices.next();
        match (self, choice) {
            (_, 0..64) => None,
            (Self::Write(at, bytes), 64..128) => {
                let torn = bytes.len().saturating_mul(usize::from(choices.next())) / 256;
                Some(Self::Write(*at, bytes.get(..torn).unwrap_or_default().to_vec()))
            }
            (Self::Write(at, bytes), 128..192) => Some(Self::Write(*at, vec![0; bytes.len()])),
            (Self::Truncate(_), 64..192) | (_, 192..) => Some(self.clone()),
        }
    }
}

#[derive(Debug, Clone)]
enum Naming {
    Set(OsString, usize),
    Remove(OsString),
    Rename(OsString, OsString, usize),
}

type Names = BTreeMap<OsString, usize>;

impl Naming {
    fn apply(&self, names: &mut Names) {
        match self {
            Self::Set(name, node) => drop(names.insert(name.clone(), *node)),
            Self::Remove(name) => drop(names.remove(name)),
            Self::Rename(from, to, node) => {
                names.remove(from);
                names.insert(to.clone(), *node);
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Kind {
    File { durable: Vec<u8>, changes: Vec<Change> },
    Folder { durable: Names, live: Names, changes: Vec<Naming> },
    Link { to: PathBuf },
}

#[derive(Debug, Clone)]
struct Node {
    kind: Kind,
    /// On the disk, and as it was set since.
    mode: (u32, u32),
}

impl Node {
    fn folder() -> Self {
        let kind = Kind::Folder { durable: Names::new(), live: Names::new(), changes: Vec::new() };
        Self { kind, mode: (0o700, 0o700) }
    }

    fn file(content: Vec<u8>) -> Self {
        Self { kind: Kind::File { durable: content, changes: Vec::new() }, mode: (0o600, 0o600) }
    }

    fn sync(&mut self) {
        self.mode.0 = self.mode.1;
        match &mut self.kind {
            Kind::File { durable, changes } => {
                changes.drain(..).for_each(|change| change.apply(durable));
            }
            Kind::Folder { durable, live, changes } => {
                changes.clear();
                durable.clone_from(live);
            }
            Kind::Link { .. } => {}
        }
    }

    fn content(&self) -> Option<Vec<u8>> {
        let Kind::File { durable, changes } = &self.kind else { return None };
        let mut content = durable.clone();
        changes.iter().for_each(|change| change.apply(&mut content));
        Some(content)
    }
}

/// A tree of files. Node 0 is the folder that everything lies below.
#[derive(Debug, Clone)]
pub(super) struct Model {
    nodes: Vec<Node>,
}

impl Model {
    /// What lies below a real folder, all of it on the disk.
    pub(super) fn of(root: &Path) -> io::Result<Self> {
        let mut model = Self { nodes: vec![Node::folder()] };
        model.read(root, 0, &mut HashMap::new())?;
        model.nodes.iter_mut().for_each(Node::sync);
        Ok(model)
    }

    fn read(&mut self, folder: &Path, into: usize, seen: &mut HashMap<u64, usize>) -> io::Result<()> {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let (path, facts) = (entry.path(), entry.metadata()?);
            if is_nobodys(&path, &facts) {
                continue;
            }
            let known = seen.get(&facts.ino()).copied();
            let node = if let Some(node) = known {
                node
            } else if facts.is_dir() {
                let node = self.add(Node::folder());
                self.read(&path, node, seen)?;
                node
            } else if facts.file_type().is_symlink() {
                self.add(Node { kind: Kind::Link { to: fs::read_link(&path)? }, mode: (0o777, 0o777) })
            } else {
                let node = self.add(Node::file(fs::read(&path)?));
                seen.insert(facts.ino(), node);
                node
            };
            self.set_mode(node, facts.permissions().mode() & 0o7777);
            self.name(into, Naming::Set(entry.file_name(), node));
        }
        Ok(())
    }

    fn add(&mut self, node: Node) -> usize {
        self.nodes.push(node);
        self.nodes.len().saturating_sub(1)
    }

    fn set_mode(&mut self, node: usize, mode: u32) {
        if let Some(node) = self.nodes.get_mut(node) {
            node.mode.1 = mode;
        }
    }

    fn name(&mut self, folder: usize, naming: Naming) {
        if let Some(Node { kind: Kind::Folder { live, changes, .. }, .. }) = self.nodes.get_mut(folder) {
            naming.apply(live);
            changes.push(naming);
        }
    }

    fn names(&self, folder: usize) -> Option<&Names> {
        match self.nodes.get(folder).map(|node| &node.kind) {
            Some(Kind::Folder { live, .. }) => Some(live),
            Some(Kind::File { .. } | Kind::Link { .. }) | None => None,
        }
    }

    fn find(&self, root: &Path, path: &Path) -> io::Result<usize> {
        let below = path.strip_prefix(root).map_err(|_| unknown(path))?;
        below.iter().try_fold(0, |folder, name| {
            self.names(folder).and_then(|names| names.get(name)).copied().ok_or_else(|| unknown(path))
        })
    }

    /// The folder that a path is in, and its name there.
    fn place<'a>(&self, root: &Path, path: &'a Path) -> io::Result<(usize, &'a OsStr)> {
        let (parent, name) = path.parent().zip(path.file_name()).ok_or_else(|| unknown(path))?;
        Ok((self.find(root, parent)?, name))
    }

    fn put(&mut self, root: &Path, path: &Path, node: Node) -> io::Result<()> {
        let (folder, name) = self.place(root, path)?;
        let node = self.add(node);
        self.name(folder, Naming::Set(name.to_owned(), node));
        Ok(())
    }

    fn change(&mut self, root: &Path, path: &Path, change: Change) -> io::Result<()> {
        let node = self.find(root, path)?;
        if let Some(Node { kind: Kind::File { changes, .. }, .. }) = self.nodes.get_mut(node) {
            changes.push(change);
        }
        Ok(())
    }

    /// Does what was done.
    pub(super) fn apply(&mut self, root: &Path, operation: &Operation) -> io::Result<()> {
        match operation {
            Operation::Folder { path } => self.put(root, path, Node::folder()),
            Operation::Create { path } if self.find(root, path).is_ok() => Ok(()),
            Operation::Create { path } => self.put(root, path, Node::file(Vec::new())),
            Operation::Write { path, at, bytes } => {
                self.change(root, path, Change::Write(*at, bytes.clone()))
            }
            Operation::Truncate { path, length } => self.change(root, path, Change::Truncate(*length)),
            Operation::Mode { path, mode } => self.find(root, path).map(|node| self.set_mode(node, *mode)),
            Operation::Sync { path } => {
                let node = self.find(root, path)?;
                self.nodes.get_mut(node).into_iter().for_each(Node::sync);
                Ok(())
            }
            Operation::SyncAll { .. } => {
                self.nodes.iter_mut().for_each(Node::sync);
                Ok(())
            }
            Operation::Rename { from, to } => self.rename(root, from, to),
            Operation::Link { from, to } => {
                let node = self.find(root, from)?;
                let (folder, name) = self.place(root, to)?;
                self.name(folder, Naming::Set(name.to_owned(), node));
                Ok(())
            }
            Operation::Symlink { path, to } => {
                let kind = Kind::Link { to: PathBuf::from(to) };
                self.put(root, path, Node { kind, mode: (0o777, 0o777) })
            }
            Operation::Remove { path } => self.remove(root, path),
            Operation::RemoveTree { path } => self.remove_tree(root, path),
        }
    }

    fn rename(&mut self, root: &Path, from: &Path, to: &Path) -> io::Result<()> {
        let node = self.find(root, from)?;
        let ((folder, old), (other, new)) = (self.place(root, from)?, self.place(root, to)?);
        if folder != other {
            return Err(io::Error::other(format!("{}: renamed from another folder", to.display())));
        }
        self.name(folder, Naming::Rename(old.to_owned(), new.to_owned(), node));
        Ok(())
    }

    fn remove(&mut self, root: &Path, path: &Path) -> io::Result<()> {
        let (folder, name) = self.place(root, path)?;
        self.name(folder, Naming::Remove(name.to_owned()));
        Ok(())
    }

    fn remove_tree(&mut self, root: &Path, path: &Path) -> io::Result<()> {
        let node = self.find(root, path)?;
        let below: Vec<OsString> =
            self.names(node).into_iter().flatten().map(|(name, _)| name.clone()).collect();
        for name in below {
            self.remove_tree(root, &path.join(name))?;
        }
        self.remove(root, path)
    }

    /// Makes in `into` what is left, as the choices will have it.
    pub(super) fn make(&self, into: &Path, choices: &mut Choices<'_>) -> io::Result<()> {
        self.make_folder(0, into, choices, &mut HashMap::new())
    }

    fn make_folder(
        &self,
        folder: usize,
        path: &Path,
        choices: &mut Choices<'_>,
        made: &mut HashMap<usize, PathBuf>,
    ) -> io::Result<()> {
        let Some(Node { kind: Kind::Folder { durable, changes, .. }, mode }) = self.nodes.get(folder) else {
            return Ok(());
        };
        let mut names = durable.clone();
        changes.iter().filter(|_| choices.is_kept()).for_each(|change| change.apply(&mut names));
        if folder != 0 {
            fs::create_dir(path)?;
        }
        for (name, node) in names {
            self.make_node(node, &path.join(name), choices, made)?;
        }
        if folder != 0 {
            let mode = if choices.is_kept() { mode.1 } else { mode.0 };
            fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
        }
        Ok(())
    }

    fn make_node(
        &self,
        number: usize,
        path: &Path,
        choices: &mut Choices<'_>,
        made: &mut HashMap<usize, PathBuf>,
    ) -> io::Result<()> {
        let Some(node) = self.nodes.get(number) else { return Ok(()) };
        match &node.kind {
            Kind::Folder { .. } => self.make_folder(number, path, choices, made),
            Kind::Link { to } => std::os::unix::fs::symlink(to, path),
            Kind::File { .. } if made.contains_key(&number) => {
                made.get(&number).map_or(Ok(()), |first| fs::hard_link(first, path))
            }
            Kind::File { durable, changes } => {
                let mut content = durable.clone();
                changes
                    .iter()
                    .filter_map(|change| change.chosen(choices))
                    .for_each(|change| change.apply(&mut content));
                fs::write(path, content)?;
                let mode = if choices.is_kept() { node.mode.1 } else { node.mode.0 };
                fs::set_permissions(path, fs::Permissions::from_mode(mode))?;
                made.insert(number, path.to_owned());
                Ok(())
            }
        }
    }

    /// A path that is not the same in both as they are now.
    pub(super) fn differs(&self, other: &Self) -> Option<PathBuf> {
        let (ours, theirs) = (self.listing(), other.listing());
        let mut all = ours.keys().chain(theirs.keys());
        all.find(|path| ours.get(*path) != theirs.get(*path)).cloned()
    }

    /// Every path with its mode and content.
    fn listing(&self) -> BTreeMap<PathBuf, (u32, Option<Vec<u8>>)> {
        let (mut found, mut folders) = (BTreeMap::new(), vec![(0, PathBuf::new())]);
        while let Some((folder, path)) = folders.pop() {
            for (name, number) in self.names(folder).into_iter().flatten() {
                let (path, Some(node)) = (path.join(name), self.nodes.get(*number)) else { continue };
                if name == "lock" || path.extension().is_some_and(|ext| ext == "lock") {
                    continue;
                }
                folders.push((*number, path.clone()));
                let content = match &node.kind {
                    Kind::Link { to } => Some(to.as_os_str().as_encoded_bytes().to_vec()),
                    Kind::File { .. } | Kind::Folder { .. } => node.content(),
                };
                found.insert(path, (node.mode.1, content));
            }
        }
        found
    }
}

/// Locks, sockets and the reserve: they last for nobody.
fn is_nobodys(path: &Path, facts: &fs::Metadata) -> bool {
    let name = path.file_name().unwrap_or_default();
    facts.file_type().is_socket()
        || name == "lock"
        || name == "reserve"
        || path.extension().is_some_and(|ext| ext == "lock")
}

fn unknown(path: &Path) -> io::Error {
    io::Error::other(format!("{} was made without allod_store::disk", path.display()))
}
