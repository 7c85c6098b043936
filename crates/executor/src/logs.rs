//! Logs of apps: listing and reading. The folder belongs to the app, so whatever lies in it is hostile: names are
//! parsed, links are not followed, and only regular files are read.

use crate::{failure, layout::Layout};
use allod_proto::{AppRef, Fault, FaultCode, InstanceId, ReleaseId, Timestamp, executor::LogFile, limits};
use std::{
    fs::Metadata,
    io::{self, Read as _, Seek as _, SeekFrom},
    path::Path,
    time::{Duration, UNIX_EPOCH},
};

/// The most files of one app that are listed.
const LISTED: usize = 10_000;

/// A log file's name, parsed: `<instance>.<release>.log`, with `.1` at the end for the older half.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LogName {
    instance: InstanceId,
    release: ReleaseId,
}

fn parse_name(file: &str) -> Option<LogName> {
    let stem = file.strip_suffix(".1").unwrap_or(file).strip_suffix(".log")?;
    let (instance, release) = stem.split_once('.')?;
    Some(LogName { instance: instance.parse().ok()?, release: release.parse().ok()? })
}

/// The log files of an app, oldest first. What is no log file of ours is left out.
///
/// # Errors
/// `Internal` when the folder can't be read.
pub fn list(layout: &Layout, app: &AppRef) -> Result<Vec<LogFile>, Fault> {
    let failed = |error| failure::of_io(&format!("list the logs of {app}"), &error);
    let entries = match std::fs::read_dir(layout.logs(app)) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut files = Vec::new();
    for entry in entries.take(LISTED) {
        let entry = entry.map_err(failed)?;
        let Ok(file) = entry.file_name().into_string() else { continue };
        let Some(name) = parse_name(&file) else { continue };
        // Gone since it was listed, or a link.
        let Ok(facts) = entry.metadata() else { continue };
        if facts.is_file() {
            let (size, modified) = (facts.len(), modified(&facts));
            files.push(LogFile { file, instance: name.instance, release: name.release, size, modified });
        }
    }
    files.sort_by(|a, b| (a.modified, &b.file).cmp(&(b.modified, &a.file)));
    Ok(files)
}

/// At most `limit` bytes of a log from `offset` on (never more than [`limits::LOG_PART`]), and the file's size now.
/// An offset beyond the end gives no bytes.
///
/// # Errors
/// `Invalid` when `file` is not a log file's name, `NotFound` when there is none, `Internal` when it can't be read.
pub fn read(
    layout: &Layout,
    app: &AppRef,
    file: &str,
    offset: u64,
    limit: usize,
) -> Result<(Vec<u8>, u64), Fault> {
    if parse_name(file).is_none() {
        return Err(Fault::new(FaultCode::Invalid, "that is not the name of a log file"));
    }
    let mut open = allod_store::open_beneath(&layout.logs(app), Path::new(file)).map_err(|error| {
        if error.is_not_found() {
            return Fault::new(FaultCode::NotFound, format!("{app} has no log {file}"));
        }
        failure::of_store("read a log", &error)
    })?;
    let failed = |error: io::Error| failure::of_io("read a log", &error);
    let size = open.metadata().map_err(failed)?.len();
    let mut bytes = Vec::new();
    if offset < size {
        let most = u64::try_from(limit.min(limits::LOG_PART)).unwrap_or(u64::MAX);
        open.seek(SeekFrom::Start(offset)).map_err(failed)?;
        open.take(most).read_to_end(&mut bytes).map_err(failed)?;
    }
    Ok((bytes, size))
}

/// Removes logs of instances that `alive` does not name and that were last written before `before`, and then the oldest
/// of these until at most `keep` files are left. Says how many.
///
/// # Errors
/// `Internal` when the folder can't be read or a file can't be removed.
pub fn prune(
    layout: &Layout,
    app: &AppRef,
    alive: &[InstanceId],
    before: Timestamp,
    keep: usize,
) -> Result<usize, Fault> {
    let files = list(layout, app)?;
    let mut surplus = files.len().saturating_sub(keep);
    let mut removed = 0_usize;
    let folder = crate::artefacts::open_folder(rustix::fs::CWD, layout.logs(app));
    for file in files.iter().filter(|file| !alive.contains(&file.instance)) {
        if surplus == 0 && file.modified >= before {
            continue;
        }
        let failed = |error: rustix::io::Errno| failure::of_io("remove a log", &error.into());
        let folder = folder.as_ref().map_err(|error| failed(*error))?;
        match rustix::fs::unlinkat(folder, file.file.as_str(), rustix::fs::AtFlags::empty()) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => removed = removed.saturating_add(1),
            Err(error) => return Err(failed(error)),
        }
        surplus = surplus.saturating_sub(1);
    }
    Ok(removed)
}

fn modified(facts: &Metadata) -> Timestamp {
    let since = facts.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    Timestamp(u64::try_from(since.unwrap_or(Duration::ZERO).as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests;
