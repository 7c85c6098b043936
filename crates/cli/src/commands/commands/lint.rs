//! `allod commands lint`: a file of the registry, checked here.

use super::file::File;
use crate::{failure::Failure, session::Session};
use allod_commands::registry::lint;
use allod_proto::FaultCode;
use clap::Args;
use serde_json::json;
use std::path::PathBuf;

/// `allod commands lint`.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  allod commands lint deploy-site.toml")]
pub(super) struct Lint {
    /// Files of a registry
    #[arg(required = true, value_name = "NAME.toml")]
    files: Vec<PathBuf>,
    /// Warnings fail too
    #[arg(long)]
    strict: bool,
}

/// Runs it.
pub(super) fn run(session: &Session, wanted: &Lint) -> Result<(), Failure> {
    let mut rows = Vec::new();
    let mut text = String::new();
    let mut wrong: Option<Failure> = None;
    for path in &wanted.files {
        let file = path.display().to_string();
        match File::load(path) {
            Ok(read) => {
                let warnings = lint(&read.definition);
                if wanted.strict && !warnings.is_empty() && wrong.is_none() {
                    wrong = Some(Failure::new(FaultCode::Invalid, warnings.join("\n")));
                }
                if warnings.is_empty() {
                    text.push_str(&format!("{file}: good\n"));
                }
                warnings.iter().for_each(|line| text.push_str(&format!("{file}: look twice: {line}\n")));
                rows.push(json!({"file": file, "ok": true, "warnings": warnings}));
            }
            Err(failure) => {
                text.push_str(&format!("{}\n", failure.fault.message));
                rows.push(json!({"file": file, "ok": false, "fault": failure.fault}));
                wrong = Some(failure);
            }
        }
    }
    match wrong {
        None => session.output.document(&json!({ "files": rows }), |_| text),
        Some(failure) => {
            if !session.output.is_json() {
                session.output.print(&text)?;
            }
            Err(failure.with("files", rows).already_said())
        }
    }
}
