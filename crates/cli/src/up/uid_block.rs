//! Which user ids a server gives out. Two servers on one machine must not share any, since whatever runs as an app's user
//! may be killed with the app: each takes a block that nothing runs in, holds it while it runs, and uses it again.

use super::places::Places;
use allod_store::{Format, Lock, StoreError, create_folder};
use serde::{Deserialize, Serialize};
use std::{
    collections::BTreeSet,
    io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// The first block. What lies above belongs to nobody: systemd takes ids up to 65535 as it needs them, and those for
/// containers begin at 100000.
const FIRST: u32 = 66_000;
/// How many ids a block has: programs, and then apps.
const SIZE: u32 = 1000;
/// How many blocks there are.
const BLOCKS: u32 = 34;
/// Where blocks are held, for as long as the machine runs.
const HELD: &str = "/run/allod/uids";

/// The block of a state folder, as it is remembered there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BlockRecord {
    first: u32,
}

impl Format for BlockRecord {
    const NAME: &'static str = "uid-block";
    const FORMAT: u32 = 1;
}

/// A block, held until dropped.
#[derive(Debug)]
pub(super) struct Block {
    /// Its first id.
    pub(super) first: u32,
    _held: Option<Lock>,
}

/// The block that was asked for, else that of the last time, else a free one. Only root can give ids out.
pub(super) fn take(places: &Places, asked: Option<u32>) -> io::Result<Block> {
    match asked {
        Some(first) => Ok(Block { first, _held: None }),
        None if !rustix::process::geteuid().is_root() => Ok(Block { first: FIRST, _held: None }),
        None => {
            let remembered = places.state().join("uid-block.json");
            // A folder of a program that remembered none: its files have the ids it was given then.
            let agent = std::fs::metadata(places.state().join("agent")).map(|facts| facts.uid());
            if let (false, Ok(first @ 1..)) = (remembered.exists(), agent) {
                allod_store::save(&remembered, &BlockRecord { first }, 0o600).map_err(io::Error::other)?;
            }
            take_from(Path::new(HELD), &remembered, &running()?)
        }
    }
}

fn take_from(held: &Path, remembered: &Path, running: &BTreeSet<u32>) -> io::Result<Block> {
    if let Some(record) = allod_store::load::<BlockRecord>(remembered).map_err(io::Error::other)? {
        // Its files have these ids, so there is no other choice.
        let lock = hold(held, record.first).map_err(|error| {
            io::Error::other(format!(
                "user ids from {} on are in use: {error}; give --first-uid",
                record.first
            ))
        })?;
        return Ok(Block { first: record.first, _held: Some(lock) });
    }
    for number in 0..BLOCKS {
        let first = FIRST.saturating_add(number.saturating_mul(SIZE));
        if running.range(first..first.saturating_add(SIZE)).next().is_some() {
            continue;
        }
        match hold(held, first) {
            Ok(lock) => {
                allod_store::save(remembered, &BlockRecord { first }, 0o600).map_err(io::Error::other)?;
                return Ok(Block { first, _held: Some(lock) });
            }
            Err(StoreError::Locked { .. }) => {}
            Err(error) => return Err(io::Error::other(error)),
        }
    }
    Err(io::Error::other("no block of user ids is free on this machine; give --first-uid"))
}

fn hold(held: &Path, first: u32) -> Result<Lock, StoreError> {
    let folder: PathBuf = held.join(first.to_string());
    create_folder(&folder, 0o700)?;
    Lock::take(&folder)
}

/// The ids that something runs as.
fn running() -> io::Result<BTreeSet<u32>> {
    // A process may end while its folder is looked at.
    let owners = std::fs::read_dir("/proc")?.flatten().filter(|entry| {
        entry.file_name().to_str().is_some_and(|name| name.bytes().all(|byte| byte.is_ascii_digit()))
    });
    Ok(owners.filter_map(|entry| Some(entry.metadata().ok()?.uid())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(folder: &Path, state: &str, running: &[u32]) -> io::Result<Block> {
        let state = folder.join(state);
        std::fs::create_dir_all(&state).unwrap();
        take_from(&folder.join("held"), &state.join("uid-block.json"), &running.iter().copied().collect())
    }

    #[test]
    fn two_servers_at_once_share_no_user_ids() {
        let folder = tempfile::tempdir().unwrap();
        let (one, two) = (block(folder.path(), "a", &[]).unwrap(), block(folder.path(), "b", &[]).unwrap());
        assert!(one.first.abs_diff(two.first) >= SIZE, "{one:?} {two:?}");
    }

    #[test]
    fn a_block_in_which_something_still_runs_is_not_given_out() {
        let folder = tempfile::tempdir().unwrap();
        let block = block(folder.path(), "a", &[FIRST + 130]).unwrap();
        assert_eq!(block.first, FIRST + SIZE);
    }

    #[test]
    fn a_state_folder_keeps_its_block_and_a_copy_of_it_is_refused_while_it_runs() {
        let folder = tempfile::tempdir().unwrap();
        let other = block(folder.path(), "other", &[]).unwrap();
        let first = block(folder.path(), "a", &[]).unwrap().first;
        drop(other);
        // Its own apps may still run.
        let again = block(folder.path(), "a", &[first + 100]).unwrap();
        assert_eq!(again.first, first);
        std::fs::create_dir_all(folder.path().join("copy")).unwrap();
        std::fs::copy(folder.path().join("a/uid-block.json"), folder.path().join("copy/uid-block.json"))
            .unwrap();
        let refused = block(folder.path(), "copy", &[]).unwrap_err();
        assert!(refused.to_string().contains("--first-uid"), "{refused}");
    }

    #[test]
    fn when_all_blocks_are_taken_it_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let everywhere: Vec<u32> = (0..BLOCKS).map(|number| FIRST + number * SIZE).collect();
        assert!(block(folder.path(), "a", &everywhere).is_err());
    }
}
