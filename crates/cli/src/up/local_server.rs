//! The client side of `allod up`: a home of its own in which the real `servers add` pins the server, by the identity that
//! the executor wrote to its folder, never by what the network says.

use crate::{failure::Failure, inventory::Inventory};
use allod_proto::{Fault, FaultCode, Fingerprint};
use serde_json::Value;
use std::{
    ffi::OsStr,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

/// What the server is called.
pub(super) const NAME: &str = "local";
const PATIENCE: Duration = Duration::from_secs(120);

/// A client with a home of its own.
#[derive(Debug, Clone)]
pub(super) struct Client {
    /// The program.
    pub(super) binary: PathBuf,
    /// `ALLOD_HOME`.
    pub(super) home: PathBuf,
    /// The key it signs with.
    pub(super) key: PathBuf,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub(super) struct Ran {
    /// The exit code; 255 after a signal.
    pub(super) code: i32,
    /// What it printed on stdout.
    pub(super) stdout: String,
}

impl Ran {
    /// The JSON values it printed.
    pub(super) fn values(&self) -> Vec<Value> {
        self.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// The last of them.
    pub(super) fn last(&self) -> Value {
        self.values().pop().unwrap_or(Value::Null)
    }

    /// The fault it ended with.
    pub(super) fn fault(&self) -> Option<Fault> {
        serde_json::from_value(self.last().get("fault")?.clone()).ok()
    }
}

impl Client {
    /// Runs `allod --json --yes …` as a person with this home would.
    ///
    /// # Errors
    /// [`Failure`] when it can't be run or does not end. How it ended is in [`Ran`].
    pub(super) async fn run<W: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = W>,
    ) -> Result<Ran, Failure> {
        self.run_in(&self.home, words).await
    }

    /// The same in a folder.
    ///
    /// # Errors
    /// As [`Client::run`].
    pub(super) async fn run_in<W: AsRef<OsStr>>(
        &self,
        folder: &Path,
        words: impl IntoIterator<Item = W>,
    ) -> Result<Ran, Failure> {
        let mut command = self.command();
        command.current_dir(folder);
        command.args(["--json", "--yes"]).args(words);
        ran(command).await
    }

    /// Runs `allod …`, one of the programs rather than a command of the client.
    ///
    /// # Errors
    /// As [`Client::run`].
    pub(super) async fn run_plain<W: AsRef<OsStr>>(
        &self,
        words: impl IntoIterator<Item = W>,
    ) -> Result<Ran, Failure> {
        let mut command = self.command();
        command.current_dir(&self.home).args(words);
        ran(command).await
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the supervisor starts programs, here the client a person would"
    )]
    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.env_clear().env("ALLOD_HOME", &self.home).env("HOME", &self.home);
        command.envs(["PATH", "TMPDIR"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))));
        command.stdin(Stdio::null());
        command
    }
}

async fn ran(command: Command) -> Result<Ran, Failure> {
    let running = tokio::process::Command::from(command).kill_on_drop(true).output();
    let output = tokio::time::timeout(PATIENCE, running)
        .await
        .map_err(|_| Failure::new(FaultCode::Timeout, "a client command did not end"))?
        .map_err(|error| Failure::new(FaultCode::Internal, format!("a client command: {error}")))?;
    Ok(Ran {
        code: output.status.code().unwrap_or(255),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
    })
}

/// Pins the server, unless it is pinned as it is.
///
/// # Errors
/// [`Failure`] of `servers add`.
pub(super) async fn add(client: &Client, identity: &Fingerprint, at: SocketAddr) -> Result<(), Failure> {
    let address = at.to_string();
    let inventory = Inventory::load(&client.home)?;
    if let Ok(known) = inventory.server(NAME) {
        if known.identity == *identity && known.address == address {
            return Ok(());
        }
        expect_success(&client.run(["servers", "remove", NAME]).await?, "servers remove")?;
    }
    let key = client.key.as_os_str();
    let words =
        ["--key".as_ref(), key, "servers".as_ref(), "add".as_ref(), NAME.as_ref(), "--address".as_ref()];
    let words =
        words.into_iter().chain([address.as_ref(), "--identity".as_ref(), identity.as_str().as_ref()]);
    expect_success(&client.run::<&OsStr>(words).await?, "servers add")
}

/// An error unless the command ended well.
///
/// # Errors
/// [`Failure`] with the command's own fault.
pub(super) fn expect_success(ran: &Ran, what: &str) -> Result<(), Failure> {
    if ran.code == 0 {
        return Ok(());
    }
    Err(ran.fault().map_or_else(
        || Failure::new(FaultCode::Internal, format!("`allod {what}` ended with {}", ran.code)),
        Failure::from,
    ))
}
