//! The executor's own doors, as a program without privilege finds them: a socket that root, or we ourselves, listen at.

use allod_proto::{CommandId, Fault, FaultCode};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustix::net::sockopt::socket_peercred;
use std::{os::unix::net::UnixStream, path::Path, time::Duration};

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
