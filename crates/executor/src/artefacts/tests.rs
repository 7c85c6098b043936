use super::*;
use std::os::unix::fs::PermissionsExt as _;

fn place() -> (tempfile::TempDir, Layout, AppRef) {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path(), folder.path().join("run"));
    layout.create().unwrap();
    (folder, layout, "shop".parse().unwrap())
}

/// An artefact as assembling leaves it: read-only to the innermost folder.
fn stand(layout: &Layout, app: &AppRef, word: &str) -> Digest {
    let digest = Digest::of(word);
    let deep = layout.files(app, &digest).join("a/b");
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("file"), word).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", deep.join("link")).unwrap();
    for folder in [deep.as_path(), deep.parent().unwrap()] {
        std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o555)).unwrap();
    }
    let record = ArtefactRecord { manifest: digest, bytes: 10 };
    allod_store::save(&Artefact::record_path(&layout.artefact(app, &digest)), &record, 0o400).unwrap();
    digest
}

#[test]
fn an_artefact_whose_name_only_begins_alike_is_another() {
    let (_folder, layout, app) = place();
    let one = stand(&layout, &app, "one");
    let mut twin = *one.as_bytes();
    twin[31] ^= 1;
    let twin = Digest::from_bytes(twin);
    assert_eq!(find(&layout, &app, &twin).unwrap_err().code, FaultCode::Conflict);
    assert!(remove(&layout, &app, &twin).is_err());
    assert!(find(&layout, &app, &one).unwrap().is_some());
}

#[test]
fn a_damaged_artefact_is_an_error_and_not_absent() {
    let (_folder, layout, app) = place();
    let one = stand(&layout, &app, "one");
    let path = Artefact::record_path(&layout.artefact(&app, &one));
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "{").unwrap();
    assert!(find(&layout, &app, &one).is_err());
}

#[test]
fn pruning_removes_exactly_what_is_not_kept() {
    let (_folder, layout, app) = place();
    let (one, two, three) = (stand(&layout, &app, "1"), stand(&layout, &app, "2"), stand(&layout, &app, "3"));
    assert_eq!(prune(&layout, &app, &[two]).unwrap(), 20);
    assert_eq!(list(&layout, &app).unwrap().iter().map(|it| it.manifest).collect::<Vec<_>>(), [two]);
    for gone in [one, three] {
        assert!(!layout.artefact(&app, &gone).exists());
        remove(&layout, &app, &gone).unwrap();
    }
    assert_eq!(std::fs::read_dir(layout.artefacts(&app)).unwrap().count(), 1, "nothing is left over");
}

#[test]
fn a_link_inside_is_removed_and_never_followed() {
    let (folder, layout, app) = place();
    let victim = folder.path().join("victim");
    std::fs::create_dir(&victim).unwrap();
    std::fs::write(victim.join("kept"), "").unwrap();
    let one = stand(&layout, &app, "one");
    std::os::unix::fs::symlink(&victim, layout.files(&app, &one).join("folder")).unwrap();
    remove(&layout, &app, &one).unwrap();
    assert!(victim.join("kept").exists());
    std::os::unix::fs::symlink(&victim, layout.artefacts(&app).join("0011223344556677")).unwrap();
    remove_all(&layout, &app).unwrap();
    assert!(victim.join("kept").exists());
    assert!(!layout.artefacts(&app).exists());
}

#[test]
fn leftovers_of_crashes_are_swept_and_artefacts_are_not() {
    let (_folder, layout, app) = place();
    let one = stand(&layout, &app, "one");
    let folder = layout.artefacts(&app);
    std::fs::create_dir_all(folder.join("0011223344556677.building-1/files/x")).unwrap();
    std::fs::rename(layout.artefact(&app, &stand(&layout, &app, "two")), folder.join("aa.removing-7"))
        .unwrap();
    assert_eq!(sweep(&layout).unwrap(), 2);
    assert_eq!(list(&layout, &app).unwrap().len(), 1);
    assert!(find(&layout, &app, &one).unwrap().is_some());
}
