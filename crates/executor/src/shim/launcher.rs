//! The program `allod launcher`: it is in its program's control group before anybody knows what that will be, and becomes
//! it. So the program is in the group from its first instruction, its shim is not, and all that takes time is done before
//! there is an order.

use super::{
    command, launch,
    order::{Order, Running, Task, encode},
    pass,
    program::out_of_the_way,
    read_order, setup, tree,
};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::{Mode, OFlags},
    io::Errno,
};
use std::{
    collections::VecDeque,
    fs::File,
    io::{self, PipeReader, Read as _, Write as _},
    os::{
        fd::OwnedFd,
        unix::{net::UnixStream, process::CommandExt as _},
    },
    process::{Child, Command, ExitCode, Stdio},
    time::Duration,
};

/// How long it may take to become its program, or to say why it can't.
const PATIENCE: Duration = Duration::from_secs(20);
/// The most that it says of that, in bytes.
const LONGEST: u64 = 16 * 1024;

/// A launcher, as its shim sees it.
pub(super) struct Launcher {
    socket: UnixStream,
    child: Child,
}

/// What runs, and the two streams of what it prints.
pub(super) struct Launched {
    pub(super) running: Running,
    pub(super) out: PipeReader,
    pub(super) err: PipeReader,
}

impl Launcher {
    /// Starts one, in whatever group this process is in.
    pub(super) fn start() -> io::Result<Self> {
        let (socket, theirs) = UnixStream::pair()?;
        // The very file that this process runs, whatever its path leads to by now.
        #[expect(clippy::disallowed_methods, reason = "a shim's own other half")]
        let mut command = Command::new("/proc/self/exe");
        command
            .arg0(std::env::args_os().next().unwrap_or_else(|| "allod".into()))
            .arg("launcher")
            .env_clear()
            .stdin(OwnedFd::from(theirs))
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let child = command.spawn()?;
        Ok(Self { socket, child })
    }

    /// Waits until there is an order, or somebody has killed the launcher meanwhile.
    ///
    /// # Errors
    /// A sentence that says so.
    pub(super) fn wait_with(&self, order: &File) -> Result<(), String> {
        let mut waited = [PollFd::new(&self.socket, PollFlags::IN), PollFd::new(order, PollFlags::IN)];
        loop {
            match poll(&mut waited, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(format!("can't wait for an order: {error}")),
            }
            let [launcher, order] = &waited;
            if !launcher.revents().is_empty() {
                return Err("its launcher is gone".to_owned());
            }
            if !order.revents().is_empty() {
                return Ok(());
            }
        }
    }

    /// Has it become the program of an order, which is given these descriptors: the sealed program of a command, and its script.
    /// What is secret in the order is wiped, whatever comes of it.
    ///
    /// # Errors
    /// A sentence that names the program and says why it can't run.
    pub(super) fn launch(self, order: &mut Order, descriptors: &[OwnedFd]) -> Result<Launched, String> {
        let Self { socket, mut child } = self;
        let told = tell(&socket, order, descriptors);
        order.secrets.clear();
        order.secret_env.clear();
        let (out, err) = told.map_err(|error| {
            // It has not heard all that it needs.
            let _ = child.kill();
            format!("can't tell its launcher: {error}")
        })?;
        let mut why = Vec::new();
        // It ends without a word when the program has taken its place.
        let heard = socket
            .set_read_timeout(Some(PATIENCE))
            .and_then(|()| (&socket).take(LONGEST).read_to_end(&mut why));
        if heard.is_err() {
            // Nobody knows whether it has: then it has, and this is its end.
            let _ = child.kill();
        } else if !why.is_empty() {
            return Err(String::from_utf8_lossy(&why).into_owned());
        }
        // It can't have been collected yet: only this program does that, and not before this returns.
        let pid = child.id();
        let stat = tree::stat(pid).ok_or("its launcher is gone")?;
        Ok(Launched { running: Running { pid, start: stat.start }, out, err })
    }
}

fn tell(socket: &UnixStream, order: &Order, descriptors: &[OwnedFd]) -> io::Result<(PipeReader, PipeReader)> {
    let ((out, out_end), (err, err_end)) = (io::pipe()?, io::pipe()?);
    socket.set_write_timeout(Some(PATIENCE))?;
    let mut into = socket;
    let json = encode(order).map_err(|fault| io::Error::other(fault.message))?;
    into.write_all(&u64::try_from(json.len()).unwrap_or(u64::MAX).to_le_bytes())?;
    into.write_all(&json)?;
    pass::send(socket, &out_end)?;
    pass::send(socket, &err_end)?;
    descriptors.iter().try_for_each(|descriptor| pass::send(socket, descriptor))?;
    Ok((out, err))
}

/// Runs the launcher: an order from standard input, which is a socket, and then it is another program. If that can't be, it says
/// why on the socket. Its arguments and environment mean nothing.
#[must_use]
pub fn main() -> ExitCode {
    setup::close_inherited();
    if let Ok(socket) = take_socket() {
        let why = become_program(&socket);
        // Nobody hears it when the shim is gone, and nobody asks.
        let _ = File::from(socket).write_all(why.as_bytes());
    }
    ExitCode::FAILURE
}

/// The socket, on a descriptor that no program is given.
fn take_socket() -> io::Result<OwnedFd> {
    let socket = out_of_the_way(io::stdin())?;
    let null = rustix::fs::open("/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::stdio::dup2_stdin(&null)?;
    Ok(socket)
}

/// Returns only a sentence that says why it could not.
fn become_program(socket: &OwnedFd) -> String {
    let (order, mut descriptors) = match hear(socket) {
        Ok(heard) => heard,
        Err(error) => return format!("can't hear what to start: {error}"),
    };
    if let Err(error) = setup::bound(&order) {
        return format!("can't bound it: {error}");
    }
    let (Some(out), Some(err)) = (descriptors.pop_front(), descriptors.pop_front()) else {
        return "its streams did not come".to_owned();
    };
    match &order.task {
        Task::Command(task) => command::take_over(&order, task, descriptors, (&out, &err)),
        Task::Keep { .. } | Task::Once { .. } => launch::take_over(&order, &out, &err),
    }
}

fn hear(socket: &OwnedFd) -> io::Result<(Order, VecDeque<OwnedFd>)> {
    setup::close_to_inspection()?;
    let order = read_order(&mut File::from(socket.try_clone()?))?;
    let count = match &order.task {
        Task::Command(task) if task.is_script => 4,
        Task::Command(_) => 3,
        Task::Keep { .. } | Task::Once { .. } => 2,
    };
    let next = |_| out_of_the_way(pass::receive(socket)?);
    Ok((order, (0..count).map(next).collect::<io::Result<_>>()?))
}
