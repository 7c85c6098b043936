//! Hosts that a test makes for itself: network namespaces on one wire, none with a way out. Gone with what runs in them.

use allod_testkit::peer;
use std::{
    fs::File,
    path::Path,
    process::{Child, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Longer than any machine is busy.
pub(crate) const EVER: Duration = Duration::from_secs(120);

/// Whether hosts can be made here; says why not.
pub(crate) fn possible() -> bool {
    let possible = rustix::process::geteuid().is_root()
        && Path::new("/dev/net/tun").exists()
        && peer::find("ip").is_some();
    if !possible {
        eprintln!("skipped: making hosts takes root, /dev/net/tun and the program ip");
    }
    possible
}

/// Some hosts on one wire. The first has the bridge, and 10.77.0.1.
pub(crate) struct Lab {
    id: String,
    hosts: Vec<String>,
    running: Vec<(String, Child)>,
    pub(crate) folder: TempDir,
}

impl Lab {
    /// Makes the first host.
    pub(crate) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let id = format!("am{}x{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let folder = tempfile::tempdir().unwrap();
        let mut this = Self { id, hosts: Vec::new(), running: Vec::new(), folder };
        let hub = this.space("hub");
        ip(&["-n", &hub, "link", "add", "br0", "type", "bridge"]);
        ip(&["-n", &hub, "addr", "add", "10.77.0.1/24", "dev", "br0"]);
        ip(&["-n", &hub, "link", "set", "br0", "up"]);
        this
    }

    fn space(&mut self, host: &str) -> String {
        let name = format!("{}-{host}", self.id);
        ip(&["netns", "add", &name]);
        self.hosts.push(name.clone());
        ip(&["-n", &name, "link", "set", "lo", "up"]);
        name
    }

    /// Adds a host with an address on the wire.
    pub(crate) fn host(&mut self, host: &str, address: &str) {
        let (hub, name) = (self.name("hub"), self.space(host));
        ip(&["-n", &hub, "link", "add", host, "type", "veth", "peer", "name", "eth0", "netns", &name]);
        ip(&["-n", &hub, "link", "set", host, "master", "br0", "up"]);
        ip(&["-n", &name, "addr", "add", &format!("{address}/24"), "dev", "eth0"]);
        ip(&["-n", &name, "link", "set", "eth0", "up"]);
    }

    fn name(&self, host: &str) -> String {
        format!("{}-{host}", self.id)
    }

    /// Runs `ip` on a host.
    pub(crate) fn ip(&self, host: &str, words: &[&str]) {
        let name = self.name(host);
        ip(&[&["-n", name.as_str()], words].concat());
    }

    /// Runs a program on a host to its end.
    pub(crate) fn run(&self, host: &str, program: &Path, words: &[&str]) -> Output {
        let mut run = peer::program("ip");
        run.args(["netns", "exec", &self.name(host)]).arg(program).args(words);
        run.stdin(Stdio::null()).output().unwrap()
    }

    /// Starts a program on a host; its words go to `host-program.log`.
    pub(crate) fn start(&mut self, host: &str, program: &Path, words: &[&str]) {
        let what = format!("{host}-{}", program.file_name().unwrap().to_string_lossy());
        let log =
            File::options().append(true).create(true).open(self.folder.path().join(format!("{what}.log")));
        let log = log.unwrap();
        let mut run = peer::program("ip");
        run.args(["netns", "exec", &self.name(host)]).arg(program).args(words);
        let run = run.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        self.running.push((what, run.spawn().unwrap()));
    }

    /// Kills what was started under this name, at once.
    pub(crate) fn kill(&mut self, what: &str) {
        for (_, child) in self.running.iter_mut().filter(|(name, _)| name == what) {
            child.kill().unwrap();
            child.wait().unwrap();
        }
        self.running.retain(|(name, _)| name != what);
    }

    /// What a program has written.
    pub(crate) fn log(&self, what: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(format!("{what}.log"))).unwrap_or_default()
    }

    /// Does something on a host: in a thread that is there, with a runtime of its own.
    pub(crate) fn on<T: Send + 'static, F: Future<Output = T>>(
        &self,
        host: &str,
        does: impl FnOnce() -> F + Send + 'static,
    ) -> std::thread::JoinHandle<T> {
        let space = File::open(Path::new("/run/netns").join(self.name(host))).unwrap();
        std::thread::spawn(move || {
            nix::sched::setns(space, nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async { tokio::time::timeout(EVER, does()).await.unwrap() })
        })
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for (_, child) in &mut self.running {
            let _ = child.kill();
            let _ = child.wait();
        }
        for host in self.hosts.iter().rev() {
            let _ = peer::program("ip").args(["netns", "del", host]).status();
        }
    }
}

fn ip(words: &[&str]) {
    let done = peer::program("ip").args(words).output().unwrap();
    assert!(done.status.success(), "ip {words:?}: {}", String::from_utf8_lossy(&done.stderr));
}

/// Waits until something is so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < EVER, "{what}: not within {} s", EVER.as_secs());
        std::thread::sleep(Duration::from_millis(50));
    }
}
