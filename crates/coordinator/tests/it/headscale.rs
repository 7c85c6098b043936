//! Nodes of ours and stock clients on a real Headscale, where there is one: on the path, or in the folder `ALLOD_PEERS`.

use crate::{
    lab::{HUB, Host, Lab, Router, random},
    nodes::{Certificate, on_the_mesh},
    pairs::{Node, all_are, all_go_on, end, talks},
    stock::{certificate, lab},
    talk::PATIENCE,
};
use allod_meshnode::{
    Interfaces, Member, MemberSettings,
    control::{ControlSettings, Trust},
};
use allod_proto::Timestamp;
use serde_json::Value;
use std::{
    fs::File,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::Arc,
    time::{Duration, SystemTime},
};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};

const URL: &str = "https://10.77.0.1:8443";

/// A Headscale on the hub, with its own relay, and a key that lets machines in.
struct Headscale {
    program: PathBuf,
    folder: TempDir,
    certificate: Certificate,
    daemon: Child,
    key: String,
}

impl Drop for Headscale {
    fn drop(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

fn find() -> Option<PathBuf> {
    let own = std::env::var_os("ALLOD_PEERS").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = own.into_iter().chain(std::env::split_paths(&path)).map(|folder| folder.join("headscale"));
    let found = found.into_iter().find(|path| path.is_file());
    if found.is_none() {
        eprintln!("peer absent: headscale (built from its public repository; ALLOD_PEERS=DIR)");
    }
    found
}

impl Headscale {
    async fn start(program: PathBuf, lab: &Lab) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificate = certificate(folder.path());
        std::fs::write(folder.path().join("headscale.yaml"), settings(folder.path())).unwrap();
        let log = File::create(folder.path().join("headscale.log")).unwrap();
        let config = folder.path().join("headscale.yaml");
        let mut serve = lab.hub().program(&program);
        let serve = serve.args(["serve", "-c"]).arg(config).stdout(log.try_clone().unwrap()).stderr(log);
        let daemon = serve.spawn().unwrap();
        let mut this = Self { program, folder, certificate, daemon, key: String::new() };
        let waiting = async {
            while this.ask(lab.hub(), &["users", "create", "ops"]).is_none() {
                sleep(Duration::from_millis(200)).await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("no Headscale: {}", this.log()));
        let words = ["preauthkeys", "create", "--user=1", "--reusable", "--expiration=1h", "-o=json"];
        let made = this.ask(lab.hub(), &words).unwrap_or_else(|| panic!("no key: {}", this.log()));
        let made: Value = serde_json::from_str(&made).unwrap();
        this.key = made["key"].as_str().unwrap().to_owned();
        this
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("headscale.log")).unwrap_or_default()
    }

    fn ask(&self, hub: &Host, words: &[&str]) -> Option<String> {
        let mut ask = hub.program(&self.program);
        let done = ask.arg("-c").arg(self.folder.path().join("headscale.yaml")).args(words);
        let done = done.stdin(Stdio::null()).output().unwrap();
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
    }

    async fn join(&self, name: &str, host: &Host) -> Member {
        let control = ControlSettings {
            urls: vec![URL.to_owned()],
            trust: Trust::FirstUse,
            tls: Some(Arc::clone(&self.certificate.client)),
            hostname: name.to_owned(),
            join_key: Some(self.key.clone().into()),
            ephemeral: false,
        };
        let settings = MemberSettings {
            folder: self.folder.path().join(name),
            control,
            interfaces: Interfaces::System,
            random: random(),
            clock: Arc::new(now),
        };
        let member = host.run(async move { Member::open(settings).unwrap() }).await;
        on_the_mesh(&member).await;
        member
    }
}

#[expect(clippy::disallowed_methods, reason = "beside a real Headscale the time is the real one")]
fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp(u64::try_from(since.as_millis()).unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_real_headscale_every_pair_of_ours_and_stock_talks_directly_relayed_and_directly_again() {
    let (Some(program), Some(mut lab)) = (find(), lab()) else { return };
    let hosts = [81, 82, 83, 84].map(|site| lab.host(site, Router::Mild));
    let headscale = Headscale::start(program, &lab).await;
    let [a, b, c, d] = &hosts;
    let joining = (URL, headscale.key.as_str());
    let nodes = [
        Node::member("ours-a", headscale.join("ours-a", a).await),
        Node::member("ours-b", headscale.join("ours-b", b).await),
        Node::client("stock-c", c, &headscale.folder, joining).await,
        Node::client("stock-d", d, &headscale.folder, joining).await,
    ];
    let talks = talks(&nodes).await;
    all_are(&nodes, true, "on Headscale").await;
    lab.cut("meta l4proto udp");
    all_go_on(&talks, "UDP cut").await;
    all_are(&nodes, false, "UDP cut").await;
    lab.mend();
    all_are(&nodes, true, "UDP back").await;
    end(talks).await;
}

fn settings(folder: &Path) -> String {
    let at = folder.display();
    format!(
        r#"
server_url: {URL}
listen_addr: {HUB}:8443
tls_cert_path: {at}/here.pem
tls_key_path: {at}/here.key
metrics_listen_addr: 127.0.0.1:9090
grpc_listen_addr: 127.0.0.1:50443
noise: {{ private_key_path: {at}/noise.key }}
prefixes: {{ v4: 100.64.0.0/10, v6: "fd7a:115c:a1e0::/48", allocation: sequential }}
derp:
  server:
    enabled: true
    region_id: 999
    region_code: lab
    region_name: lab
    verify_clients: true
    stun_listen_addr: "{HUB}:3478"
    private_key_path: {at}/derp.key
    automatically_add_embedded_derp_region: true
    ipv4: {HUB}
  urls: []
  paths: []
  auto_update_enabled: false
disable_check_updates: true
database: {{ type: sqlite, sqlite: {{ path: {at}/headscale.sqlite, write_ahead_log: true }} }}
dns: {{ magic_dns: true, base_domain: lab.internal, override_local_dns: false, nameservers: {{ global: [] }} }}
unix_socket: {at}/headscale.sock
unix_socket_permission: "0770"
log: {{ level: info }}
policy: {{ mode: database }}
"#
    )
}
