//! As whom a command runs: the user it names, or one of its own that nobody else has.

use crate::{Executor, isolation::Isolation};
use allod_proto::{Fault, FaultCode, named::Definition};

/// A user and their group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct User {
    pub(super) uid: u32,
    pub(super) gid: u32,
}

/// The user of a definition; `None` where everything runs as one.
///
/// # Errors
/// `NotFound` for a name that nobody has, `Invalid` where no other user can be taken.
pub(super) fn of(executor: &Executor, definition: &Definition) -> Result<Option<User>, Fault> {
    let named = definition.run_as.as_deref().map(known).transpose()?;
    match (executor.isolation(), named) {
        (Isolation::OwnUids { .. }, Some(user)) => Ok(Some(user)),
        (Isolation::OwnUids { .. }, None) => {
            let uid = executor.isolation().uid_of_command(executor.layout(), &definition.name)?;
            Ok(uid.map(|uid| User { uid, gid: uid }))
        }
        (Isolation::SameUser, None) => Ok(None),
        // Its own name is no other user.
        (Isolation::SameUser, Some(user)) if user.uid == rustix::process::geteuid().as_raw() => Ok(None),
        (Isolation::SameUser, Some(_)) => {
            let message =
                format!("{} is to run as another user, and the executor is not root", definition.name);
            Err(Fault::new(FaultCode::Invalid, message).hint("run the server as root, or leave run_as out"))
        }
    }
}

fn known(name: &str) -> Result<User, Fault> {
    let failed =
        |why: String| Fault::new(FaultCode::Internal, format!("the user {name} can't be looked up: {why}"));
    match nix::unistd::User::from_name(name).map_err(|error| failed(error.to_string()))? {
        Some(user) => Ok(User { uid: user.uid.as_raw(), gid: user.gid.as_raw() }),
        None => Err(Fault::new(FaultCode::NotFound, format!("there is no user {name} on this server"))
            .hint("make it with useradd --system, or change run_as")),
    }
}
