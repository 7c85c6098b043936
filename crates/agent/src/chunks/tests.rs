use super::*;

const NOW: Timestamp = Timestamp(1_780_000_000_000);
const BEFORE: &str = "life-1";
const AFTER: &str = "life-2";

fn app() -> AppRef {
    "blog".parse().unwrap()
}

fn tear(chunks: &Chunks, digest: &Digest) {
    std::fs::write(chunks.of(&app()).join(digest.to_string()), b"").unwrap();
}

#[test]
fn a_chunk_that_a_power_cut_tore_is_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let (torn, whole) = (Digest::of("torn"), Digest::of("whole"));
    let chunks = Chunks::open(folder.path(), BEFORE).unwrap();
    chunks.keep(&app(), &torn, b"torn", NOW).unwrap();
    chunks.keep(&app(), &whole, b"whole", NOW).unwrap();
    tear(&chunks, &torn);
    let chunks = Chunks::open(folder.path(), AFTER).unwrap();
    assert_eq!(chunks.missing(&app(), &[torn, whole], NOW).unwrap(), [torn]);
    chunks.keep(&app(), &torn, b"torn", NOW).unwrap();
    assert!(chunks.missing(&app(), &[torn, whole], NOW).unwrap().is_empty());
}

#[test]
fn a_life_of_the_machine_that_is_not_known_counts_as_another() {
    let folder = tempfile::tempdir().unwrap();
    let torn = Digest::of("torn");
    let chunks = Chunks::open(folder.path(), "").unwrap();
    chunks.keep(&app(), &torn, b"torn", NOW).unwrap();
    tear(&chunks, &torn);
    assert_eq!(Chunks::open(folder.path(), "").unwrap().missing(&app(), &[torn], NOW).unwrap(), [torn]);
}

#[test]
fn what_is_on_the_disk_is_not_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let chunk = Digest::of("chunk");
    let chunks = Chunks::open(folder.path(), BEFORE).unwrap();
    chunks.keep(&app(), &chunk, b"chunk", NOW).unwrap();
    assert!(folder.path().join("chunks").join(MARK).exists());
    chunks.sync().unwrap();
    assert!(!folder.path().join("chunks").join(MARK).exists());
    // The executor would notice; here it shows that nobody looked.
    tear(&chunks, &chunk);
    assert!(Chunks::open(folder.path(), AFTER).unwrap().missing(&app(), &[chunk], NOW).unwrap().is_empty());
}

#[test]
fn an_agent_that_starts_again_on_a_machine_that_stayed_up_keeps_the_mark() {
    let folder = tempfile::tempdir().unwrap();
    let chunk = Digest::of("chunk");
    Chunks::open(folder.path(), BEFORE).unwrap().keep(&app(), &chunk, b"chunk", NOW).unwrap();
    let chunks = Chunks::open(folder.path(), BEFORE).unwrap();
    assert!(folder.path().join("chunks").join(MARK).exists());
    chunks.sync().unwrap();
    assert!(!folder.path().join("chunks").join(MARK).exists());
}

const HOUR: std::time::Duration = std::time::Duration::from_secs(3600);

fn later(hours: u32) -> Timestamp {
    NOW.plus(HOUR * hours)
}

fn sent(chunks: &Chunks, app: &AppRef, text: &str, now: Timestamp) -> Digest {
    let digest = Digest::of(text);
    chunks.keep(app, &digest, text.as_bytes(), now).unwrap();
    // Kept by the kernel's clock; the tests have their own.
    leases::renew(&chunks.of(app).join(digest.to_string()), now).unwrap();
    digest
}

fn is_there(chunks: &Chunks, app: &AppRef, digest: &Digest) -> bool {
    chunks.of(app).join(digest.to_string()).is_file()
}

/// A release of one file, as it is uploaded.
fn release(chunks: &Chunks, app: &AppRef, file: &str, now: Timestamp) -> (Release, Vec<Digest>) {
    use allod_proto::{manifest::ManifestEntry, spec::AppSpec};
    let part = sent(chunks, app, file, now);
    let size = u64::try_from(file.len()).unwrap();
    let what = EntryKind::File { executable: false, size, chunks: vec![part] };
    let spec = AppSpec {
        app: app.clone(),
        units: std::collections::BTreeMap::new(),
        vars: std::collections::BTreeMap::new(),
        secrets: std::collections::BTreeMap::new(),
        release_command: None,
        keep_releases: 1,
    };
    let entries = vec![ManifestEntry { path: "page".to_owned(), what }];
    let manifest = Manifest { format: 1, spec: spec.clone(), architecture: None, version: None, entries };
    let json = serde_json::to_string(&manifest).unwrap();
    let size = u64::try_from(json.len()).unwrap();
    let described = sent(chunks, app, &json, now);
    let index = ManifestIndex { format: 1, size, chunks: vec![described] };
    let index = sent(chunks, app, &serde_json::to_string(&index).unwrap(), now);
    let release = Release {
        id: allod_proto::ReleaseId::of(&index),
        manifest: index,
        spec,
        version: None,
        secrets: std::collections::BTreeMap::new(),
        files: PathBuf::from("/nowhere"),
        made_at: now,
        by: "ann".to_owned(),
    };
    (release, vec![part, described, index])
}

