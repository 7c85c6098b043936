//! `allod hub backup` and `restore`: the whole network in one file, which is as secret as its keys.

use super::{Place, owner::as_owner, unexpected};
use crate::{control, coordination};
use allod_coordinator::{has_root_key, store};
use allod_proto::{
    Fault, FaultCode, Timestamp,
    hub::{HubAnswer, HubAsk},
};
use allod_store::{Lock, StoreError};
use rustix::fs::{CWD, RenameFlags, renameat_with};
use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

/// Bytes of a backup: many times what the largest network has.
const MOST: u64 = 1 << 30;

/// `allod hub backup`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  allod hub backup mesh-2026-03-01.backup")]
pub(crate) struct Backup {
    /// A new file; it is yours alone
    file: PathBuf,
}

/// `allod hub restore`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  allod hub restore mesh-2026-03-01.backup --yes")]
pub(crate) struct Restore {
    /// What `allod hub backup` wrote
    file: PathBuf,
    /// Put it in the place of the network that is there, which is kept beside it
    #[arg(long)]
    yes: bool,
}

/// Makes a file that was not there, for its owner alone.
pub(super) fn create_new(path: &Path) -> Result<File, Fault> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(|error| {
        let code = match error.kind() {
            io::ErrorKind::AlreadyExists => FaultCode::Conflict,
            io::ErrorKind::NotFound => FaultCode::NotFound,
            _ => FaultCode::Invalid,
        };
        Fault::new(code, format!("{}: {error}", path.display())).hint("name a file that isn't there yet")
    })
}

/// Waits until the file and its name are on the disk.
pub(super) fn settle(path: &Path, file: &File) -> Result<(), Fault> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let synced = file.sync_all().and_then(|()| File::open(folder)?.sync_all());
    synced.map_err(|error| Fault::new(FaultCode::Internal, format!("{}: {error}", path.display())))
}

/// Does it.
pub(super) async fn backup(place: &Place, backup: Backup) -> Result<(), Fault> {
    let path = backup.file;
    let file = create_new(&path)?;
    match fetch(place, &path, file).await {
        Ok(bytes) => {
            let document = serde_json::json!({ "file": path, "bytes": bytes });
            place.show.document(&document, || format!("{} bytes in {}\n", bytes, path.display()))?;
            place
                .show
                .note("it holds the network's keys: keep it where a thief of this machine does not find it");
            Ok(())
        }
        Err(fault) => {
            // It is ours, and of no use.
            let _ = std::fs::remove_file(&path);
            Err(fault)
        }
    }
}

async fn fetch(place: &Place, path: &Path, file: File) -> Result<u64, Fault> {
    let (answer, more) = control::ask_for_more(&place.hub(), &HubAsk::Backup {}).await?;
    let HubAnswer::Backup { bytes } = answer else { return Err(unexpected()) };
    if bytes > MOST {
        return Err(Fault::new(
            FaultCode::TooLarge,
            format!("a backup has at most {MOST} bytes, this one {bytes}"),
        ));
    }
    let failed = |error: io::Error| Fault::new(FaultCode::Internal, format!("{}: {error}", path.display()));
    let mut to = tokio::fs::File::from_std(file);
    let copied = tokio::io::copy(&mut more.take(bytes), &mut to).await.map_err(failed)?;
    to.flush().await.map_err(failed)?;
    if copied != bytes {
        return Err(Fault::new(FaultCode::Unreachable, "the hub hung up in the middle of the backup"));
    }
    let file = to.into_std().await;
    settle(path, &file)?;
    Ok(bytes)
}

