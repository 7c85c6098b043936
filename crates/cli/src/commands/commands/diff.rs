//! `allod commands diff`: what a change of a file means, before it is made.

use super::file::File;
use crate::{failure::Failure, session::Session};
use allod_commands::registry::difference;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// `allod commands diff`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod commands diff old/deploy-site.toml new/deploy-site.toml")]
pub(super) struct Diff {
    /// As it was
    old: PathBuf,
    /// As it is to be
    new: PathBuf,
}

/// Runs it.
pub(super) fn run(session: &Session, diff: &Diff) -> Result<(), Failure> {
    let (old, new) = (File::load(&diff.old)?, File::load(&diff.new)?);
    if old.definition.name != new.definition.name {
        return Err(Failure::usage(format!(
            "{} and {} are two commands",
            old.definition.name, new.definition.name
        )));
    }
    let changes = difference(Some(&old.definition), Some(&new.definition));
    session.output.document(&json!({ "changes": changes }), |_| match changes.as_slice() {
        [] => "they mean the same\n".to_owned(),
        changes => changes.iter().map(|line| format!("{line}\n")).collect(),
    })
}
