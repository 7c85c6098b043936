//! What all connections share, and what they ask of it. A question that changes nothing is answered from the view; only a change
//! goes to the thread that writes.

use crate::{
    door::Seats,
    map::{
        Mapper,
        session::{OFFLINE_GRACE, Sessions, Stream},
    },
    relay::Relay,
    state::{Asked, Refusal, Registered},
    store::{Store, StoreFault},
    view::Viewer,
};
use allod_meshproto::{
    MachineKey, NodeKey,
    control::{Login, MapRequest, NodeId, RegisterReply, RegisterRequest},
    map_frame::Compression,
};
use allod_proto::Timestamp;
use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use bytes::Bytes;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::{net::IpAddr, sync::Arc};
use tokio::{sync::mpsc, time::timeout};
use tokio_rustls::TlsAcceptor;

/// Strangers' connections in all, and from one source.
const GUESTS: usize = 2_048;
const GUESTS_OF_ONE: usize = 256;
/// Connections of one machine: one, and those that it has given up without our knowing.
const OF_ONE_MACHINE: usize = 4;
const OF_ONE_RELAYED: usize = 2;

/// The time, as everybody here reads it.
pub type Now = Arc<dyn Fn() -> Timestamp + Send + Sync>;

/// What all connections share.
pub(crate) struct Server {
    pub(crate) viewer: Arc<Viewer>,
    pub(crate) store: Store,
    pub(crate) mapper: Arc<Mapper>,
    pub(crate) sessions: Arc<Sessions>,
    pub(crate) relay: Relay,
    pub(crate) lobby: Arc<Seats<IpAddr>>,
    pub(crate) members: Arc<Seats<MachineKey>>,
    pub(crate) relayed: Arc<Seats<NodeKey>>,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) now: Now,
    pub(crate) started: Timestamp,
}

impl Server {
    pub(crate) fn new(viewer: Arc<Viewer>, store: Store, mapper: Mapper, now: Now) -> Self {
        let tls = mapper.settings.tls.as_ref().map(|tls| {
            let mut config = tls.config.as_ref().clone();
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            TlsAcceptor::from(Arc::new(config))
        });
        let started = now();
        Self {
            viewer,
            store,
            mapper: Arc::new(mapper),
            sessions: Arc::default(),
            relay: Relay::default(),
            lobby: Seats::new(GUESTS, GUESTS_OF_ONE),
            members: Seats::new(usize::MAX, OF_ONE_MACHINE),
            relayed: Seats::new(usize::MAX, OF_ONE_RELAYED),
            tls,
            now,
            started,
        }
    }

    /// Registers a machine's node; with a `followup`, waits until a person has decided.
    pub(crate) async fn register(
        &self,
        machine: MachineKey,
        from: IpAddr,
        request: RegisterRequest,
    ) -> Result<RegisterReply, StoreFault> {
        let (key, request) = (request.node_key, Arc::new(request));
        if request.followup.is_empty() {
            let outcome = self.register_once(machine, from, &request).await?;
            return Ok(self.reply(outcome));
        }
        // Nobody is asked to wait anew here: whoever was sent away, or waited too long, begins again.
        let id = request.followup.rsplit('/').next().unwrap_or_default();
        self.decided(machine, key, id).await;
        let is_in = self.viewer.now().state.own(machine, key).is_ok();
        Ok(self.reply(if is_in {
            self.register_once(machine, from, &request).await?
        } else {
            Err(Refusal::NotWaiting)
        }))
    }

    async fn register_once(
        &self,
        machine: MachineKey,
        from: IpAddr,
        request: &Arc<RegisterRequest>,
    ) -> Result<Result<Registered, Refusal>, StoreFault> {
        let fresh_id = match fresh_id() {
            Ok(id) => id,
            Err(refusal) => return Ok(Err(refusal)),
        };
        let now = (self.now)();
        let mut trial = self.viewer.now().state.as_ref().clone();
        let asked = Asked { machine, source: from, request, fresh_id: fresh_id.clone() };
        let outcome = trial.register(&asked, now);
        let is_settled = match &outcome {
            Err(_) => true,
            Ok(Registered::Approve(id)) => *id != fresh_id,
            Ok(_) => trial.take_rows().is_empty(),
        };
        if is_settled {
            return Ok(outcome);
        }
        let request = Arc::clone(request);
        let change = move |draft: &mut crate::store::Draft| {
            let asked = Asked { machine, source: from, request: &request, fresh_id };
            draft.state.register(&asked, now)
        };
        self.store.change(change).await
    }

