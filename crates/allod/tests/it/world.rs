//! One server with a hub of its own: `allod up` in a fresh folder, and the people who know it. Dropping it ends every
//! process that it began.

use crate::{
    app::App,
    cli::{BINARY, Cli, Output, program},
    processes::{PATIENCE, descendants, eventually, kill_left, running, signal},
};
use allod_proto::Fingerprint;
use allod_rpc::client::Peer;
use allod_signing::KeySigner;
use rustix::process::Signal;
use serde_json::Value;
use std::{
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// What `allod up` has said so far.
type Events = Arc<Mutex<Vec<Value>>>;

/// Each server has user ids of its own, as each machine has.
static WORLDS: AtomicU32 = AtomicU32::new(0);

pub(crate) struct World {
    up: Child,
    uid: u32,
    filter: &'static str,
    network: Vec<String>,
    /// The network namespace that it is in, where it is not that of the test.
    space: Option<String>,
    events: Events,
    pub(crate) ready: Value,
    pub(crate) state: PathBuf,
    pub(crate) management: SocketAddr,
    pub(crate) http: SocketAddr,
    pub(crate) identity: Fingerprint,
    /// The owner.
    pub(crate) cli: Cli,
    folder: tempfile::TempDir,
}

/// A fresh folder that programs with users of their own can pass through.
pub(crate) fn fresh_folder() -> tempfile::TempDir {
    let folder = tempfile::Builder::new().prefix("allod-it-").tempdir().unwrap();
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    folder
}

/// User ids that no other server has: other runs of these tests, and an `up` of a person, may be at work on this machine.
pub(crate) fn fresh_uid() -> u32 {
    let number = WORLDS.fetch_add(1, Ordering::Relaxed);
    1_000_000 + (std::process::id() % 100_000) * 20_000 + (number % 100) * 200
}

impl World {
    /// A server that is ready.
    pub(crate) async fn up() -> Self {
        Self::up_logging("info").await
    }

    /// The same with another filter for what is logged.
    pub(crate) async fn up_logging(filter: &'static str) -> Self {
        Self::up_in(fresh_folder(), fresh_uid(), filter).await
    }

    /// A server on a mesh of its own, as a person gets it without flags.
    pub(crate) async fn up_on_a_mesh() -> Self {
        Self::start_in(fresh_folder(), fresh_uid(), "info", Vec::new()).await
    }

    /// One that joins the mesh of a hub elsewhere with this token.
    pub(crate) async fn up_joining(token: &str, name: &str) -> Self {
        let folder = fresh_folder();
        let file = folder.path().join("token");
        std::fs::write(&file, token).unwrap();
        let file = file.to_string_lossy().into_owned();
        let network = ["--join", &file, "--only", "127.0.0.1", "--name", name].map(str::to_owned);
        Self::start_in(folder, fresh_uid(), "info", network.into()).await
    }

    /// One on a host of a lab, on a mesh that these words name.
    pub(crate) async fn up_within(space: &str, network: &[&str]) -> Self {
        let network = network.iter().map(|word| (*word).to_owned()).collect();
        Self::start_within(Some(space.to_owned()), fresh_folder(), fresh_uid(), "info", network).await
    }

    /// The same in a folder that may have been used before.
    pub(crate) async fn up_in(folder: tempfile::TempDir, uid: u32, filter: &'static str) -> Self {
        Self::start_in(folder, uid, filter, ["--mesh", "loopback"].map(str::to_owned).into()).await
    }

    async fn start_in(
        folder: tempfile::TempDir,
        uid: u32,
        filter: &'static str,
        network: Vec<String>,
    ) -> Self {
        Self::start_within(None, folder, uid, filter, network).await
    }

    async fn start_within(
        space: Option<String>,
        folder: tempfile::TempDir,
        uid: u32,
        filter: &'static str,
        network: Vec<String>,
    ) -> Self {
        let state = folder.path().join("s");
        let (up, events) = start(&state, uid, filter, &network, space.as_deref());
        let ready = ready(&up, &events, &state).await;
        let text = |name: &str| ready[name].as_str().unwrap().to_owned();
        Self {
            up,
            uid,
            filter,
            network,
            events,
            state,
            management: text("management").parse().unwrap(),
            http: text("http").trim_start_matches("http://").trim_end_matches('/').parse().unwrap(),
            identity: text("identity").parse().unwrap(),
            cli: Cli::within(text("home").into(), space.clone()),
            space,
            ready,
            folder,
        }
    }

    /// Kills `allod up` itself with SIGKILL, and these with it.
    pub(crate) fn kill_up(&mut self, also: &std::collections::BTreeSet<u32>) {
        signal(self.up.id(), Signal::KILL);
        also.iter().for_each(|pid| signal(*pid, Signal::KILL));
        self.up.wait().unwrap();
    }

    /// Begins again in the same folder after [`Self::kill_up`].
    pub(crate) async fn up_again(&mut self) {
        (self.up, self.events) =
            start(&self.state, self.uid, self.filter, &self.network, self.space.as_deref());
        let ready = ready(&self.up, &self.events, &self.state).await;
        for name in ["management", "http", "identity", "home"] {
            assert_eq!(ready[name], self.ready[name], "{name} is not what it was");
        }
        self.ready = ready;
    }

    /// Begins again with other words about its mesh after [`Self::stop`].
    pub(crate) async fn up_again_with(&mut self, network: &[&str]) {
        self.network = network.iter().map(|word| (*word).to_owned()).collect();
        self.up_again().await;
    }

    /// Why it did not begin.
    pub(crate) fn refusal(&self) -> Option<String> {
        let events = self.events.lock().unwrap();
        let refused = events.iter().find(|event| event["ok"] == false)?;
        Some(refused["fault"]["message"].as_str()?.to_owned())
    }

    /// Begins again after [`Self::stop`], without waiting until it is ready: it is not going to be.
    pub(crate) fn up_without_waiting(&mut self) {
        (self.up, self.events) =
            start(&self.state, self.uid, self.filter, &self.network, self.space.as_deref());
    }

    /// What runs and was started from this server's own copy of the binary, by whichever life of it.
    pub(crate) fn own_processes(&self, word: &str) -> Vec<u32> {
        running(&self.state.join("bin/allod").to_string_lossy(), word)
    }

    /// Runs `allod --json --yes …` as the owner.
    pub(crate) async fn allod(&self, words: &[&str]) -> Output {
        self.cli.run(words).await
    }

    /// Somebody else with a home of their own and this key, who knows the server.
    pub(crate) fn person(&self, name: &str, key: &KeySigner) -> Cli {
        let home = self.folder.path().join(format!("home-{name}"));
        std::fs::create_dir_all(&home).unwrap();
        let file = home.join("key");
        std::fs::write(&file, key.to_openssh().as_bytes()).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let inventory = std::fs::read_to_string(self.cli.home.join("servers.toml")).unwrap();
        let owner = self.ready["key"].as_str().unwrap();
        assert!(inventory.contains(owner), "{inventory}");
        let inventory = inventory.replace(owner, &file.to_string_lossy());
        std::fs::write(home.join("servers.toml"), inventory).unwrap();
        Cli::at(home)
    }

    /// Enrols a fresh key with these flags, such as `--role viewer`.
    pub(crate) async fn enrol(&self, name: &str, seed: u8, flags: &[&str]) -> KeySigner {
        let key = KeySigner::generate([seed; 32], name);
        let line = key.public_openssh();
        self.allod(&[&["keys", "add", &line], flags].concat()).await.ok();
        key
    }

    /// The owner's key.
    pub(crate) fn owner(&self) -> KeySigner {
        let text = std::fs::read_to_string(self.ready["key"].as_str().unwrap()).unwrap();
        KeySigner::from_openssh(&text, None).unwrap()
    }

    /// The server as a client of the door knows it.
    pub(crate) fn peer(&self) -> Peer {
        Peer {
            name: "local".to_owned(),
            address: self.management,
            identity: self.identity.clone(),
            record_key: None,
        }
    }

    /// A folder for an app.
    pub(crate) fn app(&self, name: &str) -> App {
        App::new(&self.folder.path().join("apps").join(name), &self.state.join("bin/allod"), name)
    }

    /// Operations, newest first.
    pub(crate) async fn operations(&self) -> Vec<Value> {
        let document = self.allod(&["ops", "list"]).await.ok().json();
        document["servers"][0]["operations"].as_array().unwrap().clone()
    }

    /// Waits until an operation runs.
    pub(crate) async fn is_busy(&self) -> Value {
        eventually("an operation runs", async || {
            self.operations().await.into_iter().find(|operation| operation["state"] == "running")
        })
        .await
    }

    /// Waits until no operation runs; the server may be starting again meanwhile.
    pub(crate) async fn is_idle(&self) {
        eventually("no operation runs", async || {
            let output = self.allod(&["ops", "list"]).await;
            (output.code == 0 && !output.stdout.contains("\"state\":\"running\"")).then_some(())
        })
        .await;
    }

    /// Which process a program is now.
    pub(crate) fn pid(&self, program: &str) -> u32 {
        let events = self.events.lock().unwrap();
        let started = events.iter().rev().find(|event| {
            (event["event"] == "started" || event["event"] == "replaced") && event["program"] == program
        });
        let pid = started.map_or(&self.ready["pids"][program], |event| &event["pid"]);
        u32::try_from(pid.as_u64().unwrap()).unwrap()
    }

    /// How often `up` has said this.
    pub(crate) fn events(&self, name: &str) -> usize {
        self.events.lock().unwrap().iter().filter(|event| event["event"] == name).count()
    }

    /// Kills a program with SIGKILL; it is started again by itself.
    pub(crate) fn kill(&self, program: &str) -> u32 {
        let pid = self.pid(program);
        signal(pid, Signal::KILL);
        pid
    }

    /// Waits until another process is the program.
    pub(crate) async fn is_back(&self, program: &str, before: u32) -> u32 {
        eventually(&format!("{program} is started again"), async || {
            Some(self.pid(program)).filter(|pid| *pid != before)
        })
        .await
    }

    /// Everything that `up` began.
    pub(crate) fn processes(&self) -> std::collections::BTreeSet<u32> {
        descendants(self.up.id())
    }

    /// What all programs have logged.
    pub(crate) fn logs(&self) -> String {
        logs(&self.state)
    }

    /// The process of `allod up`.
    pub(crate) fn up_pid(&self) -> u32 {
        self.up.id()
    }

    /// Ends it as Ctrl-C does and says with which code.
    pub(crate) fn stop(&mut self) -> Option<i32> {
        signal(self.up.id(), Signal::INT);
        let begin = Instant::now();
        while begin.elapsed() < PATIENCE {
            if let Some(status) = self.up.try_wait().unwrap() {
                return status.code();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        None
    }

    /// Ends it, lets something be done to its folder, and begins again in it.
    pub(crate) async fn restarted(mut self, meanwhile: impl FnOnce(&Path)) -> Self {
        assert_eq!(self.stop(), Some(0), "{}", self.logs());
        meanwhile(&self.state);
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().unwrap());
        let (space, network) = (self.space.take(), std::mem::take(&mut self.network));
        Self::start_within(space, folder, self.uid, self.filter, network).await
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let mut all = self.processes();
        if !matches!(self.up.try_wait(), Ok(Some(_))) {
            let ended = self.stop();
            if ended.is_none() {
                all.extend(self.processes());
                all.insert(self.up.id());
            }
        }
        let left = kill_left(&all);
        let _ = self.up.wait();
        make_removable(self.folder.path());
        if std::thread::panicking() {
            eprintln!("{}", self.logs());
            // A life that was killed on purpose has left its own to nobody.
            for word in ["executor", "agent", "proxy", "hub", "node", "shim", "example-app"] {
                kill_left(&self.own_processes(word).into_iter().collect());
            }
        } else {
            assert!(left.is_empty(), "`allod up` left processes behind: {left:?}");
        }
    }
}

/// Releases are read-only, which keeps an ordinary user from removing them.
fn make_removable(folder: &Path) {
    let Ok(facts) = std::fs::symlink_metadata(folder) else { return };
    if !facts.is_dir() {
        return;
    }
    let _ = std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700));
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        make_removable(&entry.path());
    }
}

