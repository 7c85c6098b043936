use super::*;
use crate::{
    disk::faulty::{Fault, Faulty},
    fixture::{note, open_on, settings, signer},
    found::What,
    head::is_signed_by,
    verify::verify_on,
};

fn small() -> Settings {
    settings(1 << 20, 100)
}

fn fresh(settings: &Settings) -> (Faulty, Record) {
    let disk = Faulty::default();
    let (record, _) = open_on(&disk, settings).unwrap();
    (disk, record)
}

fn verified(disk: &Faulty) -> u64 {
    verify_on(disk, Some(signer().public_key()), &[]).unwrap().head.seq
}

#[test]
fn after_a_failed_sync_nothing_more_is_written_until_it_is_opened_again() {
    let settings = small();
    let (probe, record) = fresh(&settings);
    record.append(note(0)).unwrap();
    // The next operation is a write, the one behind it the sync.
    let disk = Faulty::default().failing_at(probe.operations() + 1, Fault::Io);
    let (record, _) = open_on(&disk, &settings).unwrap();
    record.append(note(0)).unwrap();
    assert!(matches!(record.append(note(1)), Err(RecordError::Io { step: "sync", .. })));
    assert!(matches!(record.append(note(2)), Err(RecordError::Refusing(_))));
    assert_eq!(record.head().unwrap().head.seq, 1);
    assert!(record.trouble().is_some());
    drop(record);
    let (record, _) = open_on(&disk.after_power_cut(crate::disk::faulty::Unsynced::Lost), &settings).unwrap();
    assert_eq!(record.append(note(3)).unwrap().seq, 2);
}

#[test]
fn x12_a_full_disk_refuses_damages_nothing_and_works_again_when_there_is_room() {
    let (disk, record) = fresh(&small());
    record.append(note(0)).unwrap();
    let used = disk.file("00000000000000000001.jsonl");
    disk.set_room(Some(0));
    for _ in 0..3 {
        let error = record.append(note(1)).unwrap_err();
        assert!(error.is_disk_full(), "{error:?}");
        assert_eq!(error.code(), allod_proto::FaultCode::DiskFull);
        assert_eq!(disk.file("00000000000000000001.jsonl"), used, "the partial line is taken back");
    }
    record.append_later(note(2)).unwrap();
    assert!(record.flush().is_err());
    disk.set_room(None);
    assert_eq!(record.append(note(3)).unwrap().seq, 3, "what nobody waited for was kept, and comes first");
    record.close().unwrap();
    assert_eq!(verified(&disk), 3);
}

#[test]
fn on_a_full_disk_what_nobody_waits_for_does_not_stand_in_the_way() {
    let (disk, record) = fresh(&small());
    record.append(note(0)).unwrap();
    let used: usize =
        ["00000000000000000001.jsonl", "head.json"].iter().map(|name| disk.file(name).len()).sum();
    record.append_later(Entry::note("test", "x".repeat(5000))).unwrap();
    disk.set_room(Some(used + 1000));
    assert_eq!(record.append(note(1)).unwrap().seq, 2);
    disk.set_room(None);
    record.close().unwrap();
    assert_eq!(verified(&disk), 3);
}

#[test]
fn entries_that_nobody_waits_for_are_bounded() {
    let (disk, record) = fresh(&small());
    disk.set_room(Some(0));
    let refused =
        (0..crate::batch::MOST_ENTRIES + 1).find_map(|number| record.append_later(note(number)).err());
    assert!(matches!(refused, Some(RecordError::Full)), "{refused:?}");
    disk.set_room(None);
    record.flush().unwrap();
    assert!(record.append_later(note(1)).is_ok());
    let long = Entry::note("test", "x".repeat(4 << 20));
    let refused = (0..10).find_map(|_| record.append_later(&long).err());
    assert!(matches!(refused, Some(RecordError::Full)), "{refused:?}");
}

#[test]
fn a_closed_record_takes_nothing_and_closing_twice_is_fine() {
    let (disk, record) = fresh(&small());
    record.append_later(note(1)).unwrap();
    record.close().unwrap();
    record.close().unwrap();
    assert!(matches!(record.append(note(2)), Err(RecordError::Closed)));
    assert!(matches!(record.append_later(note(2)), Err(RecordError::Closed)));
    assert_eq!(verified(&disk), 1);
}

#[test]
fn nothing_is_acknowledged_or_read_that_is_not_durable() {
    let (disk, record) = fresh(&small());
    record.append_later(note(1)).unwrap();
    assert_eq!(record.head().unwrap().head, Head::EMPTY);
    assert!(record.read(1, 10).unwrap().is_empty());
    let head = record.append(note(2)).unwrap();
    assert_eq!(head.seq, 2);
    let durable = disk.after_power_cut(crate::disk::faulty::Unsynced::Lost);
    assert_eq!(durable.file("00000000000000000001.jsonl"), disk.file("00000000000000000001.jsonl"));
    assert_eq!(record.read(1, 10).unwrap().len(), 2);
}

#[test]
fn the_head_is_signed_by_the_record_key_and_only_once() {
    let (_, record) = fresh(&small());
    let empty = record.head().unwrap();
    assert!(is_signed_by(&empty, signer().public_key()));
    let head = record.append(note(1)).unwrap();
    let signed = record.head().unwrap();
    assert_eq!(signed.head, head);
    assert!(is_signed_by(&signed, signer().public_key()));
    // The clock moves with each look, so another signature would be another time.
    assert_eq!(record.head().unwrap(), signed);
    let moved = SignedHead { at: signed.at.plus(std::time::Duration::from_millis(1)), ..signed };
    assert!(!is_signed_by(&moved, signer().public_key()));
}

