//! A whole Allod server, `allod up` in a fresh folder, and ways to ask it: in this program over a connection that
//! stays, and as the command line a person types.

use crate::{
    bench::Bench,
    process::{Running, command},
    stop,
};
use allod_rpc::client::{Client, Forgetful, Peer};
use allod_signing::KeySigner;
use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;
use std::{
    path::PathBuf,
    process::Command,
    sync::Arc,
    time::{Duration, Instant},
};

/// How long it may take to be ready; the machine may have other work.
const PATIENCE: Duration = Duration::from_secs(60);

/// It runs until it is dropped.
pub(crate) struct Server {
    _up: Running,
    program: PathBuf,
    ready: Value,
    pub(crate) home: PathBuf,
}

impl Server {
    pub(crate) fn start(bench: &Bench, name: &str) -> Result<Self> {
        let folder = bench.folder(name)?;
        let (log, program) = (folder.join("log"), bench.allod.program.clone());
        let mut up = command(&program);
        up.args(["up", "--json", "--mesh", "loopback", "--first-uid", &first_uid().to_string(), "--state"])
            .arg(folder.join("s"));
        up.env("HOME", &folder);
        let mut up = Running::start("allod up", up, &log)?;
        let begun = Instant::now();
        let ready = loop {
            let said = std::fs::read_to_string(&log)?;
            let events = said.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            if let Some(ready) = events.into_iter().find(|event| event.get("event") == Some(&"ready".into()))
            {
                break ready;
            }
            up.check().with_context(|| said.clone())?;
            if begun.elapsed() > PATIENCE {
                bail!("`allod up` is not ready: {said}");
            }
            stop::pause(stop::TICK)?;
        };
        let home = ready.get("home").and_then(Value::as_str).context("no home")?.into();
        Ok(Self { _up: up, program, ready, home })
    }

    fn text(&self, name: &str) -> Result<&str> {
        self.ready
            .get(name)
            .and_then(Value::as_str)
            .with_context(|| format!("`allod up` did not say its {name}"))
    }

    /// What `allod up` said: `state`, `run`.
    pub(crate) fn place(&self, name: &str) -> Result<PathBuf> {
        self.text(name).map(PathBuf::from)
    }

    /// The program that it runs.
    pub(crate) fn program(&self) -> &std::path::Path {
        &self.program
    }

    /// The process that a program is.
    pub(crate) fn pid(&self, program: &str) -> Result<u32> {
        let pid = self.ready.get("pids").and_then(|pids| pids.get(program)).and_then(Value::as_u64);
        Ok(u32::try_from(pid.with_context(|| format!("`allod up` did not say which process {program} is"))?)?)
    }

    /// What a person types after `allod`.
    pub(crate) fn allod(&self, words: &[&str]) -> Command {
        let mut command = command(&self.program);
        command.env("ALLOD_HOME", &self.home).env("HOME", &self.home).args(words);
        command
    }

    /// A connection as the owner, warm: it has answered once. Everything is pinned, so everything is verified.
    pub(crate) async fn connect(&self) -> Result<Client> {
        let key = std::fs::read_to_string(self.text("key")?)?;
        let key = KeySigner::from_openssh(&key, None)?;
        let known = std::fs::read_to_string(self.home.join("servers.toml"))?;
        let record_key = known
            .lines()
            .find_map(|line| line.strip_prefix("record_key = \"")?.strip_suffix('"'))
            .context("the record's key is not pinned")?;
        let meant = |error: &dyn std::fmt::Display| anyhow!("{error}");
        let peer = Peer {
            name: "bench".to_owned(),
            address: self.text("management")?.parse()?,
            identity: self.text("identity")?.parse().map_err(|error| meant(&error))?,
            record_key: Some(record_key.parse().map_err(|error| meant(&error))?),
        };
        let mut client = Client::connect(peer, Arc::new(key), Box::new(Forgetful::default())).await?;
        client.call(allod_proto::messages::server::ServerStatus {}).await?;
        Ok(client)
    }
}

/// Two servers on one machine do not share users.
fn first_uid() -> u32 {
    1_000_000_000 + (std::process::id() % 100_000) * 1_000
}
