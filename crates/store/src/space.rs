//! How much room a disk has.

use crate::{Step, StoreError};
use std::path::Path;

/// How many bytes an unprivileged program may still write to the file system that holds `path`.
///
/// # Errors
/// [`StoreError::Io`] when the path is not there or the file system does not say.
pub fn free_bytes(path: &Path) -> Result<u64, StoreError> {
    let facts = rustix::fs::statvfs(path).map_err(|error| StoreError::io(path, Step::Inspect, error))?;
    Ok(facts.f_bavail.saturating_mul(facts.f_frsize))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_not_there_has_no_free_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let error = free_bytes(&folder.path().join("gone")).unwrap_err();
        assert!(error.is_not_found(), "{error}");
    }

    #[test]
    fn a_disk_has_at_least_room_for_what_it_then_takes() {
        let folder = tempfile::tempdir().unwrap();
        assert!(free_bytes(folder.path()).unwrap() > 4096);
    }
}
