//! `allod up --demo`: what Allod promises, shown on real programs.

use super::{local_server::Client, places::Places, ports::Ports, supervisor::Pids};
use crate::{failure::Failure, session::Session};
use allod_proto::Fingerprint;

/// What the demonstration plays on.
pub(super) struct Stage<'a> {
    pub(super) session: &'a Session,
    pub(super) client: &'a Client,
    pub(super) places: &'a Places,
    pub(super) ports: Ports,
    pub(super) identity: &'a Fingerprint,
    pub(super) pids: Pids,
}

/// Plays it.
pub(super) async fn run(_stage: &Stage<'_>) -> Result<(), Failure> {
    Ok(())
}
