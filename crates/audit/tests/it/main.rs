//! The record on a real disk, and checked by programs that know nothing of it.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "helpers of tests")]

use allod_audit::{Clock, Entry, Line, Record, RecordError, Settings, verify};
use allod_proto::{Timestamp, headers::HEAD_NAMESPACE, record::SignedHead};
use allod_signing::{KeySigner, Signer};
use allod_store::{
    StoreError,
    power_cut::{Story, survives},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

fn settings(folder: &Path) -> Settings {
    let clock: Clock = Arc::new(|| (Timestamp(1_700_000_000_000), 5));
    Settings { segment_bytes: 3000, ..Settings::new(folder.join("record"), clock) }
}

fn key() -> Arc<KeySigner> {
    Arc::new(KeySigner::generate([3; 32], "record"))
}

fn open(folder: &Path) -> Record {
    Record::open(settings(folder), key()).unwrap().0
}

fn fill(record: &Record, count: usize) {
    for number in 0..count {
        record.append(Entry::note("test", format!("note {number} \u{2028}\n\"'$(reboot)`"))).unwrap();
    }
}

/// Whether the program is here. Its absence is said aloud, and is a failure where `ALLOD_PEERS=required`.
#[expect(clippy::disallowed_methods, reason = "a test that runs real peers")]
fn has(program: &str) -> bool {
    let here = Command::new("sh")
        .args(["-c", "command -v \"$0\"", program])
        .stdout(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !here {
        assert_ne!(std::env::var("ALLOD_PEERS").as_deref(), Ok("required"), "{program} is not installed");
        eprintln!("SKIPPED: {program} is not installed");
    }
    here
}

#[expect(clippy::disallowed_methods, reason = "a test that runs real peers")]
fn run(program: &str, arguments: &[&str], input: &[u8]) -> (bool, String) {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// The first script of the README.
fn script() -> &'static str {
    let readme = include_str!("../../README.md");
    readme.split_once("```sh\n").unwrap().1.split_once("```").unwrap().0
}

/// What that script says of a record, and whether it finds it whole.
fn by_shell(record: &Path, key: &KeySigner) -> (bool, String) {
    let key = key.public_key().to_openssh();
    run("sh", &["-c", script(), "sh", record.to_str().unwrap(), &key], b"")
}

fn edit(file: &Path, how: impl FnOnce(&mut Vec<String>)) {
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    how(&mut lines);
    std::fs::write(file, lines.concat()).unwrap();
}

#[test]
fn x12_ten_lines_of_shell_check_a_record_and_find_each_way_of_tampering_with_it() {
    if !has("sh") || !has("sha256sum") || !has("ssh-keygen") {
        return;
    }
    assert!(script().lines().count() <= 10, "it is read by people");
    let folder = tempfile::tempdir().unwrap();
    let record = open(folder.path());
    fill(&record, 30);
    let older = folder.path().join("older");
    copy(&folder.path().join("record"), &older);
    fill(&record, 10);
    record.close().unwrap();
    let good = folder.path().join("record");
    let (whole, said) = by_shell(&good, &key());
    assert!(whole && said.starts_with("from line 1\nGood"), "{said}");

    let tampered = |how: &dyn Fn(&Path)| {
        let copied = folder.path().join("tampered");
        let _ = std::fs::remove_dir_all(&copied);
        copy(&good, &copied);
        how(&copied);
        let (whole, said) = by_shell(&copied, &key());
        assert!(!whole, "{said}");
        said
    };
    let (first, last) = ("00000000000000000001.jsonl", newest(&good));
    let of_first = |how: fn(&mut Vec<String>)| tampered(&|record| edit(&record.join(first), how));
    assert!(
        of_first(|lines| lines[4] = lines[4].replace("note 4", "note 5")).ends_with("broken at line 6\n")
    );
    assert!(of_first(|lines| drop(lines.remove(4))).ends_with("broken at line 5\n"));
    assert!(of_first(|lines| lines.swap(4, 5)).ends_with("broken at line 5\n"));
    assert!(of_first(|lines| lines.insert(4, lines[3].clone())).ends_with("broken at line 5\n"));
    let gone = |said: String| assert!(said.ends_with("which was signed, is gone\n"), "{said}");
    gone(tampered(&|record| edit(&record.join(&last), |lines| drop(lines.pop()))));
    gone(tampered(&|record| edit(&record.join(&last), |lines| lines.last_mut().unwrap().truncate(20))));
    gone(tampered(&|record| std::fs::remove_file(record.join(&last)).unwrap()));
    // The last line edited, with all that could contradict it but the signature.
    let forged = tampered(&|record| {
        edit(&record.join(&last), |lines| {
            let line = lines.last_mut().unwrap();
            *line = line.replace("note 9", "note 8");
        });
        let line = std::fs::read_to_string(record.join(&last)).unwrap();
        let hash = allod_proto::Digest::of(line.split_inclusive('\n').next_back().unwrap());
        edit(&record.join("head.json"), |lines| {
            let of_hash = lines.iter_mut().find(|line| line.contains("\"hash\"")).unwrap();
            *of_hash = format!("  \"hash\": \"{hash}\",\n");
        });
    });
    assert!(forged.contains("Could not verify signature"), "{forged}");
    // An older copy beside the newer head, and all of it under another key.
    gone(tampered(&|record| {
        for entry in std::fs::read_dir(record).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "jsonl") {
                std::fs::remove_file(path).unwrap();
            }
        }
        let head = std::fs::read(record.join("head.json")).unwrap();
        copy(&older, record);
        std::fs::write(record.join("head.json"), head).unwrap();
    }));
    let (whole, said) = by_shell(&good, &KeySigner::generate([4; 32], "another"));
    assert!(!whole, "{said}");
}

