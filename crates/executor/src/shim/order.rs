//! What executor and shim say to each other: one order through a pipe, one answer back, and then JSON lines on the
//! instance's control socket. Unknown fields are ignored, because a shim outlives the program that started it.

use crate::{
    failure,
    groups::{Group, Groups},
    perform::blocking,
};
use allod_proto::{Fault, SecretName};
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, fmt, io, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{Child, ChildStdin, ChildStdout},
    time::timeout,
};
use zeroize::Zeroizing;

/// How long a shim may take to hear its order.
const TELLING: Duration = Duration::from_secs(20);

/// The largest answer that is no piece of output, in bytes.
const LARGEST_ANSWER: u64 = 1024 * 1024;

/// The largest order, in bytes.
pub(crate) const LARGEST_ORDER: u64 = 64 * 1024 * 1024;
/// The largest line on the control socket, in bytes.
pub(crate) const LARGEST_LINE: u64 = 64 * 1024;

/// What a shim is to start. It comes through a pipe and never touches the disk.
#[derive(Serialize, Deserialize)]
pub(crate) struct Order {
    /// Argument vector; a first element with a `/` is below `cwd`.
    pub(crate) argv: Vec<String>,
    /// The environment, all of it but secrets and what the shim itself adds.
    pub(crate) env: BTreeMap<String, String>,
    /// The release's files.
    pub(crate) cwd: PathBuf,
    /// A private folder for temporary files; made at the start, removed at the end.
    pub(crate) tmp: PathBuf,
    /// Secrets for the descriptor, values in base64.
    pub(crate) secrets: BTreeMap<SecretName, Zeroizing<String>>,
    /// Secrets for the environment, values as they are.
    pub(crate) secret_env: BTreeMap<SecretName, Zeroizing<String>>,
    /// The bound on open files.
    pub(crate) open_files: Option<u64>,
    /// The bound on processes of the user; only where the user is this app's alone.
    pub(crate) processes: Option<u64>,
    /// Where the program may say that it is ready; the shim's to fill in.
    #[serde(default)]
    pub(crate) notify: Option<String>,
    /// The folders of the program's control group, for a shim that may kill it.
    #[serde(default)]
    pub(crate) group: Vec<PathBuf>,
    /// Who may speak on the control socket, besides root.
    pub(crate) executor_uid: u32,
    /// What to do with the program.
    pub(crate) task: Task,
}

/// Tells a shim its order; nothing of it is left here then.
pub(crate) async fn tell(order: Order, shim: &mut ChildStdin) -> Result<(), Fault> {
    let json = encode(&order)?;
    drop(order);
    let length = u64::try_from(json.len()).unwrap_or(u64::MAX).to_le_bytes();
    let sending = async {
        shim.write_all(&length).await?;
        shim.write_all(&json).await?;
        shim.flush().await
    };
    let sent = timeout(TELLING, sending).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    sent.map_err(|error| failure::of_io("tell a shim its order", &error))
}

/// Has a fresh shim make its launcher, in the program's control group where there is one. It waits for its order then. The
/// kernel may take several milliseconds to move a process.
///
/// # Errors
/// What the kernel refuses, or what the shim says.
pub(crate) async fn settle(
    shim: &mut Child,
    groups: &Arc<Groups>,
    group: Option<&Arc<Group>>,
) -> Result<(), Fault> {
    let failed = |error: io::Error| failure::of_io("prepare a shim", &error);
    let moving = |enters: bool| {
        let moved = shim.id().zip(group).map(|(pid, group)| (pid, Arc::clone(group), Arc::clone(groups)));
        blocking(move || match moved {
            Some((pid, group, groups)) if enters => groups.enter(&group, pid).map_err(failed),
            Some((pid, _, groups)) => groups.leave(pid).map_err(failed),
            None => Ok(()),
        })
    };
    let (inside, outside) = (moving(true), moving(false));
    inside.await?;
    let gone = || failed(io::ErrorKind::BrokenPipe.into());
    shim.stdin.as_mut().ok_or_else(gone)?.write_all(&[0]).await.map_err(failed)?;
    match hear(shim.stdout.as_mut().ok_or_else(gone)?, TELLING).await.map_err(failed)? {
        Answer::Ready {} => outside.await,
        Answer::Error(why) => Err(failed(io::Error::other(why))),
        Answer::Started(_) | Answer::Ran(_) | Answer::Output { .. } | Answer::Ended { .. } => {
            Err(failed(io::Error::other("it answered something else")))
        }
    }
}

/// The next thing that a shim says, of one that says nothing more until it is asked.
///
/// # Errors
/// `UnexpectedEof` when it ended, `TimedOut`, and what is no answer.
pub(crate) async fn hear(shim: &mut ChildStdout, patience: Duration) -> io::Result<Answer> {
    let mut line = Vec::new();
    let mut source = shim.take(LARGEST_ANSWER);
    let reading = async {
        // Until the newline, or the end: a shim that dies has closed its pipe.
        let mut part = [0_u8; 4096];
        while line.last() != Some(&b'\n') {
            let size = source.read(&mut part).await?;
            if size == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof));
            }
            line.extend_from_slice(part.get(..size).unwrap_or_default());
        }
        Ok(())
    };
    timeout(patience, reading).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))?;
    Ok(serde_json::from_slice(&line)?)
}

