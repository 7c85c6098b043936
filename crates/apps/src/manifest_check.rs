//! Whether a manifest may be acted on. A stranger may have written it: what passes names nothing outside the release's
//! folder, not through links either, and keeps the bounds of `allod_proto::limits`.

use crate::spec_check::check_spec;
use allod_proto::{
    limits,
    manifest::{EntryKind, FORMAT, Manifest},
};
use std::collections::BTreeMap;

const PATH_BYTES: usize = 4096;
const PART_BYTES: usize = 255;

/// Checks everything about a manifest that can be known without its chunks.
///
/// # Errors
/// One sentence that names the first entry that may not be, and why.
pub fn check(manifest: &Manifest) -> Result<(), String> {
    if manifest.format != FORMAT {
        return Err(format!("the manifest has format {}; this program knows {FORMAT}", manifest.format));
    }
    check_spec(&manifest.spec)?;
    check_words(manifest)?;
    if manifest.entries.len() > limits::RELEASE_ENTRIES {
        return Err(format!("more than {} files, folders and links", limits::RELEASE_ENTRIES));
    }
    let mut known: BTreeMap<&str, &EntryKind> = BTreeMap::new();
    let mut last: Option<&str> = None;
    let mut bytes = 0_u64;
    for entry in &manifest.entries {
        let path = entry.path.as_str();
        check_path(path).map_err(|why| format!("{}: {why}", shown(path)))?;
        if last.is_some_and(|last| last >= path) {
            return Err(format!("{}: out of order or there twice", shown(path)));
        }
        check_parent(path, &known).map_err(|why| format!("{}: {why}", shown(path)))?;
        bytes = bytes
            .checked_add(check_kind(path, &entry.what).map_err(|why| format!("{}: {why}", shown(path)))?)
            .filter(|bytes| *bytes <= limits::RELEASE_BYTES)
            .ok_or_else(|| format!("more than {} bytes", limits::RELEASE_BYTES))?;
        known.insert(path, &entry.what);
        last = Some(path);
    }
    Ok(())
}

/// Words that people are shown and that are compared.
fn check_words(manifest: &Manifest) -> Result<(), String> {
    let plain = |text: &str, longest: usize| {
        !text.is_empty() && text.len() <= longest && !text.chars().any(char::is_control)
    };
    if manifest.version.as_deref().is_some_and(|version| !plain(version, 200)) {
        return Err("the version must be 1 to 200 bytes without control characters".to_owned());
    }
    let known = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if manifest.architecture.as_deref().is_some_and(|name| !plain(name, 32) || !known(name)) {
        return Err("the architecture is not a machine's name".to_owned());
    }
    Ok(())
}

/// Relative, `/`-separated, without empty, `.` and `..` parts and control characters, short enough for any file system.
pub(crate) fn check_path(path: &str) -> Result<(), &'static str> {
    if path.len() > PATH_BYTES {
        return Err("the path is too long");
    }
    path.split('/').try_for_each(check_part)
}

fn check_part(part: &str) -> Result<(), &'static str> {
    match part {
        "" => Err("the path has an empty part"),
        "." | ".." => Err("the path has a . or .. part"),
        _ if part.len() > PART_BYTES => Err("a part of the path is longer than 255 bytes"),
        _ if part.chars().any(char::is_control) => Err("the path has a control character"),
        _ => Ok(()),
    }
}

fn check_parent(path: &str, known: &BTreeMap<&str, &EntryKind>) -> Result<(), &'static str> {
    let Some((parent, _)) = path.rsplit_once('/') else { return Ok(()) };
    match known.get(parent) {
        Some(EntryKind::Folder {}) => Ok(()),
        Some(EntryKind::File { .. } | EntryKind::Link { .. }) => {
            Err("lies below something that is not a folder")
        }
        None => Err("its folder is not in the manifest"),
    }
}

/// Answers the entry's bytes.
fn check_kind(path: &str, what: &EntryKind) -> Result<u64, &'static str> {
    match what {
        EntryKind::Folder {} => Ok(0),
        EntryKind::Link { to } => check_link(path, to).map(|()| 0),
        EntryKind::File { size, chunks, .. } => {
            let count = u64::try_from(chunks.len()).unwrap_or(u64::MAX);
            let most = count.saturating_mul(u64::try_from(limits::CHUNK).unwrap_or(u64::MAX));
            // A chunk is never empty, and never larger than a chunk may be.
            if count <= *size && *size <= most { Ok(*size) } else { Err("its size and its chunks don't fit") }
        }
    }
}

/// A link may go up only at its beginning. The folders above a link are real (their entries say so), so these steps
/// lead where they seem to; a `..` after another link's name would not.
pub(crate) fn check_link(path: &str, to: &str) -> Result<(), &'static str> {
    if to.is_empty() || to.len() > PATH_BYTES || to.chars().any(char::is_control) {
        return Err("the link's target is not a path");
    }
    if to.starts_with('/') {
        return Err("the link is absolute");
    }
    let depth = path.split('/').count().saturating_sub(1);
    let parts: Vec<&str> = to.trim_end_matches('/').split('/').filter(|part| *part != ".").collect();
    let up = parts.iter().take_while(|part| **part == "..").count();
    if up > depth {
        return Err("the link leaves the folder");
    }
    let mut rest = parts.iter().skip(up);
    rest.try_for_each(|part| {
        check_part(part).map_err(|_| "the link's target must have .. only at its beginning")
    })
}

/// A path as it may be shown: quoted, cut.
fn shown(path: &str) -> String {
    let cut: String = path.chars().take(120).collect();
    format!("{cut:?}")
}

#[cfg(test)]
mod tests;
