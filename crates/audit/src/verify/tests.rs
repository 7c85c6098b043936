use super::*;
use crate::{
    Settings,
    disk::faulty::Faulty,
    fixture::{closed_record, note, open_on, other_signer, settings, signer},
};
use proptest::prelude::*;

fn check(disk: &Faulty, known: &[Head]) -> Result<Report, Found> {
    verify_on(disk, Some(signer().public_key()), known)
}

fn small() -> Settings {
    settings(1 << 20, 100)
}

const ONLY: &str = "00000000000000000001.jsonl";

fn lines(disk: &Faulty) -> Vec<Vec<u8>> {
    disk.file(ONLY).split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect()
}

fn with(lines: &[Vec<u8>]) -> Faulty {
    let disk = closed_record(10, &small());
    disk.set_file(ONLY, &lines.concat());
    disk
}

fn what(disk: &Faulty) -> What {
    check(disk, &[]).unwrap_err().what
}

#[test]
fn x12_a_missing_line_is_found_with_its_place() {
    let mut lines = lines(&closed_record(10, &small()));
    lines.remove(4);
    let found = check(&with(&lines), &[]).unwrap_err();
    assert_eq!(found.what, What::Missing { expected: 5, found: 6 });
    assert_eq!((found.file.as_str(), found.line, found.seq), (ONLY, 5, 5));
    assert_eq!(found.to_string(), format!("{ONLY} line 5 (number 5): line 5 is not here, this is line 6"));
}

#[test]
fn x12_a_repeated_or_reordered_line_is_found() {
    let original = lines(&closed_record(10, &small()));
    let mut twice = original.clone();
    twice.insert(3, original[2].clone());
    assert_eq!(what(&with(&twice)), What::Reordered { expected: 4, found: 3 });
    let mut swapped = original;
    swapped.swap(6, 7);
    assert_eq!(what(&with(&swapped)), What::Missing { expected: 7, found: 8 });
}

#[test]
fn x12_an_edited_line_is_found_at_the_one_that_names_it() {
    let mut lines = lines(&closed_record(10, &small()));
    lines[3] = String::from_utf8(lines[3].clone()).unwrap().replace("note 3", "note 4").into_bytes();
    let found = check(&with(&lines), &[]).unwrap_err();
    assert_eq!((found.what, found.line), (What::Edited, 5));
}

#[test]
fn x12_a_chain_written_anew_is_found_by_the_signed_head_and_by_whoever_saw_one() {
    // Another record of the same length, with a consistent chain.
    let forged = Faulty::default();
    let (record, _) = open_on(&forged, &small()).unwrap();
    for number in 0..10 {
        record.append(note(number + 100)).unwrap();
    }
    record.close().unwrap();
    let disk = with(&lines(&forged));
    assert!(matches!(what(&disk), What::Replaced { head, .. } if head.seq == 10), "{:?}", what(&disk));
    // With its head too: only memory helps.
    let seen = check(&closed_record(10, &small()), &[]).unwrap().head;
    assert!(matches!(check(&forged, &[seen]).unwrap_err().what, What::Replaced { .. }));
}

#[test]
fn x12_a_cut_tail_is_found_by_the_signed_head() {
    let mut lines = lines(&closed_record(10, &small()));
    lines.truncate(8);
    assert!(matches!(what(&with(&lines)), What::Cut { head, .. } if head.seq == 10));
}

#[test]
fn x12_a_record_set_back_with_its_head_is_found_by_a_head_seen_before() {
    let later = check(&closed_record(12, &small()), &[]).unwrap().head;
    let earlier = closed_record(10, &small());
    assert!(check(&earlier, &[]).is_ok());
    assert!(matches!(check(&earlier, &[later]).unwrap_err().what, What::Cut { head, .. } if head == later));
}

