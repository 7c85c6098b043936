//! Operations: listing and following.

use crate::{agent::Agent, drive, operations::unknown};
use allod_commands::Permit;
use allod_proto::{
    Fault,
    messages::ops::{OpsAttach, OpsList, OpsListReply},
};
use allod_rpc::server::Answer;
use std::sync::Arc;

pub(super) fn list(agent: &Agent, permit: &Permit, params: &OpsList) -> OpsListReply {
    let mut operations = agent.operations.list();
    operations.retain(|it| permit.sees(&it.app) && params.app.as_ref().is_none_or(|app| *app == it.app));
    OpsListReply { operations }
}

pub(super) async fn attach(agent: &Arc<Agent>, permit: &Permit, params: &OpsAttach) -> Result<Answer, Fault> {
    take_up(agent, permit, params).await?;
    // Whoever may not see the app learns nothing of its operations.
    let visible = agent.operations.app_of(&params.operation).is_some_and(|app| permit.sees(&app));
    if !visible {
        return Err(unknown(&params.operation));
    }
    agent.operations.attach(&params.operation, params.after).map(Answer::Stream)
}

/// An operation that the executor opened when an agent was about to die is nobody's work yet. The keeper would find it a
/// little later; whoever asks for it by name does not have to wait for that.
async fn take_up(agent: &Arc<Agent>, permit: &Permit, params: &OpsAttach) -> Result<(), Fault> {
    let id = &params.operation;
    if agent.operations.app_of(id).is_some() {
        return Ok(());
    }
    let mut all = agent.look().await?.apps.into_iter().filter_map(|app| app.operation);
    let open = all.find(|open| open.id == *id && permit.sees(&open.app));
    // It may have been taken up, and even ended, during the look.
    if let Some(open) = open.filter(|_| agent.operations.app_of(id).is_none()) {
        drive::spawn(agent, open, true);
    }
    Ok(())
}
