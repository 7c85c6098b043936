//! A tailnet on hosts of the test's own: a real Headscale and stock clients.

use crate::spaces::{self, Lab, wait_until};
use allod_testkit::{
    headscale::{MAKE_KEY, Place, key_in},
    peer,
};
use std::path::{Path, PathBuf};

/// A Headscale on the first host, and clients that have joined.
pub(crate) struct Tailnet {
    pub(crate) lab: Lab,
    tailscaled: PathBuf,
    tailscale: PathBuf,
    headscale: PathBuf,
}

impl Tailnet {
    /// With a client for each of these hosts; `None`, and a line that says why, where that can't be had.
    pub(crate) fn with(hosts: &[&str]) -> Option<Self> {
        let [tailscaled, tailscale, headscale] = peer::all(["tailscaled", "tailscale", "headscale"])?;
        if !spaces::possible() {
            return None;
        }
        let mut this = Self { lab: Lab::new(), tailscaled, tailscale, headscale };
        let key = this.start_headscale();
        for (host, n) in hosts.iter().zip(10..) {
            this.lab.host(host, &format!("10.77.0.{n}"));
            this.start_daemon(host);
            assert!(this.joins(host, &key), "{host} did not join");
        }
        Some(this)
    }

    /// Whether a host gets in with this key.
    pub(crate) fn joins(&self, host: &str, key: &str) -> bool {
        let socket = format!("--socket={}", self.socket(host).display());
        let up =
            ["up", "--login-server=http://10.77.0.1:8080", "--accept-dns=false", "--timeout=60s", "--reset"];
        let words = [&[socket.as_str()], &up[..], &["--hostname", host, "--auth-key", key]].concat();
        self.lab.run(host, &self.tailscale, &words).status.success()
    }

    fn start_headscale(&mut self) -> String {
        let (folder, headscale) = (self.lab.folder.path().to_owned(), self.headscale.clone());
        std::fs::write(self.config(), place(&folder).settings()).unwrap();
        let config = self.config().display().to_string();
        self.lab.start("hub", &headscale, &["serve", "-c", &config]);
        wait_until("Headscale answers", || self.try_headscale(&["users", "list"]).is_some());
        self.headscale(&["users", "create", "ops"]);
        key_in(&self.headscale(&MAKE_KEY)).unwrap()
    }

    fn config(&self) -> PathBuf {
        self.lab.folder.path().join("headscale.yaml")
    }

    fn try_headscale(&self, words: &[&str]) -> Option<String> {
        let config = self.config().display().to_string();
        let done = self.lab.run("hub", &self.headscale, &[&["-c", &config], words].concat());
        done.status.success().then(|| String::from_utf8_lossy(&done.stdout).into_owned())
    }

    /// Has the coordinator's own program do something.
    pub(crate) fn headscale(&self, words: &[&str]) -> String {
        self.try_headscale(words).unwrap_or_else(|| panic!("{words:?}: {}", self.lab.log("hub-headscale")))
    }

    /// Starts, or starts again, a host's daemon.
    pub(crate) fn start_daemon(&mut self, host: &str) {
        let socket = self.socket(host);
        let _ = std::fs::remove_file(&socket);
        let state = self.lab.folder.path().join(host);
        let words = [
            "--no-logs-no-support".to_owned(),
            "--tun=ts0".to_owned(),
            "--port=41641".to_owned(),
            format!("--socket={}", socket.display()),
            format!("--statedir={}", state.display()),
        ];
        let tailscaled = self.tailscaled.clone();
        self.lab.start(host, &tailscaled, &words.each_ref().map(String::as_str));
        wait_until("a socket", || socket.exists());
    }

    /// A host's LocalAPI.
    pub(crate) fn socket(&self, host: &str) -> PathBuf {
        self.lab.folder.path().join(format!("{host}.sock"))
    }

    /// Tells a host's daemon something.
    pub(crate) fn tailscale(&self, host: &str, words: &[&str]) {
        let socket = format!("--socket={}", self.socket(host).display());
        let done = self.lab.run(host, &self.tailscale, &[&[socket.as_str()], words].concat());
        let why = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "tailscale {}: {why}", words.first().unwrap_or(&""));
    }
}

/// Asked by plain http, as the driver may ask one of a private network.
fn place(folder: &Path) -> Place<'_> {
    Place {
        folder,
        listen: "10.77.0.1:8080".parse().unwrap(),
        is_tls: false,
        stun: "10.77.0.1:3478".parse().unwrap(),
        own_ports: [9090, 50443],
        log: "info",
    }
}
