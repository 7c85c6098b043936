//! What each definition was: a file a command, bounded.

use crate::{failure, layout::Layout};
use allod_proto::{Fault, NamedCommandName, messages::named::RegistryChange};
use allod_store::Format;
use serde::{Deserialize, Serialize};

/// How many changes of one command are kept.
const CHANGES: usize = 50;

/// The changes of one command, oldest first.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct HistoryRecord {
    changes: Vec<RegistryChange>,
}

impl Format for HistoryRecord {
    const NAME: &'static str = "command-history";
    const FORMAT: u32 = 1;
}

pub(super) fn load(layout: &Layout, name: &NamedCommandName) -> Result<Vec<RegistryChange>, Fault> {
    let record: Option<HistoryRecord> = allod_store::load(&layout.command_history(name))
        .map_err(|error| failure::of_store(&format!("read the history of {name}"), &error))?;
    Ok(record.unwrap_or_default().changes)
}

pub(super) fn append(layout: &Layout, name: &NamedCommandName, change: RegistryChange) -> Result<(), Fault> {
    let mut changes = load(layout, name)?;
    // A change that was kept, and then the power went before it stood, is made again with the same counter.
    changes.retain(|earlier| earlier.counter < change.counter);
    changes.push(change);
    let too_many = changes.len().saturating_sub(CHANGES);
    changes.drain(..too_many);
    let doing = format!("keep the history of {name}");
    allod_store::create_folder(&layout.command_histories(), 0o700)
        .map_err(|error| failure::of_store(&doing, &error))?;
    allod_store::save(&layout.command_history(name), &HistoryRecord { changes }, 0o600)
        .map_err(|error| failure::of_store(&doing, &error))
}
