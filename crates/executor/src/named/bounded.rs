//! The control group of a run, where the executor can make any: it has the bounds that the run's command declares, and whatever
//! is in it ends before anybody hears that the run has.

use crate::{
    Executor, failure,
    groups::{self, Bounds, Group, Whose},
    perform::blocking,
};
use allod_proto::{Fault, named::Definition};
use std::{io, sync::Arc};

/// Makes one, for a run that is to come.
///
/// # Errors
/// Where groups can be made and this one can't: nothing runs without its bounds then.
pub(super) async fn make(executor: &Executor) -> Result<Option<Arc<Group>>, Fault> {
    let groups = Arc::clone(executor.groups());
    if !groups.can_be_made() {
        return Ok(None);
    }
    let failed = |error: io::Error| failure::of_io("make a control group", &error);
    let number = crate::executor::random().map_err(|error| failed(io::Error::other(error)))?;
    let whose = Whose::Run(u64::from_ne_bytes(number));
    let made = blocking(move || groups.make(whose, Bounds::default()).map_err(failed)).await?;
    Ok(made.map(Arc::new))
}

/// Has it bound what a command declares.
///
/// # Errors
/// What the kernel refuses: nothing runs without its bounds then.
pub(super) fn bound(group: Option<&Arc<Group>>, definition: &Definition) -> Result<(), Fault> {
    let bounds = Bounds {
        memory_bytes: Some(definition.memory()),
        processes: Some(definition.process_bound().into()),
    };
    let bound = group.map_or(Ok(()), |group| group.bound(bounds));
    bound.map_err(|error| failure::of_io("bound a control group", &error))
}

/// Ends it. Says its bound on memory, if something in it was killed for that.
pub(super) async fn end(group: Option<Arc<Group>>) -> Option<u64> {
    let group = group?;
    tokio::task::spawn_blocking(move || groups::end(&group)).await.ok().flatten()
}
