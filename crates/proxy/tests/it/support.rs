//! A proxy in this process, instances to put behind it, and a client that sees every byte.

use allod_proto::routes::{
    FORMAT, ProxyAnswer, ProxyAsk, Route, RouteLimits, RoutePattern, RouteTable, RouteTarget, Upstream,
};
use allod_proxy::{Control, Limits, Order, RunError, Settings};
use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::BoxBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use std::{
    convert::Infallible,
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::{Notify, mpsc},
    task::JoinHandle,
};

/// Far longer than anything here takes; only a failing test waits for it.
pub(crate) const LONG: Duration = Duration::from_secs(10);

pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    pub(crate) folder: tempfile::TempDir,
    generation: AtomicU64,
    /// As whoever supervises holds it.
    listener: Option<std::net::TcpListener>,
    orders: mpsc::UnboundedSender<Order>,
    pub(crate) done: JoinHandle<Result<(), RunError>>,
}

impl Proxy {
    pub(crate) async fn start(routes: Vec<Route>) -> Self {
        Self::start_with(routes, |_| {}).await
    }

    pub(crate) async fn start_with(routes: Vec<Route>, change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        write_table(&folder.path().join("routes.json"), 1, routes);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let mut settings = settings(&folder, vec![listener.try_clone().unwrap()]);
        change(&mut settings);
        let (orders, given) = mpsc::unbounded_channel();
        let done = tokio::spawn(allod_proxy::run(settings, given));
        let proxy =
            Self { address, folder, generation: AtomicU64::new(1), listener: Some(listener), orders, done };
        proxy.until_up().await;
        proxy
    }

