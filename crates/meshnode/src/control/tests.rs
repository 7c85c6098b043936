//! Against a coordinator made of `meshproto` alone, on loopback, that does what each test tells it.

use super::*;
use crate::NoiseStream;
use allod_meshproto::{
    DiscoPrivate, MachineKey, MachinePrivate, NodePrivate,
    control::{FilterRule, KeyReply, MapResponse, Message as _, Node, NodeId},
    map_frame::{self, Compression},
    noise::{self, Initiation, respond},
    token::{RootPrivate, SignedNoiseKey},
};
use allod_proto::Timestamp;
use bytes::Bytes;
use http::{Request, Response, StatusCode, header::UPGRADE};
use http_body_util::{BodyExt as _, Either, Full, channel::Channel};
use hyper::{body::Incoming, service::service_fn};
use hyper_util::rt::{TokioExecutor, TokioIo};
use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Mutex, MutexGuard},
};
use tokio::{net::TcpListener, sync::mpsc, task::JoinHandle};

type Answer = Response<Either<Full<Bytes>, Channel<Bytes>>>;

/// What the coordinator does with the next request for a stream.
enum Streaming {
    Unknown,
    Frames(mpsc::Receiver<Vec<u8>>),
}

#[derive(Default)]
struct Script {
    registrations: VecDeque<RegisterReply>,
    streams: VecDeque<Streaming>,
    key: KeyReply,
    registered: Vec<RegisterRequest>,
    told: Vec<MapRequest>,
}

struct Coordinator {
    url: String,
    noise: MachineKey,
    script: Arc<Mutex<Script>>,
    serving: JoinHandle<()>,
}

impl Drop for Coordinator {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl Coordinator {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let machine = machine(9);
        let noise = machine.public();
        let script: Arc<Mutex<Script>> = Arc::default();
        script.lock().unwrap().key.public_key = noise;
        let shared = Arc::clone(&script);
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (machine, script) = (machine.clone(), Arc::clone(&shared));
                let service = service_fn(move |request| front(request, machine.clone(), Arc::clone(&script)));
                let serving = hyper::server::conn::http1::Builder::new()
                    .serve_connection(TokioIo::new(stream), service)
                    .with_upgrades();
                tokio::spawn(serving);
            }
        });
        Self { url, noise, script, serving }
    }

    fn script(&self) -> MutexGuard<'_, Script> {
        self.script.lock().unwrap()
    }

    /// The next stream is this one.
    fn streams(&self) -> mpsc::Sender<Vec<u8>> {
        let (frames, stream) = mpsc::channel(16);
        self.script().streams.push_back(Streaming::Frames(stream));
        frames
    }

    fn answers(&self, reply: RegisterReply) {
        self.script().registrations.push_back(reply);
    }

    fn lets_in(&self) {
        self.answers(RegisterReply { machine_authorized: true, ..RegisterReply::default() });
    }

    fn settings(&self) -> ControlSettings {
        ControlSettings {
            urls: vec![self.url.clone()],
            trust: Trust::Pinned(self.noise),
            tls: None,
            hostname: "web1".to_owned(),
            join_key: Some(Zeroizing::new("the-join-key".to_owned())),
            ephemeral: false,
        }
    }
}

async fn front(
    request: Request<Incoming>,
    machine: MachinePrivate,
    script: Arc<Mutex<Script>>,
) -> Result<Answer, Infallible> {
    if request.uri().path() == "/key" {
        let body = script.lock().unwrap().key.write().unwrap();
        return Ok(full(StatusCode::OK, body));
    }
    assert_eq!((request.uri().path(), request.method().as_str()), (noise::PATH, "POST"));
    let header = request.headers()[noise::HANDSHAKE_HEADER].to_str().unwrap().to_owned();
    // As a coordinator does that has another key.
    let Ok(accepted) = respond(&machine, &Initiation::from_header(&header).unwrap()) else {
        return Ok(full(StatusCode::BAD_REQUEST, Vec::new()));
    };
    tokio::spawn(async move {
        let mut upgraded = TokioIo::new(hyper::upgrade::on(request).await.unwrap());
        tokio::io::AsyncWriteExt::write_all(&mut upgraded, &accepted.reply).await.unwrap();
        let stream = NoiseStream::of_coordinator(upgraded, accepted.session);
        let service = service_fn(move |request| inside(request, Arc::clone(&script)));
        let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
            .serve_connection(TokioIo::new(stream), service);
        // Clients that leave end it.
        drop(serving.await);
    });
    let switching = Response::builder()
        .status(StatusCode::SWITCHING_PROTOCOLS)
        .header(http::header::CONNECTION, "upgrade")
        .header(UPGRADE, noise::UPGRADE);
    Ok(switching.body(Either::Left(Full::default())).unwrap())
}