    /// Waits until a machine is in, or does not wait any more.
    async fn decided(&self, machine: MachineKey, key: NodeKey, id: &str) {
        let mut views = self.viewer.follow();
        let decided = views.wait_for(|view| {
            let waits = view.state.waiting(id).is_some_and(|waiting| waiting.machine == machine);
            view.state.own(machine, key).is_ok() || !waits
        });
        let _ = timeout(crate::state::APPROVAL_WAIT, decided).await;
    }

    fn reply(&self, outcome: Result<Registered, Refusal>) -> RegisterReply {
        let mut reply = RegisterReply {
            user: self.mapper.user(),
            login: Login {
                id: 1,
                provider: "allod".to_owned(),
                login_name: self.mapper.login_name(),
                display_name: self.mapper.settings.domain.clone(),
                ..Login::default()
            },
            ..RegisterReply::default()
        };
        match outcome {
            Ok(Registered::In(_)) => reply.machine_authorized = true,
            Ok(Registered::Expired) => reply.node_key_expired = true,
            Ok(Registered::Approve(id)) => {
                reply.auth_url = format!("{}/approve/{id}", self.mapper.settings.url);
            }
            Err(refusal) => reply.error = refusal.to_string(),
        }
        reply
    }

    /// Hears what a node says of itself.
    pub(crate) async fn hear(
        &self,
        machine: MachineKey,
        request: &MapRequest,
    ) -> Result<Result<NodeId, Refusal>, StoreFault> {
        let region = self.mapper.settings.relay.region;
        let mut trial = self.viewer.now().state.as_ref().clone();
        let outcome = trial.hear(machine, request, region);
        if outcome.is_err() || trial.take_rows().is_empty() {
            return Ok(outcome);
        }
        let request = request.clone();
        self.store.change(move |draft| draft.state.hear(machine, &request, region)).await
    }

    /// Begins a node's stream of maps, in place of the one before.
    pub(crate) fn stream(
        self: &Arc<Self>,
        node: NodeId,
        compression: Compression,
        frames: mpsc::Sender<Bytes>,
    ) {
        let mut place = self.sessions.begin(node);
        let server = Arc::clone(self);
        tokio::spawn(async move {
            server.viewer.set_online(node, true);
            let stream = Stream {
                mapper: Arc::clone(&server.mapper),
                views: server.viewer.follow(),
                compression,
                now: Arc::clone(&server.now),
            };
            stream.run(&mut place, frames).await;
            server.ended(node, place.number).await;
        });
    }

    /// A stream ended: unless there is another soon, its node is away.
    async fn ended(&self, node: NodeId, number: u64) {
        if !self.sessions.is_newest(node, number) {
            return;
        }
        tokio::time::sleep(OFFLINE_GRACE).await;
        if !self.sessions.is_newest(node, number) {
            return;
        }
        let now = (self.now)();
        let saw = self.store.change(move |draft| {
            draft.state.saw(node, now);
            Ok::<_, Refusal>(())
        });
        if let Err(fault) = saw.await {
            tracing::warn!(
                error = &fault as &dyn std::error::Error,
                "when a node was last there is not stored"
            );
        }
        if self.sessions.forget(node, number) {
            self.viewer.set_online(node, false);
        }
    }

    /// What time brings: keys expire, ephemeral nodes go, who waits too long is forgotten.
    pub(crate) async fn tick(&self) {
        let now = (self.now)();
        self.viewer.tick(now);
        let view = self.viewer.now();
        let (online, started) = (Arc::clone(&view.online), self.started);
        let is_due = !view.state.overdue(|id| online.contains(&id), started, now).is_empty()
            || view.state.pending().any(|waiting| now.since(waiting.since) >= crate::state::APPROVAL_WAIT);
        if is_due {
            let tidied = self.store.change(move |draft| {
                draft.state.tidy(|id| online.contains(&id), started, now);
                Ok::<_, Refusal>(())
            });
            if let Err(fault) = tidied.await {
                tracing::warn!(error = &fault as &dyn std::error::Error, "nothing could be tidied up");
            }
        }
    }
}

fn fresh_id() -> Result<String, Refusal> {
    let mut bytes = [0; 18];
    SystemRandom::new().fill(&mut bytes).map_err(|_| Refusal::Random)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
