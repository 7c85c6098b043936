//! Programs that the bench starts: each in a group of its own so that Ctrl-C reaches the bench alone, and each ended by
//! its id when it is let go, with all that descended from it.

use crate::{cpu, stop};
use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs::File,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// How long a program may take to end by itself.
const GRACE: Duration = Duration::from_secs(10);

/// A command line for a program, with a bare environment and nothing on its standard input.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    #[expect(clippy::disallowed_methods, reason = "the one place where the bench starts what it measures")]
    let mut command = Command::new(program);
    command.env_clear().env("PATH", crate::peer::path()).env("LC_ALL", "C");
    command.stdin(Stdio::null()).process_group(0);
    command
}

/// The same, held to one processor. `taskset` becomes the program, so the process keeps its id.
pub(crate) fn pinned(program: impl AsRef<OsStr>, processor: usize) -> Command {
    let mut command = command("taskset");
    command.args(["--cpu-list", &processor.to_string()]).arg(program);
    command
}

/// A program that runs until it is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    name: String,
    child: Child,
    log: Option<PathBuf>,
}

impl Running {
    /// Starts it; what it says goes to a file.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("{} can't be made", log.display()))?;
        command.stderr(file.try_clone()?).stdout(file);
        let mut running = Self::start_as_is(name, command)?;
        running.log = Some(log.to_owned());
        Ok(running)
    }

    /// Starts it with the outputs that the command names.
    pub(crate) fn start_as_is(name: &str, mut command: Command) -> Result<Self> {
        let child = command.spawn().with_context(|| format!("{name} can't be started"))?;
        Ok(Self { name: name.to_owned(), child, log: None })
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// It and everything below it.
    pub(crate) fn tree(&self) -> BTreeSet<u32> {
        cpu::tree(self.pid())
    }

    /// Fails when it has ended.
    pub(crate) fn check(&mut self) -> Result<()> {
        match self.child.try_wait()? {
            Some(status) => bail!("{} has ended: {status}: {}", self.name, self.said().trim()),
            None => Ok(()),
        }
    }

    fn said(&self) -> String {
        self.log.as_ref().and_then(|log| std::fs::read_to_string(log).ok()).unwrap_or_default()
    }

    /// Waits until it listens.
    pub(crate) fn listens(&mut self, port: u16) -> Result<()> {
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            self.check()?;
            if begun.elapsed() > GRACE {
                bail!("{} does not listen on port {port}", self.name);
            }
            stop::pause(stop::TICK)?;
        }
        Ok(())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let below = self.tree();
        if matches!(self.child.try_wait(), Ok(None)) {
            signal(self.pid(), Signal::TERM);
            let begun = Instant::now();
            while matches!(self.child.try_wait(), Ok(None)) && begun.elapsed() < GRACE {
                std::thread::sleep(stop::TICK);
            }
        }
        if matches!(self.child.try_wait(), Ok(None)) {
            // What is not waited for keeps its id, so these are the same processes as above.
            below.iter().for_each(|pid| signal(*pid, Signal::KILL));
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// Runs a program to its end and gives what it wrote; a failure has its words.
pub(crate) fn output(name: &str, mut command: Command) -> Result<String> {
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut running = Running::start_as_is(name, command)?;
    let readers = [
        running.child.stdout.take().map(|mut pipe| std::thread::spawn(move || read(&mut pipe))),
        running.child.stderr.take().map(|mut pipe| std::thread::spawn(move || read(&mut pipe))),
    ];
    let status = loop {
        if let Some(status) = running.child.try_wait()? {
            break status;
        }
        stop::pause(stop::TICK)?;
    };
    let [out, err] = readers.map(|reader| reader.and_then(|reader| reader.join().ok()).unwrap_or_default());
    if !status.success() {
        bail!("{name}: {status}: {} {}", out.trim(), err.trim());
    }
    Ok(out)
}

fn read(pipe: &mut impl std::io::Read) -> String {
    let mut bytes = Vec::new();
    let _ = pipe.read_to_end(&mut bytes);
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Runs a program to its end as fast as it ends, without looking whether a stop was asked for meanwhile.
pub(crate) fn run_short(name: &str, mut command: Command) -> Result<Duration> {
    command.stdout(Stdio::null()).stderr(Stdio::null());
    let begun = Instant::now();
    let status = command.status().with_context(|| format!("{name} can't be started"))?;
    let took = begun.elapsed();
    if !status.success() {
        bail!("{name}: {status}");
    }
    Ok(took)
}

/// The same, and the most memory that it had, in bytes. What fails says so on standard error.
pub(crate) fn run_watched(name: &str, mut command: Command) -> Result<(Duration, u64)> {
    command.stdout(Stdio::null());
    let begun = Instant::now();
    let mut running = Running::start_as_is(name, command)?;
    let mut most = 0;
    loop {
        most = cpu::most_memory(running.pid()).max(most);
        if let Some(status) = running.child.try_wait()? {
            let took = begun.elapsed();
            return if status.success() { Ok((took, most)) } else { bail!("{name}: {status}") };
        }
        stop::pause(Duration::from_millis(1))?;
    }
}

/// A port on loopback that nobody has at this moment.
pub(crate) fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