async fn inside(request: Request<Incoming>, script: Arc<Mutex<Script>>) -> Result<Answer, Infallible> {
    let path = request.uri().path().to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if path == "/machine/register" {
        let mut script = script.lock().unwrap();
        script.registered.push(RegisterRequest::read(&body).unwrap());
        let reply = script.registrations.pop_front().expect("a registration that was not expected");
        return Ok(full(StatusCode::OK, reply.write().unwrap()));
    }
    let ask = MapRequest::read(&body).unwrap();
    if !ask.stream {
        script.lock().unwrap().told.push(ask);
        return Ok(full(StatusCode::OK, Vec::new()));
    }
    let next = script.lock().unwrap().streams.pop_front();
    match next {
        None => Ok(full(StatusCode::SERVICE_UNAVAILABLE, b"not \x1b[31mnow".to_vec())),
        Some(Streaming::Unknown) => Ok(full(StatusCode::NOT_FOUND, Vec::new())),
        Some(Streaming::Frames(mut frames)) => {
            let (mut sender, body) = Channel::new(1);
            tokio::spawn(async move {
                while let Some(frame) = frames.recv().await {
                    if sender.send_data(frame.into()).await.is_err() {
                        return;
                    }
                }
            });
            Ok(Response::new(Either::Right(body)))
        }
    }
}

fn full(status: StatusCode, body: Vec<u8>) -> Answer {
    let mut answer = Response::new(Either::Left(Full::from(body)));
    *answer.status_mut() = status;
    answer
}

/// A client and what it tells.
struct Client {
    map: watch::Receiver<Option<Arc<StoredMap>>>,
    state: watch::Receiver<ControlState>,
    vouched: watch::Receiver<Option<Vouched>>,
    standing: watch::Sender<Standing>,
    following: JoinHandle<()>,
}

impl Drop for Client {
    fn drop(&mut self) {
        self.following.abort();
    }
}

impl Client {
    fn start(settings: ControlSettings) -> Self {
        let (map, maps) = watch::channel(None);
        let (state, states) = watch::channel(ControlState::Connecting);
        let (vouched, known) = watch::channel(None);
        let (standing, place) = watch::channel(Standing::default());
        let outputs = Outputs { map, state, vouched };
        let now: Clock = Arc::new(|| Timestamp(1_700_000_000_000));
        let following = tokio::spawn(follow(settings, Arc::new(identity()), outputs, place, now));
        Self { map: maps, state: states, vouched: known, standing, following }
    }

    /// Waits until the state is such.
    async fn until(&mut self, is: impl Fn(&ControlState) -> bool) -> ControlState {
        let waiting = timeout(Duration::from_secs(30), self.state.wait_for(|state| is(state)));
        waiting.await.expect("the state was never such").unwrap().clone()
    }

    async fn away(&mut self) -> String {
        match self.until(|state| matches!(state, ControlState::Away(_))).await {
            ControlState::Away(sentence) => sentence,
            other => panic!("{other:?}"),
        }
    }

    /// Waits until the map has these peers.
    async fn peers(&mut self, wanted: &[i64]) -> Arc<StoredMap> {
        let has = |map: &Option<Arc<StoredMap>>| {
            map.as_ref().is_some_and(|map| map.map.peers.keys().map(|id| id.0).eq(wanted.iter().copied()))
        };
        let waiting = timeout(Duration::from_secs(30), self.map.wait_for(has));
        waiting.await.expect("the map never had them").unwrap().clone().unwrap()
    }
}

fn machine(byte: u8) -> MachinePrivate {
    MachinePrivate::import(&[byte; 32])
}

fn identity() -> Identity {
    let bytes = [1; 32];
    Identity {
        machine: MachinePrivate::import(&bytes),
        node: NodePrivate::import(&bytes),
        disco: DiscoPrivate::import(&bytes),
        port: 0,
    }
}

