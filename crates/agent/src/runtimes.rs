//! Whether a runtime that an app needs is on this server.

use allod_proto::{messages::app::Obstacle, spec::RuntimeSpec};

/// Looks for the runtime.
pub(crate) fn check(runtime: &RuntimeSpec) -> Result<String, Obstacle> {
    Ok(runtime.name.clone())
}
