use super::*;
use crate::{
    Record, Settings,
    disk::faulty::{Fault, Faulty, Unsynced},
    fixture::{closed_record, intent, note, open_on, other_signer, outcome, settings, signer},
    verify::{Report, verify_on},
};

const ONLY: &str = "00000000000000000001.jsonl";

fn small() -> Settings {
    settings(1 << 20, 100)
}

fn check(disk: &Faulty, known: &[Head]) -> Result<Report, Found> {
    verify_on(disk, Some(signer().public_key()), known)
}

fn lines(record: &Record) -> Vec<Line> {
    record.read(1, 10_000).unwrap().iter().map(|line| Line::parse(line).unwrap()).collect()
}

fn notes(record: &Record) -> Vec<String> {
    let note = |line: Line| match line.entry {
        Entry::Note(note) => Some(note.what),
        _ => None,
    };
    lines(record).into_iter().filter_map(note).filter(|what| what != "test").collect()
}

#[test]
fn a_cut_record_is_not_bricked_and_says_for_ever_what_is_missing() {
    let disk = closed_record(10, &small());
    let signed = check(&disk, &[]).unwrap().head;
    let kept: Vec<u8> = disk.file(ONLY).split_inclusive(|b| *b == b'\n').take(7).flatten().copied().collect();
    disk.set_file(ONLY, &kept);
    let (record, opened) = open_on(&disk, &small()).unwrap();
    assert_eq!(opened.cut_after, Some(signed));
    assert_eq!(opened.lines, 7);
    let head = record.append(note(1)).unwrap();
    assert_eq!(head.seq, 12, "behind the note, behind the signed head");
    assert_eq!(notes(&record), [CUT]);
    record.close().unwrap();
    let report = check(&disk, &[signed, head]).unwrap();
    assert_eq!(report.gaps.len(), 1);
    assert_eq!((report.gaps[0].after.seq, report.gaps[0].next), (7, 11));
    assert_eq!(report.incidents, [11]);
    let (_, again) = open_on(&disk, &small()).unwrap();
    assert_eq!(again.cut_after, None);
}

#[test]
fn a_record_emptied_but_for_its_head_carries_on_behind_it() {
    let disk = closed_record(10, &small());
    let signed = check(&disk, &[]).unwrap().head;
    disk.remove(ONLY).unwrap();
    let (record, opened) = open_on(&disk, &small()).unwrap();
    assert_eq!(opened.cut_after, Some(signed));
    assert_eq!(record.append(note(1)).unwrap().seq, 12);
    record.close().unwrap();
    assert_eq!(check(&disk, &[signed]).unwrap().oldest, 11);
}

#[test]
fn a_tail_torn_below_the_signed_head_is_a_cut() {
    let disk = closed_record(10, &small());
    let bytes = disk.file(ONLY);
    disk.set_file(ONLY, &bytes[..bytes.len() - 1]);
    let (record, opened) = open_on(&disk, &small()).unwrap();
    assert!(opened.torn_tail_bytes_cut > 0);
    assert_eq!(opened.cut_after.map(|head| head.seq), Some(10));
    assert_eq!(notes(&record), [CUT, TORN]);
}

#[test]
fn an_edited_record_is_left_as_evidence_and_carries_on_elsewhere() {
    let disk = closed_record(10, &small());
    let text = String::from_utf8(disk.file(ONLY)).unwrap().replace("note 3", "note 4");
    disk.set_file(ONLY, text.as_bytes());
    let (record, opened) = open_on(&disk, &small()).unwrap();
    assert_eq!(opened.damage.as_ref().map(|found| &found.what), Some(&What::Edited));
    assert_eq!(record.append(note(1)).unwrap().seq, 12);
    assert_eq!(notes(&record), [DAMAGED]);
    record.close().unwrap();
    assert_eq!(disk.file(ONLY), text.as_bytes());
    assert_eq!(check(&disk, &[]).unwrap_err().what, What::Edited);
}

