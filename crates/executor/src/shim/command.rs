//! A named command: the sealed program is executed by its descriptor, as its own user, with nothing inherited. Its output
//! is told up to its limit, and its whole tree ends with it, with its time, or with whoever asked for it.

use super::{
    Starter,
    keep::Keeper,
    once::{self, LAST_LINES},
    order::{Answer, CommandTask, Order, Running},
    state::State,
    tree,
};
use crate::groups::Group;
use allod_proto::named::{OUTPUT_PART, Stream};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use command_fds::{CommandFdExt as _, FdMapping};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg},
};
use std::{
    fs::File,
    io::{self, IoSliceMut, PipeReader, Read, Seek as _, Write as _},
    mem::MaybeUninit,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::process::CommandExt as _,
    },
    process::{Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

/// The descriptor that an interpreter reads its script from.
const SCRIPT_FD: i32 = 3;

/// Runs it to its end, and says how it ended.
///
/// # Errors
/// A sentence that says why it could not be started.
pub(super) fn run(starter: &mut Starter, order: &Order, task: &CommandTask) -> Result<(), String> {
    let failed = |error: io::Error| format!("can't run it: {error}");
    let program = receive(&starter.listener).map_err(failed)?;
    let script = if task.is_script { Some(receive(&starter.listener).map_err(failed)?) } else { None };
    let ((out, out_end), (err, err_end)) = pipes().map_err(failed)?;
    let running = launch(order, task, &program, script, (out_end, err_end))?;
    drop(program);
    super::get_out(starter, order, running)?;
    let state = Arc::new(State::new(running).in_group(Group::find(&order.group)));
    let answer = starter.answer.try_clone().map_err(failed)?;
    let teller = Arc::new(Teller::new(answer, task.output_limit));
    let lifeline = starter.order.try_clone().map_err(failed)?;
    let streams = match begin(&state, &teller, [(Stream::Out, out), (Stream::Err, err)], task, lifeline) {
        Ok(streams) => streams,
        Err(error) => {
            Keeper::abandon(running);
            return Err(format!("can't watch it: {error}"));
        }
    };
    let exit = state.collect();
    for _ in 0..2 {
        if streams.recv_timeout(LAST_LINES).is_err() {
            break;
        }
    }
    let exit = if state.was_overdue() { "timeout".to_owned() } else { exit };
    teller.end(exit);
    Ok(())
}

fn pipes() -> io::Result<((PipeReader, io::PipeWriter), (PipeReader, io::PipeWriter))> {
    Ok((io::pipe()?, io::pipe()?))
}

/// One descriptor from the starter.
fn receive(socket: &OwnedFd) -> io::Result<OwnedFd> {
    let mut byte = [0_u8; 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)?;
    let mut taken = ancillary.drain().filter_map(|part| match part {
        RecvAncillaryMessage::ScmRights(mut descriptors) => descriptors.next(),
        _ => None,
    });
    taken.next().ok_or_else(|| io::Error::other("the program did not come"))
}

fn launch(
    order: &Order,
    task: &CommandTask,
    program: &OwnedFd,
    script: Option<OwnedFd>,
    (out, err): (io::PipeWriter, io::PipeWriter),
) -> Result<Running, String> {
    // The kernel looks the path up in the child before it closes what is not to be inherited.
    #[expect(clippy::disallowed_methods, reason = "here a named command truly begins")]
    let mut command = Command::new(format!("/proc/self/fd/{}", program.as_raw_fd()));
    let name = order.argv.first().map_or("", String::as_str);
    match script {
        Some(script) => {
            let script = FdMapping { parent_fd: script, child_fd: SCRIPT_FD };
            command
                .arg0(task.interpreter.first().map_or("", String::as_str))
                .args(task.interpreter.iter().skip(1))
                .arg(format!("/dev/fd/{SCRIPT_FD}"));
            command
                .fd_mappings(vec![script])
                .map_err(|error| format!("can't hand over the script: {error}"))?;
        }
        None => drop(command.arg0(name)),
    }
    let stdin =
        input(task.stdin.as_deref()).map_err(|error| format!("can't hand over its input: {error}"))?;
    command
        .args(order.argv.iter().skip(1))
        .current_dir(&order.cwd)
        .env_clear()
        .envs(&order.env)
        .stdin(stdin)
        .stdout(out)
        .stderr(err)
        .process_group(0);
    if let Some(gid) = task.gid {
        command.gid(gid);
    }
    if let Some(uid) = task.uid {
        // With a uid, std also empties the list of other groups.
        command.uid(uid);
    }
    let child = command.spawn().map_err(|error| why(name, order, &error))?;
    let pid = child.id();
    Ok(Running { pid, start: tree::stat(pid).map_or(0, |stat| stat.start) })
}

fn why(name: &str, order: &Order, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("{name}: its folder {} or its loader is not there", order.cwd.display())
        }
        io::ErrorKind::PermissionDenied => {
            format!("{name}: its user may not enter {}, or not run it ({error})", order.cwd.display())
        }
        io::ErrorKind::ArgumentListTooLong => format!("{name}: arguments and environment are too large"),
        _ => format!("{name}: {error}"),
    }
}