#[test]
fn lines_are_read_exactly_from_any_number_across_segments() {
    let (_, record) = fresh(&settings(20_000, 100));
    let heads: Vec<Head> = (0..700).map(|number| record.append(note(number)).unwrap()).collect();
    for from in [1, 2, 100, 255, 256, 257, 512, 699, 700] {
        let lines = record.read(from, 3).unwrap();
        let expected: Vec<Head> = heads.iter().filter(|head| head.seq >= from).take(3).copied().collect();
        let read: Vec<Head> = lines
            .iter()
            .map(|line| Head {
                seq: Line::parse(line).unwrap().seq,
                hash: allod_proto::Digest::of(format!("{line}\n")),
            })
            .collect();
        assert_eq!(read, expected, "from {from}");
    }
    assert!(record.read(701, 10).unwrap().is_empty());
    assert!(record.read(1, 0).unwrap().is_empty());
    assert_eq!(record.read(0, 1).unwrap(), record.read(1, 1).unwrap());
    assert_eq!(record.read(1, 10_000).unwrap().len(), 700);
}

#[test]
fn looking_back_begins_before_everything_that_was_written_since() {
    let (_, record) = fresh(&settings(2000, 100));
    for number in 0..60 {
        record.append(note(number)).unwrap();
    }
    let lines: Vec<Line> =
        record.read(1, 100).unwrap().iter().map(|line| Line::parse(line).unwrap()).collect();
    for line in &lines {
        let first = record.first_since(line.at).unwrap();
        assert!(first <= line.seq && line.seq - first < 20, "{first} for {}", line.seq);
    }
    assert_eq!(record.first_since(Timestamp(0)).unwrap(), 1);
    let newest = record.first_since(Timestamp(u64::MAX)).unwrap();
    assert!(newest > 40, "the segment being written");
}

#[test]
fn one_answer_is_bounded_in_bytes() {
    let (_, record) = fresh(&settings(64 << 20, 100));
    let long = Entry::note("test", "x".repeat(1 << 20));
    for _ in 0..8 {
        record.append(&long).unwrap();
    }
    assert_eq!(record.read(1, 100).unwrap().len(), 4);
}

#[test]
fn retention_drops_whole_segments_and_keeps_their_signed_heads() {
    let (disk, record) = fresh(&settings(2000, 3));
    for number in 0..100 {
        record.append(note(number)).unwrap();
    }
    let oldest = record.oldest();
    assert!(oldest > 1);
    assert_eq!(Line::parse(&record.read(1, 1).unwrap()[0]).unwrap().seq, oldest);
    record.close().unwrap();
    let report = verify_on(&disk, Some(signer().public_key()), &[]).unwrap();
    assert_eq!((report.oldest, report.segments, report.head.seq), (oldest, 3, 100));
    let heads = crate::head::heads_from_bytes(&disk.file("heads.jsonl")).unwrap();
    assert!(heads.iter().any(|signed| signed.head.seq + 1 == oldest));
}

#[test]
fn an_older_head_never_replaces_a_newer_one() {
    let (disk, record) = fresh(&small());
    let keeper = crate::head::HeadKeeper::new(Arc::new(disk.clone()));
    let at = |seq| {
        let head = Head { seq, hash: allod_proto::Digest::ZERO };
        crate::head::HeadRecord {
            signed: crate::head::sign(signer().as_ref(), head, Timestamp(1)).unwrap(),
            open: vec![],
        }
    };
    keeper.save(&at(5)).unwrap();
    keeper.save(&at(4)).unwrap();
    assert_eq!(crate::head::HeadRecord::from_bytes(&disk.file("head.json")).unwrap(), at(5));
    drop(record);
}

#[test]
fn callers_at_the_same_time_share_syncs_and_each_gets_its_own_line() {
    let (disk, record) = fresh(&settings(10_000, 100));
    let heads = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let record = record.clone();
                scope.spawn(move || {
                    (0..50)
                        .map(|number| record.append(note(thread * 100 + number)).unwrap())
                        .collect::<Vec<_>>()
                })
            })
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
    });
    let mut sequence = Vec::new();
    for (thread, heads) in heads.iter().enumerate() {
        for (number, head) in heads.iter().enumerate() {
            let line = Line::parse(&record.read(head.seq, 1).unwrap()[0]).unwrap();
            assert_eq!(line.entry, note(thread * 100 + number));
            sequence.push(head.seq);
        }
    }
    sequence.sort_unstable();
    assert_eq!(sequence, (1..=400).collect::<Vec<_>>());
    record.close().unwrap();
    assert_eq!(verified(&disk), 400);
}

#[test]
fn a_cut_of_what_a_client_saw_is_found_even_with_the_head_set_back() {
    let (disk, record) = fresh(&small());
    record.append(note(0)).unwrap();
    record.write_head_down().unwrap();
    let earlier = disk.copy();
    let seen = record.append(note(1)).unwrap();
    let found = verify_on(&earlier, Some(signer().public_key()), &[seen]).unwrap_err();
    assert!(matches!(found.what, What::Cut { head, .. } if head == seen));
}
