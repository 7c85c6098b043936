//! One relay: connect, say who one is, pass packets, and again when it breaks.

use super::{RelaySettings, RelayState, tls};
use crate::{
    backoff::Backoff,
    dial::{self, DialError},
    engine::{Footing, Standing},
    node::RelayPacket,
    upgrade::{UpgradeError, Wanted, upgrade},
};
use allod_meshproto::{
    control::{DerpRegion, DerpRelay, derp_map::RelayAddress},
    derp::{self, ClientInfo, DerpBox, DerpError, Frame, FrameReader, put_sent},
    key::NodeKey,
};
use http::Method;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use ring::rand::{SecureRandom as _, SystemRandom};
use std::{collections::BTreeMap, io, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf},
    sync::{mpsc, watch},
    time::{Instant, MissedTickBehavior, interval, sleep, timeout, timeout_at},
};

/// How long a relay may take to begin.
const BEGIN: Duration = Duration::from_secs(10);
/// How often it is asked whether it is there.
const PING: Duration = Duration::from_secs(15);
/// Without a word for so long, it is not.
const SILENCE: Duration = Duration::from_secs(25);
/// Nor is it when this machine's addresses changed and a ping is not answered for so long: the connection may be from one that is gone.
const MOVED: Duration = Duration::from_secs(4);
/// The same, when one of the addresses is gone, or the machine slept: it is likely then.
const LEFT: Duration = Duration::from_millis(1_500);
/// How long a write may take.
const WRITE: Duration = Duration::from_secs(10);
/// Bytes written at a time.
const BATCH: usize = 64 * 1024;
/// How long to wait before trying again: first, and at most. Whom only it leads to is out of reach until then.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));
/// Answers to pings that may wait.
const PONGS: usize = 8;

