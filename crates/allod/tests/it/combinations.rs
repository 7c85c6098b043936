//! The same agent and the same command line over each coordinator and each kind of node: ours and a real Headscale, ours and a real
//! tailscaled, on hosts that are namespaces without a way out. Nobody who is not on the mesh finds the management API there. Takes root.

use crate::{
    app::App,
    cli::Cli,
    visitor::get,
    world::{World, fresh_folder},
};
use allod_daemon::Clock;
use allod_signing::KeySigner;
use allod_testkit::{
    certificate::{Certificate, PEM},
    coordinator::{self, Serving},
    headscale::Headscale,
    lab::{HUB, Host, Lab, Router},
    peer,
    stock::{Stock, Tun},
};
use serde_json::Value;
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tempfile::TempDir;
use tokio::{
    net::{TcpListener, TcpStream, UdpSocket},
    time::timeout,
};

const SITES: [u8; 3] = [1, 2, 3];
/// The port of what answers everybody, to show that everybody gets there.
const OPEN: u16 = 5555;

/// The server, the person, and somebody who is not on the mesh.
struct Hosts {
    lab: Lab,
    server: Host,
    person: Host,
    outside: Host,
    /// Where programs with users of their own find their files.
    folder: TempDir,
}

impl Hosts {
    fn make() -> Option<Self> {
        let mut lab = Lab::new()?;
        let [server, person, outside] = SITES.map(|site| lab.host(site, Router::None));
        let [server_site, _, outside_site] = SITES;
        lab.lead("100.64.0.0/10", (server_site, &outside, outside_site));
        Some(Self { lab, server, person, outside, folder: fresh_folder() })
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).to_string_lossy().into_owned()
    }

    /// The person, with a key of their own.
    fn cli(&self) -> (Cli, KeySigner) {
        let home = self.folder.path().join("home");
        std::fs::create_dir_all(&home).unwrap();
        let key = KeySigner::generate([77; 32], "ana");
        let file = home.join("key");
        std::fs::write(&file, key.to_openssh().as_bytes()).unwrap();
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        (Cli::within(home, Some(self.person.space.clone())), key)
    }

    /// A coordinator of ours on the hub.
    async fn coordinator(&self, is_tls: bool) -> (Serving, String) {
        let state = self.folder.path().join("coordinator");
        let tls = is_tls.then(|| Certificate::make(self.folder.path(), HUB).server);
        let serve = async move {
            let listener = TcpListener::bind((HUB, 0)).await.unwrap();
            let port = listener.local_addr().unwrap().port();
            let stun = UdpSocket::bind((HUB, port)).await.unwrap();
            let mut settings = coordinator::settings(state, HUB, port, port);
            if is_tls {
                settings.url = format!("https://{HUB}:{port}");
            }
            settings.tls = tls;
            let (url, clock) = (settings.url.clone(), Clock::start());
            (Serving::start(settings, Arc::new(move || clock.now()), listener, stun), url)
        };
        self.lab.hub().run(serve).await
    }

    /// Tailscaled, with an interface, on the server and on the person's machine.
    async fn stock(&self, folder: &Path, url: &str, keys: [&str; 2]) -> [Stock; 2] {
        let [one, other] = keys;
        let start = async |name: &str, host: &Host, key: &str| {
            let stock = Stock::start_with(name, host, folder, Tun::Interface).await;
            stock.up((url, key), &[]).await;
            stock
        };
        [start("web1", &self.server, one).await, start("laptop", &self.person, other).await]
    }
}

/// What is the same everywhere.
async fn is_used(hosts: &Hosts, there: &World, cli: &Cli, key: &KeySigner) {
    let at = there.management;
    assert!(allod_mesh::is_mesh_address(at.ip()), "{at}");
    nobody_else_gets_in(hosts, there).await;
    there.allod(&["keys", "add", &key.public_openssh(), "--role", "owner"]).await.ok();
    let file = cli.home.join("key").to_string_lossy().into_owned();
    let (identity, address) = (there.identity.to_string(), at.ip().to_string());
    let wrong = format!("SHA256:{}", "a".repeat(43));
    let add = async |identity: &str| {
        cli.run(&["--key", &file, "servers", "add", &address, "--identity", identity]).await
    };
    assert_ne!(add(&wrong).await.code, 0);
    assert!(!cli.home.join("servers.toml").exists(), "a server with another identity was saved");
    add(&identity).await.ok();
    let status = cli.run(&["servers", "status"]).await.ok().json();
    assert_eq!(
        (&status["servers"][0]["server"], &status["servers"][0]["ok"]),
        (&"web1".into(), &Value::Bool(true))
    );

    let app = App::new(&hosts.folder.path().join("shop"), &there.state.join("bin/allod"), "shop");
    for version in ["v1", "v2"] {
        app.write(version);
        cli.run_in(&app.folder, &["deploy"]).await.ok();
        let http = there.http;
        let answer = hosts.server.run(async move { get(http, "a", "/").await }).await.unwrap();
        assert_eq!(answer.header("x-version"), Some(version));
    }
    nobody_else_gets_in(hosts, there).await;
}

