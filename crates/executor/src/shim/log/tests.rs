use super::*;

fn lines(parts: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut lines = Lines::default();
    for part in parts {
        lines.push(part, |line| found.push(line.to_vec()));
    }
    lines.finish(|line| found.push(line.to_vec()));
    found
}

#[test]
fn lines_are_the_same_however_the_stream_is_cut() {
    let text = b"one\n\ntwo \x1b[31m\rthree\nlast";
    let whole = lines(&[text]);
    assert_eq!(whole, [b"one".to_vec(), b"".to_vec(), b"two \x1b[31m\rthree".to_vec(), b"last".to_vec()]);
    for cut in 0..text.len() {
        assert_eq!(lines(&[&text[..cut], &text[cut..]]), whole, "cut at {cut}");
    }
}

#[test]
fn a_line_without_end_is_cut_and_nothing_of_it_is_lost() {
    for extra in [0, 1, 2] {
        let long = vec![b'x'; LINE + extra];
        let found = lines(&[&long, b"\nnext\n"]);
        assert_eq!(found.concat().len(), LINE + extra + 4, "{extra}");
        assert!(found.iter().all(|line| line.len() <= LINE));
        assert_eq!(found.last().unwrap(), b"next");
        assert_eq!(found.len(), if extra == 0 { 2 } else { 3 });
    }
}

#[test]
fn the_file_is_bounded_and_its_older_half_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let log = Log::with_half(path.clone(), Clock::start(), 1000);
    for number in 0..100 {
        log.write(Stream::Out, &[format!("line {number}").into_bytes()]);
    }
    let newer = std::fs::read_to_string(&path).unwrap();
    let older = std::fs::read_to_string(folder.path().join("log.1")).unwrap();
    assert!(newer.len() <= 1000 && older.len() <= 1000);
    assert!(newer.ends_with("line 99\n"), "{newer}");
    let first = newer.lines().next().unwrap().rsplit(' ').next().unwrap().parse::<u32>().unwrap();
    assert!(older.ends_with(&format!("line {}\n", first - 1)), "no line is lost between the halves");
    assert_eq!(log.dropped(), 0);
}

#[test]
fn lines_that_can_not_be_written_are_counted_and_said_so_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gone/log");
    let log = Log::new(path.clone(), Clock::start());
    log.write(Stream::Out, &[b"1".to_vec(), b"2".to_vec()]);
    log.write(Stream::Err, &[b"3".to_vec()]);
    assert_eq!(log.dropped(), 3);
    std::fs::create_dir(folder.path().join("gone")).unwrap();
    log.write(Stream::Err, &[b"4".to_vec()]);
    let text = std::fs::read_to_string(path).unwrap();
    let said: Vec<&str> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert_eq!(said, ["err allod: 3 lines could not be written to the log", "err 4"]);
    assert_eq!(log.dropped(), 3);
}

#[test]
fn a_disk_without_room_is_no_reason_to_stop_reading() {
    let log = Log::new("/dev/full".into(), Clock::start());
    log.follow(Stream::Out, b"a\nb\nc".as_slice());
    assert_eq!(log.dropped(), 3);
}

#[test]
fn a_link_in_the_logs_place_is_not_followed() {
    let folder = tempfile::tempdir().unwrap();
    let victim = folder.path().join("victim");
    std::fs::write(&victim, "kept").unwrap();
    std::os::unix::fs::symlink(&victim, folder.path().join("log")).unwrap();
    Log::new(folder.path().join("log"), Clock::start()).write(Stream::Out, &[b"x".to_vec()]);
    assert_eq!(std::fs::read_to_string(victim).unwrap(), "kept");
}