/// Why a relay is not connected any more.
#[derive(Debug, thiserror::Error)]
enum LinkError {
    #[error("the region has no relay that can be used")]
    NoRelay,
    #[error(transparent)]
    Dial(#[from] DialError),
    #[error(transparent)]
    Upgrade(#[from] UpgradeError),
    #[error(transparent)]
    Derp(#[from] DerpError),
    #[error("the connection broke")]
    Io(#[from] io::Error),
    #[error("it fell silent")]
    Silent,
    #[error("it does not begin as a relay does")]
    Beginning,
    #[error("it restarts")]
    Restarts(Duration),
    #[error("it is needed no more")]
    Unneeded,
}

pub(super) struct Running {
    pub(super) number: u32,
    pub(super) region: DerpRegion,
    pub(super) settings: Arc<RelaySettings>,
    pub(super) packets: mpsc::Receiver<(NodeKey, Vec<u8>)>,
    pub(super) incoming: mpsc::Sender<RelayPacket>,
    pub(super) standing: watch::Receiver<Standing>,
    pub(super) states: watch::Sender<BTreeMap<u32, RelayState>>,
}

impl Running {
    pub(super) async fn run(mut self) {
        let mut backoff = Backoff::new(RETRY.0, RETRY.1);
        loop {
            // From before it is dialled: a connection may be from an address that is gone by the time it is there.
            let mut footing = self.standing.borrow().footing();
            self.say(RelayState::Connecting);
            let ended = match self.begin().await {
                Ok(stream) => {
                    backoff.reset();
                    self.say(RelayState::Connected);
                    self.serve(stream, footing.clone()).await
                }
                Err(error) => error,
            };
            let wait = match ended {
                LinkError::Unneeded => return,
                LinkError::Restarts(wait) => wait.min(RETRY.1),
                _ => backoff.next_wait(),
            };
            tracing::debug!(region = self.number, error = %ended, "a relay is away");
            self.say(RelayState::Away(crate::control::with_causes(&ended)));
            // What waited for the relay so long is asked for again by those who need it.
            while self.packets.try_recv().is_ok() {}
            tokio::select! {
                () = sleep(wait) => {}
                // Where the machine is now, the relay may be in reach.
                () = dial::moved(&mut self.standing, &mut footing) => backoff.reset(),
            }
        }
    }

    fn say(&self, state: RelayState) {
        self.states.send_modify(|states| drop(states.insert(self.number, state)));
    }

    async fn begin(&self) -> Result<TokioIo<Upgraded>, LinkError> {
        let mut last = LinkError::NoRelay;
        for relay in self.region.nodes.iter().filter(|relay| relay.derp().is_some()) {
            match timeout(BEGIN, self.begin_with(relay)).await {
                Ok(Ok(stream)) => return Ok(stream),
                Ok(Err(error)) => last = error,
                Err(_) => last = LinkError::Silent,
            }
        }
        Err(last)
    }

    async fn begin_with(&self, relay: &DerpRelay) -> Result<TokioIo<Upgraded>, LinkError> {
        let port = relay.derp().ok_or(LinkError::NoRelay)?;
        let known = |address| match address {
            RelayAddress::Known(ip) => Some(SocketAddr::new(ip, port)),
            RelayAddress::Resolve | RelayAddress::Absent => None,
        };
        let at = known(relay.v4()).or_else(|| known(relay.v6()));
        let tls = tls::for_relay(relay, self.settings.tls.as_ref())?;
        let stream = dial::connect(&relay.host_name, port, at, tls.as_ref()).await?;
        let authority = format!("{}:{port}", relay.host_name);
        let wanted = Wanted {
            method: Method::GET,
            path: derp::PATH,
            protocol: derp::UPGRADE,
            authority: &authority,
            header: None,
        };
        let mut stream = upgrade(stream, wanted).await?;
        self.introduce(&mut stream).await?;
        Ok(stream)
    }

    /// The relay's key, then who this node is. What the relay then says of itself changes nothing, so it is not waited for.
    async fn introduce(&self, stream: &mut TokioIo<Upgraded>) -> Result<(), LinkError> {
        // One byte at a time past nothing: the first frame is read exactly, and what follows stays in the stream.
        let mut frames = FrameReader::default();
        let server = loop {
            let byte = [stream.read_u8().await?];
            match frames.push(&mut &byte[..])? {
                Some(Frame::ServerKey(key)) => break key,
                Some(_) => return Err(LinkError::Beginning),
                None => {}
            }
        };
        let sealing = DerpBox::new(&self.settings.node, server);
        let mut wire = Vec::new();
        sealing.client_info(&ClientInfo::default(), &SystemRandom::new())?.write(&mut wire)?;
        Frame::NotePreferred(self.standing.borrow().home == self.number).write(&mut wire)?;
        stream.write_all(&wire).await?;
        Ok(stream.flush().await?)
    }

    async fn serve(&mut self, stream: TokioIo<Upgraded>, footing: Footing) -> LinkError {
        let (reading, writing) = tokio::io::split(stream);
        let (pong, pongs) = mpsc::channel(PONGS);
        let number = self.number;
        let incoming = self.incoming.clone();
        let standing = self.standing.clone();
        tokio::select! {
            Err(error) = read(reading, number, incoming, pong, (standing.clone(), footing)) => error,
            Err(error) = write(writing, number, &mut self.packets, pongs, standing) => error,
        }
    }
}

/// Never ends well.
async fn read(
    mut reading: ReadHalf<TokioIo<Upgraded>>,
    region: u32,
    incoming: mpsc::Sender<RelayPacket>,
    pong: mpsc::Sender<[u8; 8]>,
    (mut standing, mut footing): (watch::Receiver<Standing>, Footing),
) -> Result<std::convert::Infallible, LinkError> {
    let mut frames = FrameReader::default();
    let mut buffer = vec![0; BATCH];
    // When the answer to the ping must be here that a change of addresses, or a sleep, caused.
    let mut asked: Option<Instant> = None;
    loop {
        let silent = Instant::now() + SILENCE;
        let end = asked.map_or(silent, |asked| asked.min(silent));
        let before = footing.clone();
        let count = tokio::select! {
            read = timeout_at(end, reading.read(&mut buffer)) => read.map_err(|_| LinkError::Silent)??,
            () = dial::moved(&mut standing, &mut footing) => {
                let patience = if before.is_left_for(&footing) { LEFT } else { MOVED };
                asked = Some(Instant::now() + patience);
                continue;
            }
        };
        if count == 0 {
            return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
        }
        let mut rest = buffer.get(..count).unwrap_or_default();
        while let Some(frame) = frames.push(&mut rest)? {
            match frame {
                Frame::RecvPacket { from, packet } => {
                    let relayed = RelayPacket { region, peer: from, packet };
                    if incoming.try_send(relayed).is_err() {
                        tracing::trace!(region, "a packet of a relay was dropped");
                    }
                }
                Frame::Pong(_) => asked = None,
                // One that asks faster than it reads gets fewer answers.
                Frame::Ping(bytes) => drop(pong.try_send(bytes)),
                Frame::Restarting { reconnect_in, .. } => return Err(LinkError::Restarts(reconnect_in)),
                Frame::Health(text) if !text.is_empty() => {
                    tracing::warn!(region, text = crate::control::printable(&text), "a relay complains");
                }
                Frame::ServerKey(_)
                | Frame::ClientInfo { .. }
                | Frame::ServerInfo(_)
                | Frame::SendPacket { .. }
                | Frame::KeepAlive
                | Frame::NotePreferred(_)
                | Frame::PeerGone { .. }
                | Frame::Health(_)
                | Frame::Unknown(_) => {}
            }
        }
    }
}

/// Never ends well.
async fn write(
    mut writing: WriteHalf<TokioIo<Upgraded>>,
    region: u32,
    packets: &mut mpsc::Receiver<(NodeKey, Vec<u8>)>,
    mut pongs: mpsc::Receiver<[u8; 8]>,
    mut standing: watch::Receiver<Standing>,
) -> Result<std::convert::Infallible, LinkError> {
    let mut ping = interval(PING);
    ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut wire = Vec::new();
    loop {
        tokio::select! {
            packet = packets.recv() => {
                let (to, bytes) = packet.ok_or(LinkError::Unneeded)?;
                put(to, &bytes, &mut wire);
                while wire.len() < BATCH
                    && let Ok((to, bytes)) = packets.try_recv()
                {
                    put(to, &bytes, &mut wire);
                }
            }
            Some(bytes) = pongs.recv() => Frame::Pong(bytes).write(&mut wire)?,
            _ = ping.tick() => {
                let mut bytes = [0; 8];
                SystemRandom::new().fill(&mut bytes).map_err(|_| DerpError::Random)?;
                Frame::Ping(bytes).write(&mut wire)?;
            }
            changed = standing.changed() => {
                changed.map_err(|_| LinkError::Unneeded)?;
                Frame::NotePreferred(standing.borrow_and_update().home == region).write(&mut wire)?;
                // Its answer says whether the connection outlived a change of addresses, or a sleep.
                ping.reset_immediately();
            }
        }
        timeout(WRITE, writing.write_all(&wire)).await.map_err(|_| LinkError::Silent)??;
        timeout(WRITE, writing.flush()).await.map_err(|_| LinkError::Silent)??;
        wire.clear();
        wire.shrink_to(2 * BATCH);
    }
}

/// One that is too long for a relay is one that nobody of ours made.
fn put(to: NodeKey, bytes: &[u8], wire: &mut Vec<u8>) {
    if let Err(error) = put_sent(to, bytes, wire) {
        tracing::debug!(%error, "a packet can't go through a relay");
    }
}
