use super::*;
use std::os::unix::fs::PermissionsExt as _;

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn a_write_into_a_missing_folder_names_path_and_step() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gone/file");
    match write_atomic(&path, b"x", 0o600) {
        Err(StoreError::Io { path: named, step, .. }) => assert_eq!((named, step), (path, Step::Create)),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_failed_write_leaves_the_old_target_and_no_temporary_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("occupied");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("inside"), "kept").unwrap();
    match write_atomic(&path, b"x", 0o600) {
        Err(StoreError::Io { step, .. }) => assert_eq!(step, Step::Rename),
        other => panic!("{other:?}"),
    }
    assert_eq!(names(folder.path()), ["occupied"]);
    assert_eq!(std::fs::read_to_string(path.join("inside")).unwrap(), "kept");
}

#[test]
fn a_write_on_a_full_disk_says_so_and_keeps_the_old_content() {
    // A device that is always full stands in for the disk.
    let full = File::options().write(true).open("/dev/full").unwrap();
    let error = fill(Path::new("state.json"), &full, b"x", 0o600).unwrap_err();
    assert!(error.is_disk_full(), "{error:?}");
    assert_eq!(error.to_string(), "can't write state.json");
}

#[test]
fn a_path_without_a_file_name_is_refused() {
    assert!(write_atomic(Path::new("/"), b"x", 0o600).is_err());
    assert!(write_atomic(Path::new(".."), b"x", 0o600).is_err());
}

#[test]
fn a_link_is_replaced_and_what_it_points_to_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    std::fs::write(&victim, "kept").unwrap();
    let path = folder.path().join("state");
    std::os::unix::fs::symlink(&victim, &path).unwrap();
    write_atomic(&path, b"new", 0o600).unwrap();
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "kept");
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
    assert!(std::fs::symlink_metadata(&path).unwrap().is_file());
}

#[test]
fn a_written_file_has_its_content_and_mode_whatever_was_there() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    write_atomic(&path, b"first, and longer", 0o600).unwrap();
    write_atomic(&path, b"second", 0o644).unwrap();
    assert_eq!(std::fs::read(&path).unwrap(), b"second");
    assert_eq!(mode(&path), 0o644);
    assert_eq!(names(folder.path()), ["state"]);
}

#[test]
fn a_temporary_file_is_its_owners_alone() {
    let folder = tempfile::tempdir().unwrap();
    let (temporary, _file) = create_temporary(&folder.path().join("state")).unwrap();
    assert_eq!(mode(&temporary) & 0o077, 0);
    assert!(disk::create_new(CWD, &temporary).is_err(), "an existing file must not be reused");
}

#[test]
fn sweeping_takes_what_a_crash_left_and_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    write_atomic(&state, b"kept", 0o600).unwrap();
    drop(create_temporary(&state).unwrap());
    drop(create_temporary(&state).unwrap());
    std::fs::write(folder.path().join(".hidden"), "kept").unwrap();
    assert_eq!(sweep_temporaries(folder.path()).unwrap(), 2);
    assert_eq!(names(folder.path()), [".hidden", "state"]);
}

#[test]
fn writers_of_one_file_never_mix() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    std::thread::scope(|scope| {
        for letter in [b'a', b'b', b'c', b'd'] {
            let path = &path;
            scope.spawn(move || (0..20).for_each(|_| write_atomic(path, &[letter; 10_000], 0o600).unwrap()));
        }
    });
    let bytes = std::fs::read(&path).unwrap();
    assert_eq!(bytes.len(), 10_000);
    assert!(bytes.iter().all(|byte| byte == &bytes[0]));
    assert_eq!(names(folder.path()), ["state"]);
}

#[test]
fn a_folder_is_not_made_over_a_file_or_a_link() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    std::fs::write(&file, "").unwrap();
    assert!(create_folder(&file, 0o700).is_err());
    let elsewhere = tempfile::tempdir().unwrap();
    let before = mode(elsewhere.path());
    let link = folder.path().join("link");
    std::os::unix::fs::symlink(elsewhere.path(), &link).unwrap();
    assert!(create_folder(&link, 0o777).is_err());
    assert_eq!(mode(elsewhere.path()), before);
}

#[test]
fn folders_are_made_with_their_mode_whether_there_or_not() {
    let folder = tempfile::tempdir().unwrap();
    let deep = folder.path().join("a/b/c");
    create_folder(&deep, 0o750).unwrap();
    assert_eq!([mode(&deep), mode(&folder.path().join("a"))], [0o750, 0o750]);
    create_folder(&deep, 0o700).unwrap();
    assert_eq!([mode(&deep), mode(&folder.path().join("a"))], [0o700, 0o750]);
}

#[test]
fn removing_says_whether_there_was_something() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state");
    assert!(!remove_file(&path).unwrap());
    write_atomic(&path, b"x", 0o600).unwrap();
    assert!(remove_file(&path).unwrap());
    assert!(!path.exists());
    assert!(remove_file(folder.path()).is_err(), "a folder is not a file");
}
