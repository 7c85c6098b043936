//! The manifest of a release, as the executor gets it from a stranger.
#![no_main]

use allod_proto::manifest::{EntryKind, Manifest};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let Ok(manifest) = serde_json::from_slice::<Manifest>(bytes) else { return };
    if allod_apps::check(&manifest).is_err() {
        return;
    }
    for entry in &manifest.entries {
        assert!(!entry.path.starts_with('/') && !entry.path.contains('\0'), "a path that leads out");
        assert!(!entry.path.split('/').any(|part| part.is_empty() || part == "." || part == ".."));
        if let EntryKind::Link { to } = &entry.what {
            assert!(!to.starts_with('/'), "a link that leads out");
        }
    }
});
