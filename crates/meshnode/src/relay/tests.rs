//! Against a relay made of `meshproto` alone, on loopback.

use super::*;
use allod_meshproto::{
    control::{self, DerpRelay, MapResponse, NodeId, derp_map::PLAIN},
    derp::{self, DerpBox, Frame, FrameReader, ServerInfo},
    netmap::{NetMap, Outcome, Place},
};
use bytes::Bytes;
use http::{Request, Response, StatusCode, header::UPGRADE};
use http_body_util::Empty;
use hyper::{body::Incoming, service::service_fn, upgrade::Upgraded};
use hyper_util::rt::TokioIo;
use ring::rand::SystemRandom;
use std::convert::Infallible;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    task::JoinHandle,
    time::timeout,
};

const LONG: Duration = Duration::from_secs(30);
const REGION: u32 = 900;

/// A relay's end of one connection, after the node has said who it is.
struct Guest {
    stream: TokioIo<Upgraded>,
    frames: FrameReader,
    pending: Vec<u8>,
    node: NodeKey,
}

impl Guest {
    /// The next frame that is no ping of the node's own.
    async fn next(&mut self) -> Option<Frame> {
        loop {
            let mut rest = self.pending.as_slice();
            let frame = self.frames.push(&mut rest).unwrap();
            self.pending = rest.to_vec();
            match frame {
                Some(Frame::Ping(_)) => continue,
                Some(frame) => return Some(frame),
                None => {}
            }
            let mut buffer = [0; 4096];
            let count = self.stream.read(&mut buffer).await.ok().filter(|count| *count > 0)?;
            self.pending = buffer[..count].to_vec();
        }
    }

    async fn send(&mut self, frame: &Frame) {
        let mut wire = Vec::new();
        frame.write(&mut wire).unwrap();
        self.stream.write_all(&wire).await.unwrap();
    }
}

struct Relay {
    port: u16,
    guests: mpsc::Receiver<Guest>,
    serving: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Relay {
    /// One whose first bytes to each guest are `first`, if any are given, in place of what a relay says.
    async fn start(first: Option<&'static [u8]>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let (sender, guests) = mpsc::channel(16);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let sender = sender.clone();
                let service = service_fn(move |request| upgraded(request, sender.clone(), first));
                let http = hyper::server::conn::http1::Builder::new();
                tokio::spawn(http.serve_connection(TokioIo::new(stream), service).with_upgrades());
            }
        });
        Self { port, guests, serving }
    }

    async fn guest(&mut self) -> Guest {
        timeout(LONG, self.guests.recv()).await.expect("nobody came").unwrap()
    }

    fn map(&self) -> Arc<DerpMap> {
        let relay = DerpRelay {
            host_name: "127.0.0.1".to_owned(),
            ipv4: "127.0.0.1".to_owned(),
            derp_port: self.port,
            cert_name: PLAIN.to_owned(),
            ..DerpRelay::default()
        };
        let region = DerpRegion { region_id: REGION, nodes: vec![relay], ..DerpRegion::default() };
        Arc::new(DerpMap { regions: [(REGION, Some(region))].into(), ..DerpMap::default() })
    }
}

async fn upgraded(
    request: Request<Incoming>,
    sender: mpsc::Sender<Guest>,
    first: Option<&'static [u8]>,
) -> Result<Response<Empty<Bytes>>, Infallible> {
    assert_eq!(request.uri().path(), derp::PATH);
    tokio::spawn(async move {
        let stream = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        welcome(stream, sender, first).await;
    });
    let switching =
        Response::builder().status(StatusCode::SWITCHING_PROTOCOLS).header(UPGRADE, derp::UPGRADE);
    Ok(switching.header(http::header::CONNECTION, "upgrade").body(Empty::new()).unwrap())
}

