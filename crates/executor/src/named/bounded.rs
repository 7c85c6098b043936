//! The control group of a run, where the executor can make any: it has the bounds that the run's command declares, and whatever
//! is in it ends before anybody hears that the run has.

use crate::{
    Executor, failure,
    groups::{self, Bounds, Group, Whose},
};
use allod_proto::{Fault, RunId, named::Definition};

/// Makes it, empty.
///
/// # Errors
/// Where groups can be made and this one can't: nothing runs without its bounds then.
pub(super) fn make(
    executor: &Executor,
    run: &RunId,
    definition: &Definition,
) -> Result<Option<Group>, Fault> {
    let bounds = Bounds {
        memory_bytes: Some(definition.memory()),
        processes: Some(definition.process_bound().into()),
    };
    let made = executor.groups().make(Whose::Run(run), bounds);
    made.map_err(|error| failure::of_io("make a control group", &error))
}

/// Ends it. Says its bound on memory, if something in it was killed for that.
pub(super) async fn end(group: Option<Group>) -> Option<u64> {
    let group = group?;
    tokio::task::spawn_blocking(move || groups::end(group)).await.ok().flatten()
}
