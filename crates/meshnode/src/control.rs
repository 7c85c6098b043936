//! The node's side of ts2021: find the coordinator, prove who it is, register, then follow the map for as long as it streams it,
//! telling it where this node is. Whoever uses the map never waits for any of this: it is told through a `watch`, and keeps the
//! last one.

mod door;
mod session;

pub use door::{DoorError, Trust, Vouched};
pub use session::SessionError;

use crate::{backoff::Backoff, dial, engine::Standing, identity::Identity, node::Clock};
use allod_meshproto::{
    control::{
        EndpointKind, Hostinfo, MapRequest, NetInfo, RegisterAuth, RegisterReply, RegisterRequest,
        register::Registration,
    },
    netmap::{NetMap, Outcome, Place, Refusal, StoredMap},
};
use session::Session;
use std::{sync::Arc, time::Duration};
use tokio::{sync::watch, time::timeout};
use zeroize::Zeroizing;

/// Without a word for so long, the coordinator is taken to be away. It gives a sign of life once a minute.
const SILENCE: Duration = Duration::from_secs(130);
/// How often it is told that the same map still holds: each time it is looked through anew.
const CONFIRM: Duration = Duration::from_secs(3_600);
/// How long to wait before trying again: first, and at most.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(30));
/// How often to ask whether a person has let the node in.
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// How long a request may take that a person need not answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to tell of new addresses: the connection may be from one that is gone.
const MOVED: Duration = Duration::from_secs(6);
/// How long one that waits for a person may take.
const FOR_A_PERSON: Duration = Duration::from_secs(300);

/// Whom to ask, and as whom.
#[derive(Clone)]
pub struct ControlSettings {
    /// Where the coordinator is, best first: `http://HOST[:PORT]` or `https://HOST[:PORT]`.
    pub urls: Vec<String>,
    /// How its Noise key is known.
    pub trust: Trust,
    /// For `https` URLs: whose certificates are believed. Without it they can't be used.
    pub tls: Option<Arc<rustls::ClientConfig>>,
    /// The name that this node would like to have.
    pub hostname: String,
    /// What lets it in the first time.
    pub join_key: Option<Zeroizing<String>>,
    /// Whether the node may be forgotten as soon as it is away.
    pub ephemeral: bool,
}

impl std::fmt::Debug for ControlSettings {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlSettings")
            .field("urls", &self.urls)
            .field("trust", &self.trust)
            .field("hostname", &self.hostname)
            .finish_non_exhaustive()
    }
}

/// How things stand with the coordinator.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ControlState {
    /// It is being asked.
    Connecting,
    /// A person must open this page first.
    LogIn(String),
    /// Somebody must let the node in.
    Waiting,
    /// It streams the map.
    Connected,
    /// It can't be had. The last map holds.
    Away(String),
    /// It does not want this node, and says why. Asking goes on, seldom.
    Refused(String),
    /// The node's key has expired: it must be logged in anew.
    Expired,
}

/// What the client tells, each in its own time.
#[derive(Debug)]
pub struct Outputs {
    /// The map and when it was last confirmed. Never set back to `None`.
    pub map: watch::Sender<Option<Arc<StoredMap>>>,
    /// How things stand.
    pub state: watch::Sender<ControlState>,
    /// By which key the coordinator was known: to be remembered, so that no older one is believed later.
    pub vouched: watch::Sender<Option<Vouched>>,
}

/// Follows the coordinator until everybody who listened is gone. It never gives up and never ends a data plane.
pub async fn follow(
    mut settings: ControlSettings,
    identity: Arc<Identity>,
    outputs: Outputs,
    mut standing: watch::Receiver<Standing>,
    clock: Clock,
) {
    let mut backoff = Backoff::new(RETRY.0, RETRY.1);
    while !outputs.state.is_closed() {
        let mut footing = standing.borrow().footing();
        let mut attempt = Attempt {
            settings: &settings,
            identity: &identity,
            outputs: &outputs,
            standing: standing.clone(),
            clock: &clock,
            was_connected: false,
        };
        let ended = attempt.run().await;
        if attempt.was_connected {
            backoff.reset();
        }
        let (state, least) = match ended {
            Ended::Away(sentence) => (ControlState::Away(sentence), Duration::ZERO),
            Ended::Refused(sentence) => (ControlState::Refused(sentence), ASK_AGAIN),
            Ended::Expired => (ControlState::Expired, ASK_AGAIN),
        };
        tracing::debug!(?state, "not with the coordinator");
        outputs.state.send_replace(state);
        if let Some(vouched) = *outputs.vouched.borrow() {
            settings.trust.remember(vouched);
        }
        tokio::select! {
            () = tokio::time::sleep(backoff.next_wait().max(least)) => {}
            // Where the machine is now, the coordinator may be in reach.
            () = dial::moved(&mut standing, &mut footing), if least.is_zero() => backoff.reset(),
            () = outputs.state.closed() => return,
        }
    }
}

