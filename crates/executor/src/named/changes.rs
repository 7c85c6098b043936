//! What changes named commands and their runs: definitions, approvals, cancelling, and stopping all callers.

use super::{Author, note};
use crate::{
    Executor,
    perform::{Performed, blocking, replied},
};
use allod_commands::Permit;
use allod_proto::{
    Fault, FaultCode, NamedCommandName, Role, RunId,
    messages::named::{
        CommandApprove, CommandApproveReply, CommandCancelReply, CommandChanged, GatePanicReply,
    },
    named::{APPROVAL_NAMESPACE, RunSummary},
};
use allod_signing::{sshsig, verify_signature};
use std::sync::{Arc, PoisonError};

/// `command.cancel`: one's own run, or any for an operator.
///
/// # Errors
/// `NotFound` for another's.
pub(crate) fn cancel(executor: &Executor, permit: &Permit, id: &RunId) -> Result<Performed, Fault> {
    let run = executor.named().run_for(permit.caller(), id)?;
    let summary = run.summary();
    run.cancel();
    replied(CommandCancelReply { run: summary })
}

/// `command.add` and `command.remove`.
///
/// # Errors
/// What the registry refuses.
pub(crate) async fn change(
    executor: &Arc<Executor>,
    permit: &Permit,
    name: NamedCommandName,
    text: Option<String>,
) -> Result<Performed, Fault> {
    let author = Author { name: permit.caller().name().to_owned(), key: permit.caller().key().cloned() };
    let changing = Arc::clone(executor);
    let (named, by) = (name.clone(), author.name.clone());
    let (registry, changes) = blocking(move || {
        let mut store = changing.named().store();
        let now = changing.now();
        let changes = match &text {
            Some(text) => store.add(&name, text, &author, now)?,
            None => store.remove(&name, &author, now)?,
        };
        Ok((store.state(), changes))
    })
    .await?;
    note(executor, changes.iter().map(|line| format!("{named}: {line} (by {by})")).collect());
    replied(CommandChanged { registry, changes })
}

/// `command.approve`: the approver's own signature is verified, so that it can be shown to anybody later.
///
/// # Errors
/// `Refused` for a signature that is not the caller's own, `NotFound` for a command that takes none.
pub(crate) async fn approve(
    executor: &Arc<Executor>,
    permit: &Permit,
    params: CommandApprove,
) -> Result<Performed, Fault> {
    let refused = |why: &str| {
        Fault::new(FaultCode::Refused, format!("the approval is not signed as it must be: {why}"))
            .hint("`allod commands approve` signs it with the key that it calls with")
    };
    let caller = permit.caller();
    let key = caller.key().ok_or_else(|| refused("the caller has no key"))?;
    let approval = params.approval;
    let signature = sshsig::from_base64(&params.signature).map_err(|_| refused("it is no SSHSIG"))?;
    let bytes = approval.bytes(&executor.identity());
    let signer = sshsig::signer_key(&signature).map_err(|_| refused("it is no key's"))?;
    if signer.fingerprint() != key {
        return Err(refused("it is another key's"));
    }
    verify_signature(&signer, APPROVAL_NAMESPACE, &bytes, &signature)
        .map_err(|_| refused("it does not hold"))?;
    let unknown = || {
        Fault::new(FaultCode::NotFound, format!("{} is no command that takes an approval", approval.name))
            .hint("`allod commands list`")
    };
    let rules = executor.named().rules();
    let definition = rules.registry.get(&approval.name).cloned().ok_or_else(unknown)?;
    let rule = definition.approval.clone().ok_or_else(unknown)?;
    if caller.role() < rule.role {
        let message = format!("approving {} takes the role {}", approval.name, rule.role);
        return Err(Fault::new(FaultCode::NotAllowed, message).hint("ask somebody who has it"));
    }
    let given = CommandApproveReply { by: key.clone(), role: caller.role(), expires: approval.expires };
    let (giving, by, role) = (Arc::clone(executor), key.clone(), caller.role());
    blocking(move || {
        let mut approvals = giving.named().approvals.lock().unwrap_or_else(PoisonError::into_inner);
        approvals.give(approval, &rule, by, role, giving.now())
    })
    .await?;
    replied(given)
}

/// `gate.panic`: stops all callers and ends what they run, or lets them in again.
///
/// # Errors
/// When it can't be made to last.
pub(crate) async fn panic(executor: &Arc<Executor>, held: bool) -> Result<Performed, Fault> {
    let holding = Arc::clone(executor);
    let registry = blocking(move || {
        let mut store = holding.named().store();
        store.hold(held)?;
        Ok(store.state())
    })
    .await?;
    let running = executor.named().runs.all().into_iter().filter(|run| held && !run.has_ended());
    let ended: Vec<RunSummary> = running
        .filter(|run| is_callers(executor, &run.summary()))
        .map(|run| {
            run.cancel();
            run.summary()
        })
        .collect();
    let word = if held { "all callers are stopped" } else { "callers are let in again" };
    note(executor, vec![word.to_owned()]);
    replied(GatePanicReply { registry, ended })
}

/// Whether a run was asked for by a key that may do nothing but run commands.
fn is_callers(executor: &Executor, run: &RunSummary) -> bool {
    let keys = executor.keys();
    let entry = run.key.as_ref().and_then(|key| keys.enrolled().find(key));
    // A key that is gone is nobody's any more.
    run.key.is_some() && entry.is_none_or(|entry| entry.grant().role == Role::Caller)
}