#[test]
fn a_last_line_that_was_not_the_signed_one_is_flagged_and_the_signed_head_kept() {
    let disk = closed_record(10, &small());
    let head_file = disk.file(HEAD_FILE);
    let text = String::from_utf8(disk.file(ONLY)).unwrap().replace("note 9", "note 8");
    disk.set_file(ONLY, text.as_bytes());
    let (record, opened) = open_on(&disk, &small()).unwrap();
    assert!(matches!(opened.damage.map(|found| found.what), Some(What::Replaced { .. })));
    assert_eq!(notes(&record), [DAMAGED]);
    assert_eq!(disk.file("head.json.1.torn"), head_file);
    record.close().unwrap();
    assert_eq!(check(&disk, &[]).unwrap().incidents, [11]);
}

#[test]
fn a_head_that_another_key_signed_moves_no_number() {
    let disk = closed_record(3, &small());
    let far = Head { seq: u64::MAX - 1, hash: allod_proto::Digest::of("far") };
    let forged = sign(other_signer().as_ref(), far, Timestamp(1)).unwrap();
    disk.set_file(HEAD_FILE, &HeadRecord { signed: forged, open: vec![1] }.to_bytes().unwrap());
    let (record, opened) = open_on(&disk, &small()).unwrap();
    assert!(opened.damage.is_some() && opened.cut_after.is_none());
    assert_eq!(record.append(note(1)).unwrap().seq, 5);
}

#[test]
fn a_head_that_is_gone_or_garbage_is_flagged() {
    for garbage in [None, Some(&b""[..]), Some(b"\0\0\0"), Some(b"{\"format\":1}")] {
        let disk = closed_record(3, &small());
        match garbage {
            None => disk.remove(HEAD_FILE).unwrap(),
            Some(bytes) => disk.set_file(HEAD_FILE, bytes),
        }
        let (record, opened) = open_on(&disk, &small()).unwrap();
        assert!(opened.damage.is_some(), "{garbage:?}");
        assert_eq!(notes(&record), [DAMAGED]);
        record.close().unwrap();
        assert_eq!(check(&disk, &[]).unwrap().incidents, [4]);
    }
}

#[test]
fn a_record_of_a_newer_format_is_refused_untouched() {
    let disk = closed_record(3, &small());
    let newer = String::from_utf8(disk.file(HEAD_FILE)).unwrap().replace("\"format\": 1", "\"format\": 2");
    disk.set_file(HEAD_FILE, newer.as_bytes());
    let error = open_on(&disk, &small()).err().unwrap();
    assert!(
        matches!(&error, RecordError::Store(inner) if inner.to_string().contains("format 2")),
        "{error:?}"
    );
    assert_eq!(disk.file(HEAD_FILE), newer.as_bytes());
}

#[test]
fn an_unfinished_line_is_set_aside_and_said() {
    for tail in [&b"{\"prev\":\"0123"[..], b"{", b"\0\0\0\0", b"\0\0\0\n{\"prev\":\"\n", b"garbage"] {
        let disk = closed_record(4, &small());
        let mut bytes = disk.file(ONLY);
        bytes.extend_from_slice(tail);
        disk.set_file(ONLY, &bytes);
        let (record, opened) = open_on(&disk, &small()).unwrap();
        assert_eq!(opened.torn_tail_bytes_cut, u64::try_from(tail.len()).unwrap(), "{tail:?}");
        assert_eq!((opened.cut_after, opened.damage), (None, None), "{tail:?}");
        assert_eq!(disk.file("00000000000000000001.jsonl.1.torn"), tail);
        assert_eq!(notes(&record), [TORN]);
        record.close().unwrap();
        assert_eq!(check(&disk, &[]).unwrap().head.seq, 5);
    }
}

