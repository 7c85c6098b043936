//! Stock clients on this coordinator, each on a host of its own. Run by hand and in CI where `tailscaled` and `tailscale` are
//! (`scripts/setup-peers --go DIR`, `ALLOD_GO_PEERS=DIR`).

use crate::{
    lab::{HUB, Host, Lab, Router, program},
    nodes::{Certificate, Mesh, PORT, address, directly, echo, heard},
    talk::{PATIENCE, Talk},
    world::ALL,
};
use allod_coordinator::Tls;
use rustix::process::{Pid, Signal};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use serde_json::Value;
use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::Command,
    time::{sleep, timeout},
};

/// Made by openssl, for this run.
pub(crate) fn certificate(folder: &Path) -> Certificate {
    let (pem, key) = (folder.join("here.pem"), folder.join("here.key"));
    let made = program("openssl")
        .args([
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
        ])
        .args([
            "-subj",
            "/CN=hub",
            "-addext",
            &format!("subjectAltName=IP:{HUB}"),
            "-addext",
            "basicConstraints=critical,CA:FALSE",
            "-keyout",
        ])
        .args([key.as_os_str(), "-out".as_ref(), pem.as_os_str()])
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let certificate = CertificateDer::from_pem_file(&pem).unwrap();
    let digest = ring::digest::digest(&ring::digest::SHA256, &certificate);
    let pin = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let server = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], PrivateKeyDer::from_pem_file(&key).unwrap())
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    Certificate { server: Tls { config: Arc::new(server), pin: Some(pin) }, client: Arc::new(client) }
}

fn peer(name: &str) -> Option<PathBuf> {
    let Some(folder) = std::env::var_os("ALLOD_GO_PEERS") else {
        eprintln!("peer absent: {name} (`scripts/setup-peers --go DIR`, then ALLOD_GO_PEERS=DIR)");
        return None;
    };
    let path = Path::new(&folder).join(name);
    assert!(path.is_file(), "{name} is not in the folder that ALLOD_GO_PEERS names");
    Some(path)
}

/// A lab, if there are stock clients to put into it.
pub(crate) fn lab() -> Option<Lab> {
    let (Some(_), Some(_)) = (peer("tailscaled"), peer("tailscale")) else { return None };
    Lab::new()
}

/// A mesh behind HTTPS on the hub of a lab, and the folder of its stock clients.
pub(crate) async fn mesh(lab: &Lab) -> (Mesh, tempfile::TempDir) {
    let folder = tempfile::tempdir().unwrap();
    let certificate = certificate(folder.path());
    let mesh = lab.hub().run(async move { Mesh::start_at(HUB, ALL, Some(certificate)).await }).await;
    (mesh, folder)
}

/// A stock client, ended with the test.
pub(crate) struct Stock {
    pub(crate) name: String,
    daemon: Child,
    socket: PathBuf,
    log: PathBuf,
}

