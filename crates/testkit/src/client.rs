//! A node as a test has it: the client's half of the protocol, written with the shared words and nothing of the coordinator.

use allod_meshproto::{
    CAPABILITY_VERSION, DiscoKey, MachineKey, MachinePrivate, NodeKey, NodePrivate,
    control::{
        Hostinfo, KeyReply, MapRequest, MapResponse, Message, RegisterAuth, RegisterReply, RegisterRequest,
    },
    derp::{ClientInfo, DerpBox, Frame, FrameReader},
    map_frame::MapFrames,
    noise::{self, Initiator, Opener, Received, Sealer, early::EarlyReader},
};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Request, StatusCode,
    body::Incoming,
    client::conn::http2::{SendRequest, handshake},
};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ring::rand::SystemRandom;
use std::net::SocketAddr;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex, split},
    net::TcpStream,
};

/// What has not come by then does not come.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);

/// One machine with its keys and the name it asks for.
#[derive(Debug)]
pub struct Node {
    /// What the machine proves itself with.
    pub machine: MachinePrivate,
    /// What the node is known by.
    pub node: NodePrivate,
    /// The name that it would like to have.
    pub name: String,
}

impl Node {
    /// Fresh keys.
    ///
    /// # Panics
    /// Without random numbers.
    #[must_use]
    pub fn new(name: &str) -> Self {
        let random = SystemRandom::new();
        Self {
            machine: MachinePrivate::generate(&random).unwrap(),
            node: NodePrivate::generate(&random).unwrap(),
            name: name.to_owned(),
        }
    }

    /// The public half of the node's key.
    #[must_use]
    pub fn key(&self) -> NodeKey {
        self.node.public()
    }

    /// What it says of its machine.
    #[must_use]
    pub fn host(&self) -> Hostinfo {
        Hostinfo { hostname: self.name.clone(), app: "allod".to_owned(), ..Hostinfo::default() }
    }

    /// Asks to be let in.
    #[must_use]
    pub fn register(&self, join_key: Option<&str>) -> RegisterRequest {
        RegisterRequest {
            node_key: self.key(),
            auth: join_key.map(|key| RegisterAuth { auth_key: key.to_owned() }),
            hostinfo: Some(self.host()),
            ..RegisterRequest::default()
        }
    }

    /// Asks for the stream of maps.
    #[must_use]
    pub fn stream(&self) -> MapRequest {
        MapRequest::stream(self.key(), DiscoKey::new(*self.key().as_bytes()), self.host())
    }

    /// Says where it is heard, and asks for nothing.
    ///
    /// # Panics
    /// When the endpoint is none.
    #[must_use]
    pub fn lite(&self, endpoint: &str) -> MapRequest {
        let endpoints = [(endpoint.parse().unwrap(), allod_meshproto::control::EndpointKind::LOCAL)];
        MapRequest::lite(self.key(), DiscoKey::new(*self.key().as_bytes()), self.host(), &endpoints)
    }

    /// Connects as this machine.
    ///
    /// # Panics
    /// When it is not let in.
    pub async fn connect(&self, to: SocketAddr, server: MachineKey) -> Control {
        Control::connect(to, &self.machine, server).await.unwrap()
    }
}

