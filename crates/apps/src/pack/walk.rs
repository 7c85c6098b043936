//! What is in the folder: files, folders and links in the order of their paths, without what is ignored. Links are not
//! followed. Only ignore files inside the folder count: what lies above it differs from machine to machine, and a build
//! output is often ignored there.

use super::PackError;
use crate::manifest_check::check_link;
use ignore::{
    DirEntry, WalkBuilder,
    gitignore::{Gitignore, GitignoreBuilder},
};
use std::path::{Component, Path};

/// Something in the folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// Relative, `/`-separated.
    pub(crate) path: String,
    pub(crate) what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    Folder,
    File { executable: bool },
    Link { to: String },
}

pub(crate) fn walk(folder: &Path, ignore: &[String]) -> Result<Vec<Found>, PackError> {
    // The walk of a folder that is not there would be one error among others.
    std::fs::read_dir(folder).map_err(|source| PackError::Read { path: folder.to_owned(), source })?;
    let own = lines(folder, ignore)?;
    let root = folder.to_owned();
    let walk = WalkBuilder::new(folder)
        .standard_filters(false)
        .git_ignore(true)
        .require_git(false)
        .add_custom_ignore_filename(".allodignore")
        .filter_entry(move |entry| !left_out(entry, &root, &own))
        .build();
    let mut found = Vec::new();
    for entry in walk {
        let entry = entry.map_err(|error| PackError::Walk(error.to_string()))?;
        if let Some(error) = entry.error() {
            return Err(PackError::Walk(error.to_string()));
        }
        if entry.depth() > 0 {
            found.push(look(folder, &entry)?);
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn lines(folder: &Path, ignore: &[String]) -> Result<Gitignore, PackError> {
    let mut builder = GitignoreBuilder::new(folder);
    for line in ignore {
        builder.add_line(None, line).map_err(|error| PackError::Walk(format!("ignore: {error}")))?;
    }
    builder.build().map_err(|error| PackError::Walk(format!("ignore: {error}")))
}

/// What never goes along, whatever the ignore files say.
fn left_out(entry: &DirEntry, root: &Path, own: &Gitignore) -> bool {
    let name = entry.file_name();
    if entry.depth() == 0 {
        return false;
    }
    if name == ".git" || name == ".allod" || entry.path() == root.join(allod_appspec::FILE) {
        return true;
    }
    let is_folder = entry.file_type().is_some_and(|kind| kind.is_dir());
    own.matched(entry.path(), is_folder).is_ignore()
}

fn look(folder: &Path, entry: &DirEntry) -> Result<Found, PackError> {
    let path = relative(folder, entry.path())?;
    let kind =
        entry.file_type().ok_or_else(|| PackError::Special { path: path.clone(), what: "standard input" })?;
    let read = |source| PackError::Read { path: entry.path().to_owned(), source };
    let what = if kind.is_dir() {
        What::Folder
    } else if kind.is_symlink() {
        link(&path, &std::fs::read_link(entry.path()).map_err(read)?)?
    } else if kind.is_file() {
        What::File { executable: is_executable(&std::fs::symlink_metadata(entry.path()).map_err(read)?) }
    } else {
        return Err(PackError::Special { path, what: "neither file, folder nor link" });
    };
    Ok(Found { path, what })
}

fn link(path: &str, to: &Path) -> Result<What, PackError> {
    let refused = |why| PackError::Link { path: path.to_owned(), to: to.display().to_string(), why };
    let to = to.to_str().ok_or_else(|| refused("its target is not UTF-8"))?;
    let to = if std::path::MAIN_SEPARATOR == '/' { to.to_owned() } else { to.replace('\\', "/") };
    check_link(path, &to).map_err(refused)?;
    Ok(What::Link { to })
}

fn relative(folder: &Path, path: &Path) -> Result<String, PackError> {
    let bad = || PackError::Name { path: path.to_owned() };
    let below = path.strip_prefix(folder).map_err(|_| bad())?;
    let mut parts = Vec::new();
    for component in below.components() {
        let Component::Normal(part) = component else { return Err(bad()) };
        let part = part.to_str().filter(|part| !part.chars().any(char::is_control)).ok_or_else(bad)?;
        parts.push(part);
    }
    Ok(parts.join("/"))
}

#[cfg(unix)]
fn is_executable(metadata: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::PermissionsExt as _;
    metadata.permissions().mode() & 0o111 != 0
}

/// The bit does not exist here: `pack` gives it to the programs that the spec names.
#[cfg(not(unix))]
fn is_executable(_: &std::fs::Metadata) -> bool {
    false
}
