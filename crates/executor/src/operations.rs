//! Operations in progress: opened by what a caller signed, promoted and ended by the agent, one at a time an app.

use crate::{
    Executor,
    apps::{AppRecord, CommandRun},
    changes,
    instances::Ran,
};
use allod_audit::Ending;
use allod_proto::{
    AppRef, Fault, FaultCode, OperationId, ReleaseId, UnitName,
    executor::{Goal, OpenOperation, Release},
    messages::app::Accepted,
    operation::OperationState,
};
use std::sync::Arc;

/// The longest text of the agent's about why an operation failed, in characters.
const SAID: usize = 4096;

impl Executor {
    /// Opens an operation, durably. Its intent's sequence number follows with [`Executor::opened`].
    pub(crate) fn begin(&self, operation: OpenOperation) -> Result<OpenOperation, Fault> {
        self.claim(&operation.app)?;
        let app = operation.app.clone();
        let opened = operation.clone();
        self.apps().change(&app, |record| {
            if let Goal::Release { release, .. } = &operation.goal {
                record.keep((**release).clone());
            }
            record.operation = Some(crate::apps::InProgress { operation, intent: 0, release_command: None });
        })?;
        Ok(opened)
    }

    /// Ties an operation to its intent in the record.
    pub(crate) fn opened(&self, app: &AppRef, id: &OperationId, intent: u64) -> Result<(), Fault> {
        self.apps().change(app, |record| {
            if let Some(open) = record.operation.as_mut().filter(|open| open.operation.id == *id) {
                open.intent = intent;
            }
        })
    }

    /// Writes down that the release command of an operation begins. With an end that is known, that is the answer: it is
    /// not run again.
    ///
    /// # Errors
    /// `Conflict` when it began in an earlier life and how it ended is not known.
    pub(crate) fn begin_release_command(&self, id: &OperationId) -> Result<Option<Ran>, Fault> {
        let mut apps = self.apps();
        let (record, open) = apps.with_operation(id)?;
        let app = record.app.clone();
        match open.release_command.clone() {
            Some(CommandRun::Ended { exit, ok, tail }) => return Ok(Some(Ran { exit, ok, tail })),
            Some(CommandRun::Begun {}) => {
                let why = "the release command was begun before, and nobody knows whether it ended: unknown outcome";
                return Err(Fault::new(FaultCode::Conflict, why)
                    .hint("look what it did, its output is in `allod logs`; then deploy again"));
            }
            None => {}
        }
        apps.change(&app, |record| set_command(record, CommandRun::Begun {}))?;
        Ok(None)
    }

    /// Writes down how the release command of an operation ended.
    ///
    /// # Errors
    /// When the disk refuses; then its outcome is unknown.
    pub(crate) fn end_release_command(&self, id: &OperationId, ran: &Ran) -> Result<(), Fault> {
        let mut apps = self.apps();
        let app = apps.with_operation(id)?.0.app.clone();
        let ended = CommandRun::Ended { exit: ran.exit.clone(), ok: ran.ok, tail: ran.tail.clone() };
        apps.change(&app, |record| set_command(record, ended))
    }

    /// What the operation wants is from now on what is wanted.
    pub(crate) fn promote(&self, id: &OperationId) -> Result<(), Fault> {
        let app = self.apps().with_operation(id)?.0.app.clone();
        let now = self.now();
        self.apps().change(&app, |record| record.promote(now))
    }

    /// An operation ends. A failed one that was not promoted leaves what was.
    pub(crate) async fn finish(
        self: &Arc<Self>,
        id: &OperationId,
        state: OperationState,
        fault: Option<Fault>,
    ) -> Result<(), Fault> {
        let app = self.apps().with_operation(id)?.0.app.clone();
        let _turn = self.turn_of(&app).await;
        let open = self.apps().with_operation(id)?.1.clone();
        check_end(&open.operation, state)?;
        if matches!(open.operation.goal, Goal::Remove {}) && state == OperationState::Done {
            if self.instances().all().iter().any(|instance| instance.app == app && instance.exit.is_none()) {
                return Err(Fault::new(FaultCode::Conflict, format!("{app} still has running instances")));
            }
            self.remove_app(&app).await?;
        } else {
            self.apps().change(&app, |record| record.operation = None)?;
            if let Err(fault) = changes::prune_app(self, &app).await {
                tracing::warn!(%app, %fault, "old releases could not be pruned");
            }
        }
        let result = if state == OperationState::Done { Ending::Ok } else { Ending::Failed };
        // The agent says what went wrong, and the record is not its to fill.
        let fault = fault.map(|fault| Fault { message: fault.message.chars().take(SAID).collect(), ..fault });
        let took_ms = self.took_since(open.operation.at);
        let accepted = Accepted { operation: id.clone(), release: open.operation.release().cloned() };
        self.write_outcome(open.intent, result, fault, serde_json::to_value(accepted).ok(), took_ms).await
    }

    /// The release that an instance may be started of: the one an open operation brings, or the current one.
    pub(crate) fn startable(
        &self,
        operation: Option<&OperationId>,
        app: &AppRef,
        unit: &UnitName,
        release: &ReleaseId,
    ) -> Result<(Release, u32), Fault> {
        let refuse = |why: &str| {
            Fault::new(FaultCode::NotAllowed, format!("no instance of {release} may start: {why}"))
        };
        let apps = self.apps();
        let record = apps.known(app)?;
        let open = record.operation.as_ref().map(|open| &open.operation);
        let open = open.filter(|open| operation == Some(&open.id));
        let (found, wanted) = match open.map(|open| &open.goal) {
            Some(Goal::Release { release: target, scale, .. }) if target.id == *release => {
                (record.release(release), scale.get(unit).copied().unwrap_or(0))
            }
            Some(Goal::Scale { unit: scaled, instances })
                if scaled == unit && record.current.as_ref() == Some(release) =>
            {
                (record.current(), *instances)
            }
            Some(Goal::Release { .. } | Goal::Scale { .. } | Goal::Stop {} | Goal::Remove {}) | None => {
                if record.current.as_ref() != Some(release) {
                    return Err(refuse("it is neither current nor what an open operation brings"));
                }
                if record.stopped {
                    return Err(refuse("the app is stopped"));
                }
                let wanted = record.current().map(|current| record.scale_for(current));
                (record.current(), wanted.and_then(|wanted| wanted.get(unit).copied()).unwrap_or(0))
            }
        };
        let found = found.cloned().ok_or_else(|| refuse("its files are gone"))?;
        if found.spec.process(unit).is_none() {
            return Err(refuse("it has no such process"));
        }
        Ok((found, wanted))
    }
}

fn set_command(record: &mut AppRecord, run: CommandRun) {
    if let Some(open) = &mut record.operation {
        open.release_command = Some(run);
    }
}

/// What served must be what was asked for: an operation is done only if it was promoted.
fn check_end(open: &OpenOperation, state: OperationState) -> Result<(), Fault> {
    match state {
        OperationState::Running => Err(Fault::new(FaultCode::Invalid, "an operation can't end as running")),
        OperationState::Done if !open.promoted => Err(Fault::new(
            FaultCode::Conflict,
            format!("{} was never promoted, so it can't be done", open.id),
        )),
        OperationState::Done | OperationState::Failed | OperationState::Cancelled => Ok(()),
    }
}

#[cfg(test)]
mod tests;