/// Waits until it says that it is ready.
async fn ready(up: &Child, events: &Events, state: &Path) -> Value {
    let begin = Instant::now();
    loop {
        let found = events.lock().unwrap().iter().find(|event| event["event"] == "ready").cloned();
        let ended = events.lock().unwrap().iter().find(|event| event["ok"] == false).cloned();
        if let Some(ready) = found {
            return ready;
        }
        if ended.is_some() || begin.elapsed() > PATIENCE * 2 {
            kill_left(&descendants(up.id()));
            signal(up.id(), Signal::KILL);
            panic!("`allod up` is not ready: {ended:?}\n{}", logs(state));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn start(state: &Path, uid: u32, filter: &str, network: &[String], space: Option<&str>) -> (Child, Events) {
    let home = state.with_extension("home");
    std::fs::create_dir_all(&home).unwrap();
    let mut command = program(BINARY, space);
    command
        .args(["up", "--json", "--first-uid", &uid.to_string(), "--state"])
        .arg(state)
        .args(network)
        .env_clear();
    command.env("HOME", &home).env("PATH", "/usr/local/bin:/usr/bin:/bin").env("ALLOD_LOG", filter);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut up = command.spawn().unwrap();
    let events = Events::default();
    let (stdout, into) = (up.stdout.take().unwrap(), Arc::clone(&events));
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            into.lock().unwrap().push(serde_json::from_str(&line).unwrap_or(Value::String(line)));
        }
    });
    (up, events)
}

fn logs(state: &Path) -> String {
    let mut text = String::new();
    for program in ["executor", "agent", "proxy", "hub", "node", "client-node"] {
        let log =
            std::fs::read_to_string(state.join(format!("logs-programs/{program}.log"))).unwrap_or_default();
        let from = log.len().saturating_sub(4000);
        text.push_str(&format!("--- {program}\n{}\n", log.get(from..).unwrap_or(&log)));
    }
    text
}
