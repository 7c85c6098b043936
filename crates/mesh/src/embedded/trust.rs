//! Whether what listens on the node's socket may be believed. It says who is on the mesh, so it must be root, our own user, or the
//! user to whom root gave the socket's folder: the node has a user of its own, and whoever else could put a socket there must not
//! pass for it.

use std::{
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};
use tokio::net::UnixStream;

/// Writable for others than the owner.
const OTHERS: u32 = 0o022;
/// In such a folder, only the owner of a name may move it.
const STICKY: u32 = 0o1000;

/// A folder on the way to the socket.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Folder {
    path: PathBuf,
    owner: u32,
    mode: u32,
}

/// Says why not, if so.
pub(super) fn check(socket: &Path, stream: &UnixStream) -> Result<(), String> {
    let listener =
        stream.peer_cred().map_err(|error| format!("it can't be told who listens there: {error}"))?.uid();
    let own = rustix::process::geteuid().as_raw();
    if listener == 0 || listener == own {
        return Ok(());
    }
    judge(listener, own, &folders(socket)?)
}

/// The socket's folder and those above it, without links.
fn folders(socket: &Path) -> Result<Vec<Folder>, String> {
    let folder = socket.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let failed = |error: std::io::Error| format!("its folder can't be looked at: {error}");
    let whole = folder.canonicalize().map_err(failed)?;
    let look = |path: &Path| {
        let facts = path.symlink_metadata().map_err(failed)?;
        Ok(Folder { path: path.to_owned(), owner: facts.uid(), mode: facts.mode() })
    };
    whole.ancestors().map(look).collect()
}

fn judge(listener: u32, own: u32, folders: &[Folder]) -> Result<(), String> {
    let Some((folder, above)) = folders.split_first() else { return Err("it has no folder".to_owned()) };
    if folder.owner != listener {
        return Err(format!(
            "user {listener} listens there, who is neither root, nor the one asking, nor the owner of its folder"
        ));
    }
    if folder.mode & OTHERS != 0 {
        return Err(format!("others than its owner may write in {}", folder.path.display()));
    }
    for (place, above) in above.iter().enumerate() {
        let is_giver = above.owner == 0 || above.owner == own;
        // What root put into a sticky folder stays; what anybody may have made there does not count.
        let is_open = above.mode & OTHERS != 0 && (place == 0 || above.mode & STICKY == 0);
        if !is_giver || is_open {
            return Err(format!(
                "user {listener} listens there, and others than root may say what is in {}",
                above.path.display()
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NODE: u32 = 990;
    const ME: u32 = 1000;

    fn folder(path: &str, owner: u32, mode: u32) -> Folder {
        Folder { path: path.into(), owner, mode }
    }

    fn usual() -> Vec<Folder> {
        vec![
            folder("/run/allod/node", NODE, 0o711),
            folder("/run/allod", 0, 0o755),
            folder("/run", 0, 0o755),
            folder("/", 0, 0o755),
        ]
    }

    #[test]
    fn another_than_the_owner_of_the_folder_is_not_believed() {
        let why = judge(1001, ME, &usual()).unwrap_err();
        assert!(why.contains("user 1001"), "{why}");
    }

    #[test]
    fn a_folder_that_others_may_fill_or_replace_gives_nobody_any_right() {
        for (place, changed) in [
            (0, folder("/run/allod/node", NODE, 0o777)),
            (0, folder("/run/allod/node", NODE, 0o731)),
            (1, folder("/run/allod", 0, 0o775)),
            (1, folder("/run/allod", NODE, 0o755)),
            (1, folder("/run/allod", 0, 0o1777)),
            (2, folder("/run", 1001, 0o755)),
            (2, folder("/run", 0, 0o757)),
        ] {
            let mut folders = usual();
            folders[place] = changed.clone();
            assert!(judge(NODE, ME, &folders).is_err(), "{changed:?}");
        }
    }

    #[test]
    fn the_user_to_whom_root_gave_the_folder_is_believed() {
        assert_eq!(judge(NODE, ME, &usual()), Ok(()));
        let mut below_tmp = usual();
        below_tmp[2] = folder("/tmp", 0, 0o1777);
        assert_eq!(judge(NODE, ME, &below_tmp), Ok(()), "root's own folder in /tmp stays root's");
    }
}
