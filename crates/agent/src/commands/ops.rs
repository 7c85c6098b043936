//! Operations: listing and following.

use crate::{agent::Agent, operations::unknown};
use allod_commands::Permit;
use allod_proto::{
    Fault,
    messages::ops::{OpsAttach, OpsList, OpsListReply},
};
use allod_rpc::server::Answer;

pub(super) fn list(agent: &Agent, permit: &Permit, params: &OpsList) -> OpsListReply {
    let mut operations = agent.operations.list();
    operations.retain(|it| permit.sees(&it.app) && params.app.as_ref().is_none_or(|app| *app == it.app));
    OpsListReply { operations }
}

pub(super) fn attach(agent: &Agent, permit: &Permit, params: &OpsAttach) -> Result<Answer, Fault> {
    // Whoever may not see the app learns nothing of its operations.
    let visible = agent.operations.app_of(&params.operation).is_some_and(|app| permit.sees(&app));
    if !visible {
        return Err(unknown(&params.operation));
    }
    agent.operations.attach(&params.operation, params.after).map(Answer::Stream)
}
