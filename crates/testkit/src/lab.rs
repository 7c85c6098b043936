//! Networks that a test makes for itself: a hub that stands for the internet, and hosts that reach it over a link of their own,
//! with or without a router that translates addresses. No namespace has a default route; all are gone with the test.

use crate::peer::program;
use ring::rand::SystemRandom;
use std::{
    fs::File,
    io::Write as _,
    net::{IpAddr, Ipv4Addr},
    path::Path,
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread::JoinHandle,
};
use tokio::{runtime::Handle, sync::oneshot};

/// Where coordinator, relay and STUN are.
pub const HUB: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 77, 0, 1));

/// What stands between a host and the hub.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Router {
    /// Nothing.
    None,
    /// Translates addresses, an own port to the same one for every destination: what two of can get through to each other.
    Mild,
    /// Translates addresses, an own port to another one for each destination.
    Hard,
}

/// The networks of one test.
pub struct Lab {
    id: String,
    hub: Host,
    spaces: Vec<String>,
}

/// A machine in the lab: what runs on its runtime has its sockets there.
pub struct Host {
    /// The name of its namespace.
    pub space: String,
    handle: Handle,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Lab {
    /// Makes the hub, or says why that can't be done here. In CI it must be possible.
    pub fn new() -> Option<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let id = format!("ac{}x{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let space = format!("{id}-hub");
        let works =
            |words: &[&str]| program("ip").args(words).output().is_ok_and(|done| done.status.success());
        let makes = works(&["netns", "add", &space]);
        if !makes || !works(&["netns", "exec", &space, "nft", "list", "ruleset"]) {
            let _ = makes && works(&["netns", "del", &space]);
            let must = std::env::var_os("CI").is_some_and(|value| value == "true");
            assert!(
                !must || !rustix::process::geteuid().is_root(),
                "no networks can be made: scripts/setup-peers"
            );
            eprintln!("NOT TESTED: networks of namespaces take root and the programs ip and nft");
            return None;
        }
        ip(&["-n", &space, "link", "set", "lo", "up"]);
        ip(&["-n", &space, "addr", "add", &format!("{HUB}/32"), "dev", "lo"]);
        ip(&["-n", &space, "-6", "addr", "add", "fd77::1/128", "dev", "lo", "nodad"]);
        forward(&space);
        Some(Self { id, hub: Host::start(space.clone()), spaces: vec![space] })
    }

    /// The host that stands for the internet.
    #[must_use]
    pub const fn hub(&self) -> &Host {
        &self.hub
    }

    /// A host of its own network, 10.77.`site`.0/24 or behind a router that has it.
    pub fn host(&mut self, site: u8, router: Router) -> Host {
        let space = format!("{}-{site}", self.id);
        make(&space);
        self.spaces.push(space.clone());
        self.plug(&space, site, router);
        Host::start(space)
    }

    /// Moves a host into the network of another site: its link and its address are others from now on.
    pub fn roam(&mut self, host: &Host, site: u8, router: Router) {
        ip(&["-n", &host.space, "link", "del", "eth0"]);
        self.plug(&host.space, site, router);
    }

    fn plug(&mut self, space: &str, site: u8, router: Router) {
        if router == Router::None {
            self.link(space, "eth0", site);
            return;
        }
        let between = format!("{}-{site}r", self.id);
        make(&between);
        self.spaces.push(between.clone());
        forward(&between);
        self.link(&between, "wan", site);
        ip(&["-n", &between, "link", "add", "lan", "type", "veth", "peer", "name", "eth0", "netns", space]);
        ip(&["-n", &between, "addr", "add", &format!("192.168.{site}.1/24"), "dev", "lan"]);
        ip(&["-n", &between, "link", "set", "lan", "up"]);
        ip(&["-n", space, "addr", "add", &format!("192.168.{site}.2/24"), "dev", "eth0"]);
        ip(&["-n", space, "link", "set", "eth0", "up"]);
        ip(&["-n", space, "route", "add", "10.77.0.0/16", "via", &format!("192.168.{site}.1")]);
        self.translate(site, router);
    }

    /// Sets how a site's router translates. It forgets what it translated so far, as one that is switched off and on does.
    pub fn translate(&self, site: u8, router: Router) {
        let between = format!("{}-{site}r", self.id);
        let how = if router == Router::Hard { "fully-random" } else { "persistent" };
        // What comes from outside unasked is dropped before it makes a flow of its own, as routers do.
        let rules = format!(
            "table ip nat {{}}\ndelete table ip nat\ntable ip nat {{\nchain after {{\ntype nat hook postrouting priority srcnat;\n\
             oifname \"wan\" masquerade {how};\n}}\n}}\ntable inet wall {{}}\ndelete table inet wall\ntable inet wall {{\n\
             chain in {{\ntype filter hook input priority 0;\niifname \"wan\" ct state new drop;\n}}\n}}\n"
        );
        nft(&between, &rules);
        ip(&["-n", &between, "link", "set", "wan", "down"]);
        ip(&["-n", &between, "link", "set", "wan", "up"]);
        self.route(&between, site);
    }

    fn link(&self, space: &str, name: &str, site: u8) {
        let (hub, there) = (&self.hub.space, format!("s{site}"));
        ip(&["-n", hub, "link", "add", &there, "type", "veth", "peer", "name", name, "netns", space]);
        ip(&["-n", hub, "addr", "add", &format!("10.77.{site}.1/24"), "dev", &there]);
        ip(&["-n", hub, "-6", "addr", "add", &format!("fd77:{site}::1/64"), "dev", &there, "nodad"]);
        ip(&["-n", hub, "link", "set", &there, "up"]);
        ip(&["-n", space, "addr", "add", &format!("10.77.{site}.2/24"), "dev", name]);
        ip(&["-n", space, "link", "set", name, "up"]);
        self.route(space, site);
    }

    fn route(&self, space: &str, site: u8) {
        ip(&["-n", space, "route", "replace", "10.77.0.0/16", "via", &format!("10.77.{site}.1")]);
    }

    /// Has the hub pass what is for these addresses on to a host without a router, and `from` send it there: as who is on the wire
    /// could do it.
    pub fn lead(&self, addresses: &str, (host_site, from, from_site): (u8, &Host, u8)) {
        let (hub, via) = (&self.hub.space, format!("10.77.{host_site}.2"));
        ip(&["-n", hub, "route", "replace", addresses, "via", &via]);
        let via = format!("10.77.{from_site}.1");
        ip(&["-n", &from.space, "route", "replace", addresses, "via", &via]);
    }

    /// Gives a host without a router an IPv6 address and the way to the others'.
    pub fn give_ipv6(&self, host: &Host, site: u8) {
        let space = &host.space;
        ip(&["-n", space, "-6", "addr", "add", &format!("fd77:{site}::2/64"), "dev", "eth0", "nodad"]);
        ip(&["-n", space, "-6", "route", "add", "fd77::/16", "via", &format!("fd77:{site}::1")]);
    }

    /// From now on the hub passes none of these on, and takes none: `meta l4proto udp` is all of UDP.
    pub fn cut(&self, which: &str) {
        nft(
            &self.hub.space,
            &format!("table inet cut {{\n{}{}}}\n", drops("forward", which), drops("input", which)),
        );
    }

    /// From now on the hub passes none of these on.
    pub fn cut_between(&self, which: &str) {
        nft(&self.hub.space, &format!("table inet cut {{\n{}}}\n", drops("forward", which)));
    }

    /// From now on the hub takes nothing, and passes on what it did.
    pub fn cut_hub(&self) {
        nft(&self.hub.space, &format!("table inet cut {{\n{}}}\n", drops("input", "")));
    }

    /// From now on the hub loses so many of a thousand datagrams that it passes on, each by itself: what a host sends in one piece is cut
    /// before it leaves.
    pub fn lose(&self, per_mille: u16, hosts: &[&Host]) {
        for host in hosts {
            ip(&["-n", &host.space, "link", "set", "eth0", "gso_max_segs", "1"]);
        }
        self.cut_between(&format!("meta l4proto udp numgen random mod 1000 < {per_mille}"));
    }

    /// It passes everything on again.
    pub fn mend(&self) {
        nft(&self.hub.space, "delete table inet cut\n");
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for space in self.spaces.iter().rev() {
            let _ = program("ip").args(["netns", "del", space]).status();
        }
    }
}

impl Host {
    fn start(space: String) -> Self {
        let file = File::open(Path::new("/run/netns").join(&space)).unwrap();
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = oneshot::channel::<()>();
        let thread = std::thread::spawn(move || {
            nix::sched::setns(file, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            tell.send(runtime.handle().clone()).unwrap();
            drop(runtime.block_on(ended));
            runtime.shutdown_background();
        });
        Self { space, handle: told.recv().unwrap(), end: Some(end), thread: Some(thread) }
    }

    /// Does something on this host.
    pub async fn run<T: Send + 'static>(&self, does: impl Future<Output = T> + Send + 'static) -> T {
        self.handle.spawn(does).await.unwrap()
    }

