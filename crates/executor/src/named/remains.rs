//! What a run leaves behind when its shim is killed, or everything above it: nobody else ends it. It is found by the user
//! that is its command's alone, and by the run's id in its environment.

use super::past::UNKNOWN;
use crate::{Executor, instances::remains, isolation::Isolation, layout::Layout};
use allod_proto::{
    Fault, RunId,
    named::{Definition, RunState, RunSummary},
};
use std::collections::BTreeSet;

/// Ends what is left of a run whose shim is gone, before the next one's turn comes.
pub(super) async fn clear(executor: &Executor, run: &RunId, definition: &Definition, uid: Option<u32>) {
    let is_own = matches!(executor.isolation(), Isolation::OwnUids { .. }) && definition.run_as.is_none();
    // With others of the same command beside it, the user is theirs too.
    let alone = uid.filter(|_| is_own && definition.concurrency == 1);
    let marker = BTreeSet::from([marker(run)]);
    let uid = uid.unwrap_or_else(|| rustix::process::geteuid().as_raw());
    let clearing = tokio::task::spawn_blocking(move || {
        remains::kill_carriers(&marker, Some(uid));
        if let Some(uid) = alone {
            remains::kill_users(&BTreeSet::from([uid]));
        }
    });
    if let Err(error) = clearing.await {
        tracing::error!(%run, %error, "what a run left behind may still be there");
    }
}

/// Ends what earlier lives left behind, at the start: no named command runs now.
///
/// # Errors
/// When it can't be read which users are commands'.
pub(super) fn clear_all(isolation: &Isolation, layout: &Layout, past: &[RunSummary]) -> Result<(), Fault> {
    let is_unknown = |run: &&RunSummary| matches!(&run.state, RunState::Ended(end) if end.how == UNKNOWN);
    let markers: BTreeSet<String> = past.iter().filter(is_unknown).map(|run| marker(&run.id)).collect();
    if !markers.is_empty() {
        remains::kill_carriers(&markers, None);
    }
    let uids = isolation.uids_of_commands(layout)?;
    if !uids.is_empty() {
        remains::kill_users(&uids);
    }
    Ok(())
}

fn marker(run: &RunId) -> String {
    format!("ALLOD_RUN={run}")
}