/// Why one attempt is over.
enum Ended {
    Away(String),
    Refused(String),
    Expired,
}

impl From<SessionError> for Ended {
    fn from(error: SessionError) -> Self {
        Self::Away(with_causes(&error))
    }
}

/// One connection to the coordinator, from dialling to its end.
struct Attempt<'a> {
    settings: &'a ControlSettings,
    identity: &'a Identity,
    outputs: &'a Outputs,
    standing: watch::Receiver<Standing>,
    clock: &'a Clock,
    was_connected: bool,
}

impl Attempt<'_> {
    async fn run(&mut self) -> Ended {
        self.outputs.state.send_replace(ControlState::Connecting);
        match self.connected().await {
            Ok(never) => match never {},
            Err(ended) => ended,
        }
    }

    async fn connected(&mut self) -> Result<std::convert::Infallible, Ended> {
        let settings = self.settings;
        let met =
            door::connect(&settings.urls, &settings.trust, settings.tls.as_ref(), &self.identity.machine)
                .await
                .map_err(|error| Ended::Away(with_causes(&error)))?;
        self.outputs.vouched.send_replace(Some(met.vouched));
        let session = Session::begin(met.stream, &met.authority).await?;
        // A node that is known needs no registration, and Headscale takes a second for one.
        if self.outputs.map.borrow().is_none() {
            self.register(&session).await?;
        }
        match self.stream(&session).await {
            Err(Streamed::Unknown) => {
                self.register(&session).await?;
                self.stream(&session).await.map_err(|streamed| match streamed {
                    Streamed::Unknown => Ended::Refused("the coordinator does not know this node".to_owned()),
                    Streamed::Over(ended) => ended,
                })
            }
            Err(Streamed::Over(ended)) => Err(ended),
            Ok(never) => match never {},
        }
    }

    /// Asks for a place until it is given or refused.
    async fn register(&self, session: &Session) -> Result<(), Ended> {
        let mut followup = String::new();
        loop {
            let patience = if followup.is_empty() { PATIENCE } else { FOR_A_PERSON };
            let ask = self.registration(&followup);
            let asking = session.register(&ask);
            let reply: RegisterReply =
                timeout(patience, asking).await.map_err(|_| SessionError::Silent)??;
            match reply.meaning() {
                Registration::In => return Ok(()),
                Registration::Refused(sentence) => return Err(Ended::Refused(printable(sentence))),
                Registration::Expired => return Err(Ended::Expired),
                Registration::LogIn(page) => {
                    self.outputs.state.send_replace(ControlState::LogIn(printable(page)));
                    if followup == page {
                        tokio::time::sleep(ASK_AGAIN).await;
                    }
                    page.clone_into(&mut followup);
                }
                Registration::Waiting => {
                    self.outputs.state.send_replace(ControlState::Waiting);
                    tokio::time::sleep(ASK_AGAIN).await;
                }
            }
        }
    }

    fn registration(&self, followup: &str) -> RegisterRequest {
        let key = self.settings.join_key.as_ref().filter(|_| followup.is_empty());
        RegisterRequest {
            node_key: self.identity.node.public(),
            auth: key.map(|key| RegisterAuth { auth_key: key.to_string() }),
            followup: followup.to_owned(),
            hostinfo: Some(self.host()),
            ephemeral: self.settings.ephemeral,
            ..RegisterRequest::default()
        }
    }

    /// Follows the map, and beside it tells each change of the whereabouts.
    async fn stream(&mut self, session: &Session) -> Result<std::convert::Infallible, Streamed> {
        let identity = self.identity;
        let ask = MapRequest::stream(identity.node.public(), identity.disco.public(), self.host());
        let asking = timeout(PATIENCE, session.map(&ask)).await.map_err(|_| SessionError::Silent);
        let mut frames = match asking.and_then(|answer| answer) {
            Ok(frames) => frames,
            Err(SessionError::Unknown) => return Err(Streamed::Unknown),
            Err(error) => return Err(Streamed::Over(error.into())),
        };
        let mut standing = self.standing.clone();
        let mut place = Place::First;
        let mut footing = standing.borrow().footing();
        self.tell(session, &mut standing, PATIENCE).await?;
        loop {
            let response = tokio::select! {
                response = timeout(SILENCE, frames.next()) => response.map_err(|_| SessionError::Silent)??,
                changed = standing.changed() => {
                    if changed.is_err() {
                        return Err(Streamed::Over(Ended::Away("the node is ending".to_owned())));
                    }
                    let before = std::mem::replace(&mut footing, standing.borrow().footing());
                    let patience = if footing == before { PATIENCE } else { MOVED };
                    self.tell(session, &mut standing, patience).await?;
                    continue;
                }
            };
            if let Some(ping) = response.ping_request.as_ref().filter(|ping| ping.url_is_noise) {
                session.answer_ping(ping);
            }
            let now = (self.clock)();
            let former = self.outputs.map.borrow().clone();
            match NetMap::merge(former.as_deref().map(|stored| &stored.map), &response, place, now) {
                Ok(Outcome::Alive) => {
                    if let Some(former) = former.filter(|former| now.since(former.heard_at) >= CONFIRM) {
                        self.publish(StoredMap { heard_at: now, ..StoredMap::clone(&former) });
                    }
                }
                Ok(Outcome::Map(map)) => {
                    place = Place::Later;
                    self.publish(StoredMap { map: *map, heard_at: now });
                    self.was_connected = true;
                    self.outputs.state.send_replace(ControlState::Connected);
                }
                Err(refusal) => return Err(Streamed::Over(refused_map(&refusal))),
            }
        }
    }

    fn publish(&self, map: StoredMap) {
        self.outputs.map.send_replace(Some(Arc::new(map)));
    }

    async fn tell(
        &self,
        session: &Session,
        standing: &mut watch::Receiver<Standing>,
        patience: Duration,
    ) -> Result<(), SessionError> {
        let endpoints: Vec<_> = {
            let standing = standing.borrow_and_update();
            let kind = |at| {
                if standing.public.contains(&at) { EndpointKind::STUN } else { EndpointKind::LOCAL }
            };
            standing.endpoints().into_iter().map(|at| (at, kind(at))).collect()
        };
        let identity = self.identity;
        let update =
            MapRequest::lite(identity.node.public(), identity.disco.public(), self.host(), &endpoints);
        timeout(patience, session.tell(&update)).await.map_err(|_| SessionError::Silent)?
    }

    fn host(&self) -> Hostinfo {
        let standing = self.standing.borrow();
        let network = NetInfo {
            preferred_derp: standing.home,
            working_udp: Some(!standing.public.is_empty()),
            ..NetInfo::default()
        };
        Hostinfo {
            ipn_version: concat!(env!("CARGO_PKG_VERSION"), "-allod").to_owned(),
            os: std::env::consts::OS.to_owned(),
            app: "allod".to_owned(),
            hostname: self.settings.hostname.clone(),
            net_info: Some(network),
            userspace: Some(true),
            ..Hostinfo::default()
        }
    }
}

/// Why a stream is over.
enum Streamed {
    /// The coordinator does not know the node: it must register.
    Unknown,
    Over(Ended),
}

impl From<SessionError> for Streamed {
    fn from(error: SessionError) -> Self {
        Self::Over(error.into())
    }
}

fn refused_map(refusal: &Refusal) -> Ended {
    Ended::Away(format!("the coordinator's map is refused, the one before it holds: {refusal}"))
}

/// The error and what caused it, on one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(one) = cause {
        let one_text = one.to_string();
        if !text.contains(&one_text) {
            text = format!("{text}: {one_text}");
        }
        cause = one.source();
    }
    printable(&text)
}

/// What somebody else wrote, fit for a terminal and a log.
pub(crate) fn printable(text: &str) -> String {
    text.chars().take(300).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