    /// Its addresses, as its own kernel knows them.
    #[must_use]
    pub fn addresses(&self) -> Vec<IpAddr> {
        let told = program("ip").args(["-n", &self.space, "-j", "addr"]).output().unwrap();
        let told: serde_json::Value = serde_json::from_slice(&told.stdout).unwrap();
        let all = told.as_array().unwrap().iter().filter_map(|link| link["addr_info"].as_array()).flatten();
        all.filter_map(|address| address["local"].as_str()?.parse().ok()).collect()
    }

    /// A program, to be run on this host.
    pub fn program(&self, path: &Path) -> Command {
        let mut command = program("ip");
        command.args(["netns", "exec", &self.space]).arg(path);
        command
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        drop(self.end.take());
        drop(self.thread.take().map(JoinHandle::join));
    }
}

/// Where random numbers come from.
#[must_use]
pub fn random() -> Arc<SystemRandom> {
    Arc::new(SystemRandom::new())
}

fn drops(hook: &str, which: &str) -> String {
    format!("chain {hook} {{\ntype filter hook {hook} priority 0;\niifname != \"lo\" {which} drop;\n}}\n")
}

fn make(space: &str) {
    ip(&["netns", "add", space]);
    ip(&["-n", space, "link", "set", "lo", "up"]);
}

fn forward(space: &str) {
    let on = "echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding";
    ip(&["netns", "exec", space, "sh", "-c", on]);
}

fn ip(words: &[&str]) {
    let done = program("ip").args(words).output().unwrap();
    assert!(done.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

fn nft(space: &str, rules: &str) {
    let mut run = program("ip");
    let mut run = run
        .args(["netns", "exec", space, "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    run.stdin.take().unwrap().write_all(rules.as_bytes()).unwrap();
    let done = run.wait_with_output().unwrap();
    assert!(done.status.success(), "{rules}\n{}", String::from_utf8_lossy(&done.stderr));
}