/// Nothing, or memory with what is to be read.
fn input(stdin: Option<&str>) -> io::Result<Stdio> {
    let Some(encoded) = stdin else { return Ok(Stdio::null()) };
    let bytes = STANDARD.decode(encoded).map_err(io::Error::other)?;
    let mut memory = File::from(memfd_create("input", MemfdFlags::CLOEXEC)?);
    memory.write_all(&bytes)?;
    memory.rewind()?;
    Ok(memory.into())
}

fn begin(
    state: &Arc<State>,
    teller: &Arc<Teller>,
    sources: [(Stream, PipeReader); 2],
    task: &CommandTask,
    lifeline: File,
) -> io::Result<mpsc::Receiver<()>> {
    let (done, streams) = mpsc::channel();
    for (stream, source) in sources {
        let (teller, done) = (Arc::clone(teller), done.clone());
        super::spawn("output", move || {
            teller.follow(stream, source);
            let _ = done.send(());
        })?;
    }
    once::watch(state, Duration::from_millis(task.timeout_ms), lifeline)?;
    Ok(streams)
}

/// Tells what is printed. Whoever doesn't read makes the command wait; what is over the limit is counted and dropped.
struct Teller(Mutex<Told>);

struct Told {
    answer: File,
    limit: u64,
    told: u64,
    printed: u64,
    ended: bool,
}

impl Teller {
    fn new(answer: File, limit: u64) -> Self {
        Self(Mutex::new(Told { answer, limit, told: 0, printed: 0, ended: false }))
    }

    fn follow(&self, stream: Stream, mut source: impl Read) {
        let mut part = vec![0_u8; OUTPUT_PART];
        loop {
            match source.read(&mut part) {
                Ok(0) => return,
                Ok(size) => self.tell(stream, part.get(..size).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }

    fn tell(&self, stream: Stream, bytes: &[u8]) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.printed = told.printed.saturating_add(u64::try_from(bytes.len()).unwrap_or(u64::MAX));
        let room = usize::try_from(told.limit.saturating_sub(told.told)).unwrap_or(usize::MAX);
        let fits = bytes.get(..room).unwrap_or(bytes);
        if fits.is_empty() || told.ended {
            return;
        }
        told.told = told.told.saturating_add(u64::try_from(fits.len()).unwrap_or(u64::MAX));
        let line = super::line(&Answer::Output { stream, bytes: STANDARD.encode(fits) });
        // If nobody hears it any more, the lifeline ends the command.
        let _ = told.answer.write_all(&line);
    }

    fn end(&self, exit: String) {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.ended = true;
        let (output, truncated) = (told.printed, told.printed > told.told);
        let _ = told.answer.write_all(&super::line(&Answer::Ended { exit, output, truncated }));
    }
}