async fn welcome(mut stream: TokioIo<Upgraded>, sender: mpsc::Sender<Guest>, first: Option<&'static [u8]>) {
    let own = NodePrivate::import(&[9; 32]);
    if let Some(first) = first {
        stream.write_all(first).await.unwrap();
        // Held open, so that it is the bytes that the node gives up on.
        let mut rest = Vec::new();
        drop(stream.read_to_end(&mut rest).await);
        return;
    }
    let mut wire = Vec::new();
    Frame::ServerKey(own.public()).write(&mut wire).unwrap();
    stream.write_all(&wire).await.unwrap();
    let node = NodeKey::default();
    let mut guest = Guest { stream, frames: FrameReader::default(), pending: Vec::new(), node };
    let Some(Frame::ClientInfo { key, sealed }) = guest.next().await else { panic!("no introduction") };
    let sealing = DerpBox::new(&own, key);
    sealing.open_client_info(&sealed).unwrap();
    guest.node = key;
    let info = sealing.server_info(&ServerInfo::default(), &SystemRandom::new()).unwrap();
    guest.send(&info).await;
    drop(sender.send(guest).await);
}

/// A node's end.
struct Node {
    outgoing: mpsc::Sender<RelayPacket>,
    incoming: mpsc::Receiver<RelayPacket>,
    states: watch::Receiver<BTreeMap<u32, RelayState>>,
    standing: watch::Sender<Standing>,
    _maps: watch::Sender<Option<Arc<StoredMap>>>,
    passing: JoinHandle<()>,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.passing.abort();
    }
}

impl Node {
    fn start(map: Arc<DerpMap>, at_home: u32) -> Self {
        let first = MapResponse {
            node: Some(Box::new(control::Node { id: NodeId(1), key: peer(), ..control::Node::default() })),
            derp_map: Some(DerpMap::clone(&map)),
            ..MapResponse::default()
        };
        let now = allod_proto::Timestamp(0);
        let Ok(Outcome::Map(map)) = NetMap::merge(None, &first, Place::First, now) else { panic!("no map") };
        let (maps, map) = watch::channel(Some(Arc::new(StoredMap { map: *map, heard_at: now })));
        let (standing, homes) = watch::channel(Standing { home: at_home, ..Standing::default() });
        let (outgoing, packets) = mpsc::channel(64);
        let (arrived, incoming) = mpsc::channel(4);
        let (state, states) = watch::channel(BTreeMap::new());
        let settings = RelaySettings { node: NodePrivate::import(&[1; 32]), tls: None };
        let ends =
            RelayEnds { maps: map, standing: homes, outgoing: packets, incoming: arrived, states: state };
        let passing = tokio::spawn(pass(settings, ends));
        Self { outgoing, incoming, states, standing, _maps: maps, passing }
    }

    async fn away(&mut self) -> String {
        let is_away =
            |states: &BTreeMap<u32, RelayState>| matches!(states.get(&REGION), Some(RelayState::Away(_)));
        let states = timeout(LONG, self.states.wait_for(is_away)).await.expect("never away").unwrap().clone();
        let Some(RelayState::Away(sentence)) = states.get(&REGION) else { panic!("{states:?}") };
        sentence.clone()
    }
}

fn peer() -> NodeKey {
    NodePrivate::import(&[2; 32]).public()
}

#[tokio::test]
async fn what_does_not_begin_as_a_relay_is_let_go() {
    for (first, expected) in [
        (&b"\x01\x00\x00\x00\x28not a relay and forty bytes of nothing more"[..], "not a relay"),
        (b"\x06\x00\x00\x00\x00", "does not begin"),
        (b"\x01\xff\xff\xff\xff", "type 1 with 4294967295 bytes"),
    ] {
        let relay = Relay::start(Some(first)).await;
        let sentence = Node::start(relay.map(), REGION).away().await;
        assert!(sentence.contains(expected), "{sentence}");
    }
}

#[tokio::test]
async fn a_relay_with_tls_and_nothing_to_check_it_by_is_not_used() {
    let relay = Relay::start(None).await;
    let mut map = DerpMap::clone(&relay.map());
    for region in map.regions.values_mut().flatten() {
        region.nodes[0].cert_name.clear();
    }
    let sentence = Node::start(Arc::new(map), REGION).away().await;
    assert!(sentence.contains("needs TLS"), "{sentence}");
}