fn newest(record: &Path) -> String {
    let names =
        std::fs::read_dir(record).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name.ends_with(".jsonl") && name.starts_with('0')).max().unwrap()
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        std::fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
    }
}

#[test]
fn ssh_keygen_verifies_a_head() {
    if !has("ssh-keygen") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let record = open(folder.path());
    fill(&record, 3);
    let signed = record.head().unwrap();
    let blob = STANDARD.decode(&signed.signature).unwrap();
    let lines: Vec<String> = STANDARD
        .encode(&blob)
        .as_bytes()
        .chunks(70)
        .map(|part| String::from_utf8_lossy(part).into_owned())
        .collect();
    let armour =
        format!("-----BEGIN SSH SIGNATURE-----\n{}\n-----END SSH SIGNATURE-----\n", lines.join("\n"));
    let signature = folder.path().join("head.sig");
    std::fs::write(&signature, armour).unwrap();
    let allowed = folder.path().join("allowed");
    std::fs::write(&allowed, format!("record {}\n", key().public_key().to_openssh())).unwrap();
    let check = |message: &[u8]| {
        let (allowed, signature) = (allowed.to_str().unwrap(), signature.to_str().unwrap());
        run(
            "ssh-keygen",
            &["-Y", "verify", "-f", allowed, "-I", "record", "-n", HEAD_NAMESPACE, "-s", signature],
            message,
        )
    };
    let other = allod_proto::record::Head { seq: 4, ..signed.head };
    assert!(!check(&SignedHead::signed_bytes(&other, signed.at)).0);
    let (good, text) = check(&SignedHead::signed_bytes(&signed.head, signed.at));
    assert!(good, "{text}");
}

/// Whoever changes the format adds a folder and keeps this one: the format before is read for ever by its successor.
#[test]
fn a_record_written_in_format_1_is_read_verified_and_carried_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record");
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/format-1"), &path);
    let report = verify(&path, Some(key().public_key()), &[]).unwrap();
    assert_eq!((report.head.seq, report.segments, report.heads_compared), (12, 2, 2));
    let (record, opened) = Record::open(settings(folder.path()), key()).unwrap();
    assert_eq!((opened.lines, opened.damage, opened.cut_after), (12, None, None));
    assert_eq!(opened.unfinished.len(), 0);
    let lines = record.read(1, 100).unwrap();
    assert!(lines.iter().all(|line| Line::parse(line).is_ok()));
    assert_eq!(record.append(Entry::note("test", "on")).unwrap().seq, 13);
}

#[test]
fn a_record_of_a_newer_format_is_refused_with_the_version_it_needs_and_not_touched() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("record");
    std::fs::create_dir(&path).unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/record-head.format-1.json");
    let newer = std::fs::read_to_string(fixture).unwrap().replacen("\"format\": 1", "\"format\": 2", 1);
    std::fs::write(path.join("head.json"), &newer).unwrap();
    let Err(RecordError::Store(error)) = Record::open(settings(folder.path()), key()) else {
        panic!("it was opened, or refused for another reason")
    };
    assert!(error.to_string().contains("use a version that reads 2"), "{error}");
    assert_eq!(std::fs::read_to_string(path.join("head.json")).unwrap(), newer);
}

