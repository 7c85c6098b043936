//! The programs that Allod is measured against: where they are and which version. `ALLOD_PEERS` names a folder that is
//! looked in first.

use crate::process;
use std::{
    ffi::OsString,
    path::{Path, PathBuf},
};

/// Where a system keeps programs that an ordinary user's `PATH` may lack.
const SYSTEM: &str = "/usr/local/sbin:/usr/sbin:/sbin";

/// A peer that is here.
#[derive(Debug, Clone)]
pub(crate) struct Peer {
    pub(crate) program: PathBuf,
    pub(crate) version: String,
}

/// Where programs are looked for.
pub(crate) fn path() -> OsString {
    let mut path = OsString::new();
    for folders in [std::env::var_os("ALLOD_PEERS"), std::env::var_os("PATH")].into_iter().flatten() {
        path.push(folders);
        path.push(":");
    }
    path.push(SYSTEM);
    path
}

/// Looks a program up and asks it for its version with these words.
pub(crate) fn find(name: &str, version: &[&str]) -> Option<Peer> {
    let program =
        std::env::split_paths(&path()).map(|folder| folder.join(name)).find(|file| is_program(file))?;
    let mut command = process::command(&program);
    command.args(version);
    // Several write it to standard error, and wrk ends with a failure besides.
    let said =
        command.output().ok().map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    let said = String::from_utf8_lossy(&said).into_owned();
    let version = said.lines().next().unwrap_or_default().trim().chars().take(80).collect();
    Some(Peer { program, version })
}

fn is_program(file: &Path) -> bool {
    file.metadata().is_ok_and(|facts| facts.is_file())
}
