//! From a request's head to the proof of who sent it, before a byte of the body is read.

use crate::server::{Incoming, Presented, Service};
use allod_proto::{
    DELEGATION_VERSION, Digest, Fault, FaultCode, Nonce, Request, command::Kind, executor::SignedCall,
};
use allod_signing::{HeadError, ReplayError, RequestHead, Route, Trust, Verified, verify};
use std::{net::IpAddr, sync::Arc};

/// A head that verified and is fresh. Its body must still hash to what was signed.
#[derive(Debug)]
pub struct Authenticated {
    /// Who, and what they may do at most.
    pub verified: Arc<Verified>,
    /// The head as it came.
    pub head: RequestHead,
}

impl Authenticated {
    /// # Errors
    /// `Refused` when this is not the body that was signed.
    pub(super) fn check_body(&self, bytes: &[u8]) -> Result<(), Fault> {
        if Digest::of(bytes) == self.head.body {
            return Ok(());
        }
        Err(Fault::new(FaultCode::Refused, "the body is not the one that was signed"))
    }

    /// The request in a body that [`Authenticated::check_body`] let pass. A change has with it what its caller signed;
    /// nothing else is verified again.
    ///
    /// # Errors
    /// `Malformed`, `Version`.
    pub(super) fn incoming(
        self,
        (method, path): (&str, &str),
        body: &[u8],
        source: Option<IpAddr>,
        door: &'static str,
    ) -> Result<Incoming, Fault> {
        let request = Request::parse(body)?;
        // A delegation is nothing that an earlier version speaks of.
        if self.verified.delegate().is_some() {
            request.require_version(DELEGATION_VERSION)?;
        }
        let headers =
            || self.head.headers().into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let call = (request.command.name().kind() == Kind::Change).then(|| SignedCall {
            method: method.to_owned(),
            path: path.to_owned(),
            headers: headers(),
            body: String::from_utf8_lossy(body).into_owned(),
            source,
            door: door.to_owned(),
        });
        Ok(Incoming { presented: Presented::Signed(self.verified), request, call, source, door })
    }
}

/// A head that is not believed.
#[derive(Debug)]
pub struct Rejected {
    /// What the wire says: nothing of which check failed, to someone who proved nothing.
    pub fault: Box<Fault>,
    /// What the log says.
    pub reason: &'static str,
    /// The nonce, where the signature was good: the reply is then signed, so that the client may act on it.
    pub nonce: Option<Nonce>,
}

impl Rejected {
    fn stranger(reason: &'static str) -> Self {
        let fault = Fault::new(FaultCode::Refused, "the request is not signed by a key this server accepts")
            .hint("`allod doctor` checks key, clock and server; an owner enrols a key with `allod keys add`");
        Self { fault: Box::new(fault), reason, nonce: None }
    }

    /// A request without any signature, for something that needs one.
    #[must_use]
    pub fn unsigned() -> Self {
        Self::stranger("unsigned")
    }
}

/// Checks a request's head. `header` looks a header up by its lower-case name; a header given twice is not found.
///
/// # Errors
/// [`Rejected`] with what may be said and what may only be logged.
pub fn authenticate<'a, S: Service>(
    service: &S,
    route: (&str, &str),
    header: impl Fn(&str) -> Option<&'a str>,
    source: Option<IpAddr>,
) -> Result<Authenticated, Rejected> {
    let head = RequestHead::parse(header).map_err(|error| match error {
        HeadError::Missing(_) => Rejected::stranger("a header is missing"),
        HeadError::Malformed(_) | HeadError::Twice(_) => Rejected::stranger("a header is malformed"),
    })?;
    let route = Route::new(route.0, route.1).map_err(|_| Rejected::stranger("the route is malformed"))?;
    let keys = service.keys();
    let trust = Trust { audience: &keys.audience, enrolled: &keys.enrolled, revoked: &keys.revoked };
    let verified = verify(&head, route, trust, source, service.now()).map_err(|refusal| {
        tracing::debug!(%refusal, key = %head.fingerprint, "a signature was refused");
        Rejected::stranger("the signature is not accepted")
    })?;
    admit(service, &verified)?;
    Ok(Authenticated { verified: Arc::new(verified), head })
}

/// The nonce is spent only after the signature holds: a stranger can't burn the nonces of others.
fn admit<S: Service>(service: &S, verified: &Verified) -> Result<(), Rejected> {
    let now = service.now();
    let admitted = match service.window().lock() {
        Ok(mut window) => window.admit(verified, now),
        Err(_) => Err(ReplayError::Full),
    };
    let known = |fault: Fault, reason| Rejected {
        fault: Box::new(fault),
        reason,
        nonce: Some(verified.nonce().clone()),
    };
    admitted.map_err(|error| match error {
        ReplayError::StaleEpoch => known(
            Fault::new(
                FaultCode::StaleEpoch,
                "the agent has restarted since; sign again with the epoch of this reply",
            ),
            "stale epoch",
        ),
        ReplayError::Clock { server } => {
            let apart = server.distance(verified.timestamp()).as_secs();
            let mut fault = Fault::new(FaultCode::Clock, format!("the two clocks are {apart} s apart")).hint(
                "set the clock of whichever is wrong; the client may sign once more with the server's time",
            );
            fault.server_time = Some(server);
            known(fault, "clock")
        }
        ReplayError::Replayed => known(
            Fault::new(FaultCode::Replay, "this very request was made before")
                .hint("sign a new one, with a new nonce"),
            "replay",
        ),
        ReplayError::Full => known(
            Fault::new(FaultCode::TooMany, "too many requests within a minute").hint("wait a minute"),
            "window full",
        ),
    })
}
