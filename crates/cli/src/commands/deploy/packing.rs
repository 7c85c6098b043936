//! Packing the folder, with its progress.

use crate::{
    commands::{project::Project, servers::bytes},
    failure::Failure,
    session::Session,
};
use allod_apps::{PackError, Packed};
use allod_proto::FaultCode;
use indicatif::{ProgressBar, ProgressStyle};
use std::{error::Error as _, time::Duration};

/// Packs what the file says is uploaded.
pub(super) async fn pack(
    session: &Session,
    project: &Project,
    version: Option<String>,
) -> Result<Packed, Failure> {
    let bar = if session.output.is_live() { spinner() } else { ProgressBar::hidden() };
    let told = bar.clone();
    let (resolved, folder) = (project.resolved.clone(), project.folder.join(&project.resolved.folder));
    let packing = tokio::task::spawn_blocking(move || {
        allod_apps::pack(&folder, &resolved.spec, &resolved.ignore, version, &|read| told.inc(read))
    })
    .await;
    bar.finish_and_clear();
    let packed = packing.map_err(|error| Failure::new(FaultCode::Internal, error.to_string()))?;
    let packed = packed.map_err(|error| refused(&error))?;
    session.output.note(&format!(
        "packed {} entries, {}",
        packed.manifest.entries.len(),
        bytes(packed.bytes)
    ));
    Ok(packed)
}

/// What is wrong with the folder.
pub(super) fn refused(error: &PackError) -> Failure {
    let cause = error.source().map(|cause| format!(": {cause}")).unwrap_or_default();
    Failure::new(FaultCode::Invalid, format!("{error}{cause}"))
}

fn spinner() -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} packing {bytes:>12} {elapsed:>8}") {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
