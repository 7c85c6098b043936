//! A hub that runs in the test, and a client that speaks bytes.

use allod_daemon::Clock;
use allod_hub::{
    control::{self, Desk},
    http::{self, Hub},
    identity, probe,
    registry::Registry,
};
use allod_mesh::{FollowingListener, Mesh, StaticMesh, StaticSettings};
use allod_proto::{
    Epoch, Fingerprint, Timestamp, command::ReplyBody, messages::server::HelloReply, witness::WitnessReport,
};
use allod_signing::Signer as _;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

pub(crate) struct Running {
    home: Option<tempfile::TempDir>,
    folder: PathBuf,
    address: SocketAddr,
    task: JoinHandle<()>,
    registry: Arc<Registry>,
    mesh: Arc<dyn Mesh>,
    clock: Clock,
    reports: AtomicU64,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Running {
    pub(crate) async fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().to_owned();
        std::fs::create_dir(folder.join("servers")).unwrap();
        Self::begin(Some(home), folder).await
    }

    async fn begin(home: Option<tempfile::TempDir>, folder: PathBuf) -> Self {
        let clock = Clock::start();
        let registry = Arc::new(Registry::open(&folder.join("servers")).unwrap());
        let mesh: Arc<dyn Mesh> = Arc::new(StaticMesh::start(StaticSettings::loopback()).unwrap());
        let listener = FollowingListener::open(Arc::clone(&mesh), 0).await.unwrap();
        let address = listener.addresses()[0];
        let hub = Hub {
            identity: identity::load_or_make(&folder).unwrap().fingerprint(),
            registry: Arc::clone(&registry),
            clock,
            folder: folder.clone(),
            coordination: None,
            names: Vec::new(),
        };
        let socket = control::bind(&folder).unwrap();
        let desk = Desk { registry: Arc::clone(&registry), coordination: None, clock };
        let for_http = Arc::clone(&mesh);
        let task = tokio::spawn(async move {
            tokio::join!(http::run(Arc::new(hub), for_http, listener), control::run(socket, Arc::new(desk)));
        });
        Self { home, folder, address, task, registry, mesh, clock, reports: AtomicU64::new(0) }
    }

    pub(crate) async fn stop(&mut self) {
        self.task.abort();
        let _ = (&mut self.task).await;
    }

    pub(crate) async fn restart(&mut self) {
        self.stop().await;
        let reports = self.reports.load(Ordering::Relaxed);
        *self = Self::begin(self.home.take(), self.folder.clone()).await;
        self.reports.store(reports, Ordering::Relaxed);
    }

    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// Each call is later than the one before.
    pub(crate) fn now(&self) -> Timestamp {
        let later = std::time::Duration::from_millis(self.reports.fetch_add(1, Ordering::Relaxed));
        self.clock.now().plus(later)
    }

    pub(crate) fn lose_folder(&mut self) {
        self.home = None;
    }

    pub(crate) async fn probe_once(&self) {
        let probing = probe::run(Arc::clone(&self.registry), Arc::clone(&self.mesh), self.clock);
        tokio::pin!(probing);
        let asked = |registry: &Registry| {
            registry.all().iter().all(|server| server.answers != allod_hub::registry::Answers::NotAsked)
        };
        while !asked(&self.registry) {
            tokio::select! {
                () = &mut probing => {}
                () = tokio::time::sleep(std::time::Duration::from_millis(5)) => {}
            }
        }
    }

    pub(crate) async fn raw(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // A refusal may come, and the connection end, before all is written.
        let _ = stream.write_all(request.as_bytes()).await;
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes).await;
        let text = String::from_utf8_lossy(&bytes);
        let (head, body) = text.split_once("\r\n\r\n").expect("an answer");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        Answer { status, body: body.to_owned() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.raw(&format!("GET {path} HTTP/1.1\r\nhost: {}\r\n\r\n", self.address)).await
    }

    pub(crate) async fn post(&self, kind: &str, body: &str) -> Answer {
        self.raw(&format!(
            "POST /witness HTTP/1.1\r\nhost: {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        ))
        .await
    }

    pub(crate) async fn report(&self, report: &WitnessReport) -> Answer {
        self.post("application/json", &serde_json::to_string(report).unwrap()).await
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Answers every request as `hello` of this identity.
pub(crate) async fn fake_agent(identity: Fingerprint) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let hello = HelloReply {
        oldest: 1,
        newest: 1,
        version: "1".to_owned(),
        identity,
        epoch: Epoch::from_random([1; 16]),
        succession: Vec::new(),
    };
    let body = ReplyBody::of(None, Ok(serde_json::to_value(hello).unwrap()));
    let body = serde_json::to_string(&body).unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 4096];
            let _ = stream.read(&mut request).await;
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            let _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
        }
    });
    address
}
