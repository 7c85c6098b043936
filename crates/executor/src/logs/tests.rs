use super::*;
use std::os::unix::fs::symlink;

const FILE: &str = "web-0011aabb.0123456789ab.log";

fn place() -> (tempfile::TempDir, Layout, AppRef) {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path(), folder.path().join("run"));
    let app: AppRef = "shop".parse().unwrap();
    std::fs::create_dir_all(layout.logs(&app)).unwrap();
    (folder, layout, app)
}

#[test]
fn a_name_that_is_not_a_log_files_is_refused() {
    let (_folder, layout, app) = place();
    let names = [
        "",
        "..",
        "/etc/passwd",
        "../x.0123456789ab.log",
        "web-0011aabb.log",
        "web-0011aabb.0123456789ab.log.2",
        "web-0011aabb.0123456789ab.log\0",
        "a/web-0011aabb.0123456789ab.log",
        "web-0011aabb.0123456789ab.log.1.1",
    ];
    for name in names {
        assert_eq!(read(&layout, &app, name, 0, 10).unwrap_err().code, FaultCode::Invalid, "{name:?}");
    }
}

#[test]
fn a_link_pipe_or_folder_that_the_app_planted_is_not_read() {
    let (folder, layout, app) = place();
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "canary").unwrap();
    let path = layout.logs(&app).join(FILE);
    symlink(&secret, &path).unwrap();
    assert!(read(&layout, &app, FILE, 0, 10).is_err());
    assert!(list(&layout, &app).unwrap().is_empty());
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    assert!(read(&layout, &app, FILE, 0, 10).is_err());
    std::fs::remove_dir(&path).unwrap();
    let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert!(read(&layout, &app, FILE, 0, 10).is_err());
    assert!(list(&layout, &app).unwrap().is_empty());
}

#[test]
fn a_log_that_is_not_there_is_not_found_and_beyond_its_end_is_nothing() {
    let (_folder, layout, app) = place();
    assert_eq!(read(&layout, &app, FILE, 0, 10).unwrap_err().code, FaultCode::NotFound);
    std::fs::write(layout.logs(&app).join(FILE), "0123456789").unwrap();
    assert_eq!(read(&layout, &app, FILE, 10, 5).unwrap(), (Vec::new(), 10));
    assert_eq!(read(&layout, &app, FILE, u64::MAX, 5).unwrap(), (Vec::new(), 10));
    assert_eq!(read(&layout, &app, FILE, 3, 4).unwrap(), (b"3456".to_vec(), 10));
    std::fs::write(layout.logs(&app).join(FILE), vec![b'x'; limits::LOG_PART * 2]).unwrap();
    assert_eq!(read(&layout, &app, FILE, 0, usize::MAX).unwrap().0.len(), limits::LOG_PART);
}

#[test]
fn pruning_spares_the_logs_of_what_runs_and_takes_the_oldest_first() {
    let (_folder, layout, app) = place();
    for (name, age) in [("aa", 30), ("bb", 20), ("cc", 10)] {
        let path = layout.logs(&app).join(format!("web-000000{name}.0123456789ab.log"));
        let file = std::fs::File::create(path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(1000 - age)).unwrap();
    }
    let alive = [InstanceId::new("web-000000aa").unwrap()];
    let left =
        || list(&layout, &app).unwrap().into_iter().map(|file| file.instance.to_string()).collect::<Vec<_>>();
    assert_eq!(left(), ["web-000000aa", "web-000000bb", "web-000000cc"]);
    assert_eq!(prune(&layout, &app, &alive, Timestamp(0), 3).unwrap(), 0);
    assert_eq!(prune(&layout, &app, &alive, Timestamp(0), 2).unwrap(), 1);
    assert_eq!(left(), ["web-000000aa", "web-000000cc"]);
    assert_eq!(prune(&layout, &app, &alive, Timestamp(2_000_000), 100).unwrap(), 1);
    assert_eq!(left(), ["web-000000aa"]);
}
