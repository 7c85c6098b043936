use super::*;
use allod_proto::{Digest, spec::AppSpec};
use std::path::PathBuf;

fn release(id: &str, keep: u32) -> Release {
    Release {
        id: id.parse().unwrap(),
        manifest: Digest::of(id),
        spec: AppSpec {
            app: "blog".parse().unwrap(),
            units: BTreeMap::new(),
            vars: BTreeMap::new(),
            secrets: BTreeMap::new(),
            release_command: None,
            keep_releases: keep,
        },
        version: None,
        secrets: BTreeMap::new(),
        files: PathBuf::from("/nowhere"),
        made_at: Timestamp(0),
        by: "test".to_owned(),
    }
}

fn opened(record: &mut AppRecord, release: Release) {
    record.keep(release.clone());
    let operation = OpenOperation {
        id: OperationId::of(&Digest::of(release.id.as_str())),
        app: record.app.clone(),
        command: "app.deploy".to_owned(),
        by: "test".to_owned(),
        at: Timestamp(0),
        goal: Goal::Release { release: Box::new(release), scale: BTreeMap::new(), from: None },
        promoted: false,
    };
    record.operation = Some(InProgress { operation, intent: 1, release_command: None });
}

fn serve(record: &mut AppRecord, id: &str, at: u64) {
    opened(record, release(id, 2));
    record.promote(Timestamp(at));
    record.operation = None;
}

const IDS: [&str; 5] = ["aaaaaaaaaaaa", "bbbbbbbbbbbb", "cccccccccccc", "dddddddddddd", "eeeeeeeeeeee"];

fn blog() -> AppRecord {
    AppRecord::new("blog".parse().unwrap())
}

#[test]
fn a_release_that_was_not_promoted_never_serves() {
    let mut record = blog();
    serve(&mut record, IDS[0], 1);
    opened(&mut record, release(IDS[1], 2));
    record.operation = None;
    assert_eq!(record.current().unwrap().id.as_str(), IDS[0]);
    assert_eq!(record.previous(), None);
}

#[test]
fn rollback_goes_to_what_served_before_and_forth_again() {
    let mut record = blog();
    serve(&mut record, IDS[0], 1);
    serve(&mut record, IDS[1], 2);
    assert_eq!(record.previous().unwrap().as_str(), IDS[0]);
    serve(&mut record, IDS[0], 3);
    assert_eq!(record.current().unwrap().id.as_str(), IDS[0]);
    assert_eq!(record.previous().unwrap().as_str(), IDS[1]);
}

#[test]
fn forgetting_keeps_the_rollback_set_and_what_is_on_its_way() {
    let mut record = blog();
    for (at, id) in (1..).zip(IDS.iter().take(4)) {
        serve(&mut record, id, at);
    }
    opened(&mut record, release(IDS[4], 2));
    let gone = record.forget_old();
    assert_eq!(gone.iter().map(ReleaseId::as_str).collect::<Vec<_>>(), [IDS[0]]);
    assert!(record.release(&IDS[4].parse().unwrap()).is_some());
    assert_eq!(record.current().unwrap().id.as_str(), IDS[3]);
}

#[test]
fn a_change_is_on_disk_before_it_is_seen_and_a_torn_file_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let layout = Layout::new(folder.path().join("state"), folder.path().join("run"));
    layout.create().unwrap();
    let app: AppRef = "blog/staging".parse().unwrap();
    let mut apps = Apps::load(layout.clone()).unwrap();
    apps.change(&app, |record| record.stopped = true).unwrap();
    assert!(Apps::load(layout.clone()).unwrap().get(&app).unwrap().stopped);

    let path = layout.app(&app);
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, &whole[..whole.len() / 2]).unwrap();
    assert!(Apps::load(layout).is_err(), "a torn file must not pass for an app that is not there");
}
