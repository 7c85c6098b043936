use super::*;
use allod_proto::Digest;

fn identity() -> Fingerprint {
    Fingerprint::new(format!("SHA256:{}+/", "a".repeat(41))).unwrap()
}

fn head(seq: u64) -> Head {
    Head { seq, hash: Digest::of(seq.to_string()) }
}

#[test]
fn a_broken_file_is_not_taken_for_nothing_known() {
    let folder = tempfile::tempdir().unwrap();
    let servers = KnownServers::new(folder.path());
    servers.change(&identity(), |known| known.head = Some(head(5))).unwrap();
    let path = servers.path(&identity());
    for text in ["", "{}"] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(servers.load(&identity()).unwrap().head, Some(head(5)), "{text:?}: the synced copy is");
    }
    for text in ["", "{}", "{\"format\":2}"] {
        std::fs::write(&path, text).unwrap();
        std::fs::write(synced_copy(&path), text).unwrap();
        assert!(matches!(servers.load(&identity()), Err(KnownError::Broken { .. })), "{text:?}");
    }
}

#[test]
fn a_newer_format_is_refused_although_an_older_copy_is_there() {
    let folder = tempfile::tempdir().unwrap();
    let servers = KnownServers::new(folder.path());
    servers.change(&identity(), |known| known.head = Some(head(5))).unwrap();
    std::fs::write(servers.path(&identity()), "{\"format\":2,\"heads\":[]}").unwrap();
    let refused = servers.load(&identity()).unwrap_err().to_string();
    assert!(refused.contains("use a version that reads 2"), "{refused}");
}

#[test]
fn a_forgotten_server_is_not_remembered_by_its_copy() {
    let folder = tempfile::tempdir().unwrap();
    let servers = KnownServers::new(folder.path());
    servers.change(&identity(), |known| known.head = Some(head(5))).unwrap();
    servers.forget(&identity()).unwrap();
    assert_eq!(servers.load(&identity()).unwrap().head, None);
    servers.forget(&identity()).unwrap();
}

#[test]
fn a_lower_head_is_not_taken() {
    let folder = tempfile::tempdir().unwrap();
    let servers = KnownServers::new(folder.path());
    servers.change(&identity(), |known| known.head = Some(head(5))).unwrap();
    servers.change(&identity(), |known| known.head = Some(head(4))).unwrap();
    servers.change(&identity(), |known| known.head = None).unwrap();
    assert_eq!(servers.load(&identity()).unwrap().head, Some(head(5)));
}

#[test]
fn a_synced_copy_that_was_put_off_is_there_once_it_is_settled_and_not_before() {
    let folder = tempfile::tempdir().unwrap();
    let servers = KnownServers::new(folder.path());
    let all: Vec<_> =
        (10..90).map(|n| Fingerprint::new(format!("SHA256:{}{n}", "a".repeat(41))).unwrap()).collect();
    servers.put_off();
    for (seq, identity) in (1..).zip(&all) {
        // As two answers of one server: what it knows, and then a head.
        servers.clone().change(identity, |known| known.epoch = None).unwrap();
        servers
            .clone()
            .change(identity, |known| {
                (known.head, known.head_at) = (Some(head(seq)), Some(Timestamp(seq)));
            })
            .unwrap();
    }
    let copies = || all.iter().filter(|identity| synced_copy(&servers.path(identity)).exists()).count();
    assert_eq!(copies(), 0);
    assert!(!servers.folder.exists(), "torn without a copy, a file would leave nothing to go on with");
    assert_eq!(
        servers.load(&all[0]).unwrap().head,
        Some(head(1)),
        "whoever asks here hears of it all the same"
    );
    servers.settle().unwrap();
    for (seq, identity) in (1..).zip(&all) {
        // What a power cut leaves: the synced copy alone.
        std::fs::write(servers.path(identity), "").unwrap();
        assert_eq!(servers.load(identity).unwrap().head, Some(head(seq)));
    }
    // From then on nothing is put off.
    let other = identity();
    servers.change(&other, |known| known.head = Some(head(5))).unwrap();
    assert!(synced_copy(&servers.path(&other)).exists());
}

