//! A person at a command line: the real binary, a home of their own, no terminal.

use crate::processes::PATIENCE;
use serde_json::Value;
use std::{
    path::{Path, PathBuf},
    process::Stdio,
};
use tokio::{io::AsyncWriteExt as _, process::Command};

/// The program under test.
pub(crate) const BINARY: &str = env!("CARGO_BIN_EXE_allod");

/// Somebody with a home folder.
#[derive(Debug, Clone)]
pub(crate) struct Cli {
    pub(crate) home: PathBuf,
    /// The network namespace that they are in, where it is not that of the test.
    space: Option<String>,
}

/// How a command ended.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Output {
    /// The one JSON document on stdout, and nothing else.
    pub(crate) fn json(&self) -> Value {
        assert_eq!(self.stdout.lines().count(), 1, "stdout is not one document: {self:?}");
        serde_json::from_str(&self.stdout).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The JSON values of a stream.
    pub(crate) fn lines(&self) -> Vec<Value> {
        self.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// The same when it ended well.
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.code, 0, "{self:?}");
        self
    }

    /// The fault's code and sentence, of a command that ended with this exit code.
    pub(crate) fn refused(&self, exit: i32) -> (String, String) {
        assert_eq!(self.code, exit, "{self:?}");
        let fault = &self.json()["fault"];
        assert_eq!(self.json()["ok"], false);
        (fault["code"].as_str().unwrap().to_owned(), fault["message"].as_str().unwrap().to_owned())
    }
}

/// A program, in a network namespace where one is named.
pub(crate) fn program(path: &str, space: Option<&str>) -> std::process::Command {
    let Some(space) = space else { return std::process::Command::new(path) };
    let ip = allod_testkit::peer::find("ip").expect("namespaces were made with it");
    let mut command = std::process::Command::new(ip);
    command.args(["netns", "exec", space, path]);
    command
}

impl Cli {
    /// Somebody whose home is this.
    pub(crate) fn at(home: PathBuf) -> Self {
        Self { home, space: None }
    }

    /// The same, on a host of a lab.
    pub(crate) fn within(home: PathBuf, space: Option<String>) -> Self {
        Self { home, space }
    }

    /// A command that may be run in any folder and with anything on stdin.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::from(program(BINARY, self.space.as_deref()));
        command.args(words).env_clear().env("ALLOD_HOME", &self.home).env("HOME", &self.home);
        command.env("PATH", "/usr/local/bin:/usr/bin:/bin").current_dir(&self.home);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// Runs `allod --json --yes …`.
    pub(crate) async fn run(&self, words: &[&str]) -> Output {
        self.run_in(&self.home, words).await
    }

    /// The same in a folder.
    pub(crate) async fn run_in(&self, folder: &Path, words: &[&str]) -> Output {
        let mut command = self.command(&[&["--json", "--yes"], words].concat());
        finish(command.current_dir(folder), words).await
    }

    /// Runs `allod …` as it would for a person, without `--json` and `--yes`.
    pub(crate) async fn plain_in(&self, folder: &Path, words: &[&str]) -> Output {
        finish(self.command(words).current_dir(folder), words).await
    }

    /// Runs `allod --json --yes …` with this on stdin.
    pub(crate) async fn run_with_input(&self, folder: &Path, words: &[&str], input: &[u8]) -> Output {
        let mut command = self.command(&[&["--json", "--yes"], words].concat());
        let mut child = command.current_dir(folder).stdin(Stdio::piped()).spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        stdin.write_all(input).await.unwrap();
        drop(stdin);
        let output = tokio::time::timeout(PATIENCE * 3, child.wait_with_output()).await;
        ended(output.unwrap_or_else(|_| panic!("allod {words:?} does not end")).unwrap())
    }
}

async fn finish(command: &mut Command, words: &[&str]) -> Output {
    let output = tokio::time::timeout(PATIENCE * 3, command.output()).await;
    ended(output.unwrap_or_else(|_| panic!("allod {words:?} does not end")).unwrap())
}

pub(crate) fn ended(output: std::process::Output) -> Output {
    Output {
        code: output.status.code().unwrap_or(255),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}