fn node(id: i64) -> Node {
    let byte = u8::try_from(id).unwrap();
    Node {
        id: NodeId(id),
        name: format!("n{id}.mesh.internal."),
        key: allod_meshproto::NodeKey::new([byte; 32]),
        addresses: vec![format!("100.64.0.{id}/32").parse().unwrap()],
        ..Node::default()
    }
}

fn first(peers: &[i64]) -> Vec<u8> {
    frame(&MapResponse {
        node: Some(Box::new(node(100))),
        peers: peers.iter().copied().map(node).collect(),
        packet_filter: Some(vec![FilterRule::default()]),
        domain: "mesh.internal".to_owned(),
        ..MapResponse::default()
    })
}

fn frame(response: &MapResponse) -> Vec<u8> {
    map_frame::write(response, Compression::Zstd).unwrap()
}

#[tokio::test]
async fn a_coordinator_with_another_key_than_the_pinned_one_is_refused() {
    let coordinator = Coordinator::start().await;
    let trust = Trust::Pinned(machine(8).public());
    let mut client = Client::start(ControlSettings { trust, ..coordinator.settings() });
    let sentence = client.away().await;
    assert!(sentence.contains("does not"), "{sentence}");
    assert!(client.map.borrow().is_none());
    assert!(coordinator.script().registered.is_empty());
}

#[tokio::test]
async fn over_plain_http_a_key_that_nobody_vouches_for_is_not_believed() {
    let coordinator = Coordinator::start().await;
    let settings = ControlSettings { trust: Trust::Certificate, ..coordinator.settings() };
    let sentence = Client::start(settings).away().await;
    assert!(sentence.contains("plain http") && sentence.contains("join token"), "{sentence}");

    let (root, other) = (root(1), root(2));
    let trust = Trust::Root { root: root.public(), seen: 4 };
    let settings = ControlSettings { trust, ..coordinator.settings() };
    for (keys, expected) in [
        (Vec::new(), "not signed"),
        (vec![other.sign(coordinator.noise, 5)], "not signed"),
        (vec![root.sign(coordinator.noise, 3)], "3, but 4 was seen"),
    ] {
        coordinator.script().key.allod_keys = keys;
        let sentence = Client::start(settings.clone()).away().await;
        assert!(sentence.contains(expected), "{sentence}");
    }
    assert!(coordinator.script().registered.is_empty());
}

#[tokio::test]
async fn a_refusal_is_told_in_the_coordinators_words_without_its_control_characters() {
    let coordinator = Coordinator::start().await;
    coordinator
        .answers(RegisterReply { error: "no such\u{1b}[31m key".to_owned(), ..RegisterReply::default() });
    let mut client = Client::start(coordinator.settings());
    let state = client.until(|state| matches!(state, ControlState::Refused(_))).await;
    assert_eq!(state, ControlState::Refused("no such [31m key".to_owned()));
}

#[tokio::test]
async fn a_map_that_contradicts_itself_leaves_the_one_before() {
    let coordinator = Coordinator::start().await;
    coordinator.lets_in();
    let frames = coordinator.streams();
    let mut client = Client::start(coordinator.settings());
    frames.send(first(&[1, 2])).await.unwrap();
    client.peers(&[1, 2]).await;
    let twice = Node { key: node(1).key, ..node(3) };
    frames.send(frame(&MapResponse { peers_changed: vec![twice], ..MapResponse::default() })).await.unwrap();
    let sentence = client.away().await;
    assert!(sentence.contains("the one before it holds"), "{sentence}");
    client.peers(&[1, 2]).await;
}

#[tokio::test]
async fn frames_that_are_none_end_the_stream_and_not_the_client() {
    let coordinator = Coordinator::start().await;
    coordinator.lets_in();
    let frames = coordinator.streams();
    let mut client = Client::start(coordinator.settings());
    frames.send(first(&[1])).await.unwrap();
    client.peers(&[1]).await;
    let next = coordinator.streams();
    frames.send(vec![0xff; 64]).await.unwrap();
    client.away().await;
    next.send(first(&[1, 2])).await.unwrap();
    client.peers(&[1, 2]).await;
    client.until(|state| *state == ControlState::Connected).await;
    assert_eq!(coordinator.script().registered.len(), 1, "a node that is known does not register again");
}

