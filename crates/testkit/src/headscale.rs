//! A real Headscale: its settings, and one on the hub of a lab, behind https, with its own relay.

use crate::{
    certificate::{Certificate, KEY, PEM},
    lab::{HUB, Host, Lab},
    peer::find,
};
use serde_json::Value;
use std::{
    fs::File,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// What makes a key that lets any number of machines in, for the first user.
pub const MAKE_KEY: [&str; 6] =
    ["preauthkeys", "create", "--user=1", "--reusable", "--expiration=24h", "-o=json"];
/// How long it may take to be there.
const PATIENCE: Duration = Duration::from_secs(120);
const BETWEEN: Duration = Duration::from_millis(200);

/// Where it is to listen.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// Its files.
    pub folder: &'a Path,
    /// For machines.
    pub listen: SocketAddr,
    /// Whether it is asked by https, by the certificate in the folder.
    pub is_tls: bool,
    /// STUN's.
    pub stun: SocketAddr,
    /// Ports of loopback that it wants besides, for metrics and its own program.
    pub own_ports: [u16; 2],
    /// How much it says.
    pub log: &'a str,
}

impl Place<'_> {
    /// What machines are told.
    #[must_use]
    pub fn url(&self) -> String {
        format!("{}://{}", if self.is_tls { "https" } else { "http" }, self.listen)
    }

    /// Its settings: everything as it comes, with its own relay as ours has one, and nothing that would be fetched from elsewhere.
    #[must_use]
    pub fn settings(&self) -> String {
        let (at, url, log) = (self.folder.display(), self.url(), self.log);
        let Self { listen, stun, own_ports: [metrics, own], .. } = self;
        let ip = listen.ip();
        let tls = if self.is_tls {
            format!("tls_cert_path: {at}/{PEM}\ntls_key_path: {at}/{KEY}\n")
        } else {
            String::new()
        };
        format!(
            r#"
server_url: {url}
listen_addr: {listen}
{tls}metrics_listen_addr: 127.0.0.1:{metrics}
grpc_listen_addr: 127.0.0.1:{own}
noise: {{ private_key_path: {at}/noise.key }}
prefixes: {{ v4: 100.64.0.0/10, v6: "fd7a:115c:a1e0::/48", allocation: sequential }}
derp:
  server:
    enabled: true
    region_id: 999
    region_code: lab
    region_name: lab
    verify_clients: true
    stun_listen_addr: "{stun}"
    private_key_path: {at}/derp.key
    automatically_add_embedded_derp_region: true
    ipv4: {ip}
  urls: []
  paths: []
  auto_update_enabled: false
disable_check_updates: true
database: {{ type: sqlite, sqlite: {{ path: {at}/headscale.sqlite, write_ahead_log: true }} }}
dns: {{ magic_dns: true, base_domain: lab.internal, override_local_dns: false, nameservers: {{ global: [] }} }}
unix_socket: {at}/headscale.sock
unix_socket_permission: "0770"
log: {{ level: {log} }}
policy: {{ mode: database }}
"#
        )
    }
}

/// The key in what [`MAKE_KEY`] says.
#[must_use]
pub fn key_in(said: &str) -> Option<String> {
    serde_json::from_str::<Value>(said).ok()?.get("key")?.as_str().map(str::to_owned)
}

/// One that runs on the hub of a lab; ended when dropped.
pub struct Headscale {
    program: PathBuf,
    /// Where its files are, and its certificate.
    pub folder: TempDir,
    /// What it is believed by.
    pub certificate: Certificate,
    daemon: Child,
    /// What machines are told.
    pub url: String,
    /// Lets any number of machines in.
    pub key: String,
}

impl Drop for Headscale {
    fn drop(&mut self) {
        drop(self.daemon.kill());
        drop(self.daemon.wait());
    }
}

impl Headscale {
    /// Where the program is; that it is absent is said.
    #[must_use]
    pub fn program() -> Option<PathBuf> {
        let found = find("headscale");
        if found.is_none() {
            eprintln!("peer absent: headscale (built from its public repository; ALLOD_PEERS=DIR)");
        }
        found
    }

    /// Starts one on the hub, and waits until it answers.
    #[must_use]
    pub fn start(program: PathBuf, lab: &Lab) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificate = Certificate::make(folder.path(), HUB);
        let place = Place {
            folder: folder.path(),
            listen: SocketAddr::new(HUB, 8443),
            is_tls: true,
            stun: SocketAddr::new(HUB, 3478),
            own_ports: [9090, 50443],
            log: "info",
        };
        let (url, config) = (place.url(), folder.path().join("headscale.yaml"));
        std::fs::write(&config, place.settings()).unwrap();
        let log = File::create(folder.path().join("headscale.log")).unwrap();
        let mut serve = lab.hub().program(&program);
        let serve = serve.args(["serve", "-c"]).arg(config).stdout(log.try_clone().unwrap()).stderr(log);
        let daemon = serve.spawn().unwrap();
        let mut this = Self { program, folder, certificate, daemon, url, key: String::new() };
        let begun = Instant::now();
        while this.ask(lab.hub(), &["users", "create", "ops"]).is_none() {
            assert!(begun.elapsed() < PATIENCE, "no Headscale: {}", this.log());
            std::thread::sleep(BETWEEN);
        }
        let made = this.ask(lab.hub(), &MAKE_KEY);
        this.key = made.as_deref().and_then(key_in).unwrap_or_else(|| panic!("no key: {}", this.log()));
        this
    }

    /// What it has said.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("headscale.log")).unwrap_or_default()
    }

    /// Has its own program do something.
    #[must_use]
    pub fn ask(&self, hub: &Host, words: &[&str]) -> Option<String> {
        let mut ask: Command = hub.program(&self.program);
        let done = ask.arg("-c").arg(self.folder.path().join("headscale.yaml")).args(words);
        let done = done.stdin(Stdio::null()).output().unwrap();
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
    }
}