/// The head of what answers, and the bytes after it.
///
/// # Panics
/// When the head is no text.
pub async fn http(stream: &mut TcpStream, request: &str) -> Option<(String, Vec<u8>)> {
    stream.write_all(request.as_bytes()).await.ok()?;
    let mut bytes = Vec::new();
    loop {
        if let Some(at) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            let rest = bytes.split_off(at + 4);
            return Some((String::from_utf8(bytes).unwrap(), rest));
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
}

/// The head and the body of what answers a plain GET.
///
/// # Panics
/// When nothing answers.
pub async fn get(to: SocketAddr, path: &str) -> (String, String) {
    let mut stream = TcpStream::connect(to).await.unwrap();
    let (head, mut rest) =
        http(&mut stream, &format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await.unwrap();
    stream.read_to_end(&mut rest).await.unwrap();
    (head, String::from_utf8(rest).unwrap())
}

/// The keys that a coordinator shows.
///
/// # Panics
/// When it shows none.
pub async fn key(to: SocketAddr) -> KeyReply {
    KeyReply::read(get(to, "/key?v=130").await.1.as_bytes()).unwrap()
}

/// One Noise connection.
#[derive(Debug)]
pub struct Control {
    /// The HTTP/2 within.
    pub http: SendRequest<Full<Bytes>>,
}

impl Control {
    /// The handshake and HTTP/2 within; `None` when the other end does not want it.
    pub async fn connect(to: SocketAddr, machine: &MachinePrivate, server: MachineKey) -> Option<Self> {
        let (stream, sealer, opener, rest) = raw(to, machine, server).await?;
        let http = through(stream, sealer, opener, rest);
        let (http, connection) = handshake(TokioExecutor::new(), TokioIo::new(http)).await.ok()?;
        tokio::spawn(async move { drop(connection.await) });
        Some(Self { http })
    }

    /// Posts a body; `None` when the connection ends.
    ///
    /// # Panics
    /// When the path is none.
    pub async fn post(&mut self, path: &str, body: Vec<u8>) -> Option<(StatusCode, Incoming)> {
        let request =
            Request::post(format!("https://coordinator{path}")).body(Full::new(body.into())).unwrap();
        self.http.ready().await.ok()?;
        let response = self.http.send_request(request).await.ok()?;
        Some((response.status(), response.into_body()))
    }

    /// Registers a node.
    ///
    /// # Panics
    /// When it is not answered with a reply.
    pub async fn register(&mut self, request: &RegisterRequest) -> RegisterReply {
        let (status, body) = self.post("/machine/register", request.write().unwrap()).await.unwrap();
        assert_eq!(status, StatusCode::OK);
        RegisterReply::read(&body.collect().await.unwrap().to_bytes()).unwrap()
    }

    /// Asks for maps, or says something of the node.
    ///
    /// # Errors
    /// The status, when it is not a good one.
    ///
    /// # Panics
    /// When the connection ends.
    pub async fn map(&mut self, request: &MapRequest) -> Result<Maps, StatusCode> {
        let (status, body) = self.post("/machine/map", request.write().unwrap()).await.unwrap();
        if status != StatusCode::OK {
            return Err(status);
        }
        Ok(Maps { body, frames: MapFrames::default(), bytes: Vec::new() })
    }
}

/// A stream of maps.
#[derive(Debug)]
pub struct Maps {
    body: Incoming,
    frames: MapFrames,
    bytes: Vec<u8>,
}

impl Maps {
    /// The next response; `None` at the end.
    ///
    /// # Panics
    /// When what comes is no map.
    pub async fn next(&mut self) -> Option<MapResponse> {
        loop {
            let mut rest = self.bytes.as_slice();
            let response = self.frames.push(&mut rest).unwrap();
            let taken = self.bytes.len() - rest.len();
            self.bytes.drain(..taken);
            if response.is_some() {
                return response;
            }
            self.bytes = self.body.frame().await?.ok()?.into_data().unwrap().to_vec();
        }
    }

    /// The next response that is this.
    ///
    /// # Panics
    /// When it does not come.
    pub async fn until(&mut self, is_it: impl Fn(&MapResponse) -> bool) -> MapResponse {
        let found = async {
            loop {
                let response = self.next().await.expect("the stream goes on");
                if is_it(&response) {
                    return response;
                }
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("it comes within a minute")
    }
}

/// The handshake alone.
///
/// # Panics
/// When what answers is no upgrade.
pub async fn raw(
    to: SocketAddr,
    machine: &MachinePrivate,
    server: MachineKey,
) -> Option<(TcpStream, Sealer, Opener, Vec<u8>)> {
    let (mut initiator, initiation) = Initiator::start(machine, server, CAPABILITY_VERSION).unwrap();
    let mut stream = TcpStream::connect(to).await.ok()?;
    stream.set_nodelay(true).ok()?;
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: {}\r\n{}: {}\r\nContent-Length: 0\r\n\r\n",
        noise::PATH,
        noise::UPGRADE,
        noise::HANDSHAKE_HEADER,
        initiation.to_header()
    );
    let (head, mut rest) = http(&mut stream, &request).await?;
    if !head.starts_with("HTTP/1.1 101 ") {
        return None;
    }
    assert_eq!(connection_headers(&head), ["upgrade"], "stock clients follow nothing else: {head}");
    loop {
        match initiator.receive(&rest).ok()? {
            Received::Done { session, consumed } => {
                let (sealer, opener) = session.split();
                return Some((stream, sealer, opener, rest.split_off(consumed)));
            }
            Received::More => {
                rest.clear();
                if stream.read_buf(&mut rest).await.ok()? == 0 {
                    return None;
                }
            }
        }
    }
}

/// The plain stream within: records are opened and sealed by two tasks, as slowly as the other end reads.
fn through(stream: TcpStream, mut sealer: Sealer, mut opener: Opener, first: Vec<u8>) -> DuplexStream {
    let (ours, theirs) = duplex(16 * 1024);
    let (mut from, mut to) = stream.into_split();
    let (mut plain_from, mut plain_to) = split(theirs);
    tokio::spawn(async move {
        let (mut wire, mut early) = (first, EarlyReader::default());
        loop {
            let (mut plain, mut http) = (Vec::new(), Vec::new());
            if opener.push(&wire, &mut plain).is_err() || early.push(&plain, &mut http).is_err() {
                return;
            }
            if plain_to.write_all(&http).await.is_err() {
                return;
            }
            wire.clear();
            if !matches!(from.read_buf(&mut wire).await, Ok(1..)) {
                return;
            }
        }
    });
    tokio::spawn(async move {
        let mut plain = vec![0; 8192];
        while let Ok(read @ 1..) = plain_from.read(&mut plain).await {
            let mut wire = Vec::new();
            if sealer.seal(&plain[..read], &mut wire).is_err() || to.write_all(&wire).await.is_err() {
                return;
            }
        }
    });
    ours
}

/// A connection to the relay.
#[derive(Debug)]
pub struct Derp {
    stream: TcpStream,
    reader: FrameReader,
    bytes: Vec<u8>,
}

impl Derp {
    /// Says who it is; `None` when the relay does not take it.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn connect(to: SocketAddr, node: &NodePrivate) -> Option<Self> {
        Self::connect_as(to, node, node.public()).await
    }

    /// The same, saying that it is somebody else.
    ///
    /// # Panics
    /// When nobody listens.
    pub async fn connect_as(to: SocketAddr, node: &NodePrivate, told: NodeKey) -> Option<Self> {
        let mut stream = TcpStream::connect(to).await.unwrap();
        let request = "GET /derp HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: DERP\r\n\r\n";
        let (head, bytes) = http(&mut stream, request).await?;
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(connection_headers(&head), ["upgrade"], "stock clients follow nothing else: {head}");
        let mut derp = Self { stream, reader: FrameReader::default(), bytes };
        let Some(Frame::ServerKey(server)) = derp.next().await else { return None };
        let secret = DerpBox::new(node, server);
        let hello = match secret.client_info(&ClientInfo::default(), &SystemRandom::new()).unwrap() {
            Frame::ClientInfo { sealed, .. } => Frame::ClientInfo { key: told, sealed },
            other => other,
        };
        derp.send(&hello).await;
        match derp.next().await {
            Some(Frame::ServerInfo(sealed)) => secret.open_server_info(&sealed).ok().map(|_| derp),
            _ => None,
        }
    }

    /// Sends a frame, as far as it goes.
    ///
    /// # Panics
    /// When the frame can't be written.
    pub async fn send(&mut self, frame: &Frame) {
        let mut wire = Vec::new();
        frame.write(&mut wire).unwrap();
        let _ = self.stream.write_all(&wire).await;
    }

    /// The next frame; `None` at the end.
    ///
    /// # Panics
    /// When what comes is no frame.
    pub async fn next(&mut self) -> Option<Frame> {
        loop {
            let mut rest = self.bytes.as_slice();
            let frame = self.reader.push(&mut rest).unwrap();
            let taken = self.bytes.len() - rest.len();
            self.bytes.drain(..taken);
            if frame.is_some() {
                return frame;
            }
            if !matches!(self.stream.read_buf(&mut self.bytes).await, Ok(1..)) {
                return None;
            }
        }
    }
}

/// What a head says of its connection.
fn connection_headers(head: &str) -> Vec<&str> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    lines.filter(|(name, _)| name.eq_ignore_ascii_case("connection")).map(|(_, value)| value.trim()).collect()
}
