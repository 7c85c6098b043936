//! A stock client of the mesh: `tailscaled`, told what to do by `tailscale`, on a host of a lab.

use crate::{
    certificate::PEM,
    lab::Host,
    peer::{find, program},
};
use rustix::process::{Pid, Signal};
use serde_json::Value;
use std::{
    fs::File,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    process::{Child, Output, Stdio},
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    process::Command,
    time::{sleep, timeout},
};

/// For a loaded machine; nothing here is measured by it.
const PATIENCE: Duration = Duration::from_secs(120);
/// The port of the mesh that is asked.
pub const PORT: u16 = 9844;
/// The name of the interface of a client that has one.
pub const INTERFACE: &str = "ts0";

/// Whether a client has an interface on its host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tun {
    /// None: it carries TCP itself. With a port of loopback where it takes connections by SOCKS5, if there is one.
    Userspace(Option<u16>),
    /// One, called [`INTERFACE`].
    Interface,
}

/// A stock client, ended with the test.
pub struct Stock {
    /// What it calls itself.
    pub name: String,
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
    pub async fn start(name: &str, host: &Host, folder: &Path) -> Self {
        Self::start_with(name, host, folder, Tun::Userspace(None)).await
    }

    /// The same, with an interface or without.
    pub async fn start_with(name: &str, host: &Host, folder: &Path, tun: Tun) -> Self {
        let this = Self::spawn(name, host, folder, tun);
        let waiting = async {
            while !this.socket.exists() {
                sleep(Duration::from_millis(50)).await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("no socket: {}", this.log()));
        this
    }

    /// The same, without waiting for anything.
    #[must_use]
    pub fn spawn(name: &str, host: &Host, folder: &Path, tun: Tun) -> Self {
        let (socket, log) = (folder.join(format!("{name}.sock")), folder.join(format!("{name}.log")));
        drop(std::fs::remove_file(&socket));
        let mut daemon = host.program(&find("tailscaled").unwrap());
        match tun {
            Tun::Userspace(socks) => {
                daemon.arg("--tun=userspace-networking");
                daemon.args(socks.map(|port| format!("--socks5-server=127.0.0.1:{port}")));
            }
            Tun::Interface => drop(daemon.arg(format!("--tun={INTERFACE}"))),
        }
        let daemon = daemon
            .args(["--no-logs-no-support", "--port=0", "--verbose=1"])
            .arg(format!("--socket={}", socket.display()))
            .arg(format!("--statedir={}", folder.join(name).display()))
            .env("SSL_CERT_FILE", folder.join(PEM))
            .stdout(Stdio::null())
            .stderr(File::options().append(true).create(true).open(&log).unwrap())
            .spawn()
            .unwrap();
        Self { name: name.to_owned(), daemon, socket, log }
    }

    /// One that joins.
    pub async fn join(name: &str, host: &Host, folder: &Path, (url, key): (&str, &str)) -> Self {
        let this = Self::start(name, host, folder).await;
        this.up((url, key), &[]).await;
        on_this_host(host).await;
        this
    }

    /// Joins, or joins again.
    pub async fn up(&self, (url, key): (&str, &str), how: &[&str]) {
        let (login, key) = (format!("--login-server={url}"), format!("--auth-key={key}"));
        let name = format!("--hostname={}", self.name);
        let words = [&["up", &login, &key, "--accept-dns=false", &name, "--timeout=60s"], how].concat();
        let joined = self.run(&words).await;
        assert!(joined.status.success(), "{}\n{}", String::from_utf8_lossy(&joined.stderr), self.log());
    }

    /// Its address on the mesh.
    pub async fn address(&self) -> IpAddr {
        let told = self.run(&["ip", "-4"]).await;
        String::from_utf8_lossy(&told.stdout).trim().parse().unwrap()
    }

    /// Its LocalAPI.
    #[must_use]
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.daemon.id()
    }

    /// Stops it, or lets it go on.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(self.daemon.id().try_into().unwrap()).unwrap();
        rustix::process::kill_process(pid, signal).unwrap();
    }

    /// What it has said.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = program(find("tailscale").unwrap());
        command.arg(format!("--socket={}", self.socket.display())).args(words);
        let mut command = Command::from(command);
        command.kill_on_drop(true);
        command
    }

    /// Runs `tailscale` to its end.
    pub async fn run(&self, words: &[&str]) -> Output {
        let running = self.command(words).stdin(Stdio::null()).output();
        timeout(PATIENCE, running)
            .await
            .unwrap_or_else(|_| panic!("{words:?} never ends: {}", self.log()))
            .unwrap()
    }

    /// A stream to a port of the mesh.
    #[must_use]
    pub fn dial(&self, to: IpAddr) -> tokio::process::Child {
        let mut command = self.command(&["nc", &to.to_string(), &PORT.to_string()]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Waits until somebody is heard: the first map may come a moment later.
    pub async fn hears(&self, to: IpAddr) {
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

    /// The address that it sends to this peer's directly, if it does.
    pub async fn direct(&self, peer: IpAddr) -> Option<String> {
        let status = self.run(&["status", "--json"]).await;
        let status: Value = serde_json::from_slice(&status.stdout).unwrap();
        let is_it = |told: &&Value| {
            told["TailscaleIPs"].as_array().is_some_and(|all| all.contains(&Value::from(peer.to_string())))
        };
        let at = status["Peer"].as_object()?.values().find(is_it)?["CurAddr"].as_str()?.to_owned();
        Some(at).filter(|at| !at.is_empty())
    }

    /// Waits until it sends to this peer directly.
    pub async fn directly(&self, peer: IpAddr) {
        let waiting = async {
            while self.direct(peer).await.is_none() {
                sleep(Duration::from_millis(100)).await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("never directly: {}", self.log()));
    }
}

/// What a stock client without an interface is asked on the mesh, it asks of its host's loopback.
pub async fn on_this_host(host: &Host) {
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
