use super::*;
use std::os::unix::fs::{PermissionsExt as _, symlink};

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

fn mode(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

fn file(path: &Path) {
    std::fs::write(path, "x").unwrap();
    mode(path, 0o755);
}

#[test]
fn x7_a_file_or_a_folder_that_others_may_write_is_refused_and_named() {
    let folder = folder();
    let program = folder.path().join("open/program");
    std::fs::create_dir(folder.path().join("open")).unwrap();
    file(&program);
    assert!(open(&program).is_ok());
    mode(&program, 0o775);
    assert!(open(&program).unwrap_err().to_string().contains("program may be written by others"));
    mode(&program, 0o755);
    mode(&folder.path().join("open"), 0o777);
    assert!(open(&program).unwrap_err().to_string().contains("open may be written by others"));
    mode(&folder.path().join("open"), 0o1777);
    assert!(open(&program).is_ok(), "nobody else may replace what is ours in a sticky folder");
}

#[test]
fn x8_a_link_is_followed_only_where_nobody_else_could_have_put_it() {
    let folder = folder();
    let (closed, opened) = (folder.path().join("closed"), folder.path().join("opened"));
    for place in [&closed, &opened] {
        std::fs::create_dir(place).unwrap();
        file(&place.join("program"));
    }
    symlink("closed/program", folder.path().join("relative")).unwrap();
    symlink(closed.join("program"), folder.path().join("absolute")).unwrap();
    symlink("../opened/program", closed.join("elsewhere")).unwrap();
    assert!(open(&folder.path().join("relative")).is_ok());
    assert!(open(&folder.path().join("absolute")).is_ok());
    assert!(open(&closed.join("elsewhere")).is_ok());
    mode(&opened, 0o777);
    assert!(matches!(open(&closed.join("elsewhere")), Err(Untrusted::Writable { .. })));
    symlink("b", folder.path().join("a")).unwrap();
    symlink("a", folder.path().join("b")).unwrap();
    assert!(matches!(open(&folder.path().join("a")), Err(Untrusted::Links { .. })));
}

#[test]
fn what_is_no_file_or_not_there_is_refused() {
    let folder = folder();
    assert!(matches!(open(folder.path()), Err(Untrusted::Kind { .. })));
    assert!(matches!(open(&folder.path().join("no")), Err(Untrusted::Missing { .. })));
    file(&folder.path().join("f"));
    assert!(matches!(
        open(&folder.path().join("f/x")),
        Err(Untrusted::Io { .. } | Untrusted::Missing { .. })
    ));
    assert!(matches!(open(Path::new("/dev/null")), Err(Untrusted::Kind { .. })));
    assert!(matches!(read(&folder.path().join("f"), 0), Err(Untrusted::TooLarge { .. })));
    assert_eq!(read(&folder.path().join("f"), 1).unwrap(), b"x");
}

#[test]
fn a_file_of_another_user_is_refused() {
    if !rustix::process::geteuid().is_root() {
        // Nobody else's file can be made without root; every file of root's is trusted.
        return;
    }
    let folder = folder();
    let program = folder.path().join("program");
    file(&program);
    std::os::unix::fs::chown(&program, Some(61_999), None).unwrap();
    assert!(matches!(open(&program), Err(Untrusted::Owner { uid: 61_999, .. })));
}
