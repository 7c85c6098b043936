//! `allod init`: looks at a folder, asks nothing, runs nothing, writes a commented `allod.toml`.

use crate::{failure::Failure, render::safe, session::Session};
use allod_appspec::{Detected, FILE, document};
use allod_proto::FaultCode;
use clap::Args;
use serde_json::json;
use std::{
    fs::File,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// `allod init`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  cd shop && allod init\n  allod init ./shop --force")]
pub struct Init {
    /// The app's folder
    #[arg(value_name = "FOLDER", default_value = ".")]
    folder: PathBuf,
    /// Replace an allod.toml that is there
    #[arg(long)]
    force: bool,
}

/// Runs it.
///
/// # Errors
/// [`Failure`] when there is a file already, or it can't be written.
pub fn run(session: &Session, init: &Init) -> Result<(), Failure> {
    let failed =
        |error: io::Error| Failure::new(FaultCode::Invalid, format!("{}: {error}", init.folder.display()));
    let path = init.folder.join(FILE);
    if !init.force && path.symlink_metadata().is_ok() {
        return Err(exists(&path));
    }
    let detected = allod_apps::detect(&init.folder).map_err(failed)?;
    let text = document(&detected);
    if init.force {
        allod_store::write_atomic(&path, text.as_bytes(), 0o644)
            .map_err(|error| Failure::new(FaultCode::Internal, error.to_string()))?;
    } else {
        match create(&path, &text) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Err(exists(&path)),
            written => written.map_err(failed)?,
        }
    }
    let value =
        json!({"path": path, "app": detected.name, "detected": detected.what, "notes": detected.notes});
    session.output.document(&value, |_| told(&path, &detected))
}

fn create(path: &Path, text: &str) -> io::Result<()> {
    let mut file = File::options().write(true).create_new(true).open(path)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

fn exists(path: &Path) -> Failure {
    Failure::new(FaultCode::Conflict, format!("{} is there already; it was not touched", path.display()))
        .hint("`--force` replaces it")
}

fn told(path: &Path, detected: &Detected) -> String {
    let mut text = format!(
        "{}: {}, as {}\n",
        safe(&path.display().to_string()),
        safe(&detected.what),
        safe(detected.name.as_str())
    );
    for note in &detected.notes {
        text.push_str(&format!("  {}\n", safe(note)));
    }
    text.push_str("Next: look through it, then `allod deploy --plan`.\n");
    text
}
