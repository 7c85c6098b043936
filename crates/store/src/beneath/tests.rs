use super::*;
use std::os::unix::fs::symlink;

const BOTH: [(&str, OneCall); 3] =
    [("openat2", openat2), ("ENOSYS", |_, _| Err(Errno::NOSYS)), ("EPERM", |_, _| Err(Errno::PERM))];

struct Tree {
    _above: tempfile::TempDir,
    root: PathBuf,
}

fn tree() -> Tree {
    let above = tempfile::tempdir().unwrap();
    let root = above.path().join("root");
    std::fs::create_dir_all(root.join("in/deep")).unwrap();
    std::fs::write(above.path().join("secret"), "secret").unwrap();
    std::fs::write(root.join("in/deep/file"), "text").unwrap();
    symlink("../secret", root.join("out")).unwrap();
    symlink("in/deep/file", root.join("inner-link")).unwrap();
    symlink("in", root.join("folder-link")).unwrap();
    symlink("/", root.join("everything")).unwrap();
    symlink("/proc/self/root", root.join("magic")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
    rustix::fs::mkfifoat(CWD, root.join("pipe"), Mode::RUSR | Mode::WUSR).unwrap();
    Tree { _above: above, root }
}

#[test]
fn what_leads_elsewhere_is_refused_by_both_ways() {
    let tree = tree();
    for (way, one_call) in BOTH {
        for bad in [
            "",
            ".",
            "..",
            "../secret",
            "in/../../secret",
            "in/../in/deep/file",
            "/etc/passwd",
            "out",
            "inner-link",
            "dangling",
            "folder-link/deep/file",
            "everything/etc/passwd",
            "magic/etc/passwd",
        ] {
            match open_with(&tree.root, Path::new(bad), one_call) {
                Err(StoreError::Outside { .. }) => {}
                other => panic!("{way} {bad:?}: {other:?}"),
            }
        }
    }
}

#[test]
fn what_is_no_regular_file_is_refused_and_does_not_block() {
    let tree = tree();
    let _socket = std::os::unix::net::UnixListener::bind(tree.root.join("socket")).unwrap();
    for (way, one_call) in BOTH {
        for bad in ["pipe", "in", "in/deep", "socket"] {
            match open_with(&tree.root, Path::new(bad), one_call) {
                Err(StoreError::NotAFile { .. }) => {}
                other => panic!("{way} {bad:?}: {other:?}"),
            }
        }
        let through = open_with(&tree.root, Path::new("in/deep/file/more"), one_call);
        assert!(matches!(through, Err(StoreError::Io { .. })), "{way}: {through:?}");
    }
}

#[test]
fn more_bytes_than_the_caller_takes_are_refused() {
    let tree = tree();
    let path = Path::new("in/deep/file");
    assert!(matches!(read_beneath(&tree.root, path, 3), Err(StoreError::TooLarge { limit: 3, .. })));
    assert_eq!(read_beneath(&tree.root, path, 4).unwrap(), b"text");
}

#[test]
fn a_name_with_a_nul_byte_is_refused() {
    let tree = tree();
    for (_, one_call) in BOTH {
        assert!(open_with(&tree.root, Path::new("in\0/deep"), one_call).is_err());
    }
}

#[test]
fn a_file_below_the_root_is_read_by_both_ways() {
    let tree = tree();
    for (way, one_call) in BOTH {
        for good in ["in/deep/file", "./in/./deep//file"] {
            let file = open_with(&tree.root, Path::new(good), one_call).unwrap();
            assert_eq!(read_regular(Path::new(good), file, 100).unwrap(), b"text", "{way}");
        }
        let gone = open_with(&tree.root, Path::new("in/gone"), one_call).unwrap_err();
        assert!(gone.is_not_found(), "{way}: {gone}");
    }
}