#[test]
fn a_segment_in_which_no_line_was_finished_is_set_aside() {
    let disk = closed_record(4, &small());
    disk.set_file("00000000000000000005.jsonl", b"{\"prev\":\"01");
    let (record, opened) = open_on(&disk, &small()).unwrap();
    assert_eq!(opened.torn_tail_bytes_cut, 11);
    assert_eq!(record.append(note(1)).unwrap().seq, 6);
    record.close().unwrap();
    assert_eq!(check(&disk, &[]).unwrap().segments, 1);
}

#[test]
fn a_change_without_outcome_gets_the_outcome_unknown_once() {
    let disk = Faulty::default();
    let (record, _) = open_on(&disk, &small()).unwrap();
    let done = record.append(intent("done")).unwrap();
    let lost = record.append(intent("lost")).unwrap();
    record.append(outcome(done)).unwrap();
    // Not closed: the program is killed.
    let (record, opened) = open_on(&disk.copy(), &small()).unwrap();
    assert_eq!(opened.unfinished.iter().map(|line| line.seq).collect::<Vec<_>>(), [lost.seq]);
    match &lines(&record)[3].entry {
        Entry::Outcome(outcome) => assert_eq!((outcome.intent, outcome.result), (lost.seq, Ending::Unknown)),
        other => panic!("{other:?}"),
    }
    drop(record);
    let disk = disk.copy();
    drop(open_on(&disk, &small()).unwrap());
    assert!(open_on(&disk, &small()).unwrap().1.unfinished.is_empty());
}

#[test]
fn a_change_whose_line_was_cut_is_not_carried_along() {
    let disk = Faulty::default();
    let (record, _) = open_on(&disk, &small()).unwrap();
    record.append(intent("gone")).unwrap();
    record.close().unwrap();
    disk.remove(ONLY).unwrap();
    let (_, opened) = open_on(&disk, &small()).unwrap();
    assert!(opened.unfinished.is_empty() && opened.cut_after.is_some());
    assert!(HeadRecord::from_bytes(&disk.file(HEAD_FILE)).unwrap().open.is_empty());
}

#[test]
fn a_change_that_began_many_segments_ago_is_not_forgotten() {
    let disk = Faulty::default();
    let (record, _) = open_on(&disk, &settings(2000, 100)).unwrap();
    let long = record.append(intent("long")).unwrap();
    for number in 0..50 {
        record.append(note(number)).unwrap();
    }
    let (record, opened) = open_on(&disk.copy(), &settings(2000, 100)).unwrap();
    assert!(record.oldest() == 1 && lines(&record).len() > 52, "the segments and what is kept of them");
    assert_eq!(opened.unfinished.iter().map(|line| line.seq).collect::<Vec<_>>(), [long.seq]);
}

/// A day in the life of a record: changes, reads, rotations, the keeper's work, a restart. Gives what was acknowledged.
fn day(disk: &Faulty, settings: &Settings) -> (Vec<Head>, Option<RecordError>) {
    let mut acknowledged = Vec::new();
    let result = live(disk, settings, &mut acknowledged);
    (acknowledged, result.err())
}

fn live(disk: &Faulty, settings: &Settings, acknowledged: &mut Vec<Head>) -> Result<(), RecordError> {
    for round in 0..3 {
        let (record, _) = open_on(disk, settings)?;
        for number in 0..5 {
            let begun = record.append(intent(&format!("{round}-{number}")))?;
            acknowledged.push(begun);
            record.append_later(note(number))?;
            acknowledged.push(record.append(outcome(begun))?);
            if number % 2 == 0 {
                record.write_head_down()?;
            }
        }
        record.append_later(note(9))?;
        record.flush()?;
        acknowledged.push(record.append(intent("open"))?);
        if round == 2 {
            record.close()?;
        }
        // In the first round the program is killed: nothing of what `close` does may matter.
        std::mem::forget(record);
    }
    Ok(())
}

fn hashes(record: &Record) -> std::collections::BTreeMap<u64, allod_proto::Digest> {
    let hash = |line: &String| allod_proto::Digest::of(format!("{line}\n"));
    record.read(1, 10_000).unwrap().iter().map(|line| (Line::parse(line).unwrap().seq, hash(line))).collect()
}