#[test]
fn a_head_of_another_key_or_none_is_found() {
    let disk = closed_record(3, &small());
    let stranger = verify_on(&disk, Some(other_signer().public_key()), &[]).unwrap_err();
    assert!(matches!(stranger.what, What::BadHead(_)), "{stranger}");
    let headless = Faulty::default();
    headless.set_file(ONLY, &disk.file(ONLY));
    assert!(matches!(what(&headless), What::BadHead(_)));
    let torn = disk.copy();
    torn.set_file(HEAD_FILE, &disk.file(HEAD_FILE)[..40]);
    assert!(matches!(what(&torn), What::BadHead(_)));
}

#[test]
fn dropped_segments_must_be_led_to_by_a_kept_head() {
    let disk = closed_record(60, &settings(2000, 2));
    let report = check(&disk, &[]).unwrap();
    assert_eq!((report.segments, report.head.seq), (2, 60));
    assert!(report.oldest > 1 && report.heads_out_of_reach > 1, "{report:?}");
    let gone = disk.copy();
    gone.remove(HEADS_FILE).unwrap();
    assert_eq!(what(&gone), What::Unanchored);
    let one_more = disk.copy();
    one_more.remove(&segment_name(report.oldest)).unwrap();
    assert!(check(&one_more, &[]).is_ok(), "that is what retention does");
}

#[test]
fn a_segment_missing_in_the_middle_is_found() {
    let disk = closed_record(60, &settings(2000, 100));
    let firsts = segments_among(&disk.names().unwrap());
    assert!(firsts.len() > 3);
    disk.remove(&segment_name(firsts[1])).unwrap();
    assert_eq!(what(&disk), What::Missing { expected: firsts[1], found: firsts[2] });
    let renamed = closed_record(60, &settings(2000, 100));
    let bytes = renamed.file(&segment_name(firsts[1]));
    renamed.remove(&segment_name(firsts[1])).unwrap();
    renamed.set_file(&segment_name(firsts[1] + 1), &bytes);
    assert!(matches!(what(&renamed), What::WrongSegment { .. }));
}

#[test]
fn a_stream_is_held_to_the_same_rules() {
    let original = lines(&closed_record(5, &small()));
    let texts: Vec<String> = original.iter().map(|line| String::from_utf8(line.clone()).unwrap()).collect();
    let mut chain = Chain::start(None);
    assert_eq!(chain.push("{}").unwrap_err().what, What::Malformed);
    assert_eq!(chain.push(&format!("{}{}", texts[0], texts[1])).unwrap_err().what, What::Malformed);
    let first = chain.push(&texts[0]).unwrap();
    assert!(matches!(chain.push(&texts[2]).unwrap_err().what, What::Missing { .. }));
    assert!(matches!(chain.push(&texts[0]).unwrap_err().what, What::Reordered { .. }));
    assert_eq!(chain.head(), Some(first));
    chain.push(texts[1].trim_end()).unwrap();
    let wrong = Head { seq: 1, hash: Digest::of("another") };
    assert_eq!(Chain::start(Some(wrong)).push(&texts[1]).unwrap_err().what, What::Edited);
    assert_eq!(Chain::start(Some(Head::EMPTY)).push(&texts[0]).unwrap(), first);
    assert_eq!(Chain::start(Some(first)).push(&texts[1]).unwrap().seq, 2);
}

#[test]
fn a_whole_record_is_reported() {
    let disk = closed_record(10, &small());
    let report = check(&disk, &[]).unwrap();
    assert_eq!((report.oldest, report.head.seq, report.lines, report.segments), (1, 10, 10, 1));
    assert_eq!((report.torn_tail_bytes, report.heads_compared, report.heads_out_of_reach), (0, 1, 0));
    assert!(report.signatures_checked && report.gaps.is_empty() && report.incidents.is_empty());
    let nothing = verify_on(&Faulty::default(), None, &[]).unwrap();
    assert_eq!((nothing.oldest, nothing.head), (0, Head::EMPTY));
}