impl Drop for Stock {
    fn drop(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

impl Stock {
    /// Starts the daemon of this name: what it is and knows is in the folder, and stays there.
    pub(crate) async fn start(name: &str, host: &Host, folder: &Path) -> Self {
        let (socket, log) = (folder.join(format!("{name}.sock")), folder.join(format!("{name}.log")));
        drop(std::fs::remove_file(&socket));
        let daemon = host
            .program(&peer("tailscaled").unwrap())
            .args(["--no-logs-no-support", "--tun=userspace-networking", "--port=0", "--verbose=1"])
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--statedir={}", folder.join(name).display()))
            .env("SSL_CERT_FILE", folder.join("here.pem"))
            .stdout(Stdio::null())
            .stderr(File::options().append(true).create(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        let this = Self { name: name.to_owned(), daemon, socket, log };
        let waiting = async {
            while !this.socket.exists() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("no socket: {}", this.log()));
        this
    }

    /// One that joins.
    pub(crate) async fn join(name: &str, host: &Host, folder: &Path, (url, key): (&str, &str)) -> Self {
        let this = Self::start(name, host, folder).await;
        this.up((url, key), &[]).await;
        on_this_host(host).await;
        this
    }

    /// Joins, or joins again.
    pub(crate) async fn up(&self, (url, key): (&str, &str), how: &[&str]) {
        let (login, key) = (format!("--login-server={url}"), format!("--auth-key={key}"));
        let name = format!("--hostname={}", self.name);
        let words = [&["up", &login, &key, "--accept-dns=false", &name, "--timeout=60s"], how].concat();
        let joined = self.run(&words).await;
        assert!(joined.status.success(), "{}\n{}", String::from_utf8_lossy(&joined.stderr), self.log());
    }

    /// Its address on the mesh.
    pub(crate) async fn address(&self) -> IpAddr {
        let told = self.run(&["ip", "-4"]).await;
        String::from_utf8_lossy(&told.stdout).trim().parse().unwrap()
    }

    /// Stops it, or lets it go on.
    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.daemon.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = program(peer("tailscale").unwrap());
        command.arg(format!("--socket={}", self.socket.display())).args(words);
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        command
    }

    /// Runs `tailscale` to its end.
    pub(crate) async fn run(&self, words: &[&str]) -> Output {
        let running = self.command(words).stdin(Stdio::null()).output();
        timeout(PATIENCE, running)
            .await
            .unwrap_or_else(|_| panic!("{words:?} never ends: {}", self.log()))
            .unwrap()
    }

    /// A stream to a port of the mesh.
    fn dial(&self, to: IpAddr) -> tokio::process::Child {
        let mut command = self.command(&["nc", &to.to_string(), &PORT.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Waits until somebody is heard: the first map may come a moment later.
    pub(crate) async fn hears(&self, to: IpAddr) {
        const WORDS: &[u8] = b"from a stock client";
        let trying = async {
            loop {
                let mut running = self.dial(to);
                let mut asking = running.stdin.take().unwrap();
                let mut heard = [0; WORDS.len()];
                let answered = async {
                    asking.write_all(WORDS).await?;
                    running.stdout.take().unwrap().read_exact(&mut heard).await
                };
                // It ends with what it is given, whether an answer is on its way or not.
                let answered = timeout(Duration::from_secs(20), answered).await;
                drop(asking);
                if matches!(answered, Ok(Ok(_))) {
                    assert_eq!(heard, WORDS);
                    return;
                }
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE, trying).await.unwrap_or_else(|_| panic!("never heard {to}: {}", self.log()));
    }

    /// A stream that goes on.
    pub(crate) fn talk(&self, name: String, to: IpAddr) -> Talk {
        let mut running = self.dial(to);
        let (writing, reading) = (running.stdin.take().unwrap(), running.stdout.take().unwrap());
        tokio::spawn(async move { running.wait().await });
        Talk::begin(name, reading, writing)
    }

    /// The address that it sends to this peer's directly, if it does.
    pub(crate) async fn direct(&self, peer: IpAddr) -> Option<String> {
        let status = self.run(&["status", "--json"]).await;
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        let is_it = |told: &&Value| {
            told["TailscaleIPs"].as_array().is_some_and(|all| all.contains(&Value::from(peer.to_string())))
        };
        let at = status["Peer"].as_object()?.values().find(is_it)?["CurAddr"].as_str()?.to_owned();
        Some(at).filter(|at| !at.is_empty())
    }

    /// Waits until it sends to this peer directly.
    pub(crate) async fn directly(&self, peer: IpAddr) {
        let waiting = async {
            while self.direct(peer).await.is_none() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never directly: {}", self.log()));
    }
}

/// What a stock client without an interface is asked on the mesh, it asks of its host's loopback.
async fn on_this_host(host: &Host) {
    host.run(async {
        // A client that was started again finds it there.
        let Ok(behind) = TcpListener::bind((Ipv4Addr::LOCALHOST, PORT)).await else { return };
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = behind.accept().await {
                tokio::spawn(async move {
                    let (mut reading, mut writing) = stream.split();
                    drop(tokio::io::copy(&mut reading, &mut writing).await);
                    drop(writing.shutdown().await);
                });
            }
        });
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stock_client_and_a_node_of_ours_talk_both_ways_and_directly() {
    let Some(mut lab) = lab() else { return };
    let (one, other) = (lab.host(1, Router::None), lab.host(2, Router::None));
    let (mesh, folder) = mesh(&lab).await;
    let ours = mesh.join_on("ours", &one).await;
    let _echo = echo(&ours);
    let key = mesh.join_key().await;
    let stock = Stock::join("stock", &other, folder.path(), (&mesh.url(), &key)).await;
    heard(&ours, stock.address().await).await;
    stock.hears(address(&ours)).await;
    directly(&ours).await;
    stock.directly(address(&ours)).await;
}
