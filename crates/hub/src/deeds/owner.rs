//! Files of the hub are touched with the rights of the user whose folder it is, also when root asks: nothing that this user put
//! there leads root elsewhere, and what is made there is that user's.

use allod_proto::{Fault, FaultCode};
use rustix::process::{Gid, Uid};
use std::{os::unix::fs::MetadataExt as _, path::Path};

/// Runs it with the rights of the owner of `folder`.
pub(super) fn as_owner<T: Send + 'static>(
    folder: &Path,
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, Fault> {
    let facts = std::fs::symlink_metadata(folder)
        .map_err(|error| Fault::new(FaultCode::NotFound, format!("{}: {error}", folder.display())))?;
    if !facts.is_dir() {
        return Err(Fault::new(FaultCode::Invalid, format!("{} is no folder", folder.display())));
    }
    let is_other = rustix::process::geteuid().is_root() && facts.uid() != 0;
    let rights = is_other.then(|| (Uid::from_raw(facts.uid()), Gid::from_raw(facts.gid())));
    let failed = |what: &str| Fault::new(FaultCode::Internal, what.to_owned());
    let thread = std::thread::Builder::new().name("as-owner".to_owned()).spawn(move || {
        if let Some((uid, gid)) = rights {
            // Of this thread alone, which ends with its work.
            become_user(uid, gid).map_err(|error| {
                Fault::new(
                    FaultCode::NotAllowed,
                    format!("the rights of user {} can't be taken: {error}", uid.as_raw()),
                )
            })?;
        }
        work()
    });
    let thread = thread.map_err(|error| failed(&format!("no thread: {error}")))?;
    thread.join().map_err(|_| failed("it failed in the middle"))?
}

#[cfg(target_os = "linux")]
fn become_user(uid: Uid, gid: Gid) -> rustix::io::Result<()> {
    rustix::thread::set_thread_groups(&[])?;
    rustix::thread::set_thread_res_gid(gid, gid, gid)?;
    rustix::thread::set_thread_res_uid(uid, uid, uid)
}

#[cfg(not(target_os = "linux"))]
fn become_user(_: Uid, _: Gid) -> rustix::io::Result<()> {
    Err(rustix::io::Errno::NOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_folder_has_no_owner() {
        let folder = tempfile::tempdir().unwrap();
        let link = folder.path().join("link");
        std::os::unix::fs::symlink(folder.path(), &link).unwrap();
        for bad in [link, folder.path().join("none")] {
            assert!(as_owner(&bad, || Ok(())).is_err(), "{}", bad.display());
        }
        assert_eq!(as_owner(folder.path(), || Ok(5)), Ok(5));
    }

    #[test]
    fn root_works_in_a_users_folder_as_that_user() {
        if !rustix::process::geteuid().is_root() {
            eprintln!("NOT TESTED: the rights of another user, because this user is not root");
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        let theirs = folder.path().join("theirs");
        std::fs::create_dir(&theirs).unwrap();
        std::os::unix::fs::chown(&theirs, Some(12_345), Some(12_345)).unwrap();
        std::fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let secret = folder.path().join("secret");
        std::fs::write(&secret, "root's").unwrap();
        std::fs::set_permissions(&secret, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(&secret, theirs.join("link")).unwrap();
        let (made, link) = (theirs.join("made"), theirs.join("link"));
        let read = as_owner(&theirs, move || {
            std::fs::write(&made, "x").unwrap();
            Ok(std::fs::read(&link).is_ok())
        });
        assert_eq!(read, Ok(false), "a link to what is root's leads nowhere");
        assert_eq!(std::fs::metadata(theirs.join("made")).unwrap().uid(), 12_345);
        assert!(rustix::process::geteuid().is_root(), "the program itself stays what it was");
    }
}
