//! Coordinators that are measured, each a process of its own in a fresh folder: ours, served by this program started again, and a
//! Headscale.

use crate::{
    bench::{Bench, write},
    peer::Peer,
    process::{Running, command, free_port, output},
    stop,
};
use allod_coordinator::{Coordinator, state::JoinKeySpec};
use allod_daemon::{Clock, Shutdown};
use allod_testkit::{
    coordinator,
    headscale::{self, MAKE_KEY, Place},
};
use anyhow::{Context as _, Result, bail};
use serde_json::{Value, json};
use std::{
    io::Write as _,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::net::{TcpListener, UdpSocket};

/// How long one may take to be ready.
const PATIENCE: Duration = Duration::from_secs(60);

/// One that runs.
pub(crate) struct Served {
    pub(crate) process: Running,
    pub(crate) address: SocketAddr,
    /// Lets any number of nodes in.
    pub(crate) join_key: String,
}

/// Who can be started.
pub(crate) enum Kind {
    Ours,
    Headscale(Peer),
}

impl Kind {
    pub(crate) fn start(&self, folder: &Path) -> Result<Served> {
        match self {
            Self::Ours => start_ours(folder),
            Self::Headscale(peer) => start_headscale(peer, folder),
        }
    }
}

/// Serves a coordinator in this process until it is ended, and says on standard output where it is and what lets nodes in.
pub(crate) fn serve(folder: PathBuf) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async move {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let stun = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let port = listener.local_addr()?.port();
        let stun_port = stun.local_addr()?.port();
        let settings = coordinator::settings(folder, Ipv4Addr::LOCALHOST.into(), port, stun_port);
        let clock = Clock::start();
        let coordinator = Arc::new(Coordinator::open(settings, Arc::new(move || clock.now()))?);
        let (_, join_key) = coordinator.create_join_key(JoinKeySpec::default()).await?;
        let ready = json!({ "port": port, "join_key": join_key.as_str() });
        writeln!(std::io::stdout(), "{ready}")?;
        let shutdown = Shutdown::on_signals()?;
        coordinator.serve(listener, Some(stun), shutdown).await;
        Ok(())
    })
}

fn start_ours(folder: &Path) -> Result<Served> {
    let mut serving = command(std::env::current_exe()?);
    serving.arg("--serve-coordinator").arg(folder.join("coordinator"));
    let log = folder.join("log");
    let mut process = Running::start("the coordinator", serving, &log)?;
    let begun = Instant::now();
    let ready = loop {
        let said = std::fs::read_to_string(&log)?;
        let whole = said.lines().find(|line| line.ends_with('}'));
        if let Some(ready) = whole.and_then(|line| serde_json::from_str::<Value>(line).ok()) {
            break ready;
        }
        process.check()?;
        if begun.elapsed() > PATIENCE {
            bail!("the coordinator is not ready: {said}");
        }
        stop::pause(stop::TICK)?;
    };
    let port = ready.get("port").and_then(Value::as_u64).context("no port")?;
    let join_key = ready.get("join_key").and_then(Value::as_str).context("no key")?.to_owned();
    Ok(Served {
        process,
        address: SocketAddr::new(Ipv4Addr::LOCALHOST.into(), u16::try_from(port)?),
        join_key,
    })
}

fn start_headscale(peer: &Peer, folder: &Path) -> Result<Served> {
    let config = folder.join("headscale.yaml");
    let port = free_port()?;
    let listen = SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port);
    let place = Place {
        folder,
        listen,
        is_tls: false,
        stun: SocketAddr::new(listen.ip(), free_port()?),
        own_ports: [free_port()?, free_port()?],
        log: "warn",
    };
    write(&config, &place.settings())?;
    let ask = |words: &[&str]| {
        let mut asking = command(&peer.program);
        asking.env("HOME", folder).arg("-c").arg(&config).args(words);
        asking
    };
    let mut process = Running::start("headscale", ask(&["serve"]), &folder.join("log"))?;
    let begun = Instant::now();
    while let Err(error) = output("headscale users create", ask(&["users", "create", "bench"])) {
        process.check()?;
        if begun.elapsed() > PATIENCE {
            return Err(error);
        }
        stop::pause(Duration::from_millis(200))?;
    }
    let made = output("headscale preauthkeys create", ask(&MAKE_KEY))?;
    let join_key = headscale::key_in(&made).context("no key")?;
    Ok(Served { process, address: listen, join_key })
}

/// A Headscale, if there is one.
pub(crate) fn a_headscale(bench: &Bench, report: &mut crate::report::Report) -> Option<Kind> {
    bench.peer(report, "headscale", &["version"]).map(Kind::Headscale)
}
