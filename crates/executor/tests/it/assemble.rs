//! Releases put together from what a hostile agent may hold, and from an honest one's chunks, killed on the way.

use crate::support::{PATIENCE, Place, app, example, place, place_with, web};
use allod_executor::{
    artefacts,
    assemble::{AssembleLimits, Assembled, assemble},
    isolation::Isolation,
};
use allod_proto::{
    Digest, Fault, FaultCode,
    manifest::{EntryKind, FORMAT, Manifest, ManifestEntry, ManifestIndex},
};
use serde_json::{Value, json};
use std::{
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, symlink},
    path::PathBuf,
    process::Command,
    time::Instant,
};

const OWN: Isolation = Isolation::OwnUids { base: 61_900, agent: 61_100, proxy: 61_101 };

/// The agent's side: it puts down whatever it likes.
impl Place {
    fn chunk_path(&self, digest: &Digest) -> PathBuf {
        self.layout.agent().join("chunks/shop/production").join(digest.to_string())
    }

    fn put(&self, bytes: &[u8]) -> Digest {
        let digest = Digest::of(bytes);
        let path = self.chunk_path(&digest);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, bytes).unwrap();
        digest
    }

    fn file(&self, path: &str, parts: &[&[u8]]) -> ManifestEntry {
        let chunks = parts.iter().map(|part| self.put(part)).collect();
        let size = u64::try_from(parts.concat().len()).unwrap();
        let executable = path.ends_with(".sh");
        ManifestEntry { path: path.to_owned(), what: EntryKind::File { executable, size, chunks } }
    }

    fn manifest(&self, entries: Vec<ManifestEntry>) -> Manifest {
        let spec = self.release(&["./run"]).spec;
        Manifest { format: FORMAT, spec, architecture: None, version: None, entries }
    }

    /// Cuts a manifest's JSON in two chunks, as it travels.
    fn send(&self, json: &[u8]) -> Digest {
        let (one, two) = json.split_at(json.len() / 2);
        let index = ManifestIndex {
            format: FORMAT,
            size: u64::try_from(json.len()).unwrap(),
            chunks: vec![self.put(one), self.put(two)],
        };
        self.put(&serde_json::to_vec(&index).unwrap())
    }

    fn send_manifest(&self, manifest: &Manifest) -> Digest {
        self.send(&serde_json::to_vec(manifest).unwrap())
    }

    fn assemble(&self, digest: &Digest) -> Result<Assembled, Fault> {
        assemble(&self.layout, &self.isolation, &app(), digest, &AssembleLimits::default())
    }

    /// What assembling is refused with. Nothing may be left of it.
    fn refusal(&self, digest: &Digest) -> Fault {
        let fault = self.assemble(digest).unwrap_err();
        let left: Vec<_> = std::fs::read_dir(self.layout.artefacts(&app()))
            .map(|entries| entries.map(|entry| entry.unwrap().file_name()).collect())
            .unwrap_or_default();
        assert!(left.is_empty(), "{fault}: {left:?}");
        fault
    }
}

fn folder(path: &str) -> ManifestEntry {
    ManifestEntry { path: path.to_owned(), what: EntryKind::Folder {} }
}

fn link(path: &str, to: &str) -> ManifestEntry {
    ManifestEntry { path: path.to_owned(), what: EntryKind::Link { to: to.to_owned() } }
}

