//! The node of a person's own machine: started when a command needs it, by whichever comes first, and gone some time after the last
//! one. It outlives the command that started it.

use super::{MeshPlace, NodeFolders};
use crate::failure::Failure;
use allod_proto::FaultCode;
use std::{
    fs::File,
    io::Write as _,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};
use tokio::{net::UnixStream, time::Instant};

/// After so long without anybody who uses it, it ends.
const IDLE_SECONDS: u64 = 600;
/// How long it may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);
const BETWEEN: Duration = Duration::from_millis(20);
/// How much of its log is shown when it doesn't start.
const LINES: usize = 5;

/// Sees to it that the node answers.
///
/// # Errors
/// [`Failure`] when it doesn't, and can't be started.
pub(super) async fn ensure(place: &MeshPlace) -> Result<(), Failure> {
    if UnixStream::connect(&place.socket).await.is_ok() {
        return Ok(());
    }
    let Some(folders) = &place.start else {
        let message = format!("no node answers at {}", place.socket.display());
        return Err(Failure::new(FaultCode::Unreachable, message)
            .hint("this place on the mesh belongs to an `allod up`: is that running?"));
    };
    start(folders, &place.socket, &[], None).await
}

/// Starts a node with these further words, and waits until it answers.
///
/// # Errors
/// [`Failure`] with the last lines of its log.
pub async fn start(
    folders: &NodeFolders,
    socket: &Path,
    words: &[&str],
    input: Option<&str>,
) -> Result<(), Failure> {
    crate::inventory::create_folders(&folders.state).map_err(|error| cannot(&error))?;
    crate::inventory::create_folders(&folders.run).map_err(|error| cannot(&error))?;
    let log = folders.state.join("node.log");
    let mut child = spawn(folders, &log, words, input).map_err(|error| cannot(&error))?;
    let deadline = Instant::now() + PATIENCE;
    loop {
        // Two commands may have started one each: the second one ends, and the first answers both.
        if UnixStream::connect(socket).await.is_ok() {
            return Ok(());
        }
        let ended = child.try_wait().map_err(|error| cannot(&error))?;
        if ended.is_some_and(|status| !status.success()) && UnixStream::connect(socket).await.is_err() {
            return Err(Failure::new(FaultCode::Unreachable, "`allod node` does not run").hint(tail(&log)));
        }
        if Instant::now() > deadline {
            let message = format!("`allod node` does not answer within {} s", PATIENCE.as_secs());
            return Err(Failure::new(FaultCode::Timeout, message).hint(tail(&log)));
        }
        tokio::time::sleep(BETWEEN).await;
    }
}

#[expect(clippy::disallowed_methods, reason = "the node is a program of its own, started when it is needed")]
fn spawn(folders: &NodeFolders, log: &Path, words: &[&str], input: Option<&str>) -> std::io::Result<Child> {
    let log = File::create(log)?;
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("node").arg("--state").arg(&folders.state).arg("--run").arg(&folders.run);
    command.args(["--idle-end", &IDLE_SECONDS.to_string()]).args(words);
    command.current_dir("/").stdout(log.try_clone()?).stderr(log);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    // Ctrl-C is meant for the command that is being typed.
    command.process_group(0);
    let mut child = command.spawn()?;
    if let (Some(input), Some(mut pipe)) = (input, child.stdin.take()) {
        writeln!(pipe, "{input}")?;
    }
    Ok(child)
}

fn tail(log: &PathBuf) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    let from = lines.len().saturating_sub(LINES);
    let last: Vec<&str> = lines.into_iter().skip(from).collect();
    format!("its log, {}, ends with:\n    {}", log.display(), last.join("\n    "))
}

fn cannot(error: &dyn std::error::Error) -> Failure {
    Failure::new(FaultCode::Internal, format!("`allod node` can't be started: {error}"))
}
