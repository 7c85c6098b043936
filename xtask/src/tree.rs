//! The files of the project: everything below its root that `.gitignore` does not leave out.

use anyhow::{Context as _, Result, bail};
use std::path::{Path, PathBuf};

/// The file that only the root has.
pub(crate) const LAYERS: &str = "layers.txt";

/// The folder with `layers.txt`, at or above the current one.
pub(crate) fn root() -> Result<PathBuf> {
    let here = std::env::current_dir().context("no current folder")?;
    match here.ancestors().find(|folder| folder.join(LAYERS).is_file()) {
        Some(root) => Ok(root.to_path_buf()),
        None => bail!("no {LAYERS} here or above: run it inside the project"),
    }
}

/// Paths of all files, from the root, sorted, with `/` between their parts.
pub(crate) fn files(root: &Path) -> Result<Vec<String>> {
    let walk = ignore::WalkBuilder::new(root)
        .hidden(false)
        .ignore(false)
        .git_global(false)
        .git_exclude(false)
        .parents(false)
        .require_git(false)
        .filter_entry(|entry| entry.file_name() != ".git")
        .build();
    let mut files = Vec::new();
    for entry in walk {
        let entry = entry.context("can't list the project's files")?;
        if entry.file_type().is_some_and(|kind| kind.is_file()) {
            let path = entry.path().strip_prefix(root).context("a file outside the root")?;
            files.push(path.to_string_lossy().replace('\\', "/"));
        }
    }
    files.sort();
    Ok(files)
}

/// The text of a file, or nothing when it isn't there or isn't text.
pub(crate) fn text(root: &Path, file: &str) -> Option<String> {
    std::fs::read_to_string(root.join(file)).ok()
}

/// The folders below `crates/` that hold a package.
pub(crate) fn crates(root: &Path) -> Result<Vec<String>> {
    let folder = root.join("crates");
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("can't list {}", folder.display()))? {
        let entry = entry.with_context(|| format!("can't list {}", folder.display()))?;
        if entry.path().join("Cargo.toml").is_file() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}
