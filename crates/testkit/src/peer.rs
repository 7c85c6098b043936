//! The programs of others that tests and the bench start: where they are, and that an absent one is said.

use std::{env, ffi::OsStr, path::PathBuf, process::Command};

/// A program, to be started.
#[expect(clippy::disallowed_methods, reason = "who is driven here is started here")]
pub fn program(path: impl AsRef<OsStr>) -> Command {
    Command::new(path)
}

/// Where a program lies: in the folder of peers from Go modules (`ALLOD_GO_PEERS`), in that of other peers (`ALLOD_PEERS`), or on
/// the path.
#[must_use]
pub fn find(name: &str) -> Option<PathBuf> {
    let folders = ["ALLOD_GO_PEERS", "ALLOD_PEERS"].into_iter().filter_map(env::var_os).map(PathBuf::from);
    let path = env::var_os("PATH").unwrap_or_default();
    folders.chain(env::split_paths(&path)).map(|folder| folder.join(name)).find(|path| path.is_file())
}

/// All of these programs, or none and a line that says which are absent. Those that Go modules bring must be there where
/// `ALLOD_GO_PEERS` says that they are.
pub fn all<const N: usize>(names: [&str; N]) -> Option<[PathBuf; N]> {
    let found = names.map(|name| {
        let found = find(name);
        if found.is_none() {
            let required = env::var_os("ALLOD_GO_PEERS").is_some() && name.starts_with("tailscale");
            assert!(!required, "{name} is not in the folder that ALLOD_GO_PEERS names");
            eprintln!("peer absent: {name} (`scripts/setup-peers --go DIR`, then ALLOD_GO_PEERS=DIR; others in ALLOD_PEERS)");
        }
        found
    });
    let found: Vec<_> = found.into_iter().flatten().collect();
    found.try_into().ok()
}
