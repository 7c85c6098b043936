//! A program that is about to take this one's place: exactly these arguments and this environment, its user, a process group
//! of its own, and no descriptor but its three standard ones and at most one more. `execvp`, which the standard library
//! calls, would give what the kernel does not know as a program to a shell.

use nix::unistd::{Gid, Uid, execve, setgid, setgroups, setuid};
use rustix::io::{Errno, FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};
use std::{
    collections::BTreeMap,
    ffi::CString,
    io,
    os::{
        fd::{AsFd, AsRawFd as _, IntoRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};
use tokio::{
    runtime::Runtime,
    signal::unix::{SignalKind, signal},
};

/// The one descriptor besides the standard ones: an app's secrets, or a command's script.
pub(super) const PASSED_FD: i32 = 3;

/// Descriptors below this one may be the program's.
const ABOVE: i32 = 10;

/// What a program gets.
pub(super) struct Program<'a> {
    /// Where its file is.
    pub(super) path: &'a Path,
    pub(super) argv: Vec<&'a str>,
    pub(super) env: BTreeMap<&'a str, &'a str>,
    pub(super) directory: &'a Path,
    /// Its user and group; `None` is as this program is.
    pub(super) user: Option<(u32, u32)>,
    pub(super) stdin: OwnedFd,
    /// What comes on [`PASSED_FD`].
    pub(super) passed: Option<OwnedFd>,
}

impl Program<'_> {
    /// Returns only when it could not. This program has nothing left to do then but to say so.
    pub(super) fn take_over(mut self, out: &OwnedFd, err: &OwnedFd) -> io::Error {
        match self.prepare(out, err) {
            Ok((path, argv, env, _caught)) => match execve(&path, &argv, &env) {
                Ok(never) => match never {},
                Err(error) => error.into(),
            },
            Err(error) => error,
        }
    }

    fn prepare(
        &mut self,
        out: &OwnedFd,
        err: &OwnedFd,
    ) -> io::Result<(CString, Vec<CString>, Vec<CString>, Runtime)> {
        self.pass()?;
        let argv = self.argv.iter().map(|&word| CString::new(word)).collect::<Result<_, _>>()?;
        let pairs = self.env.iter().map(|(name, value)| CString::new(format!("{name}={value}")));
        let env = pairs.collect::<Result<_, _>>()?;
        let path = CString::new(self.path.as_os_str().as_bytes())?;
        let caught = catch_broken_pipe()?;
        rustix::stdio::dup2_stdin(&self.stdin)?;
        rustix::stdio::dup2_stdout(out)?;
        rustix::stdio::dup2_stderr(err)?;
        rustix::process::setpgid(None, None)?;
        if let Some((uid, gid)) = self.user {
            if rustix::process::geteuid().is_root() {
                setgroups(&[])?;
            }
            setgid(Gid::from_raw(gid))?;
            setuid(Uid::from_raw(uid))?;
        }
        rustix::process::chdir(self.directory)?;
        Ok((path, argv, env, caught))
    }

    /// Before anything else is opened: the number is free then.
    fn pass(&mut self) -> io::Result<()> {
        self.stdin = out_of_the_way(&self.stdin)?;
        let Some(passed) = self.passed.take() else { return Ok(()) };
        let above = out_of_the_way(&passed)?;
        drop(passed);
        let given = fcntl_dupfd_cloexec(&above, PASSED_FD)?;
        if given.as_raw_fd() != PASSED_FD {
            return Err(Errno::BUSY.into());
        }
        fcntl_setfd(&given, FdFlags::empty())?;
        // It stays open, for the next program.
        let _ = given.into_raw_fd();
        Ok(())
    }
}

/// The same on a number that no program is given.
pub(super) fn out_of_the_way(descriptor: impl AsFd) -> io::Result<OwnedFd> {
    Ok(fcntl_dupfd_cloexec(descriptor, ABOVE)?)
}

/// Rust ignores SIGPIPE, and what is ignored is ignored by the next program too; what is caught is not, execve(2).
fn catch_broken_pipe() -> io::Result<Runtime> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let entered = runtime.enter();
    drop(signal(SignalKind::pipe())?);
    drop(entered);
    Ok(runtime)
}