#[test]
fn a_chunk_that_is_not_what_its_name_says_is_refused_by_name() {
    let place = place();
    let digest = place.send_manifest(&place.manifest(vec![place.file("run", &[b"hello"])]));
    let chunk = place.chunk_path(&Digest::of("hello"));
    let swapped = |what: &str| {
        let fault = place.refusal(&digest);
        assert!(fault.message.contains(&Digest::of("hello").to_string()), "{what}: {fault}");
        fault.code
    };
    std::fs::write(&chunk, "HELLO").unwrap();
    assert_eq!(swapped("other bytes of the same length"), FaultCode::Invalid);
    std::fs::write(&chunk, "hell").unwrap();
    assert_eq!(swapped("cut"), FaultCode::Invalid);
    std::fs::write(&chunk, vec![0; allod_proto::limits::CHUNK + 1]).unwrap();
    assert_eq!(swapped("too large"), FaultCode::Invalid);
    std::fs::remove_file(&chunk).unwrap();
    assert_eq!(swapped("not there"), FaultCode::NotFound);
    let elsewhere = place.folder.path().join("hello");
    std::fs::write(&elsewhere, "hello").unwrap();
    symlink(&elsewhere, &chunk).unwrap();
    assert_eq!(swapped("a link to the very bytes"), FaultCode::Invalid);
    std::fs::remove_file(&chunk).unwrap();
    let mode = rustix::fs::Mode::RUSR;
    rustix::fs::mknodat(rustix::fs::CWD, &chunk, rustix::fs::FileType::Fifo, mode, 0).unwrap();
    assert_eq!(swapped("a pipe that nobody writes"), FaultCode::Invalid);
    std::fs::remove_file(&chunk).unwrap();
    std::fs::create_dir(&chunk).unwrap();
    assert_eq!(swapped("a folder"), FaultCode::Invalid);
}

#[test]
fn a_folder_of_chunks_that_is_a_link_is_refused() {
    let place = place();
    let digest = place.send_manifest(&place.manifest(vec![place.file("run", &[b"hello"])]));
    let chunks = place.layout.agent().join("chunks/shop");
    std::fs::rename(&chunks, place.folder.path().join("moved")).unwrap();
    symlink(place.folder.path().join("moved"), &chunks).unwrap();
    assert_eq!(place.refusal(&digest).code, FaultCode::Invalid);
}

