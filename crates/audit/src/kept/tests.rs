use super::*;
use crate::{
    Ending, Read, Report,
    disk::faulty::{Fault, Faulty, Unsynced},
    fixture::{intent, open_on, outcome, settings, signer, who},
    head::segments_among,
    record::Settings,
    verify::verify_on,
};

fn read(number: usize) -> Entry {
    Entry::Read(Box::new(Read {
        request: format!("read-{number}"),
        who: who("eve"),
        command: "app.status".to_owned(),
        app: None,
        asked: None,
        said: None,
        registry: None,
        result: Ending::Ok,
        code: None,
        took_ms: 1,
    }))
}

fn check(disk: &Faulty) -> Result<Report, Found> {
    verify_on(disk, Some(signer().public_key()), &[])
}

fn small() -> Settings {
    settings(2000, 2)
}

/// One change, and then so many reads.
fn flooded(disk: &Faulty, settings: &Settings, reads: usize) {
    let (record, _) = open_on(disk, settings).unwrap();
    let began = record.append(intent("the-change")).unwrap();
    record.append(outcome(began)).unwrap();
    for number in 0..reads {
        record.append(read(number)).unwrap();
    }
    record.close().unwrap();
}

/// The requests of all changes that are somewhere on the disk, each once.
fn changes(disk: &Faulty) -> std::collections::BTreeSet<String> {
    let names = disk.names().unwrap();
    let files = segments_among(&names).into_iter().map(segment_name);
    let texts = files.chain(kept_among(&names).into_iter().map(kept_name));
    let text: String = texts.map(|name| String::from_utf8(disk.file(&name)).unwrap()).collect();
    let lines = text.lines().filter_map(|line| crate::Line::parse(line).ok());
    lines
        .filter_map(|line| match line.entry {
            Entry::Intent(intent) => Some(intent.request),
            _ => None,
        })
        .collect()
}

#[test]
fn reads_without_end_push_out_reads_and_no_change() {
    let disk = Faulty::default();
    flooded(&disk, &small(), 200);
    let report = check(&disk).unwrap();
    assert!(report.oldest > 50 && report.segments == 2, "{report:?}");
    assert!(report.kept_files > 10 && report.kept_lines > 2, "{report:?}");
    assert!(changes(&disk).contains("the-change"));
    let oldest = String::from_utf8(disk.file(&kept_name(1))).unwrap();
    assert_eq!(oldest.lines().count(), 2, "{oldest}");
    assert!(!oldest.contains("read-"));
}

#[test]
fn a_kept_change_that_is_edited_added_or_gone_is_found() {
    let disk = Faulty::default();
    flooded(&disk, &small(), 100);
    let kept = kept_among(&disk.names().unwrap());
    let what = |disk: &Faulty| check(disk).unwrap_err().what;
    for first in &kept {
        let edited = disk.copy();
        let mut bytes = disk.file(&kept_name(*first));
        bytes[80] ^= 1;
        edited.set_file(&kept_name(*first), &bytes);
        assert_eq!(what(&edited), What::KeptEdited, "{first}");
    }
    for first in &kept[1..] {
        let gone = disk.copy();
        gone.remove(&kept_name(*first)).unwrap();
        // Without it, nothing leads to the one before it either.
        assert!(matches!(what(&gone), What::KeptGone | What::Unanchored), "{first}");
    }
    let added = disk.copy();
    added.set_file(&kept_name(2), &disk.file(&kept_name(1)));
    assert_eq!(what(&added), What::Unanchored);
    let none = disk.copy();
    kept.iter().for_each(|first| none.remove(&kept_name(*first)).unwrap());
    assert_eq!(what(&none), What::KeptGone);
}

#[test]
fn kept_changes_have_a_bound_of_their_own_and_the_oldest_go() {
    let disk = Faulty::default();
    let bounded = Settings { retain_changes_bytes: 3000, ..small() };
    flooded(&disk, &bounded, 200);
    let kept = kept_among(&disk.names().unwrap());
    let total: usize = kept.iter().map(|first| disk.file(&kept_name(*first)).len()).sum();
    assert!(total <= 3000 && !kept.is_empty() && kept[0] > 1, "{total} {kept:?}");
    check(&disk).unwrap();
    assert!(!changes(&disk).contains("the-change"));
}

#[test]
fn wherever_the_power_goes_a_change_is_kept_and_the_record_is_whole() {
    let probe = Faulty::default();
    flooded(&probe, &small(), 12);
    for fault in [Fault::PowerBefore, Fault::PowerAfter, Fault::NoSpace, Fault::Io] {
        for operation in 0..probe.operations() {
            let disk = Faulty::default().failing_at(operation, fault);
            let mut acknowledged = false;
            if let Ok((record, _)) = open_on(&disk, &small()) {
                acknowledged = record.append(intent("the-change")).is_ok();
                for number in 0..12 {
                    let _ = record.append(read(number));
                }
            }
            for unsynced in [Unsynced::Lost, Unsynced::Kept, Unsynced::Torn, Unsynced::Holed] {
                let after = disk.after_power_cut(unsynced);
                flooded_on(&after);
                check(&after)
                    .unwrap_or_else(|found| panic!("{fault:?} at {operation}, {unsynced:?}: {found}"));
                let there = changes(&after);
                assert!(there.contains("another"), "{fault:?} at {operation}, {unsynced:?}");
                assert!(
                    !acknowledged || there.contains("the-change"),
                    "{fault:?} at {operation}, {unsynced:?}"
                );
            }
        }
    }
}

/// The next life: one more change, and reads until nothing of the life before is left in segments.
fn flooded_on(disk: &Faulty) {
    let (record, _) = open_on(disk, &small()).unwrap();
    record.append(intent("another")).unwrap();
    for number in 0..12 {
        record.append(read(number)).unwrap();
    }
    record.close().unwrap();
}