#[tokio::test]
async fn the_map_is_followed_change_by_change() {
    let coordinator = Coordinator::start().await;
    coordinator.lets_in();
    let frames = coordinator.streams();
    let mut client = Client::start(coordinator.settings());
    frames.send(first(&[1, 2])).await.unwrap();
    client.peers(&[1, 2]).await;
    let change = MapResponse {
        peers_changed: vec![node(3)],
        peers_removed: vec![NodeId(1)],
        ..MapResponse::default()
    };
    frames.send(frame(&change)).await.unwrap();
    let map = client.peers(&[2, 3]).await;
    assert_eq!(map.heard_at, Timestamp(1_700_000_000_000));
    let asked = coordinator.script().registered.remove(0);
    assert_eq!(asked.auth_key(), Some("the-join-key"));
    assert_eq!(asked.hostinfo.unwrap().hostname, "web1");
}

#[tokio::test]
async fn a_node_that_was_forgotten_registers_and_goes_on() {
    let coordinator = Coordinator::start().await;
    coordinator.lets_in();
    let frames = coordinator.streams();
    let mut client = Client::start(coordinator.settings());
    frames.send(first(&[1])).await.unwrap();
    client.peers(&[1]).await;
    coordinator.script().streams.push_back(Streaming::Unknown);
    coordinator.lets_in();
    let again = coordinator.streams();
    drop(frames);
    again.send(first(&[1, 2])).await.unwrap();
    client.peers(&[1, 2]).await;
    assert_eq!(coordinator.script().registered.len(), 2);
}

#[tokio::test]
async fn a_person_is_sent_to_the_page_and_waited_for() {
    let coordinator = Coordinator::start().await;
    let page = "https://hub.example/a/0123";
    coordinator.answers(RegisterReply { auth_url: page.to_owned(), ..RegisterReply::default() });
    let mut client = Client::start(ControlSettings { join_key: None, ..coordinator.settings() });
    coordinator.lets_in();
    let frames = coordinator.streams();
    frames.send(first(&[1])).await.unwrap();
    client.peers(&[1]).await;
    let asked: Vec<String> = coordinator.script().registered.iter().map(|ask| ask.followup.clone()).collect();
    assert_eq!(asked, ["", page]);
    assert!(coordinator.script().registered.iter().all(|ask| ask.auth.is_none()));
}

#[tokio::test]
async fn whereabouts_are_told_beside_the_stream_and_again_when_they_change() {
    let coordinator = Coordinator::start().await;
    coordinator.lets_in();
    let frames = coordinator.streams();
    let mut client = Client::start(coordinator.settings());
    frames.send(first(&[1])).await.unwrap();
    client.peers(&[1]).await;
    let public = "192.0.2.1:41641".parse().unwrap();
    client.standing.send_replace(Standing { public: vec![public], home: 900, ..Standing::default() });
    let told = || coordinator.script().told.iter().any(|told| told.endpoints == [public]);
    let waiting = async {
        while !told() {
            tokio::task::yield_now().await;
        }
    };
    timeout(Duration::from_secs(30), waiting).await.expect("never told");
    let last = coordinator.script().told.pop().unwrap();
    assert!(last.omit_peers && !last.stream);
    assert_eq!(last.endpoint_types, [EndpointKind::STUN]);
    assert_eq!(last.hostinfo.unwrap().net_info.unwrap().preferred_derp, 900);
}

#[tokio::test]
async fn the_key_that_the_root_vouched_for_is_told_with_its_number() {
    let coordinator = Coordinator::start().await;
    let root = root(1);
    let old: SignedNoiseKey = root.sign(machine(8).public(), 3);
    coordinator.script().key.allod_keys = vec![old, root.sign(coordinator.noise, 4)];
    coordinator.lets_in();
    let trust = Trust::Root { root: root.public(), seen: 0 };
    let frames = coordinator.streams();
    let mut client = Client::start(ControlSettings { trust, ..coordinator.settings() });
    frames.send(first(&[])).await.unwrap();
    client.peers(&[]).await;
    assert_eq!(*client.vouched.borrow(), Some(Vouched { key: coordinator.noise, serial: 4 }));
}

#[tokio::test]
async fn what_a_status_says_is_fit_for_a_terminal() {
    let coordinator = Coordinator::start().await;
    coordinator.lets_in();
    let sentence = Client::start(coordinator.settings()).away().await;
    assert!(sentence.contains("503") && sentence.ends_with("not  [31mnow"), "{sentence}");
    assert!(!sentence.contains('\u{1b}'));
}

fn root(byte: u8) -> RootPrivate {
    RootPrivate::import(&[byte; 32]).unwrap()
}