#[test]
fn an_index_or_manifest_that_is_not_one_is_refused() {
    let place = place();
    for garbage in ["", "{", "[]", "null", "{\"format\":1}", "\u{0}"] {
        assert_eq!(place.refusal(&place.put(garbage.as_bytes())).code, FaultCode::Invalid, "{garbage:?}");
        assert_eq!(place.refusal(&place.send(garbage.as_bytes())).code, FaultCode::Invalid, "{garbage:?}");
    }
    let index = |value: Value| place.refusal(&place.put(value.to_string().as_bytes())).code;
    let part = place.put(b"0123456789");
    assert_eq!(index(json!({"format": 2, "size": 10, "chunks": [part]})), FaultCode::Version);
    assert_eq!(index(json!({"format": 1, "size": 9, "chunks": [part]})), FaultCode::Invalid);
    assert_eq!(index(json!({"format": 1, "size": 11, "chunks": [part]})), FaultCode::Invalid);
    assert_eq!(index(json!({"format": 1, "size": u64::MAX, "chunks": [part]})), FaultCode::TooLarge);
    assert_eq!(index(json!({"format": 1, "size": 10, "chunks": [part], "more": 1})), FaultCode::Invalid);
    // One small chunk named very often must not become a large manifest.
    let many = vec![part; 20_000];
    assert_eq!(index(json!({"format": 1, "size": 10, "chunks": many})), FaultCode::Invalid);
    let deep = format!("{}{}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(place.refusal(&place.send(deep.as_bytes())).code, FaultCode::Invalid);
}

#[test]
fn a_manifest_that_would_write_elsewhere_is_refused() {
    let place = place();
    let file = |path: &str| place.file(path, &[b"x"]);
    let corpus = [
        ("absolute", vec![file("/etc/x")]),
        ("up", vec![file("../x")]),
        ("up in the middle", vec![folder("a"), file("a/../../x")]),
        ("the folder itself", vec![file(".")]),
        ("nothing", vec![file("")]),
        ("empty part", vec![folder("a"), file("a//x")]),
        ("newline", vec![file("a\nb")]),
        ("NUL", vec![file("a\0b")]),
        ("through a link", vec![link("a", "b"), file("a/x"), folder("b")]),
        ("link and folder of one name", vec![link("a", "/tmp"), folder("a"), file("a/x")]),
        ("an absolute link", vec![link("a", "/etc/passwd")]),
        ("a link that leaves", vec![link("a", "../../x")]),
        ("a link that leaves by a link", vec![folder("b"), link("b/c", ".."), link("d", "b/c/../x")]),
        ("twice", vec![file("a"), file("a")]),
        ("below a file", vec![file("a"), file("a/x")]),
        ("without a folder", vec![file("a/x")]),
        ("unsorted", vec![file("b"), file("a")]),
    ];
    for (what, entries) in corpus {
        let digest = place.send_manifest(&place.manifest(entries));
        assert_eq!(place.refusal(&digest).code, FaultCode::Invalid, "{what}");
    }
}

#[test]
fn sizes_that_are_not_true_are_refused() {
    let place = place();
    let with_size = |size: u64| {
        let chunks = vec![place.put(b"01234"), place.put(b"56789")];
        let what = EntryKind::File { executable: false, size, chunks };
        place.send_manifest(&place.manifest(vec![ManifestEntry { path: "f".to_owned(), what }]))
    };
    for size in [2, 5, 9, 11, 4096] {
        assert_eq!(place.refusal(&with_size(size)).code, FaultCode::Invalid, "{size}");
    }
    let huge = EntryKind::File { executable: false, size: u64::MAX, chunks: Vec::new() };
    let entry = |path: &str| ManifestEntry { path: path.to_owned(), what: huge.clone() };
    place.refusal(&place.send_manifest(&place.manifest(vec![entry("a"), entry("b")])));
    let digest = with_size(10);
    let limits = AssembleLimits { bytes: 9, ..AssembleLimits::default() };
    let fault = assemble(&place.layout, &place.isolation, &app(), &digest, &limits).unwrap_err();
    assert_eq!(fault.code, FaultCode::TooLarge);
    let limits = AssembleLimits { margin: u64::MAX / 2, ..AssembleLimits::default() };
    let fault = assemble(&place.layout, &place.isolation, &app(), &digest, &limits).unwrap_err();
    assert_eq!(fault.code, FaultCode::DiskFull);
    place.assemble(&digest).unwrap();
}

#[test]
fn a_release_of_another_app_or_for_another_machine_is_refused_with_both_names() {
    let place = place();
    let mut other = place.manifest(Vec::new());
    other.spec.app = "other".parse().unwrap();
    let fault = place.refusal(&place.send_manifest(&other));
    assert!(
        fault.message.contains("other/production") && fault.message.contains("shop/production"),
        "{fault}"
    );
    let mut foreign = place.manifest(Vec::new());
    foreign.architecture = Some("sparc".to_owned());
    let fault = place.refusal(&place.send_manifest(&foreign));
    assert!(fault.message.contains("sparc") && fault.message.contains(std::env::consts::ARCH), "{fault}");
}

/// Files, folders, an empty file, a link, and names that sort between a folder and what is in it.
fn tree(place: &Place) -> Manifest {
    place.manifest(vec![
        folder("a"),
        place.file("a-b", &[b"between"]),
        folder("a/b"),
        place.file("a/b/deep", &[b"one ", b"two ", b"one "]),
        place.file("a/empty", &[]),
        link("a/link", "b/deep"),
        place.file("run.sh", &[b"#!/bin/sh\n"]),
    ])
}

#[test]
fn a_release_is_exactly_its_manifest_and_read_only_and_found_again() {
    let place = place();
    let digest = place.send_manifest(&tree(&place));
    let made = place.assemble(&digest).unwrap();
    assert_eq!((made.reused, made.bytes, made.manifest_digest), (false, 7 + 12 + 10, digest));
    assert_eq!(std::fs::read(made.files.join("a/link")).unwrap(), b"one two one ");
    assert_eq!(std::fs::read(made.files.join("a/empty")).unwrap(), b"");
    let mode =
        |path: &str| std::fs::symlink_metadata(made.files.join(path)).unwrap().permissions().mode() & 0o7777;
    assert_eq!([mode(""), mode("a"), mode("a/b")], [0o555; 3]);
    assert_eq!([mode("a/b/deep"), mode("run.sh")], [0o444, 0o555]);
    // Nothing of the agent's is needed any more.
    std::fs::remove_dir_all(place.layout.agent()).unwrap();
    let again = place.assemble(&digest).unwrap();
    assert_eq!(again, Assembled { reused: true, ..made.clone() });
    assert_eq!(artefacts::list(&place.layout, &app()).unwrap().len(), 1);
    artefacts::remove(&place.layout, &app(), &digest).unwrap();
    assert!(!made.files.exists());
}

#[test]
fn with_users_of_their_own_apps_have_their_files_to_themselves_and_equal_files_are_shared() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIPPED, only root can give apps users of their own");
        return;
    }
    let place = place_with(OWN);
    let one = place.assemble(&place.send_manifest(&tree(&place))).unwrap();
    let mut changed = tree(&place);
    changed.entries[1] = place.file("a-b", &[b"BETWEEN"]);
    // Equal content with another mode is another file.
    let EntryKind::File { executable, .. } = &mut changed.entries[6].what else { panic!() };
    *executable = false;
    let two = place.assemble(&place.send_manifest(&changed)).unwrap();
    let inode = |release: &Assembled, path: &str| std::fs::metadata(release.files.join(path)).unwrap().ino();
    assert_eq!(inode(&one, "a/b/deep"), inode(&two, "a/b/deep"));
    assert_ne!(inode(&one, "a-b"), inode(&two, "a-b"));
    assert_ne!(inode(&one, "run.sh"), inode(&two, "run.sh"));
    assert_eq!(std::fs::read(two.files.join("a-b")).unwrap(), b"BETWEEN");
    let closed = std::fs::metadata(one.files.parent().unwrap()).unwrap();
    assert_eq!((closed.mode() & 0o777, closed.uid()), (0o750, 0));
    assert_eq!(Some(closed.gid()), OWN.uid_of(&place.layout, &app()).unwrap());
    // Where the app could have changed its files, nothing is shared.
    let same_user = crate::support::place();
    let one = same_user.assemble(&same_user.send_manifest(&tree(&same_user))).unwrap();
    let mut changed = tree(&same_user);
    changed.version = Some("2".to_owned());
    let two = same_user.assemble(&same_user.send_manifest(&changed)).unwrap();
    assert_ne!(inode(&one, "a/b/deep"), inode(&two, "a/b/deep"));
    assert!(changed.spec.process(&web()).is_some());
}