/// The order as JSON, in memory that never grows and is wiped.
pub(super) fn encode(order: &Order) -> Result<Zeroizing<Vec<u8>>, Fault> {
    // In JSON, text is at most six times as long.
    let text = |text: &str| text.len().saturating_mul(6).saturating_add(16);
    let plain =
        order.argv.iter().map(|arg| text(arg)).chain(order.env.iter().map(|(k, v)| text(k) + text(v)));
    let secret = order.secrets.iter().chain(&order.secret_env).map(|(k, v)| text(k.as_str()) + text(v));
    let input = match &order.task {
        Task::Command(command) => command.stdin.as_ref().map_or(0, String::len),
        Task::Keep { .. } | Task::Once { .. } => 0,
    };
    let most = plain.chain(secret).chain([input]).fold(64 * 1024, usize::saturating_add);
    let mut json = Zeroizing::new(Vec::with_capacity(most));
    serde_json::to_writer(&mut *json, order)
        .map_err(|error| failure::of_io("write an order", &error.into()))?;
    Ok(json)
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Neither secrets nor variables, which people put secrets into.
        f.debug_struct("Order").field("argv", &self.argv).field("task", &self.task).finish_non_exhaustive()
    }
}

/// The largest line that a shim says while a command runs, in bytes: one piece of output in base64.
pub(crate) const LARGEST_ANSWER_LINE: u64 = 128 * 1024;

/// What to do with the program.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Task {
    /// Keep it, as an instance: log, control socket, exit status.
    Keep {
        /// Where its log goes.
        log: PathBuf,
    },
    /// Run it to its end, with the end of its output in the answer.
    Once {
        /// It is killed after this many milliseconds.
        timeout_ms: u64,
        /// Where its log goes, if anywhere.
        log: Option<PathBuf>,
    },
    /// Run a sealed program to its end, with its output told as it comes.
    Command(CommandTask),
}

/// A named command. Its program, and the script it reads, come as descriptors on the control socket.
#[derive(Serialize, Deserialize)]
pub(crate) struct CommandTask {
    /// The interpreter and its options; the first is its name.
    pub(crate) interpreter: Vec<String>,
    /// Whether a second descriptor comes, which the interpreter reads.
    pub(crate) is_script: bool,
    /// As whom; `None` is as the shim itself.
    pub(crate) uid: Option<u32>,
    /// Their group.
    pub(crate) gid: Option<u32>,
    /// Its whole tree is killed after this many milliseconds.
    pub(crate) timeout_ms: u64,
    /// How many bytes of its output are told.
    pub(crate) output_limit: u64,
    /// Its standard input, in standard base64.
    pub(crate) stdin: Option<String>,
}

impl fmt::Debug for CommandTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CommandTask").field("uid", &self.uid).finish_non_exhaustive()
    }
}

/// The shim's answer: one, or of a command one line for each piece of output, and then its end.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Answer {
    /// The launcher is there, and the shim waits for its order: it may be taken out of the program's control group.
    Ready {},
    /// The program runs.
    Started(Running),
    /// The program ran to its end.
    Ran(Ran),
    /// The program could not be started: a sentence for the person.
    Error(String),
    /// A command printed something.
    Output {
        /// Where.
        stream: allod_proto::named::Stream,
        /// Standard base64.
        bytes: String,
    },
    /// A command ended, and its whole tree with it.
    Ended {
        /// `exit status 0`, `signal 9`, `timeout`.
        exit: String,
        /// How many bytes it printed.
        output: u64,
        /// Whether more than its limit.
        truncated: bool,
    },
}

/// A running program, told apart from a later one with the same pid by its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Running {
    pub(crate) pid: u32,
    /// Clock ticks after boot.
    pub(crate) start: u64,
}

/// How a command ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ran {
    /// `exit status 0`, `signal 9`, `timeout`.
    pub exit: String,
    /// Whether it ended well.
    pub ok: bool,
    /// The last lines it printed.
    pub tail: Vec<String>,
}

/// To the shim.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ToShim {
    /// How does it stand?
    Status {},
    /// SIGTERM, then after so many milliseconds SIGKILL to whatever is left.
    Stop {
        /// Milliseconds.
        grace_ms: u64,
    },
    /// The exit is known; the shim may go. Only heeded after the exit.
    Bye {},
}

/// From the shim: at once on each connection, on request, and whenever something changed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Status {
    /// The program.
    pub(crate) running: Running,
    /// Whether it said `READY=1`.
    pub(crate) ready: bool,
    /// How it ended, when nothing of it is left.
    pub(crate) exit: Option<String>,
    /// When it ended, by the shim's clock. Milliseconds.
    pub(crate) ended_at: Option<u64>,
    /// Lines that could not be written to the log.
    pub(crate) dropped_lines: u64,
}
