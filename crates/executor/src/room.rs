//! A full disk: the room that is set aside, when it is given up, and what may still be done then. A disk counts as full
//! before it is, so that what frees it can still be written down.

use crate::Executor;
use allod_proto::{Command, Fault, FaultCode};
use allod_store::{Reserve, free_bytes};
use std::path::Path;

/// With less than this free, a disk is full.
const FULL: u64 = 4 * 1024 * 1024;
/// With this much free besides it, the room is set aside again.
const ROOMY: u64 = 16 * 1024 * 1024;

/// The room set aside for a full disk.
#[derive(Debug)]
pub(crate) struct Room {
    folder: std::path::PathBuf,
    reserve: Reserve,
}

impl Room {
    /// In `folder`. What is there of it is found again.
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), reserve: Reserve::new(folder) }
    }

    /// Whether the disk is full, the room set aside not counted as free.
    pub(crate) fn is_scarce(&self) -> bool {
        match (free_bytes(&self.folder), self.reserve.is_spent()) {
            (Ok(free), Ok(false)) => free < FULL,
            // Where the room is spent already, what is left of it is not for everybody.
            (Ok(free), Ok(true)) => free < Reserve::SIZE.saturating_add(FULL),
            (Err(_), _) | (_, Err(_)) => false,
        }
    }

    /// Gives the room up, if it is needed.
    pub(crate) fn spend(&self) {
        if !self.is_scarce() {
            return;
        }
        match self.reserve.spend() {
            Ok(true) => tracing::warn!("the disk is full: the room set aside for that is given up"),
            Ok(false) => {}
            Err(error) => tracing::error!(%error, "the room set aside could not be given up"),
        }
    }

    /// Sets the room aside, where there is plenty.
    pub(crate) fn restore(&self) {
        let plenty = Reserve::SIZE.saturating_add(FULL).saturating_add(ROOMY);
        if self.reserve.is_spent().unwrap_or(false)
            && free_bytes(&self.folder).is_ok_and(|free| free >= plenty)
            && let Err(error) = self.reserve.restore()
        {
            tracing::warn!(%error, "no room could be set aside for a full disk");
        }
    }
}

/// What frees a full disk, ends what fills it, or takes power away.
fn is_vital(command: &Command) -> bool {
    matches!(
        command,
        Command::KeysRevoke(_)
            | Command::AppStop(_)
            | Command::AppRemove(_)
            | Command::OpsCancel(_)
            | Command::CommandCancel(_)
            | Command::CommandRemove(_)
            | Command::GatePanic(_)
            | Command::ServerPrune(_)
    )
}

impl Executor {
    /// Makes sure that a change can be written down. On a full disk only what is vital may begin, with the room that was
    /// set aside for it.
    ///
    /// # Errors
    /// `DiskFull`, before anything was done.
    pub(crate) fn make_room_for(&self, command: &Command) -> Result<(), Fault> {
        self.room().restore();
        if !self.room().is_scarce() {
            return Ok(());
        }
        if is_vital(command) {
            self.room().spend();
            return Ok(());
        }
        Err(Fault::new(FaultCode::DiskFull, "the server's disk is full, so nothing new is begun").hint(
            "`allod servers prune` and `allod remove` free room; `allod stop`, `ops cancel` and `keys revoke` work too",
        ))
    }
}

#[cfg(test)]
mod tests;
