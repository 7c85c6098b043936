//! Crowds at the signed door: connections from many loopback addresses, each told what to do, while an honest caller and
//! the agent's memory are watched.

use crate::{
    processes::{PATIENCE, within},
    world::World,
};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{
    net::{TcpSocket, TcpStream},
    task::JoinSet,
};

/// Whether there is time for the long form: `ALLOD_LONG=1`.
pub(crate) fn is_long() -> bool {
    std::env::var_os("ALLOD_LONG").is_some_and(|value| value == "1")
}

/// The short or the long form of a figure.
pub(crate) fn short_or_long<T>(short: T, long: T) -> T {
    if is_long() { long } else { short }
}

/// Raises this process's own limit of descriptors as far as it goes, and says how far that is.
pub(crate) fn raise_own_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let now = getrlimit(Resource::Nofile).current.unwrap_or(1 << 20);
    usize::try_from(now).unwrap()
}

/// Connects from one of the machine's own addresses: 127.0.0.2 and on.
pub(crate) async fn connect_from(source: u8, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = TcpSocket::new_v4()?;
    socket.bind((Ipv4Addr::new(127, 0, 0, source), 0).into())?;
    let connecting = socket.connect(to);
    tokio::time::timeout(Duration::from_secs(20), connecting).await.map_err(std::io::Error::from)?
}

/// Many who each do the same again and again until the crowd is dropped.
pub(crate) struct Crowd {
    tasks: JoinSet<()>,
    stop: Arc<AtomicBool>,
    connected: Arc<AtomicUsize>,
}

impl Crowd {
    /// `count` of them, spread over so many source addresses. Each connects, does this, and begins again.
    pub(crate) fn gather<F: Future<Output = ()> + Send + 'static>(
        to: SocketAddr,
        count: usize,
        sources: usize,
        act: impl Fn(TcpStream, usize) -> F + Clone + Send + 'static,
    ) -> Self {
        let (stop, connected) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let mut tasks = JoinSet::new();
        // About a thousand new connections a second, of all together: the machine is shared with the agent.
        let pause = Duration::from_millis(u64::try_from(count).unwrap().max(300));
        for number in 0..count {
            let (act, stop, connected) = (act.clone(), Arc::clone(&stop), Arc::clone(&connected));
            let source = u8::try_from(2 + number % sources).unwrap();
            tasks.spawn(async move {
                while !stop.load(Ordering::Relaxed) {
                    if let Ok(stream) = connect_from(source, to).await {
                        connected.fetch_add(1, Ordering::Relaxed);
                        act(stream, number).await;
                    }
                    tokio::time::sleep(pause).await;
                }
            });
        }
        Self { tasks, stop, connected }
    }

    /// How often one of them was connected.
    pub(crate) fn connected(&self) -> usize {
        self.connected.load(Ordering::Relaxed)
    }

    /// Waits until so many have been.
    pub(crate) async fn has_come(&self, count: usize) {
        within(PATIENCE * 3, "the crowd has come", async || (self.connected() >= count).then_some(())).await;
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        self.tasks.abort_all();
    }
}

/// The agent, as the kernel sees it.
pub(crate) struct Watch {
    pid: u32,
    before: u64,
}

impl Watch {
    /// From now on.
    pub(crate) fn begin(world: &World) -> Self {
        let pid = world.pid("agent");
        // The peak counts from here.
        let _ = std::fs::write(format!("/proc/{pid}/clear_refs"), "5");
        Self { pid, before: status(pid, "VmRSS") }
    }

    /// How much more memory than before it held at its worst, in MiB.
    pub(crate) fn peak_mib(&self) -> u64 {
        status(self.pid, "VmHWM").saturating_sub(self.before) / 1024
    }

    /// How many descriptors it has open.
    pub(crate) fn descriptors(&self) -> usize {
        std::fs::read_dir(format!("/proc/{}/fd", self.pid)).map_or(0, Iterator::count)
    }

    /// Says what was measured, and fails where that is too much.
    pub(crate) fn stayed_below(&self, what: &str, mib: u64) {
        let peak = self.peak_mib();
        eprintln!("{what}: the agent held {} MiB, and at its worst {peak} MiB more", self.before / 1024);
        assert!(peak < mib, "{what}: {peak} MiB more than before");
    }
}

/// A number that the kernel tells of a process; sizes are in KiB.
fn status(pid: u32, field: &str) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(field)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Sets how many descriptors a running process may have, and may set for itself. Its own user may do that to it.
pub(crate) fn limit_descriptors(pid: u32, soft: u64, hard: u64) {
    use std::os::unix::process::CommandExt as _;
    let mut command = std::process::Command::new("prlimit");
    command.args(["--pid", &pid.to_string(), &format!("--nofile={soft}:{hard}")]);
    if rustix::process::geteuid().is_root() {
        let uid = u32::try_from(status(pid, "Uid:")).unwrap();
        command.uid(uid).gid(uid);
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// An honest caller is answered, several times, each within what its program waits for an answer. On a machine that does
/// much else besides, a person may have to ask again; three times in vain is shut out.
pub(crate) async fn an_honest_caller_is_answered(world: &World, times: u32) {
    for time in 0..times {
        let begin = Instant::now();
        let mut tries = 1;
        let mut output = world.allod(&["keys", "list"]).await;
        while output.code == 7 && tries < 3 {
            tries += 1;
            output = world.allod(&["keys", "list"]).await;
        }
        output.ok();
        eprintln!("honest call {time} took {:?}, asked {tries} times", begin.elapsed());
    }
}
