//! Machines of one lab on one mesh, two with nodes of ours and two with stock ones, and what goes through the tunnel of such a pair:
//! from a program on one of them, by its node, to a program on the other one's loopback.

mod daemon;
mod traffic;

pub(crate) use daemon::Kind;

use crate::{bench::Bench, stop};
use allod_daemon::Clock;
use allod_testkit::{
    certificate::{Certificate, PEM},
    coordinator::{self, Serving},
    lab::{HUB, Host, Lab, Router},
};
use anyhow::{Context as _, Result, bail};
use daemon::Daemon;
use std::{
    net::IpAddr,
    path::PathBuf,
    sync::{Arc, atomic::AtomicU64},
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpListener, UdpSocket},
    runtime::Runtime,
};

/// How long anything may take to come about.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(1);

/// The lab, its coordinator, and what drives both.
pub(crate) struct Network {
    lab: Lab,
    folder: PathBuf,
    serving: Serving,
    url: String,
    runtime: Runtime,
}

/// Two machines with nodes of one kind.
pub(crate) struct Tunnel {
    near: Machine,
    far: Machine,
    to: IpAddr,
    /// Bytes of uploads that came to the far one's program.
    received: Arc<AtomicU64>,
}

struct Machine {
    host: Host,
    daemon: Daemon,
}

impl Network {
    /// Makes it; the coordinator is ours, behind https, with its own relay.
    pub(crate) fn start(bench: &Bench) -> Result<Self> {
        let folder = bench.folder("f11")?;
        let lab = Lab::new().context("a lab of namespaces takes root and the programs ip and nft")?;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let certificate = Certificate::make(&folder, HUB);
        let (state, clock) = (folder.join("coordinator"), Clock::start());
        let starting = lab.hub().run(async move {
            let listener = TcpListener::bind((HUB, 0)).await?;
            let port = listener.local_addr()?.port();
            let stun = UdpSocket::bind((HUB, port)).await?;
            let settings = allod_coordinator::Settings {
                url: format!("https://{HUB}:{port}"),
                tls: Some(certificate.server),
                ..coordinator::settings(state, HUB, port, port)
            };
            let url = settings.url.clone();
            anyhow::Ok((Serving::start(settings, Arc::new(move || clock.now()), listener, stun), url))
        });
        let (serving, url) = runtime.block_on(starting)?;
        Ok(Self { lab, folder, serving, url, runtime })
    }

    /// Two more machines, on these sites.
    pub(crate) fn tunnel(&mut self, bench: &Bench, kind: Kind, sites: [u8; 2]) -> Result<Tunnel> {
        let [near, far] = sites.map(|site| self.machine(bench, kind, site));
        let (near, far) = (near?, far?);
        let to = far.address(kind)?;
        let received = Arc::<AtomicU64>::default();
        let counting = Arc::clone(&received);
        self.runtime.block_on(far.host.run(traffic::serve(counting)))?;
        Ok(Tunnel { near, far, to, received })
    }

    fn machine(&mut self, bench: &Bench, kind: Kind, site: u8) -> Result<Machine> {
        let host = self.lab.host(site, Router::None);
        let name = format!("{kind}-{site}");
        let folder = self.folder.join(&name);
        std::fs::create_dir_all(&folder)?;
        let (program, authorities) = (bench.allod.program.clone(), self.folder.join(PEM));
        let mut daemon = Daemon { kind, name, folder, program, authorities, running: None };
        let serving = &self.serving;
        match kind {
            Kind::Ours => {
                let token = self.runtime.block_on(serving.token(self.url.clone()));
                daemon.start(&host, Some(&token))?;
            }
            Kind::Stock => {
                let key = self.runtime.block_on(serving.join_key());
                daemon.start(&host, None)?;
                self.runtime.block_on(daemon.log_in((self.url.as_str(), key.as_str())))?;
            }
        }
        Ok(Machine { host, daemon })
    }

    /// From now on no datagram passes: the relay is all there is.
    pub(crate) fn cut(&self, tunnel: &Tunnel) -> Result<()> {
        self.lab.cut("meta l4proto udp");
        tunnel.becomes(false)
    }

    /// From now on so many of a thousand datagrams are lost.
    pub(crate) fn lose(&self, per_mille: u16, tunnel: &Tunnel) {
        self.lab.lose(per_mille, &[&tunnel.near.host, &tunnel.far.host]);
    }

    /// Everything passes again.
    pub(crate) fn mend(&self) {
        self.lab.mend();
    }

    /// Waits until the tunnel goes directly, something being said meanwhile.
    pub(crate) fn directly(&self, tunnel: &Tunnel) -> Result<()> {
        self.round_trips(tunnel, 1)?;
        tunnel.becomes(true)
    }

    /// How long so many small questions took, each with its answer.
    pub(crate) fn round_trips(&self, tunnel: &Tunnel, count: usize) -> Result<Vec<f64>> {
        let dial = tunnel.near.daemon.dial(tunnel.to);
        let asking = traffic::round_trips(dial, count);
        self.runtime.block_on(tunnel.near.host.run(asking))
    }

    /// Bytes a second that come to the far program while the near one writes for this long.
    pub(crate) fn upload(&self, tunnel: &Tunnel, lasts: Duration) -> Result<f64> {
        let (dial, received) = (tunnel.near.daemon.dial(tunnel.to), Arc::clone(&tunnel.received));
        let writing = traffic::upload(dial, received, lasts);
        self.runtime.block_on(tunnel.near.host.run(writing))
    }

    /// Kills the near node and starts it again: how long until it has its address, and until something came from the far program.
    pub(crate) fn restart(&self, tunnel: &mut Tunnel) -> Result<(Duration, Duration)> {
        tunnel.near.daemon.kill();
        let begun = Instant::now();
        tunnel.near.daemon.start(&tunnel.near.host, None)?;
        until("an address", || tunnel.near.daemon.address().is_some())?;
        let address = begun.elapsed();
        while begun.elapsed() < PATIENCE {
            stop::check()?;
            let dial = tunnel.near.daemon.dial(tunnel.to);
            if self.runtime.block_on(tunnel.near.host.run(traffic::first_byte(dial))).is_ok() {
                return Ok((address, begun.elapsed()));
            }
            std::thread::sleep(LOOK);
        }
        bail!("nothing came within {} s of a start", PATIENCE.as_secs())
    }
}

impl Machine {
    fn address(&self, kind: Kind) -> Result<IpAddr> {
        until("an address", || self.daemon.address().is_some())?;
        self.daemon.address().with_context(|| format!("{kind}: no address"))
    }
}

impl Tunnel {
    /// The processes of both nodes.
    pub(crate) fn processes(&self) -> [std::collections::BTreeSet<u32>; 2] {
        [&self.near, &self.far].map(|machine| machine.daemon.pid().into_iter().collect())
    }

    fn becomes(&self, direct: bool) -> Result<()> {
        until(if direct { "a direct path" } else { "a relayed path" }, || {
            self.near.daemon.is_direct(self.to) == direct
        })
    }
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) -> Result<()> {
    let begun = Instant::now();
    while !is_so() {
        stop::check()?;
        if begun.elapsed() > PATIENCE {
            bail!("{what}: not within {} s", PATIENCE.as_secs());
        }
        std::thread::sleep(LOOK);
    }
    Ok(())
}