/// From the host that is not on the mesh nothing answers, whichever address of the server's is tried.
async fn nobody_else_gets_in(hosts: &Hosts, there: &World) {
    let open = hosts.server.run(async { TcpListener::bind(("0.0.0.0", OPEN)).await.unwrap() }).await;
    let wire = SocketAddr::new("10.77.1.2".parse().unwrap(), OPEN);
    assert!(answers(&hosts.outside, wire).await, "the way to the server is closed, so nothing is shown");
    drop(open);
    let mut addresses = hosts.server.addresses();
    addresses.push(there.management.ip());
    assert!(addresses.contains(&wire.ip()), "{addresses:?}");
    let ports = [there.management.port(), allod_proto::headers::MANAGEMENT_PORT, 9845];
    for ip in addresses.into_iter().filter(|ip| !ip.is_loopback()) {
        for port in ports {
            let at = SocketAddr::new(ip, port);
            assert!(!answers(&hosts.outside, at).await, "{at} is open from outside the mesh");
        }
    }
}

async fn answers(from: &Host, at: SocketAddr) -> bool {
    let knocking = async move { timeout(Duration::from_secs(1), TcpStream::connect(at)).await };
    matches!(from.run(knocking).await, Ok(Ok(_)))
}

/// Puts a secret where only we read it.
fn put(path: &str, text: &str) {
    std::fs::write(path, format!("{text}\n")).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_our_coordinator_and_nodes_of_ours() {
    let Some(hosts) = Hosts::make() else { return };
    let (serving, url) = hosts.coordinator(false).await;
    let (file, ours) = (hosts.path("token"), serving.token(url.clone()).await);
    put(&file, &serving.token(url).await);
    let there = World::up_within(&hosts.server.space, &["--join", &file, "--name", "web1"]).await;
    let (cli, key) = hosts.cli();
    cli.run(&["join", &ours, "--name", "laptop"]).await.ok();
    is_used(&hosts, &there, &cli, &key).await;
    cli.run(&["leave"]).await.ok();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_our_coordinator_and_tailscaled() {
    if peer::all(["tailscaled", "tailscale"]).is_none() {
        return;
    }
    let Some(hosts) = Hosts::make() else { return };
    let (serving, url) = hosts.coordinator(true).await;
    let keys = [serving.join_key().await, serving.join_key().await];
    let [one, other] = keys.each_ref().map(|key| key.as_str());
    let stock = hosts.stock(hosts.folder.path(), &url, [one, other]).await;
    on_tailscaled(&hosts, &stock).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_real_headscale_and_tailscaled() {
    let (Some(_), Some(program)) = (peer::all(["tailscaled", "tailscale"]), Headscale::program()) else {
        return;
    };
    let Some(hosts) = Hosts::make() else { return };
    let headscale = Headscale::start(program, &hosts.lab);
    // Where the agent's user passes through to the socket.
    std::fs::copy(headscale.folder.path().join(PEM), hosts.folder.path().join(PEM)).unwrap();
    let stock = hosts.stock(hosts.folder.path(), &headscale.url, [&headscale.key, &headscale.key]).await;
    on_tailscaled(&hosts, &stock).await;
}

async fn on_tailscaled(hosts: &Hosts, [server, _person]: &[Stock; 2]) {
    let socket = server.socket().to_string_lossy().into_owned();
    let words = ["--mesh", "tailscaled", "--tailscaled-socket", &socket, "--name", "web1"];
    let there = World::up_within(&hosts.server.space, &words).await;
    assert_eq!(there.management.ip(), server.address().await);
    assert!(there.ready["coordinator"].is_null() && there.ready["pids"]["node"].is_null(), "{}", there.ready);
    let (cli, key) = hosts.cli();
    is_used(hosts, &there, &cli, &key).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_a_real_headscale_and_nodes_of_ours() {
    let Some(program) = Headscale::program() else { return };
    let Some(hosts) = Hosts::make() else { return };
    let headscale = Headscale::start(program, &hosts.lab);
    let authorities = headscale.folder.path().join(PEM).to_string_lossy().into_owned();
    let key_file = hosts.path("key");
    put(&key_file, &headscale.key);
    let joining =
        ["--headscale", &headscale.url, "--auth-key-file", &key_file, "--authorities", &authorities];
    let (cli, key) = hosts.cli();
    // Its certificate is no authority's that this system knows.
    let unknown = cli.run(&["join", "--headscale", &headscale.url, "--auth-key-file", &key_file]).await;
    assert_ne!(unknown.code, 0, "{unknown:?}");
    let by_http =
        cli.run(&["join", "--headscale", "http://10.77.0.1:8443", "--auth-key-file", &key_file]).await;
    assert!(by_http.code != 0 && by_http.stdout.contains("plain http"), "{by_http:?}");

    let there = World::up_within(&hosts.server.space, &[&joining[..], &["--name", "web1"]].concat()).await;
    cli.run(&[&["join"], &joining[..], &["--name", "laptop"]].concat()).await.ok();
    is_used(&hosts, &there, &cli, &key).await;
    cli.run(&["leave"]).await.ok();
}
