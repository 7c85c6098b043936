//! The agent is not believed: the caller's own request is verified again here, against the executor's own key files,
//! epoch and nonces, before anything is changed.

use crate::Executor;
use allod_commands::{Caller, Door};
use allod_proto::{
    DELEGATION_VERSION, Digest, Fault, FaultCode, Request, command::Kind, executor::SignedCall, headers,
    limits,
};
use allod_signing::{ReplayError, RequestHead, Route, Trust, Verified, verify};

/// A changing request that verified here.
#[derive(Debug)]
pub struct Authorized {
    /// Who.
    pub caller: Caller,
    /// What.
    pub request: Request,
    /// The proof.
    pub verified: Verified,
    /// The head, for the record.
    pub head: RequestHead,
}

/// Verifies a call.
///
/// # Errors
/// `Refused`, `StaleEpoch`, `Clock`, `Replay` or `TooMany`, as at the signed door.
pub fn authorize(executor: &Executor, call: &SignedCall) -> Result<Authorized, Fault> {
    let refused = |why: String| {
        tracing::warn!(why, "the executor refused what the agent passed on");
        Fault::new(FaultCode::Refused, "the executor does not accept the request's signature")
            .hint("only a caller's own signed request changes anything")
    };
    if call.body.len() > limits::BODY {
        return Err(Fault::new(FaultCode::TooLarge, "the body is larger than a command may be"));
    }
    // A chunk is signed too, and its bytes are somebody else's file: only what was signed as a command is one.
    if (call.method.as_str(), call.path.as_str()) != ("POST", headers::RPC_PATH) {
        return Err(refused("it was not signed as a command".to_owned()));
    }
    let head = RequestHead::from_pairs(&call.headers).map_err(|error| refused(error.to_string()))?;
    let route = Route::new(&call.method, &call.path).map_err(|error| refused(error.to_string()))?;
    let verified = {
        let (audience, keys) = (executor.identity(), executor.keys());
        let trust = Trust { audience: &audience, enrolled: keys.enrolled(), revoked: keys.revoked() };
        verify(&head, route, trust, call.source, executor.now())
            .map_err(|error| refused(error.to_string()))?
    };
    if Digest::of(&call.body) != head.body {
        return Err(refused("the body is not the one that was signed".to_owned()));
    }
    admit(executor, &verified)?;
    let request = Request::parse(call.body.as_bytes())?;
    if verified.delegate().is_some() {
        request.require_version(DELEGATION_VERSION)?;
    }
    if request.command.name().kind() != Kind::Change {
        return Err(Fault::new(FaultCode::Invalid, format!("{} changes nothing", request.command.name())));
    }
    let door = if call.door == "socket" { Door::Socket } else { Door::Rpc };
    let caller = Caller::signed(&verified, door, call.source.map(|source| source.to_string()));
    Ok(Authorized { caller, request, verified, head })
}

fn admit(executor: &Executor, verified: &Verified) -> Result<(), Fault> {
    let now = executor.now();
    executor.window().admit(verified, now).map_err(|error| match error {
        ReplayError::StaleEpoch => Fault::new(FaultCode::StaleEpoch, "signed for another life of the agent"),
        ReplayError::Clock { server } => {
            let mut fault = Fault::new(FaultCode::Clock, "the two clocks are more than 60 s apart");
            fault.server_time = Some(server);
            fault
        }
        ReplayError::Replayed => Fault::new(FaultCode::Replay, "this very request was made before"),
        ReplayError::Full => {
            Fault::new(FaultCode::TooMany, "too many changes within a minute").hint("wait a minute")
        }
    })
}

#[cfg(test)]
pub(crate) mod bench;
#[cfg(test)]
mod tests;
