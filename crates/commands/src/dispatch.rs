//! Check, record and run in one function: nothing asked of a server happens otherwise.

use crate::{Caller, Permit, Rules, authorize, authorize_by};
use allod_proto::{Fault, Request};
use std::future::Future;

/// Who holds the pen: the executor's record for changes, the agent's way to it for reads.
pub trait Recorder: Sync {
    /// What a command answers here.
    type Answer: Send;
    /// An entry that has been opened.
    type Entry: Entry<Answer = Self::Answer>;

    /// Writes that this is about to happen. For a change it is durable when this returns.
    ///
    /// # Errors
    /// When it cannot be written; then nothing happens.
    fn open(
        &self,
        permit: &Permit,
        request: &Request,
    ) -> impl Future<Output = Result<Self::Entry, Fault>> + Send;

    /// Writes that a known caller was denied.
    fn denied(&self, caller: &Caller, request: &Request, fault: &Fault) -> impl Future<Output = ()> + Send;
}

/// An open entry. Dropping it without an outcome must write "unknown outcome".
pub trait Entry: Send {
    /// What a command answers.
    type Answer;

    /// Writes how it ended. For a change it is durable when this returns.
    ///
    /// # Errors
    /// When it cannot be written; the caller then hears of that instead of the answer.
    fn close(self, outcome: &Result<Self::Answer, Fault>) -> impl Future<Output = Result<(), Fault>> + Send;
}

/// Authorises, opens the entry, runs, closes the entry. `rules` decide which named commands may be run; without them,
/// that is decided elsewhere.
///
/// # Errors
/// What `run` fails with, `NotAllowed`, or that the record can't be written.
pub async fn dispatch<R, F, W>(
    recorder: &R,
    rules: Option<&Rules>,
    caller: Caller,
    request: Request,
    run: F,
) -> Result<R::Answer, Fault>
where
    R: Recorder,
    F: FnOnce(Permit, Request) -> W + Send,
    W: Future<Output = Result<R::Answer, Fault>> + Send,
{
    let id = request.id.clone();
    let authorized = match rules {
        Some(rules) => authorize_by(rules, &caller, &request.command),
        None => authorize(&caller, &request.command),
    };
    let permit = match authorized {
        Ok(permit) => permit,
        Err(denied) => {
            let fault = denied.to_fault(&caller).request(id.as_str());
            recorder.denied(&caller, &request, &fault).await;
            return Err(fault);
        }
    };
    let entry = recorder.open(&permit, &request).await.map_err(|fault| fault.request(id.as_str()))?;
    let outcome = run(permit, request).await.map_err(|fault| fault.request(id.as_str()));
    entry.close(&outcome).await?;
    outcome
}