    /// Starts a second one on the same listener, which answers at the control socket when this returns.
    pub(crate) async fn successor(&self, change: impl FnOnce(&mut Settings)) -> Successor {
        use std::os::unix::fs::MetadataExt as _;
        let socket = || std::fs::metadata(self.control()).unwrap().ino();
        let before = socket();
        let mut settings = settings(&self.folder, vec![self.listener.as_ref().unwrap().try_clone().unwrap()]);
        change(&mut settings);
        let (orders, given) = mpsc::unbounded_channel();
        let done = tokio::spawn(allod_proxy::run(settings, given));
        let up = async {
            while socket() == before {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, up).await.unwrap();
        self.ask(ProxyAsk::Status).await;
        Successor { done, orders }
    }

    pub(crate) fn order(&self, order: Order) {
        self.orders.send(order).unwrap();
    }

    async fn until_up(&self) {
        let up = async {
            while Control::connect(&self.control()).await.is_err() {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(LONG, up).await.unwrap();
    }

    pub(crate) fn control(&self) -> PathBuf {
        self.folder.path().join("control")
    }

    pub(crate) fn routes_file(&self) -> PathBuf {
        self.folder.path().join("routes.json")
    }

    pub(crate) async fn ask(&self, ask: ProxyAsk) -> ProxyAnswer {
        Control::ask_once(&self.control(), &ask, LONG).await.unwrap()
    }

    pub(crate) async fn load(&self, routes: Vec<Route>) {
        let generation = self.generation.fetch_add(1, Ordering::SeqCst) + 1;
        write_table(&self.routes_file(), generation, routes);
        assert_eq!(self.ask(ProxyAsk::Load).await, ProxyAnswer::Loaded { generation });
    }

    pub(crate) fn stop(&mut self) {
        self.listener = None;
        self.order(Order::Stop);
    }

    /// Sends these bytes on a connection of their own and reads until the proxy hangs up.
    pub(crate) async fn exchange(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // The proxy may hang up before it has all of a request that it refuses.
        let _ = stream.write_all(bytes.as_ref()).await.is_ok();
        read_all(&mut stream).await
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        self.exchange(format!("GET {path} HTTP/1.1\r\nHost: a.example\r\nConnection: close\r\n\r\n")).await
    }
}

/// A proxy that takes over from another.
pub(crate) struct Successor {
    pub(crate) done: JoinHandle<Result<(), RunError>>,
    pub(crate) orders: mpsc::UnboundedSender<Order>,
}

pub(crate) async fn read_all(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    let _ =
        tokio::time::timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("the proxy hangs up").is_ok();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Reads until `end` has come.
pub(crate) async fn read_until(stream: &mut TcpStream, end: &str) -> String {
    let mut bytes = Vec::new();
    let reading = async {
        while !bytes.ends_with(end.as_bytes()) {
            let byte =
                stream.read_u8().await.unwrap_or_else(|e| panic!("{e}: {}", String::from_utf8_lossy(&bytes)));
            bytes.push(byte);
        }
    };
    tokio::time::timeout(LONG, reading).await.expect("the proxy passes it on");
    String::from_utf8(bytes).unwrap()
}

pub(crate) fn status(answer: &str) -> u16 {
    answer.get(9..12).and_then(|code| code.parse().ok()).unwrap_or_else(|| panic!("no status: {answer:?}"))
}

pub(crate) fn settings(folder: &tempfile::TempDir, listeners: Vec<std::net::TcpListener>) -> Settings {
    Settings {
        routes: folder.path().join("routes.json"),
        control: folder.path().join("control"),
        listeners,
        tls_listeners: Vec::new(),
        certificates: None,
        https_redirect: None,
        access_log: Some(folder.path().join("access.log")),
        trusted_hops: Vec::new(),
        proxy_protocol: false,
        limits: Limits { shutdown: LONG, workers: 2, ..Limits::default() },
        clock: allod_daemon::clock::Clock::start(),
    }
}

pub(crate) fn write_table(path: &std::path::Path, generation: u64, routes: Vec<Route>) {
    let table = RouteTable { format: FORMAT, generation, routes };
    let temporary = path.with_extension("new");
    std::fs::write(&temporary, serde_json::to_vec(&table).unwrap()).unwrap();
    std::fs::rename(temporary, path).unwrap();
}

pub(crate) fn route(pattern: &str, target: RouteTarget) -> Route {
    Route {
        app: "blog".parse().unwrap(),
        unit: "web".parse().unwrap(),
        release: "0123456789ab".parse().unwrap(),
        pattern: RoutePattern::parse(pattern).unwrap(),
        strip_prefix: false,
        target,
        limits: RouteLimits::default(),
    }
}

/// A route for any host to these addresses.
pub(crate) fn to(addresses: &[SocketAddr]) -> Vec<Route> {
    let upstreams = addresses.iter().map(|address| Upstream { address: *address, uid: None });
    vec![route("/", RouteTarget::Instances(upstreams.collect()))]
}

type Body = BoxBody<Bytes, Infallible>;

/// An instance. `/echo` answers the body, `/head` the request's head, `/slow` when told to, `/events` what it is given,
/// `/switch` leaves HTTP and echoes, all else its name.
pub(crate) struct Instance {
    pub(crate) address: SocketAddr,
    pub(crate) arrived: Notify,
    /// A connection to it has ended.
    pub(crate) ended: Notify,
    pub(crate) go_on: Notify,
    pub(crate) requests: AtomicUsize,
    pub(crate) connections: AtomicUsize,
    /// Method and path of each.
    pub(crate) seen: std::sync::Mutex<Vec<String>>,
    pub(crate) events: tokio::sync::Mutex<Option<mpsc::Receiver<&'static str>>>,
    name: &'static str,
}

impl Instance {
    pub(crate) async fn start(name: &'static str) -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let instance = Arc::new(Self {
            address: listener.local_addr().unwrap(),
            arrived: Notify::new(),
            ended: Notify::new(),
            go_on: Notify::new(),
            requests: AtomicUsize::new(0),
            connections: AtomicUsize::new(0),
            seen: std::sync::Mutex::default(),
            events: tokio::sync::Mutex::default(),
            name,
        });
        tokio::spawn(Arc::clone(&instance).serve(listener));
        instance
    }

    async fn serve(self: Arc<Self>, listener: TcpListener) {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            self.connections.fetch_add(1, Ordering::SeqCst);
            let (instance, ended) = (Arc::clone(&self), Arc::clone(&self));
            let service = service_fn(move |request| Arc::clone(&instance).answer(request));
            tokio::spawn(async move {
                let serving =
                    http1::Builder::new().serve_connection(TokioIo::new(stream), service).with_upgrades();
                let _ = serving.await.is_ok();
                ended.ended.notify_one();
            });
        }
    }

    async fn answer(self: Arc<Self>, mut request: Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
        self.requests.fetch_add(1, Ordering::SeqCst);
        self.seen.lock().unwrap().push(format!("{} {}", request.method(), request.uri().path()));
        let seen: http::HeaderValue = request.uri().to_string().parse().unwrap();
        let mut answer = self.reply(&mut request).await?;
        // In capitals, so that who waits for the name in the body does not find it here.
        answer.headers_mut().insert("x-name", self.name.to_ascii_uppercase().parse().unwrap());
        answer.headers_mut().insert("x-seen", seen);
        Ok(answer)
    }

    async fn reply(&self, request: &mut Request<Incoming>) -> Result<Response<Body>, hyper::Error> {
        let path = request.uri().path().to_owned();
        let full = |text: String| Response::new(Full::new(Bytes::from(text)).boxed());
        Ok(match path.as_str() {
            "/echo" => {
                full(String::from_utf8_lossy(&request.body_mut().collect().await?.to_bytes()).into_owned())
            }
            "/head" => {
                let lines = request
                    .headers()
                    .iter()
                    .map(|(name, value)| format!("{name}: {}\n", String::from_utf8_lossy(value.as_bytes())));
                full(format!("{} {}\n{}", request.method(), request.uri(), lines.collect::<String>()))
            }
            "/slow" => {
                self.arrived.notify_one();
                self.go_on.notified().await;
                full(self.name.to_owned())
            }
            "/liar" => {
                let mut answer = full(self.name.to_owned());
                answer.headers_mut().insert("x-allod-error", "connect".parse().unwrap());
                answer.headers_mut().insert("connection", "x-hop".parse().unwrap());
                answer.headers_mut().insert("x-hop", "1".parse().unwrap());
                answer
            }
            "/trailers" => {
                let trailers =
                    http::HeaderMap::from_iter([("x-sum".parse().unwrap(), "42".parse().unwrap())]);
                let frames =
                    [Frame::data(Bytes::from("body")), Frame::trailers(trailers)].map(Ok::<_, Infallible>);
                let mut answer = Response::new(StreamBody::new(Frames(frames.into_iter().collect())).boxed());
                answer.headers_mut().insert("trailer", "x-sum".parse().unwrap());
                answer
            }
            "/events" => {
                let events = self.events.lock().await.take().unwrap();
                let mut answer = Response::new(StreamBody::new(Events(events)).boxed());
                answer.headers_mut().insert("content-type", "text/event-stream".parse().unwrap());
                answer
            }
            "/flood" => Response::new(StreamBody::new(Flood).boxed()),
            "/switch" => {
                let on_upgrade = hyper::upgrade::on(&mut *request);
                tokio::spawn(echo(on_upgrade));
                Response::builder()
                    .status(101)
                    .header("connection", "upgrade")
                    .header("upgrade", "echo")
                    .body(Full::new(Bytes::new()).boxed())
                    .unwrap()
            }
            _ => full(self.name.to_owned()),
        })
    }
}

async fn echo(on_upgrade: hyper::upgrade::OnUpgrade) {
    let (mut read, mut write) = tokio::io::split(TokioIo::new(on_upgrade.await.unwrap()));
    let _ = tokio::io::copy(&mut read, &mut write).await.is_ok();
    let _ = write.shutdown().await.is_ok();
}

/// A body without end.
struct Flood;

impl futures_core::Stream for Flood {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 16 * 1024])))))
    }
}

struct Events(mpsc::Receiver<&'static str>);

impl futures_core::Stream for Events {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0
            .poll_recv(cx)
            .map(|event| event.map(|text| Ok(Frame::data(Bytes::from_static(text.as_bytes())))))
    }
}

struct Frames(std::collections::VecDeque<Result<Frame<Bytes>, Infallible>>);

impl futures_core::Stream for Frames {
    type Item = Result<Frame<Bytes>, Infallible>;

    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        std::task::Poll::Ready(self.0.pop_front())
    }
}
