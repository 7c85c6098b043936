//! A node of the mesh as a process on a machine of the lab: `allod node`, or a `tailscaled` without an interface.

use super::traffic::Dial;
use crate::process::{Running, command};
use allod_proto::node::{NodeAnswer, NodeAsk, NodePath, SOCKET};
use allod_testkit::{
    lab::Host,
    stock::{PORT, Stock, Tun},
};
use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::{
    fmt,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::IpAddr,
    os::unix::net::UnixStream,
    path::PathBuf,
    time::Duration,
};

/// Where a stock node takes connections of its machine.
const SOCKS: u16 = 1055;
const ANSWER: Duration = Duration::from_secs(5);

/// Whose nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Ours,
    Stock,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ours => "ours",
            Self::Stock => "stock",
        })
    }
}

/// One node, running or not.
pub(super) struct Daemon {
    pub(super) kind: Kind,
    pub(super) name: String,
    pub(super) folder: PathBuf,
    pub(super) program: PathBuf,
    pub(super) authorities: PathBuf,
    pub(super) running: Option<Process>,
}

pub(super) enum Process {
    Ours(Running),
    Stock(Stock),
}

impl Daemon {
    /// Starts it from its folder, or with a token.
    pub(super) fn start(&mut self, host: &Host, token: Option<&str>) -> Result<()> {
        self.running = Some(match self.kind {
            Kind::Ours => Process::Ours(self.start_ours(host, token)?),
            Kind::Stock => {
                let folder = self.authorities.parent().context("no folder")?;
                Process::Stock(Stock::spawn(&self.name, host, folder, Tun::Userspace(Some(SOCKS))))
            }
        });
        Ok(())
    }

    fn start_ours(&self, host: &Host, token: Option<&str>) -> Result<Running> {
        let mut node = command("ip");
        node.args(["netns", "exec", &host.space]).arg(&self.program);
        node.args(["node", "--log=warn", "--hostname", &self.name, "--state"]).arg(&self.folder);
        node.arg("--run").arg(self.folder.join("run")).arg("--authorities").arg(&self.authorities);
        node.arg("--forward").arg(format!("{PORT}=127.0.0.1:{PORT}"));
        if let Some(token) = token {
            let file = self.folder.join("token");
            std::fs::write(&file, token)?;
            node.arg("--join").arg(file);
        }
        Running::start("allod node", node, &self.folder.join("log"))
    }

    /// Brings a stock one onto the mesh.
    pub(super) async fn log_in(&self, joining: (&str, &str)) -> Result<()> {
        let Some(Process::Stock(stock)) = &self.running else { bail!("{} is no stock node", self.name) };
        while !stock.socket().exists() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        stock.up(joining, &[]).await;
        Ok(())
    }

    /// Ends it at once.
    pub(super) fn kill(&mut self) {
        self.running = None;
    }

    pub(super) fn pid(&self) -> Option<u32> {
        self.running.as_ref().map(|running| match running {
            Process::Ours(running) => running.pid(),
            Process::Stock(stock) => stock.pid(),
        })
    }

    /// Its address on the mesh, if it says that it has one.
    pub(super) fn address(&self) -> Option<IpAddr> {
        match self.running.as_ref()? {
            Process::Ours(_) => match self.ask(&NodeAsk::Status {}).ok()? {
                NodeAnswer::Status(state) => state.addresses.first().copied(),
                _ => None,
            },
            Process::Stock(stock) => {
                let status = local_api(stock).ok()?;
                let is_up = status.get("BackendState").is_some_and(|state| state == "Running");
                status.get("TailscaleIPs").filter(|_| is_up)?.get(0)?.as_str()?.parse().ok()
            }
        }
    }

    /// Whether it sends to this peer directly.
    pub(super) fn is_direct(&self, peer: IpAddr) -> bool {
        let found = match &self.running {
            Some(Process::Ours(_)) => self
                .ask(&NodeAsk::Peers {})
                .ok()
                .and_then(|answer| match answer {
                    NodeAnswer::Peers { peers } => peers.into_iter().find(|it| it.addresses.contains(&peer)),
                    _ => None,
                })
                .map(|it| matches!(it.path, NodePath::Direct { .. })),
            Some(Process::Stock(stock)) => local_api(stock).ok().and_then(|status| {
                let peer = Value::from(peer.to_string());
                let is_it = |it: &&Value| {
                    it.get("TailscaleIPs").and_then(Value::as_array).is_some_and(|all| all.contains(&peer))
                };
                let at = status.get("Peer")?.as_object()?.values().find(is_it)?.get("CurAddr")?.as_str()?;
                Some(!at.is_empty())
            }),
            None => None,
        };
        found.unwrap_or(false)
    }

    /// How a program of its machine gets to a peer.
    pub(super) fn dial(&self, to: IpAddr) -> Dial {
        match self.kind {
            Kind::Ours => Dial::Node { socket: self.socket(), to: (to, PORT).into() },
            Kind::Stock => Dial::Socks { port: SOCKS, to: (to, PORT).into() },
        }
    }

    fn socket(&self) -> PathBuf {
        self.folder.join("run").join(SOCKET)
    }

    fn ask(&self, ask: &NodeAsk) -> Result<NodeAnswer> {
        let mut stream = UnixStream::connect(self.socket())?;
        stream.set_read_timeout(Some(ANSWER))?;
        stream.write_all(format!("{}\n", serde_json::to_string(ask)?).as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    }
}

/// What tailscaled says of itself and its peers.
fn local_api(stock: &Stock) -> Result<Value> {
    let mut stream = UnixStream::connect(stock.socket())?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.write_all(b"GET /localapi/v0/status HTTP/1.0\r\nhost: local-tailscaled.sock\r\n\r\n")?;
    let mut said = String::new();
    stream.read_to_string(&mut said)?;
    let (_, body) = said.split_once("\r\n\r\n").context("no answer")?;
    Ok(serde_json::from_str(body)?)
}
