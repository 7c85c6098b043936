//! The executor's own doors, as a program without privilege finds them: a socket that root, or we ourselves, listen at.

use allod_proto::{CommandId, Fault, FaultCode};
use clap::Parser;
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::net::sockopt::socket_peercred;
use std::{ffi::OsString, os::unix::net::UnixStream, path::Path, process::ExitCode, time::Duration};

/// A connection to the executor, which takes what is written within `patience`.
///
/// # Errors
/// `Unreachable` when nobody is there, `Untrusted` when somebody else is.
pub(crate) fn connect(door: &Path, patience: Duration) -> Result<UnixStream, Fault> {
    let stream = UnixStream::connect(door).map_err(|error| unreachable(door, &error))?;
    let peer = socket_peercred(&stream).map_err(|error| unreachable(door, &error.into()))?;
    if !peer.uid.is_root() && peer.uid != rustix::process::geteuid() {
        let message = format!("who listens at {} is neither root nor you", door.display());
        return Err(Fault::new(FaultCode::Untrusted, message)
            .hint("somebody has put another socket there: find out who"));
    }
    stream.set_write_timeout(Some(patience)).map_err(|error| unreachable(door, &error))?;
    Ok(stream)
}

/// The flags of a program that sshd runs, or what to end with where they make no sense.
///
/// # Errors
/// The exit code, after it was said why.
pub(crate) fn settings<T: Parser>(arguments: impl IntoIterator<Item = OsString>) -> Result<T, ExitCode> {
    // What is written here goes to whoever logged in; a system that can't do it is no reason to stop.
    let _ = allod_daemon::close_to_inspection();
    T::try_parse_from(arguments).map_err(|error| {
        let _ = error.print();
        ExitCode::from(u8::from(error.use_stderr()).saturating_mul(2))
    })
}

/// That nobody answers there.
pub(crate) fn unreachable(door: &Path, error: &std::io::Error) -> Fault {
    Fault::new(FaultCode::Unreachable, format!("the executor does not answer at {}: {error}", door.display()))
        .hint("whoever started it starts it again; if not, it takes root on the machine's console")
}

/// What a request is called.
///
/// # Errors
/// When the system has no random numbers.
pub(crate) fn fresh_id() -> Result<CommandId, Fault> {
    let internal = |why: String| Fault::new(FaultCode::Internal, why);
    let mut random = [0u8; 16];
    SystemRandom::new().fill(&mut random).map_err(|_| internal("no random numbers".to_owned()))?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    CommandId::new(text).map_err(|error| internal(error.to_string()))
}