#[tokio::test]
async fn packets_pass_both_ways_and_pings_are_answered() {
    let mut relay = Relay::start(None).await;
    let mut node = Node::start(relay.map(), REGION);
    let mut guest = relay.guest().await;
    assert_eq!(guest.node, NodePrivate::import(&[1; 32]).public());
    assert_eq!(guest.next().await, Some(Frame::NotePreferred(true)));
    node.outgoing.send(RelayPacket { region: REGION, peer: peer(), packet: b"out".to_vec() }).await.unwrap();
    assert_eq!(guest.next().await, Some(Frame::SendPacket { to: peer(), packet: b"out".to_vec() }));
    guest.send(&Frame::Ping(*b"12345678")).await;
    assert_eq!(guest.next().await, Some(Frame::Pong(*b"12345678")));
    guest.send(&Frame::RecvPacket { from: peer(), packet: b"in".to_vec() }).await;
    let came = timeout(LONG, node.incoming.recv()).await.unwrap();
    assert_eq!(came, Some(RelayPacket { region: REGION, peer: peer(), packet: b"in".to_vec() }));
    node.standing.send_replace(Standing::default());
    assert_eq!(guest.next().await, Some(Frame::NotePreferred(false)));
}

#[tokio::test]
async fn a_relay_that_left_is_found_again() {
    let mut relay = Relay::start(None).await;
    let mut node = Node::start(relay.map(), REGION);
    drop(relay.guest().await);
    node.away().await;
    let mut guest = relay.guest().await;
    guest.send(&Frame::Restarting { reconnect_in: Duration::from_millis(1), try_for: Duration::ZERO }).await;
    relay.guest().await;
}

#[tokio::test]
async fn a_flood_from_a_relay_waits_for_nobody_and_is_dropped() {
    let mut relay = Relay::start(None).await;
    let node = Node::start(relay.map(), REGION);
    let mut guest = relay.guest().await;
    assert_eq!(guest.next().await, Some(Frame::NotePreferred(true)));
    // Nobody takes what comes, so all but a few are dropped, and what asks for an answer still gets it.
    for _ in 0..100 {
        guest.send(&Frame::RecvPacket { from: peer(), packet: vec![0; 1000] }).await;
    }
    guest.send(&Frame::Ping(*b"still up")).await;
    assert_eq!(timeout(LONG, guest.next()).await.unwrap(), Some(Frame::Pong(*b"still up")));
    assert_eq!(node.incoming.len(), 4);
}

#[tokio::test]
async fn another_region_than_home_is_reached_when_it_is_needed() {
    let mut relay = Relay::start(None).await;
    let node = Node::start(relay.map(), 0);
    node.outgoing.send(RelayPacket { region: 1, peer: peer(), packet: b"nowhere".to_vec() }).await.unwrap();
    node.outgoing
        .send(RelayPacket { region: REGION, peer: peer(), packet: b"there".to_vec() })
        .await
        .unwrap();
    let mut guest = relay.guest().await;
    assert_eq!(guest.next().await, Some(Frame::NotePreferred(false)));
    assert_eq!(guest.next().await, Some(Frame::SendPacket { to: peer(), packet: b"there".to_vec() }));
}

#[tokio::test]
async fn a_relay_that_says_nothing_after_the_addresses_changed_or_the_machine_slept_is_connected_anew() {
    let local = vec!["192.0.2.1:1".parse().unwrap()];
    let moved = Standing { local, home: REGION, ..Standing::default() };
    let woken = Standing { sleeps: 1, home: REGION, ..Standing::default() };
    for standing in [moved, woken] {
        let mut relay = Relay::start(None).await;
        let node = Node::start(relay.map(), REGION);
        let mut guest = relay.guest().await;
        assert_eq!(guest.next().await, Some(Frame::NotePreferred(true)));
        node.standing.send_replace(standing);
        // It holds on to the connection, as a network does that the machine has left, or that forgot it.
        relay.guest().await;
    }
}
