//! What all rows share: the binary that is measured, a folder for its state, progress, and how patient to be.

use crate::{machine::Machine, peer, peer::Peer, progress::Progress, report::Report, rows::Row};
use anyhow::{Context as _, Result, bail};
use std::{
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// One run of the bench.
pub(crate) struct Bench {
    pub(crate) allod: Peer,
    pub(crate) quick: bool,
    pub(crate) progress: Progress,
    folder: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn new(allod: Option<PathBuf>, quick: bool) -> Result<Self> {
        let progress = Progress::new();
        let program = match allod {
            Some(file) => file,
            None => std::env::current_exe()?.with_file_name("allod"),
        };
        let program = program.canonicalize().with_context(|| {
            format!(
                "{} is not there: `cargo build --release -p allod` first, or name one with --allod",
                program.display()
            )
        })?;
        if cfg!(debug_assertions) {
            progress.say("this is a debug build: its figures mean nothing");
        }
        let version = peer::find(&program.to_string_lossy(), &["--version"]).map(|peer| peer.version);
        let folder = tempfile::Builder::new().prefix("allod-bench-").tempdir()?;
        // Programs with users of their own, such as nginx's workers, pass through.
        std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755))?;
        // They also run what is measured, which may lie where they can't go.
        std::fs::create_dir(folder.path().join("measured"))?;
        let copy = folder.path().join("measured/allod");
        std::fs::copy(&program, &copy).with_context(|| format!("{} can't be copied", program.display()))?;
        let allod = Peer { program: copy, version: version.unwrap_or_default() };
        Ok(Self { allod, quick, progress, folder })
    }

    /// Measures one row.
    pub(crate) fn measure(&self, row: &Row) -> Result<Report> {
        self.progress.say(&format!("{}: {}", row.name, row.what));
        let mut report = Report::new(row, Machine::look(), self.quick);
        report.version("allod", &self.allod);
        (row.run)(self, &mut report).with_context(|| row.name.to_owned())?;
        report.finish();
        Ok(report)
    }

    /// A peer; one that is absent is said loudly and listed in the result.
    pub(crate) fn peer(&self, report: &mut Report, name: &str, version: &[&str]) -> Option<Peer> {
        let found = peer::find(name, version);
        match &found {
            Some(peer) => report.version(name, peer),
            None => {
                self.progress.say(&format!("ABSENT: {name}; the figures below are without it"));
                report.absent(name);
            }
        }
        found
    }

    /// A program without which a row can't be measured at all.
    pub(crate) fn tool(&self, report: &mut Report, name: &str, version: &[&str]) -> Result<Peer> {
        match self.peer(report, name, version) {
            Some(peer) => Ok(peer),
            None => bail!("{name} is needed: scripts/setup-peers installs it"),
        }
    }

    /// A fresh folder below the run's own.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.path().join(name);
        std::fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// How many rounds: `usual`, or two when it is to be quick.
    pub(crate) fn rounds(&self, usual: usize) -> usize {
        if self.quick { 2 } else { usual }
    }

    /// How much of something: `usual`, or `quick`.
    pub(crate) fn much<T>(&self, usual: T, quick: T) -> T {
        if self.quick { quick } else { usual }
    }
}

/// Writes a file that everybody may read.
pub(crate) fn write(file: &Path, text: &str) -> Result<()> {
    std::fs::write(file, text).with_context(|| format!("{} can't be written", file.display()))
}