/// Something done to the bytes of a record.
#[derive(Debug, Clone)]
enum Harm {
    Flip(usize, u8),
    Insert(usize, u8),
    Delete(usize),
    Truncate(usize),
    DropLine(usize),
    RepeatLine(usize, usize),
    SwapLines(usize, usize),
}

fn harm() -> impl Strategy<Value = Harm> {
    let place = 0_usize..100_000;
    prop_oneof![
        (place.clone(), 1_u8..=255).prop_map(|(at, mask)| Harm::Flip(at, mask)),
        (place.clone(), any::<u8>()).prop_map(|(at, byte)| Harm::Insert(at, byte)),
        place.clone().prop_map(Harm::Delete),
        place.clone().prop_map(Harm::Truncate),
        place.clone().prop_map(Harm::DropLine),
        (place.clone(), place.clone()).prop_map(|(from, to)| Harm::RepeatLine(from, to)),
        (place.clone(), place).prop_map(|(a, b)| Harm::SwapLines(a, b)),
    ]
}

fn inflict(harm: &Harm, bytes: &[u8]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = bytes.split_inclusive(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
    let (length, count) = (bytes.len(), lines.len());
    let mut bytes = bytes.to_vec();
    match *harm {
        Harm::Flip(at, mask) => bytes[at % length] ^= mask,
        Harm::Insert(at, byte) => bytes.insert(at % (length + 1), byte),
        Harm::Delete(at) => drop(bytes.remove(at % length)),
        Harm::Truncate(at) => bytes.truncate(at % length),
        Harm::DropLine(at) => {
            lines.remove(at % count);
            return lines.concat();
        }
        Harm::RepeatLine(from, to) => {
            lines.insert(to % (count + 1), lines[from % count].clone());
            return lines.concat();
        }
        Harm::SwapLines(a, b) => {
            lines.swap(a % count, b % count);
            return lines.concat();
        }
    }
    bytes
}

/// What may be appended to a closed record without touching what was acknowledged: an unfinished line.
fn is_only_a_torn_tail(original: &[u8], harmed: &[u8]) -> bool {
    harmed.strip_prefix(original).is_some_and(|tail| !tail.contains(&b'\n'))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn x12_whatever_is_done_to_signed_lines_is_found(harm in harm(), segment in 0_usize..10) {
        let disk = closed_record(40, &settings(4000, 100));
        let firsts = segments_among(&disk.names().unwrap());
        let name = segment_name(firsts[segment % firsts.len()]);
        let original = disk.file(&name);
        let harmed = inflict(&harm, &original);
        prop_assume!(harmed != original);
        disk.set_file(&name, &harmed);
        match check(&disk, &[]) {
            Err(_) => {}
            Ok(report) => {
                prop_assert!(is_only_a_torn_tail(&original, &harmed), "{harm:?} in {name} was not found");
                prop_assert_eq!(report.head.seq, 40);
                prop_assert!(report.torn_tail_bytes > 0);
            }
        }
    }

    #[test]
    fn a_tail_cut_above_the_signed_head_is_found_by_whoever_saw_a_head(at in 0_usize..100_000) {
        let disk = Faulty::default();
        let (record, _) = open_on(&disk, &small()).unwrap();
        for number in 0..5 {
        record.append(note(number)).unwrap();
    }
        record.write_head_down().unwrap();
        let mut seen = Head::EMPTY;
        for number in 5..10 {
            seen = record.append(note(number)).unwrap();
        }
        let signed_length = lines(&disk)[..5].concat().len();
        let bytes = disk.file(ONLY);
        let copy = disk.copy();
        let cut = at % bytes.len();
        copy.set_file(ONLY, &bytes[..cut]);
        prop_assert!(check(&copy, &[seen]).is_err());
        prop_assert_eq!(check(&copy, &[]).is_err(), cut < signed_length);
    }
}
