//! What can be read over a coordinator's interface, on disk: for a person to begin again with, and to compare.

use super::{BackupManifest, Coordination, CoordinationError};
use serde::Serialize;
use std::{io, path::Path};

/// Writes it. Files are for the owner alone: they say who is where.
pub(super) async fn write(
    from: &dyn Coordination,
    into: &Path,
    missing: Vec<String>,
) -> Result<BackupManifest, CoordinationError> {
    let (users, nodes, keys) = (from.users().await?, from.nodes().await?, from.list_join().await?);
    let policy = from.policy().await?;
    let mut files = vec![
        put(into, "users.json", &as_json(&users)?, users.len())?,
        put(into, "nodes.json", &as_json(&nodes)?, nodes.len())?,
        put(into, "join-keys.json", &as_json(&keys)?, keys.len())?,
    ];
    files.push(put(into, "policy.hujson", policy.text.as_bytes(), 1)?);
    let manifest = BackupManifest { driver: from.capabilities().driver.to_owned(), files, missing };
    // Last: with it, everything is there.
    put(into, "manifest.json", &as_json(&manifest)?, 1)?;
    Ok(manifest)
}

fn as_json(value: &impl Serialize) -> Result<Vec<u8>, CoordinationError> {
    serde_json::to_vec_pretty(value).map_err(|error| CoordinationError::Unreadable { why: error.to_string() })
}

fn put(into: &Path, name: &str, bytes: &[u8], count: usize) -> Result<(String, usize), CoordinationError> {
    let path = into.join(name);
    allod_store::write_atomic(&path, bytes, 0o600)
        .map_err(|error| CoordinationError::Write { path, source: io::Error::other(error) })?;
    Ok((name.to_owned(), count))
}
