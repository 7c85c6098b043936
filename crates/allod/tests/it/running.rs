//! A real executor of its own, without an agent: tests are the agent, honest or not. Dropping it ends it and its apps.

use crate::{
    cli::BINARY,
    processes::{PATIENCE, descendants, eventually, kill_left, signal},
    world::fresh_folder,
};
use allod_proto::{
    Fingerprint,
    executor::{Action, Answer, Ask, Attached, Done},
};
use allod_signing::{KeySigner, PublicKey};
use rustix::process::Signal;
use std::{
    path::PathBuf,
    process::{Child, Command, Stdio},
};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, Lines},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

pub(crate) struct Running {
    child: Child,
    pub(crate) folder: tempfile::TempDir,
    /// Its first owner.
    pub(crate) owner: KeySigner,
}

impl Drop for Running {
    fn drop(&mut self) {
        let all = descendants(self.child.id());
        signal(self.child.id(), Signal::TERM);
        let begin = std::time::Instant::now();
        while begin.elapsed() < PATIENCE && matches!(self.child.try_wait(), Ok(None)) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        signal(self.child.id(), Signal::KILL);
        let _ = self.child.wait();
        kill_left(&all);
        if std::thread::panicking() {
            eprintln!("{}", self.log());
        }
    }
}

impl Running {
    /// One that listens on a socket, and the first connection to it.
    pub(crate) async fn listening() -> (Self, Agent) {
        Self::listening_with(&[]).await
    }

    /// The same with more flags.
    pub(crate) async fn listening_with(flags: &[&str]) -> (Self, Agent) {
        let folder = fresh_folder();
        let socket = folder.path().join("x.sock");
        let flags = [&["--listen", socket.to_str().unwrap()], flags].concat();
        let mut running = Self::start(folder, &flags, Stdio::null());
        let stream = eventually("the executor listens", async || {
            running.must_live();
            UnixStream::connect(&socket).await.ok()
        })
        .await;
        (running, Agent::new(stream))
    }

    /// One that takes its connections from this socket.
    pub(crate) fn handed(control: Stdio) -> Self {
        Self::start(fresh_folder(), &["--control-stdin"], control)
    }

    fn start(folder: tempfile::TempDir, flags: &[&str], stdin: Stdio) -> Self {
        let state = folder.path().join("s");
        let owner = KeySigner::generate([1; 32], "ana");
        let line = folder.path().join("first");
        std::fs::write(&line, format!("role=owner {}\n", owner.public_openssh())).unwrap();
        // It makes its own folders, but the agent's is the agent's.
        std::fs::create_dir_all(state.join("agent")).unwrap();
        std::fs::create_dir_all(folder.path().join("r")).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(BINARY);
        command.args(["executor", "--stop-apps-at-exit", "--state"]).arg(&state);
        command.arg("--run").arg(folder.path().join("r")).arg("--first-owner").arg(line).args(flags);
        command.env_clear().env("PATH", "/usr/bin:/bin").stdin(stdin);
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        Self { child, folder, owner }
    }

    pub(crate) fn must_live(&mut self) {
        assert!(matches!(self.child.try_wait(), Ok(None)), "{}", self.log());
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("x.sock")
    }

    pub(crate) fn state(&self, name: &str) -> PathBuf {
        self.folder.path().join("s").join(name)
    }

    pub(crate) fn identity(&self) -> Fingerprint {
        let public = std::fs::read_to_string(self.state("executor/identity.pub")).unwrap();
        PublicKey::from_openssh(public.trim()).unwrap().fingerprint().clone()
    }

    /// The agent's next life, which has attached and is answered.
    pub(crate) async fn agent(&mut self) -> Agent {
        self.must_live();
        let socket = self.socket();
        let mut agent = eventually("the executor lets the agent in", async || {
            let mut agent = Agent::new(UnixStream::connect(&socket).await.ok()?);
            // Among a thousand strangers its connection may be one of those that go.
            matches!(
                agent.try_ask(Action::Attach { version: "1".to_owned() }).await?.outcome,
                Ok(Done::Attached(_))
            )
            .then_some(agent)
        })
        .await;
        agent.is_served().await;
        agent
    }

    /// Bytes of memory it holds, in KiB.
    pub(crate) fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse().unwrap()
    }

    /// How many descriptors it has open; only root may look, the program being closed to inspection.
    pub(crate) fn descriptors(&self) -> Option<usize> {
        let count = std::fs::read_dir(format!("/proc/{}/fd", self.pid())).ok().map(Iterator::count);
        if count.is_none() {
            eprintln!("NOT TESTED: descriptors of the executor can't be counted without root");
        }
        count
    }
}

/// A connection to an executor's socket.
pub(crate) struct Agent {
    pub(crate) lines: Lines<BufReader<OwnedReadHalf>>,
    pub(crate) write: OwnedWriteHalf,
    asks: u64,
}

impl Agent {
    pub(crate) fn new(stream: UnixStream) -> Self {
        let (read, write) = stream.into_split();
        Self { lines: BufReader::new(read).lines(), write, asks: 0 }
    }

    /// Sends bytes and a newline, and reads one line; `None` when the connection has ended.
    pub(crate) async fn raw(&mut self, line: &[u8]) -> Option<Answer> {
        // Who was refused in the middle of it still gets the answer.
        let _ = self.write.write_all(&[line, b"\n"].concat()).await;
        self.answer().await
    }

    /// The next line.
    pub(crate) async fn answer(&mut self) -> Option<Answer> {
        let line =
            tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("no answer").ok()??;
        Some(serde_json::from_str(&line).unwrap())
    }

    pub(crate) async fn try_ask(&mut self, action: Action) -> Option<Answer> {
        self.asks += 1;
        let answer = self.raw(&serde_json::to_vec(&Ask { id: self.asks, action }).unwrap()).await?;
        assert_eq!(answer.id, self.asks);
        Some(answer)
    }

    pub(crate) async fn ask(&mut self, action: Action) -> Answer {
        self.try_ask(action).await.expect("the connection has ended")
    }

    pub(crate) async fn attach(&mut self) -> Attached {
        match self.ask(Action::Attach { version: "1".to_owned() }).await.outcome {
            Ok(Done::Attached(attached)) => *attached,
            other => panic!("{other:?}"),
        }
    }

    /// An honest ask is answered.
    pub(crate) async fn is_served(&mut self) {
        let outcome = self.ask(Action::Look {}).await.outcome;
        assert!(matches!(outcome, Ok(Done::Looked(_))), "{outcome:?}");
    }
}