#[test]
fn killed_at_any_step_there_is_a_whole_release_or_none() {
    let place = place();
    let mut entries = vec![folder("d")];
    for number in 0..60 {
        entries.push(place.file(&format!("d/{number:03}"), &[format!("content {number}").as_bytes()]));
    }
    let digest = place.send_manifest(&place.manifest(entries));
    let artefact = place.layout.artefact(&app(), &digest);
    let mut whole = 0;
    // Killed when so many files are there; more than there are: when the name is there, or it has ended.
    for step in (0..=64).step_by(4) {
        let mut program = Command::new(example("assemble"))
            .arg(place.layout.root())
            .args([app().to_string(), digest.to_string()])
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while program.try_wait().unwrap().is_none() && files_building(&place) < step && !artefact.exists() {
            assert!(begun.elapsed() < PATIENCE);
        }
        let _ = program.kill();
        program.wait().unwrap();
        artefacts::sweep(&place.layout).unwrap();
        if artefact.exists() {
            whole += 1;
            let found = std::fs::read_dir(artefact.join("files/d")).unwrap().count();
            assert_eq!(found, 60, "step {step}");
            assert_eq!(std::fs::read(artefact.join("files/d/059")).unwrap(), b"content 59");
            artefacts::remove(&place.layout, &app(), &digest).unwrap();
        }
        let left = std::fs::read_dir(place.layout.artefacts(&app())).map_or(0, Iterator::count);
        assert_eq!(left, 0, "step {step}");
    }
    assert!(whole < 17, "it was never killed on the way");
    assert!(!place.assemble(&digest).unwrap().reused);
}

fn files_building(place: &Place) -> usize {
    let Ok(entries) = std::fs::read_dir(place.layout.artefacts(&app())) else { return 0 };
    let folders = entries.filter_map(|entry| std::fs::read_dir(entry.ok()?.path().join("files/d")).ok());
    folders.map(Iterator::count).sum()
}
