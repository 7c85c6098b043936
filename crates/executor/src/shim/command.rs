//! A named command: the sealed program is executed by its descriptor, as its own user, with nothing inherited. Its output
//! is told up to its limit, and its whole tree ends with it, with its time, or with whoever asked for it.

use super::{
    Starter,
    keep::Keeper,
    launcher::{Launched, Launcher},
    once::{self, LAST_LINES},
    order::{Answer, CommandTask, Order, Task},
    pass,
    program::{PASSED_FD, Program},
    state::State,
};
use crate::groups::Group;
use allod_proto::named::{OUTPUT_PART, Stream};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use rustix::{
    fs::{MemfdFlags, memfd_create},
    io::Errno,
};
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, PipeReader, Read, Seek as _, Write as _},
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError, mpsc},
    time::Duration,
};

/// Runs it to its end, and says how it ended.
///
/// # Errors
/// A sentence that says why it could not be started.
pub(super) fn run(starter: &Starter, order: &mut Order, launcher: Launcher) -> Result<(), String> {
    let failed = |error: io::Error| format!("can't run it: {error}");
    let Task::Command(task) = &mut order.task else { return Err("it is no command".to_owned()) };
    let (limit, time) = (task.output_limit, Duration::from_millis(task.timeout_ms));
    let mut descriptors = vec![pass::receive(&starter.listener).map_err(failed)?];
    if task.is_script {
        descriptors.push(pass::receive(&starter.listener).map_err(failed)?);
    }
    let Launched { running, out, err } = launcher.launch(order, &descriptors)?;
    drop(descriptors);
    let state = Arc::new(State::new(running).in_group(Group::find(&order.group)));
    let answer = starter.answer.try_clone().map_err(failed)?;
    let teller = Arc::new(Teller::new(answer, limit));
    let lifeline = starter.order.try_clone().map_err(failed)?;
    let streams = match begin(&state, &teller, [(Stream::Out, out), (Stream::Err, err)], time, lifeline) {
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

/// The program of an order takes this one's place; its descriptor comes first, then its script's.
///
/// # Errors
/// Returns only a sentence that says why it can't run.
pub(super) fn take_over(
    order: &Order,
    task: &CommandTask,
    mut descriptors: VecDeque<OwnedFd>,
    (out, err): (&OwnedFd, &OwnedFd),
) -> String {
    let Some(sealed) = descriptors.pop_front() else { return "the program did not come".to_owned() };
    let passed = descriptors.pop_front();
    let stdin = match input(task.stdin.as_deref()) {
        Ok(stdin) => stdin,
        Err(error) => return format!("can't hand over its input: {error}"),
    };
    // The kernel looks the path up before it closes what is not to be inherited.
    let path = PathBuf::from(format!("/proc/self/fd/{}", sealed.as_raw_fd()));
    let script = format!("/dev/fd/{PASSED_FD}");
    let (reader, arguments) = (task.interpreter.iter(), order.argv.iter().skip(1));
    let first = if passed.is_some() { Some(&script) } else { order.argv.first() };
    let argv = reader.chain(first).chain(arguments).map(String::as_str).collect();
    let program = Program {
        path: &path,
        argv,
        env: order.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
        directory: &order.cwd,
        user: task.uid.zip(task.gid),
        stdin,
        passed,
    };
    let name = order.argv.first().map_or("", String::as_str);
    why(name, order, &program.take_over(out, err))
}

fn why(name: &str, order: &Order, error: &io::Error) -> String {
    match error.kind() {
        _ if error.raw_os_error() == Some(Errno::NOEXEC.raw_os_error()) => {
            format!("{name} is not a program for this machine ({}), nor a script", std::env::consts::ARCH)
        }
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
fn input(stdin: Option<&str>) -> io::Result<OwnedFd> {
    let Some(encoded) = stdin else { return Ok(File::open("/dev/null")?.into()) };
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
    time: Duration,
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
    once::watch(state, time, lifeline)?;
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