/// Does it.
pub(super) fn restore(place: &Place, restore: Restore) -> Result<(), Fault> {
    let from = File::open(&restore.file)
        .map_err(|error| Fault::new(FaultCode::NotFound, format!("{}: {error}", restore.file.display())))?;
    let hub = place.hub();
    if !hub.exists() {
        allod_store::create_folder(&hub, 0o700).map_err(|error| failed(&error))?;
    }
    let (state, yes) = (place.state.clone(), restore.yes);
    let now = allod_daemon::Clock::start().now();
    let kept = as_owner(&hub, move || put(&state, from, yes, now))?;
    let document = serde_json::json!({ "kept": kept });
    place.show.document(&document, || match &kept {
        Some(kept) => format!("restored; what was there is in {}\n", kept.display()),
        None => "restored\n".to_owned(),
    })?;
    place.show.note("the hub may begin; members come back without a login");
    Ok(())
}

/// Puts the network into place, and says where the one before is now.
fn put(state: &Path, mut from: File, yes: bool, now: Timestamp) -> Result<Option<PathBuf>, Fault> {
    let hub = state.join("hub");
    let _lock = Lock::take(&hub).map_err(|error| match error {
        StoreError::Locked { .. } => {
            Fault::new(FaultCode::Conflict, "a hub runs in this folder").hint("stop it first")
        }
        other => failed(&other),
    })?;
    let network = coordination::folder(state);
    let is_there = network.symlink_metadata().is_ok();
    if has_root_key(&network) {
        let message = "the network's root key lies in the folder that would be replaced";
        let hint = format!("take it away first: {}", coordination::take_command(state));
        return Err(Fault::new(FaultCode::Conflict, message).hint(hint));
    }
    let kept = hub.join(format!("coordinator-before-{}", now.0 / 1000));
    if is_there && !yes {
        let message = format!("this replaces the network in {}", network.display());
        let hint = format!("--yes does it, and keeps what is there as {}", kept.display());
        return Err(Fault::new(FaultCode::Confirmation, message).hint(hint));
    }
    let fresh = hub.join("coordinator-new");
    let copy = hub.join("restore.sqlite");
    clear(&fresh, &copy)?;
    let made = make(&mut from, &copy, &fresh);
    let _ = std::fs::remove_file(&copy);
    made?;
    if !is_there {
        std::fs::rename(&fresh, &network).map_err(|error| wrong(&network, &error))?;
        allod_store::sync_folder(&hub).map_err(|error| failed(&error))?;
        return Ok(None);
    }
    // In one step: at no moment is there no network, which would make the next start begin a new one.
    renameat_with(CWD, &fresh, CWD, &network, RenameFlags::EXCHANGE)
        .map_err(|error| wrong(&network, &error.into()))?;
    std::fs::rename(&fresh, &kept).map_err(|error| wrong(&kept, &error))?;
    allod_store::sync_folder(&hub).map_err(|error| failed(&error))?;
    Ok(Some(kept))
}

/// What an earlier attempt left. A folder under the fresh one's name may be a network that was exchanged and not yet renamed.
fn clear(fresh: &Path, copy: &Path) -> Result<(), Fault> {
    allod_store::remove_file(copy).map_err(|error| failed(&error))?;
    if fresh.symlink_metadata().is_err() {
        return Ok(());
    }
    let message = format!("{} is there, from a restore that was cut off", fresh.display());
    Err(Fault::new(FaultCode::Conflict, message).hint("it may be the network from before: move it away"))
}

fn make(from: &mut File, copy: &Path, fresh: &Path) -> Result<(), Fault> {
    let mut to = create_new(copy)?;
    io::copy(from, &mut to).and_then(|_| to.sync_all()).map_err(|error| wrong(copy, &error))?;
    allod_store::create_folder(fresh, 0o700).map_err(|error| failed(&error))?;
    store::restore(copy, fresh).map_err(|error| {
        let _ = std::fs::remove_dir_all(fresh);
        let message = format!("that is no backup that can be used: {error}");
        Fault::new(FaultCode::Invalid, message).hint("what was there stays as it was")
    })
}

fn failed(error: &StoreError) -> Fault {
    Fault::new(FaultCode::Internal, error.to_string())
}

fn wrong(path: &Path, error: &io::Error) -> Fault {
    Fault::new(FaultCode::Internal, format!("{}: {error}", path.display()))
}