#[test]
fn what_nobody_deploys_is_refused_beyond_its_quota_and_the_refusal_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let chunks = Chunks::open(folder.path(), BEFORE).unwrap();
    let one_too_many = u64::MAX / 4;
    let refused = chunks.charge(&app(), limits::UNFINISHED_UPLOADS + 1, one_too_many).unwrap_err();
    assert_eq!(refused.code, FaultCode::TooLarge);
    assert!(refused.message.contains("blog") && refused.hint.unwrap().contains("servers prune"));
    chunks.charge(&app(), limits::UNFINISHED_UPLOADS, one_too_many).unwrap();
    assert!(chunks.charge(&app(), 1, one_too_many).is_err(), "a byte is a block");
    chunks.charge(&"shop".parse().unwrap(), 1, one_too_many).unwrap();
    chunks.give_back(&app(), limits::UNFINISHED_UPLOADS);
    chunks.charge(&app(), 1, one_too_many).unwrap();
}

#[test]
fn an_upload_takes_at_most_half_of_what_would_be_free_without_it() {
    assert_eq!(quota(100, 0), 50);
    assert_eq!(quota(60, 40), 50);
    assert_eq!(quota(u64::MAX, 5), limits::UNFINISHED_UPLOADS);
}

#[test]
fn chunks_of_an_upload_that_is_under_way_stay_however_old_the_first_ones_are() {
    let folder = tempfile::tempdir().unwrap();
    let chunks = Chunks::open(folder.path(), BEFORE).unwrap();
    let first = sent(&chunks, &app(), "first", NOW);
    let last = sent(&chunks, &app(), "last", later(30));
    assert_eq!(chunks.sweep(None, &HashMap::new(), HOUR, later(30)), 0);
    assert!(is_there(&chunks, &app(), &first) && is_there(&chunks, &app(), &last));
}

#[test]
fn a_chunk_that_somebody_was_told_is_there_stays_for_whoever_was_told() {
    let folder = tempfile::tempdir().unwrap();
    let chunks = Chunks::open(folder.path(), BEFORE).unwrap();
    let chunk = sent(&chunks, &app(), "chunk", NOW);
    assert!(chunks.missing(&app(), &[chunk], later(30)).unwrap().is_empty());
    assert_eq!(chunks.sweep(None, &HashMap::new(), HOUR, later(30)), 0);
    chunks.prune(&app(), &[], later(30)).unwrap();
    assert!(is_there(&chunks, &app(), &chunk));
}

#[test]
fn the_end_of_a_deploy_takes_its_predecessors_chunks_and_none_of_the_upload_after_it() {
    let folder = tempfile::tempdir().unwrap();
    let chunks = Chunks::open(folder.path(), BEFORE).unwrap();
    let (first, of_first) = release(&chunks, &app(), "first", NOW);
    chunks.prune(&app(), &[&first], NOW).unwrap();
    let next = sent(&chunks, &app(), "the upload after it", NOW);
    let (second, of_second) = release(&chunks, &app(), "second", NOW);
    assert!(chunks.prune(&app(), &[&second], NOW).unwrap() > 0);
    assert!(!of_first.iter().any(|chunk| is_there(&chunks, &app(), chunk)), "first");
    assert!(of_second.iter().all(|chunk| is_there(&chunks, &app(), chunk)), "second");
    assert!(is_there(&chunks, &app(), &next));
    let held = *chunks.unfinished.lock().unwrap().get(&app()).unwrap();
    assert_eq!(held, 4096, "only that counts as unfinished");
}

#[test]
fn a_release_keeps_its_chunks_however_old() {
    let folder = tempfile::tempdir().unwrap();
    let chunks = Chunks::open(folder.path(), BEFORE).unwrap();
    let (serving, of_serving) = release(&chunks, &app(), "serving", NOW);
    let leftover = sent(&chunks, &app(), "of a deploy that never happened", NOW);
    let in_use = HashMap::from([(app(), vec![&serving])]);
    assert_eq!(chunks.sweep(None, &in_use, HOUR * 24, later(23)), 0, "younger than a day");
    assert_eq!(chunks.sweep(None, &in_use, HOUR * 24, later(24)), 31);
    assert!(!is_there(&chunks, &app(), &leftover));
    assert!(of_serving.iter().all(|chunk| is_there(&chunks, &app(), chunk)));
    // What is counted as unfinished afterwards is found out anew.
    assert!(!chunks.knows(&app()));
    chunks.learn(&app(), &[&serving]);
    assert_eq!(chunks.unfinished.lock().unwrap().get(&app()), Some(&0));
}

#[test]
fn an_app_that_never_was_leaves_no_folder_and_another_one_is_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let chunks = Chunks::open(folder.path(), BEFORE).unwrap();
    let other: AppRef = "shop/staging".parse().unwrap();
    sent(&chunks, &app(), "one", NOW);
    sent(&chunks, &other, "two", NOW);
    std::fs::write(chunks.of(&app()).join(".half.1-2.allod-new"), "half").unwrap();
    leases::renew(&chunks.of(&app()).join(".half.1-2.allod-new"), NOW).unwrap();
    assert_eq!(chunks.sweep(Some(&app()), &HashMap::new(), HOUR, later(1)), 7);
    assert!(!folder.path().join("chunks/blog").exists());
    assert!(chunks.of(&other).is_dir());
    sent(&chunks, &app(), "one", NOW);
}

#[test]
fn a_chunk_from_the_future_of_a_wrong_clock_does_not_stay_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let chunks = Chunks::open(folder.path(), BEFORE).unwrap();
    sent(&chunks, &app(), "chunk", later(10_000));
    assert_eq!(chunks.sweep(None, &HashMap::new(), HOUR * 24, NOW), 5);
}