#[test]
fn what_was_acknowledged_is_in_the_folder_after_a_power_cut_or_a_kill_anywhere() {
    let show = |folder: &Path| {
        let (record, opened) = Record::open(settings(folder), key()).map_err(|error| error.to_string())?;
        if opened.cut_after.is_some() || opened.damage.is_some() {
            return Err(format!("{:?} {:?}", opened.cut_after, opened.damage));
        }
        let lines = record.read(1, 100).map_err(|error| error.to_string())?;
        let path = folder.join("record");
        record.close().map_err(|error| error.to_string())?;
        verify(&path, Some(key().public_key()), &[]).map_err(|error| error.to_string())?;
        let noted = |number: &usize| lines.iter().any(|line| line.contains(&format!("note {number} ")));
        Ok((0..40).filter(noted).count())
    };
    // A new segment begins on the way.
    let tell = |story: &mut Story<usize>| {
        let mut open = None;
        story.step(|folder| {
            Record::open(settings(folder), key()).map(|(record, _)| open = Some(record)).map(|()| 0)
        });
        for number in 0..12 {
            story.step(|_| {
                let entry = Entry::note("test", format!("note {number} {}", "x".repeat(200)));
                open.as_ref().ok_or_else(|| "not open".to_owned()).and_then(|record| {
                    record.append(entry).map(|_| number + 1).map_err(|error| error.to_string())
                })
            });
        }
        // Killed, not closed.
        std::mem::forget(open);
    };
    survives(120, |_| {}, tell, show).unwrap();
}

#[test]
fn a_second_writer_is_refused_and_a_reader_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let record = open(folder.path());
    fill(&record, 2);
    match Record::open(settings(folder.path()), key()) {
        Err(RecordError::Store(error)) => assert!(matches!(*error, StoreError::Locked { .. }), "{error}"),
        other => panic!("{:?}", other.map(|(_, opened)| opened)),
    }
    let report = verify(&folder.path().join("record"), Some(key().public_key()), &[]).unwrap();
    assert_eq!(report.head, record.head().unwrap().head);
    drop(record);
    assert_eq!(open(folder.path()).head().unwrap().head.seq, 2);
}

#[test]
fn the_files_are_their_owners_alone_and_exactly_the_lines() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let record = open(folder.path());
    fill(&record, 30);
    let lines = record.read(1, 100).unwrap();
    let path = folder.path().join("record");
    let segments = || {
        let names =
            std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| name.starts_with('0')).collect();
        names.sort();
        names.iter().map(|name| std::fs::read_to_string(path.join(name)).unwrap()).collect::<String>()
    };
    // Room that is set aside is not in the file: it is as long as its lines, also while it is written.
    let expected: String = lines.iter().map(|line| format!("{line}\n")).collect();
    assert_eq!(segments(), expected);
    record.close().unwrap();
    assert_eq!(segments(), expected);
    let mode = |path: &Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&path), 0o700);
    for entry in std::fs::read_dir(&path).unwrap() {
        assert_eq!(mode(&entry.unwrap().path()), 0o600);
    }
}

#[test]
fn what_nobody_waits_for_becomes_durable_by_itself_and_the_head_is_written_down() {
    let folder = tempfile::tempdir().unwrap();
    let record = open(folder.path());
    record.append_later(Entry::note("test", "later")).unwrap();
    let begun = Instant::now();
    let wait = |what: &str, done: &dyn Fn() -> bool| {
        while !done() {
            assert!(begun.elapsed() < Duration::from_secs(20), "{what}");
            std::thread::park_timeout(Duration::from_millis(5));
        }
    };
    wait("the entry", &|| record.head().unwrap().head.seq == 1);
    assert_eq!(Line::parse(&record.read(1, 1).unwrap()[0]).unwrap().seq, 1);
    let head = folder.path().join("record/head.json");
    wait("the head", &|| std::fs::read_to_string(&head).unwrap().contains("\"seq\": 1,"));
}

#[test]
fn writers_and_a_verifying_reader_do_not_disturb_each_other() {
    let folder = tempfile::tempdir().unwrap();
    let record = open(folder.path());
    fill(&record, 1);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            let record = record.clone();
            scope.spawn(move || fill(&record, 25));
        }
        for _ in 0..10 {
            let seen = record.head().unwrap().head;
            let report = verify(&folder.path().join("record"), Some(key().public_key()), &[seen]).unwrap();
            assert!(report.head.seq >= seen.seq);
        }
    });
    record.close().unwrap();
    assert_eq!(verify(&folder.path().join("record"), Some(key().public_key()), &[]).unwrap().head.seq, 101);
}
