//! A stock client and a node of ours on this coordinator: in a network namespace of the test's own, which has one address and no
//! way out. Run by hand and in CI where `tailscaled` and `tailscale` are (`scripts/setup-peers --go DIR`, `ALLOD_GO_PEERS=DIR`).

use crate::nodes::{Certificate, Mesh, PORT, address, echo, heard};
use crate::world::ALL;
use allod_coordinator::{Tls, state::JoinKeySpec};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use std::{
    io::{Read as _, Write as _},
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::AsyncWriteExt as _,
    net::TcpListener,
    time::{sleep, timeout},
};

/// The machine's one address in there.
const HERE: &str = "10.77.9.1";
const PATIENCE: Duration = Duration::from_secs(90);

/// Made by openssl, for this run.
fn certificate(folder: &Path) -> Certificate {
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
            "/CN=127.0.0.1",
            "-addext",
            "subjectAltName=IP:127.0.0.1",
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

#[expect(clippy::disallowed_methods, reason = "the test runs its peers itself")]
fn program(path: impl AsRef<std::ffi::OsStr>) -> Command {
    Command::new(path)
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

#[test]
fn a_stock_client_and_a_node_of_ours_talk_both_ways() {
    let (Some(_), Some(_)) = (peer("tailscaled"), peer("tailscale")) else { return };
    let inside = format!(
        "ip link set lo up && ip link add here type veth peer name there && ip addr add {HERE}/24 dev here \
         && ip link set here up && ip link set there up && exec \"$0\" stock::inside --exact --ignored --nocapture"
    );
    let this = std::env::current_exe().unwrap();
    let done = program("unshare").args(["-n", "sh", "-c", &inside]).arg(this).output().unwrap();
    let said = String::from_utf8_lossy(&done.stderr);
    if said.contains("Operation not permitted") {
        eprintln!("NOT TESTED: a stock client, because this user may not make a network namespace");
        return;
    }
    assert!(done.status.success(), "{}\n{said}", String::from_utf8_lossy(&done.stdout));
    print!("{}", String::from_utf8_lossy(&done.stdout));
}

/// A stock client, ended with the test.
struct Stock {
    daemon: Child,
    tailscale: PathBuf,
    socket: PathBuf,
}

impl Drop for Stock {
    fn drop(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

impl Stock {
    fn start(folder: &Path) -> Self {
        let socket = folder.join("stock.sock");
        let log = std::fs::File::create(folder.join("stock.log")).unwrap();
        let daemon = program(peer("tailscaled").unwrap())
            .args(["--no-logs-no-support", "--tun=userspace-networking", "--port=0"])
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--statedir={}", folder.join("stock").display()))
            .env("SSL_CERT_FILE", folder.join("here.pem"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { daemon, tailscale: peer("tailscale").unwrap(), socket }
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = program(&self.tailscale);
        command.arg(format!("--socket={}", self.socket.display())).args(words);
        command
    }

    /// What comes back from a port of the mesh.
    fn says(&self, to: IpAddr, what: &str) -> String {
        let mut command = self.command(&["nc", &to.to_string(), &PORT.to_string()]);
        let mut running = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        // It ends with what it is given, whether an answer is on its way or not.
        let mut asking = running.stdin.take().unwrap();
        asking.write_all(what.as_bytes()).unwrap();
        let mut heard = vec![0; what.len()];
        let read = running.stdout.take().unwrap().read_exact(&mut heard);
        drop(asking);
        drop(running.wait());
        read.map(|()| String::from_utf8_lossy(&heard).into_owned()).unwrap_or_default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the inner part of another test, in a network namespace"]
async fn inside() {
    let folder = tempfile::tempdir().unwrap();
    let mesh = Mesh::start_with(ALL, Some(certificate(folder.path()))).await;
    let ours = mesh.join("ours", HERE.parse().unwrap()).await;
    let _echo = echo(&ours);
    let spec = JoinKeySpec { uses: Some(1), ..JoinKeySpec::default() };
    let (_, key) = mesh.coordinator().create_join_key(spec).await.unwrap();
    let stock = Stock::start(folder.path());
    let log = || std::fs::read_to_string(folder.path().join("stock.log")).unwrap_or_default();
    let socket = stock.socket.clone();
    let waiting = async {
        while !socket.exists() {
            sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("no socket: {}", log()));
    let login = format!("--login-server={}", mesh.url());
    let key = format!("--auth-key={}", key.as_str());
    let up = ["up", &login, &key, "--accept-dns=false", "--hostname=stock", "--timeout=60s"];
    let mut joining = stock.command(&up);
    let joined = tokio::task::spawn_blocking(move || joining.output().unwrap()).await.unwrap();
    assert!(joined.status.success(), "{}\n{}", String::from_utf8_lossy(&joined.stderr), log());
    let nodes = mesh.coordinator().nodes();
    let theirs = nodes.iter().find(|node| node.node.name == "stock").expect("it is a node");
    let to_stock = IpAddr::V4(theirs.node.v4);
    // What a stock client in this mode is asked on the mesh, it asks of the machine's own loopback.
    let behind = TcpListener::bind(("127.0.0.1", PORT)).await.unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = behind.accept().await {
            tokio::spawn(async move {
                let (mut reading, mut writing) = stream.split();
                drop(tokio::io::copy(&mut reading, &mut writing).await);
                drop(writing.shutdown().await);
            });
        }
    });
    heard(&ours, to_stock).await;
    let to_ours = address(&ours);
    let heard = tokio::task::spawn_blocking(move || stock.says(to_ours, "from a stock client"));
    let heard = timeout(PATIENCE, heard).await.unwrap_or_else(|_| panic!("never heard: {}", log())).unwrap();
    assert_eq!(heard, "from a stock client", "{}", log());
}
