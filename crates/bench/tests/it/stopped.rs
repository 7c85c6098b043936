//! Ctrl-C ends a bench wherever it is, and what it started.

use rustix::process::{Pid, Signal, kill_process};
use std::{
    ffi::OsStr,
    fs::File,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// For a loaded machine, and far less than the bench would wait for its nodes.
const PATIENCE: Duration = Duration::from_secs(120);

/// Ended with the test, whatever becomes of it.
struct Bench(Child);

impl Drop for Bench {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}");
        sleep(Duration::from_millis(10));
    }
}

fn signal(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), signal).unwrap();
}

fn words(pid: &str) -> Vec<Vec<u8>> {
    let line = std::fs::read(Path::new("/proc").join(pid).join("cmdline")).unwrap_or_default();
    line.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect()
}

/// Whether somebody of this machine is connected to a port of its loopback.
fn is_asked(port: u64) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap_or_default();
    let port = format!(":{port:04X}");
    // The third column is the other end; 01: established.
    let is_it = |line: &str| {
        let mut columns = line.split_ascii_whitespace().skip(2);
        columns.next().is_some_and(|end| end.ends_with(&port)) && columns.next() == Some("01")
    };
    table.lines().any(is_it)
}

/// The coordinator that serves in a folder below this one, and its port, once it has said that it is ready.
fn coordinator(below: &Path) -> Option<(u32, u64)> {
    for entry in std::fs::read_dir("/proc").ok()?.flatten() {
        let name = entry.file_name();
        let words = words(name.to_str()?);
        let Some(at) = words.iter().position(|word| word == b"--serve-coordinator") else { continue };
        let folder = Path::new(OsStr::new(std::str::from_utf8(words.get(at + 1)?).ok()?));
        if folder.starts_with(below) {
            let said = std::fs::read_to_string(folder.with_file_name("log")).ok()?;
            let ready = said.lines().find_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())?;
            return Some((name.to_str()?.parse().ok()?, ready.get("port")?.as_u64()?));
        }
    }
    None
}

#[test]
fn while_nodes_join_a_coordinator_that_says_nothing_more_it_ends_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let below = folder.path().canonicalize().unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test of a program must start it")]
    let started = Command::new(env!("CARGO_BIN_EXE_allod-bench"))
        .args(["f10", "--quick", "--allod", "/bin/true", "--out"])
        .arg(below.join("results"))
        // More than can have joined by the time that the coordinator is halted.
        .env("ALLOD_BENCH_NODES", "3000")
        .env("TMPDIR", &below)
        .env_remove("ALLOD_PEERS")
        .stdout(Stdio::null())
        .stderr(File::create(below.join("said")).unwrap())
        .spawn();
    let mut bench = Bench(started.unwrap());
    let said = || std::fs::read_to_string(below.join("said")).unwrap_or_default();
    let (serving, port) = eventually("no coordinator serves", || coordinator(&below));
    signal(serving, Signal::STOP);
    eventually("nobody joins", || is_asked(port).then_some(()));
    signal(bench.0.id(), Signal::INT);
    let ended: ExitStatus =
        eventually("it waits for nodes that will never be let in", || bench.0.try_wait().unwrap());
    assert_eq!(ended.code(), Some(130), "{}", said());
    assert!(said().contains("everything that was started has ended"), "{}", said());
    assert!(
        words(&serving.to_string()).iter().all(|word| word != b"--serve-coordinator"),
        "{serving} is left"
    );
}