#[test]
fn a_copy_that_cannot_be_written_is_said_and_the_others_are_written() {
    // Few are written one by one, many together.
    for count in [2, 40] {
        let folder = tempfile::tempdir().unwrap();
        let servers = KnownServers::new(folder.path());
        let all: Vec<_> = (10..10 + count)
            .map(|n| Fingerprint::new(format!("SHA256:{}{n}", "b".repeat(41))).unwrap())
            .collect();
        servers.put_off();
        for identity in &all {
            let change =
                |known: &mut KnownServer| (known.head, known.head_at) = (Some(head(5)), Some(Timestamp(1)));
            servers.change(identity, change).unwrap();
        }
        create_folders(&servers.folder).unwrap();
        std::fs::create_dir(synced_copy(&servers.path(&all[0]))).unwrap();
        std::fs::write(servers.path(&all[1]), "{\"format\":99}").unwrap();
        let refused = servers.settle().unwrap_err().to_string();
        assert!(refused.contains(".json"), "{refused}");
        let copies = all[2..].iter().filter(|identity| synced_copy(&servers.path(identity)).is_file());
        assert_eq!(copies.count(), all.len() - 2);
        // What could not be remembered is not said to be.
        assert!(servers.load(&all[0]).unwrap().synced.is_none());
        assert!(servers.load(&all[1]).is_err());
    }
}

#[test]
fn what_waits_to_be_written_does_not_take_back_what_another_program_saw_meanwhile() {
    let folder = tempfile::tempdir().unwrap();
    let (servers, other) = (KnownServers::new(folder.path()), KnownServers::new(folder.path()));
    servers.put_off();
    servers.change(&identity(), |known| known.head = Some(head(5))).unwrap();
    other.change(&identity(), |known| known.head = Some(head(9))).unwrap();
    servers.settle().unwrap();
    assert_eq!(servers.load(&identity()).unwrap().head, Some(head(9)));
    servers.put_off();
    servers.change(&identity(), |known| known.head = Some(head(10))).unwrap();
    servers.forget(&identity()).unwrap();
    servers.settle().unwrap();
    assert_eq!(servers.load(&identity()).unwrap().head, None, "a person's decision stays");
}

#[test]
fn what_a_killed_program_left_of_many_servers_goes_and_nothing_of_others() {
    let folder = tempfile::tempdir().unwrap();
    let servers = KnownServers::new(folder.path());
    let all: Vec<_> =
        (10..50).map(|n| Fingerprint::new(format!("SHA256:{}{n}", "c".repeat(41))).unwrap()).collect();
    servers.put_off();
    for identity in &all {
        servers.change(identity, |known| known.head_at = Some(Timestamp(1))).unwrap();
    }
    let left = |of: &Fingerprint| {
        let path = servers.path(of);
        let name = path.file_name().unwrap().to_str().unwrap();
        path.with_file_name(format!(".{name}.1-1.allod-new"))
    };
    create_folders(&servers.folder).unwrap();
    for of in [&all[3], &identity()] {
        std::fs::write(left(of), "half").unwrap();
    }
    servers.settle().unwrap();
    assert!(!left(&all[3]).exists(), "it was a write that ended half way");
    assert!(left(&identity()).exists(), "it may be somebody's who writes now");
}

#[test]
fn of_many_programs_at_once_the_highest_head_stays() {
    let folder = tempfile::tempdir().unwrap();
    let servers = KnownServers::new(folder.path());
    std::thread::scope(|scope| {
        for seq in 1..=16 {
            let servers = &servers;
            scope.spawn(move || servers.change(&identity(), |known| known.head = Some(head(seq))).unwrap());
        }
    });
    assert_eq!(servers.load(&identity()).unwrap().head, Some(head(16)));
}

#[test]
fn what_is_remembered_is_for_this_person_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let servers = KnownServers::new(folder.path());
    servers.change(&identity(), |known| known.head = Some(head(1))).unwrap();
    let mode = std::fs::metadata(servers.path(&identity())).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}
