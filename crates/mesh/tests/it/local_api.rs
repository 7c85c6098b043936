//! A stand-in for tailscaled: its Unix socket, its three routes, and whatever a test wants it to answer.

use serde_json::{Value, json};
use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    os::unix::net::UnixListener as StdListener,
    path::PathBuf,
    sync::{Arc, Mutex},
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{UnixListener, UnixStream},
    sync::watch,
    task::JoinHandle,
};

/// What is answered to one route.
#[derive(Debug, Clone)]
pub(crate) enum Reply {
    /// This document.
    Json(Value),
    /// These bytes instead of HTTP.
    Raw(Vec<u8>),
    /// Status and text.
    Refusal(u16, &'static str),
    /// Nothing, with the connection kept.
    Silence,
    /// A body without end.
    Endless,
}

/// What the stand-in says, and what it was asked.
#[derive(Debug)]
pub(crate) struct Script {
    pub(crate) status: Reply,
    /// Whom it knows; everybody else is not found.
    pub(crate) known: HashMap<IpAddr, Value>,
    /// What is answered about everybody instead.
    pub(crate) whois: Option<Reply>,
    /// Heads of requests, as they came.
    pub(crate) heads: Vec<String>,
}

/// A running stand-in; its socket goes with it.
#[derive(Debug)]
pub(crate) struct Daemon {
    folder: TempDir,
    pub(crate) script: Arc<Mutex<Script>>,
    bell: watch::Sender<u64>,
    serving: Option<JoinHandle<()>>,
}

/// A document as `status` gives it.
pub(crate) fn status(state: &str, addresses: &[&str]) -> Value {
    json!({
        "Version": "1.98.0", "TUN": true, "BackendState": state, "TailscaleIPs": addresses,
        "Self": {"DNSName": "web1.lab.internal.", "HostName": "web1", "Online": true},
        "Health": null, "Peer": null,
    })
}

impl Daemon {
    /// Begins with a daemon that runs with these addresses and knows those peers.
    pub(crate) fn start(addresses: &[&str], peers: &[&str]) -> Self {
        let known = peers.iter().map(|peer| {
            let ip: IpAddr = peer.parse().unwrap();
            let width = if ip.is_ipv4() { 32 } else { 128 };
            let node = json!({"ID": 7, "Name": "ann.lab.internal.", "Addresses": [format!("{ip}/{width}")]});
            (ip, json!({"Node": node, "UserProfile": {"ID": 1, "LoginName": "ann"}, "CapMap": null}))
        });
        let script = Script {
            status: Reply::Json(status("Running", addresses)),
            known: known.collect(),
            whois: None,
            heads: Vec::new(),
        };
        let mut this = Self {
            folder: tempfile::tempdir().unwrap(),
            script: Arc::new(Mutex::new(script)),
            bell: watch::Sender::new(0),
            serving: None,
        };
        this.begin();
        this
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("tailscaled.sock")
    }

    /// Answers differently from now on, and rings the bell.
    pub(crate) fn says(&self, reply: Reply) {
        self.script.lock().unwrap().status = reply;
        self.bell.send_modify(|rung| *rung += 1);
    }

    /// Ends, connections and all, leaving the socket's file behind as a killed daemon does.
    pub(crate) fn kill(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.abort();
        }
        self.bell = watch::Sender::new(0);
    }

    /// Serves its socket.
    pub(crate) fn begin(&mut self) {
        let _ = std::fs::remove_file(self.socket());
        let listener = StdListener::bind(self.socket()).unwrap();
        listener.set_nonblocking(true).unwrap();
        let listener = UnixListener::from_std(listener).unwrap();
        let (script, bell) = (Arc::clone(&self.script), self.bell.subscribe());
        self.serving = Some(tokio::spawn(async move {
            let mut serving = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (script, bell) = (Arc::clone(&script), bell.clone());
                serving.spawn(async move {
                    let _ = answer(stream, &script, bell).await;
                });
            }
        }));
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn answer(
    mut stream: UnixStream,
    script: &Mutex<Script>,
    mut bell: watch::Receiver<u64>,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap();
    let target = head.split(' ').nth(1).unwrap_or_default().to_owned();
    script.lock().unwrap().heads.push(head);
    if target.starts_with("/localapi/v0/watch-ipn-bus?") {
        stream.write_all(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await?;
        loop {
            stream.write_all(b"d\r\n{\"State\":6 }\n\r\n").await?;
            if bell.changed().await.is_err() {
                return Ok(());
            }
        }
    }
    let reply = if target == "/localapi/v0/status?peers=false" {
        script.lock().unwrap().status.clone()
    } else {
        about(&target, &script.lock().unwrap())
    };
    write(&mut stream, reply).await
}

fn about(target: &str, script: &Script) -> Reply {
    if let Some(reply) = &script.whois {
        return reply.clone();
    }
    let asked =
        target.strip_prefix("/localapi/v0/whois?addr=").map(|it| it.replace("%5B", "[").replace("%5D", "]"));
    let Some(asked) = asked.and_then(|it| it.parse::<SocketAddr>().ok()) else {
        return Reply::Refusal(400, "invalid 'addr' parameter\n");
    };
    match script.known.get(&asked.ip()) {
        Some(known) => Reply::Json(known.clone()),
        None => Reply::Refusal(404, "no match for IP:port\n"),
    }
}

async fn write(stream: &mut UnixStream, reply: Reply) -> std::io::Result<()> {
    let (code, body) = match reply {
        Reply::Json(document) => (200, document.to_string()),
        Reply::Refusal(code, text) => (code, text.to_owned()),
        Reply::Raw(bytes) => return stream.write_all(&bytes).await,
        Reply::Silence => return std::future::pending().await,
        Reply::Endless => {
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n{\"Health\":[\"").await?;
            loop {
                stream.write_all(&[b'x'; 65536]).await?;
            }
        }
    };
    let head = format!("HTTP/1.1 {code} X\r\ncontent-length: {}\r\n\r\n", body.len());
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body.as_bytes()).await
}