fn assert_all_is_there(disk: &Faulty, settings: &Settings, acknowledged: &[Head], case: &str) {
    let (record, opened) = open_on(disk, settings).unwrap_or_else(|error| panic!("{case}: {error}"));
    assert_eq!((opened.cut_after, opened.damage), (None, None), "{case}");
    let there = hashes(&record);
    for head in acknowledged.iter().filter(|head| head.seq >= record.oldest()) {
        assert_eq!(there.get(&head.seq), Some(&head.hash), "{case}: line {} was acknowledged", head.seq);
    }
    assert!(record.append(note(1)).is_ok(), "{case}");
    record.close().unwrap_or_else(|error| panic!("{case}: {error}"));
    check(disk, acknowledged).unwrap_or_else(|found| panic!("{case}: {found}"));
}

#[test]
fn after_a_power_cut_at_any_operation_everything_acknowledged_is_there() {
    // Each day has a clock of its own: as it ticks on, lines grow longer and segments end elsewhere.
    let fresh = || settings(2500, 3);
    let whole = Faulty::default();
    let (acknowledged, failure) = day(&whole, &fresh());
    assert!(failure.is_none() && acknowledged.len() == 33, "{failure:?}");
    let report = check(&whole, &acknowledged).unwrap();
    assert!(report.oldest > 1 && report.segments == 3, "segments were finished and dropped: {report:?}");
    let operations = whole.operations();
    for operation in 0..operations {
        for fault in [Fault::PowerBefore, Fault::PowerAfter] {
            let disk = Faulty::default().failing_at(operation, fault);
            let (acknowledged, failure) = day(&disk, &fresh());
            // The last two only give back room that was set aside.
            assert!(
                failure.is_some() || operation + 2 >= operations,
                "{operation} of {operations} {fault:?}"
            );
            for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn, Unsynced::Holed] {
                let case = format!("operation {operation} {fault:?} {unsynced:?}");
                assert_all_is_there(&disk.after_power_cut(unsynced), &fresh(), &acknowledged, &case);
            }
        }
    }
}

#[test]
fn after_any_single_error_everything_acknowledged_is_there() {
    // Each day has a clock of its own: as it ticks on, lines grow longer and segments end elsewhere.
    let fresh = || settings(2500, 3);
    let whole = Faulty::default();
    day(&whole, &fresh());
    for operation in 0..whole.operations() {
        for fault in [Fault::NoSpace, Fault::Io] {
            let disk = Faulty::default().failing_at(operation, fault);
            let (acknowledged, _) = day(&disk, &fresh());
            for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn, Unsynced::Holed] {
                let case = format!("operation {operation} {fault:?} {unsynced:?}");
                assert_all_is_there(&disk.after_power_cut(unsynced), &fresh(), &acknowledged, &case);
            }
        }
    }
}

#[test]
fn lines_that_a_killed_program_never_synced_are_durable_before_they_are_signed_for() {
    let fresh = || settings(2500, 3);
    let whole = Faulty::default();
    day(&whole, &fresh());
    for operation in 0..whole.operations() {
        let disk = Faulty::default().failing_at(operation, Fault::PowerAfter);
        let (acknowledged, _) = day(&disk, &fresh());
        // The program is killed there, the machine stays up, and the next life opens what it finds.
        let disk = disk.after_kill();
        let (record, _) = open_on(&disk, &fresh()).unwrap();
        let told = record.head().unwrap().head;
        std::mem::forget(record);
        let seen: Vec<Head> = acknowledged.into_iter().chain(Some(told).filter(|it| it.seq > 0)).collect();
        for unsynced in [Unsynced::Lost, Unsynced::Torn] {
            let case = format!("killed after {operation}, then {unsynced:?}");
            assert_all_is_there(&disk.after_power_cut(unsynced), &fresh(), &seen, &case);
        }
    }
}
