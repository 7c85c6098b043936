//! What is refused, what goes along, and how little a second upload is.

use super::*;
use crate::fake::{process, spec as full_spec, unit};
use allod_proto::spec::{HealthSpec, StaticSpec, UnitKind};
use std::{cell::Cell, collections::BTreeSet, fs};

/// A folder with these files; those whose name ends in `*` are executable.
fn folder(files: &[(&str, &[u8])]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (path, bytes) in files {
        write(folder.path(), path, bytes);
    }
    folder
}

fn write(folder: &Path, path: &str, bytes: &[u8]) {
    let whole = folder.join(path.trim_end_matches('*'));
    fs::create_dir_all(whole.parent().unwrap()).unwrap();
    fs::write(&whole, bytes).unwrap();
    #[cfg(unix)]
    if path.ends_with('*') {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(&whole, fs::Permissions::from_mode(0o755)).unwrap();
    }
}

/// A spec that asks nothing of the folder.
fn spec() -> AppSpec {
    let mut spec = full_spec();
    spec.release_command = None;
    spec.units.remove(&unit("site"));
    spec
}

fn starting(program: &str) -> AppSpec {
    let mut spec = spec();
    let mut kind = process(1, HealthSpec::Tcp);
    if let UnitKind::Process(process) = &mut kind {
        process.start = vec![program.to_owned()];
    }
    spec.units.get_mut(&unit("web")).unwrap().kind = kind;
    spec
}

fn packed(folder: &Path, spec: &AppSpec, ignore: &[&str]) -> Result<Packed, PackError> {
    let ignore: Vec<String> = ignore.iter().map(|line| (*line).to_owned()).collect();
    pack(folder, spec, &ignore, None, &|_| {})
}

fn paths(packed: &Packed) -> Vec<&str> {
    packed.manifest.entries.iter().map(|entry| entry.path.as_str()).collect()
}

fn refusal(folder: &Path, spec: &AppSpec) -> String {
    packed(folder, spec, &[]).unwrap_err().to_string()
}

/// The same bytes for the same seed.
fn noise(mut seed: u64, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        bytes.extend((seed ^ (seed >> 29)).to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}

#[test]
fn a_folder_that_is_not_there_is_refused() {
    assert!(matches!(packed(Path::new("/nonexistent/x"), &spec(), &[]), Err(PackError::Read { .. })));
}

#[cfg(unix)]
#[test]
fn a_link_out_of_the_folder_is_refused_with_its_path() {
    for (path, to) in [("l", "/etc/passwd"), ("l", "../x"), ("a/l", "../../x"), ("l", "a/../../x")] {
        let folder = folder(&[("a/f", b"x")]);
        std::os::unix::fs::symlink(to, folder.path().join(path)).unwrap();
        let error = refusal(folder.path(), &spec());
        assert!(error.starts_with(&format!("{path} links to {to}: ")), "{error}");
    }
}

#[cfg(unix)]
#[test]
fn what_is_neither_file_folder_nor_link_is_refused_with_its_path() {
    let folder = folder(&[("a/f", b"x")]);
    let _listener = std::os::unix::net::UnixListener::bind(folder.path().join("a/sock")).unwrap();
    assert!(refusal(folder.path(), &spec()).starts_with("a/sock is neither file, folder nor link"));
    assert!(packed(folder.path(), &spec(), &["*.sock", "sock"]).is_ok());
}

#[cfg(target_os = "linux")]
#[test]
fn a_name_that_would_not_survive_is_refused() {
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _};
    for name in [&b"a\xff"[..], b"a\nb", b"a\x1b[2J"] {
        let folder = folder(&[]);
        fs::write(folder.path().join(OsStr::from_bytes(name)), b"x").unwrap();
        assert!(matches!(packed(folder.path(), &spec(), &[]), Err(PackError::Name { .. })), "{name:?}");
    }
}

#[cfg(unix)]
#[test]
fn a_program_that_could_not_start_is_refused_before_the_upload() {
    let files: &[(&str, &[u8])] = &[
        ("plain", b"#!x"),
        ("mac*", b"\xcf\xfa\xed\xfe0123"),
        ("win*", b"MZ0123"),
        ("good*", b"\x7fELF"),
        ("dir/x", b""),
    ];
    let folder = folder(files);
    let expected = [
        (
            "./gone",
            "gone, which units.web.start names, is not in what is uploaded; is it built, and not ignored?",
        ),
        ("./plain", "plain, which units.web.start names, is not executable; chmod +x it"),
        ("./dir", "dir, which units.web.start names, is not executable; chmod +x it"),
        ("./mac", "mac, which units.web.start names, is a program for macOS; build it for Linux"),
        ("././win", "win, which units.web.start names, is a program for Windows; build it for Linux"),
    ];
    for (program, error) in expected {
        assert_eq!(refusal(folder.path(), &starting(program)), error);
    }
    assert!(packed(folder.path(), &starting("./good"), &[]).is_ok());
    assert!(packed(folder.path(), &starting("node"), &[]).is_ok(), "looked up in PATH on the server");
}

#[test]
fn a_site_that_is_not_there_is_refused() {
    let folder = folder(&[("public/index.html", b"hi")]);
    let mut spec = spec();
    let mut site = |root: &str, fallback: Option<&str>| {
        let kind = StaticSpec { root: root.to_owned(), fallback: fallback.map(str::to_owned) };
        spec.units.get_mut(&unit("web")).unwrap().kind = UnitKind::Static(kind);
        packed(folder.path(), &spec, &[]).map(drop)
    };
    assert!(site("dist", None).unwrap_err().to_string().starts_with("dist, which units.web.root names"));
    let missing = site("public", Some("404.html")).unwrap_err().to_string();
    assert!(missing.starts_with("public/404.html, which units.web.fallback names"), "{missing}");
    site("public", Some("index.html")).unwrap();
    site("", Some("public/index.html")).unwrap();
}

#[test]
fn a_file_that_changed_since_is_noticed_and_named() {
    let folder = folder(&[("a", b"one"), ("big", &noise(1, 900_000))]);
    let packed = packed(folder.path(), &spec(), &[]).unwrap();
    write(folder.path(), "a", b"two");
    let mut changed = noise(1, 900_000);
    changed[899_999] ^= 1;
    write(folder.path(), "big", &changed);
    let errors: BTreeSet<String> = packed
        .chunks()
        .filter_map(|chunk| packed.read_chunk(&chunk).err())
        .map(|error| error.to_string())
        .collect();
    let expected =
        ["a", "big"].map(|path| format!("{path} changed while it was being deployed; deploy again"));
    assert_eq!(errors, expected.into());
    fs::remove_file(folder.path().join("a")).unwrap();
    assert!(matches!(packed.read_chunk(&Digest::of("one")), Err(PackError::Changed { path }) if path == "a"));
    assert!(matches!(packed.read_chunk(&Digest::ZERO), Err(PackError::Unknown(_))));
}

#[test]
fn what_is_ignored_stays_here() {
    let folder = folder(&[
        (".git/config", b""),
        (".allod/x", b""),
        ("allod.toml", b""),
        ("sub/allod.toml", b""),
        ("sub/.git", b""),
        (".gitignore", b"*.log\nnode_modules/\n"),
        (".allodignore", b"*.map\n!keep.log\n"),
        ("a.log", b""),
        ("keep.log", b""),
        ("x.map", b""),
        ("node_modules/m/i.js", b""),
        ("sub/b.log", b""),
        ("sub/c", b""),
        ("sub/.gitignore", b"c\n"),
        (".env.example", b""),
        ("tmp/t", b""),
    ]);
    let packed = packed(folder.path(), &spec(), &["/tmp"]).unwrap();
    let expected =
        [".allodignore", ".env.example", ".gitignore", "keep.log", "sub", "sub/.gitignore", "sub/allod.toml"];
    assert_eq!(paths(&packed), expected);
}

#[test]
fn what_lies_above_the_folder_does_not_count() {
    let folder = folder(&[(".gitignore", b"*\n"), (".git/HEAD", b""), ("dist/app.js", b"x")]);
    let packed = packed(&folder.path().join("dist"), &spec(), &[]).unwrap();
    assert_eq!(paths(&packed), ["app.js"]);
}

#[cfg(unix)]
#[test]
fn files_folders_and_links_are_what_they_are() {
    let folder = folder(&[("bin/run*", b"#!"), ("empty", b""), ("data", b"abc")]);
    fs::create_dir(folder.path().join("hollow")).unwrap();
    std::os::unix::fs::symlink("../data", folder.path().join("bin/link")).unwrap();
    let packed = pack(folder.path(), &spec(), &[], Some("v1".to_owned()), &|_| {}).unwrap();
    let kinds: Vec<(&str, EntryKind)> =
        packed.manifest.entries.iter().map(|entry| (entry.path.as_str(), entry.what.clone())).collect();
    let file = |executable, text: &str| EntryKind::File {
        executable,
        size: text.len() as u64,
        chunks: if text.is_empty() { Vec::new() } else { vec![Digest::of(text)] },
    };
    let expected = [
        ("bin", EntryKind::Folder {}),
        ("bin/link", EntryKind::Link { to: "../data".to_owned() }),
        ("bin/run", file(true, "#!")),
        ("data", file(false, "abc")),
        ("empty", file(false, "")),
        ("hollow", EntryKind::Folder {}),
    ];
    assert_eq!(kinds, expected);
    assert_eq!((packed.bytes, packed.manifest.version.as_deref()), (5, Some("v1")));
}

#[test]
fn the_chunks_put_together_are_the_files_and_the_manifest() {
    let big = noise(7, 3_000_000);
    let folder =
        folder(&[("big", &big), ("copy", &big), ("small", &noise(8, 65_536)), ("over", &noise(9, 65_537))]);
    let told = Cell::new(0);
    let packed = pack(folder.path(), &spec(), &[], None, &|bytes| told.set(told.get() + bytes)).unwrap();
    assert_eq!((told.get(), packed.bytes), (6_131_073, 6_131_073));
    let whole = |chunks: &[Digest]| -> Vec<u8> {
        chunks.iter().flat_map(|chunk| packed.read_chunk(chunk).unwrap()).collect()
    };
    for entry in &packed.manifest.entries {
        let EntryKind::File { chunks, size, .. } = &entry.what else { panic!("{entry:?}") };
        let bytes = whole(chunks);
        assert_eq!(bytes, fs::read(folder.path().join(&entry.path)).unwrap());
        assert_eq!(*size, bytes.len() as u64);
    }
    let index: ManifestIndex =
        serde_json::from_slice(&packed.read_chunk(&packed.index_digest).unwrap()).unwrap();
    assert_eq!(index, packed.index);
    let manifest: Manifest = serde_json::from_slice(&whole(&index.chunks)).unwrap();
    assert_eq!(manifest, packed.manifest);
    let chunks: Vec<Digest> = packed.chunks().collect();
    assert_eq!(
        chunks.iter().collect::<BTreeSet<_>>().len(),
        chunks.len(),
        "each once, though `copy` repeats `big`"
    );
    for chunk in &chunks {
        let size = packed.chunk_size(chunk).unwrap();
        assert_eq!(size, packed.read_chunk(chunk).unwrap().len() as u64);
        assert!(size <= 1024 * 1024);
    }
}

#[test]
fn packing_twice_gives_the_same_whatever_the_order_of_work() {
    let files: Vec<(String, Vec<u8>)> = (0..40)
        .map(|n| (format!("d{}/f{n}", n % 3), noise(n, usize::try_from(n).unwrap() * 20_000)))
        .collect();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    let (one, other) = (folder(&files), folder(&files.iter().rev().copied().collect::<Vec<_>>()));
    let digest = |folder: &Path| packed(folder, &spec(), &[]).unwrap().index_digest;
    assert_eq!(digest(one.path()), digest(other.path()));
}

/// A3: a second deploy with one changed byte sends at most 1.2 times the chunk it is in, the manifest's own pieces apart.
#[test]
fn one_changed_byte_costs_one_chunk() {
    let files: Vec<(String, Vec<u8>)> = (0..8).map(|n| (format!("f{n}"), noise(n, 2_500_000))).collect();
    let files: Vec<(&str, &[u8])> =
        files.iter().map(|(path, bytes)| (path.as_str(), bytes.as_slice())).collect();
    let folder = folder(&files);
    let first = packed(folder.path(), &spec(), &[]).unwrap();
    let on_server: BTreeSet<Digest> = first.chunks().collect();
    for at in [0, 1_234_567, 2_499_999] {
        let mut bytes = noise(3, 2_500_000);
        bytes[at] ^= 0xff;
        write(folder.path(), "f3", &bytes);
        let second = packed(folder.path(), &spec(), &[]).unwrap();
        let manifest: BTreeSet<Digest> =
            second.index.chunks.iter().copied().chain([second.index_digest]).collect();
        let sent: Vec<Digest> = second.chunks().filter(|chunk| !on_server.contains(chunk)).collect();
        let of_files: u64 = sent
            .iter()
            .filter(|chunk| !manifest.contains(chunk))
            .filter_map(|chunk| second.chunk_size(chunk))
            .sum();
        let EntryKind::File { chunks, .. } = &second.manifest.entries[3].what else { panic!("a file") };
        let mut end = 0;
        let size_of = |chunk| second.chunk_size(chunk).unwrap();
        let changed = chunks.iter().map(size_of).find(|size| {
            end += size;
            end > at as u64
        });
        assert!(
            of_files * 10 <= changed.unwrap() * 12,
            "{of_files} at {at}, the changed chunk has {changed:?}"
        );
    }
}

/// An insertion moves all that follows; cuts that follow the content find their places again.
#[test]
fn an_insertion_does_not_send_what_follows_it() {
    let bytes = noise(5, 8_000_000);
    let folder = folder(&[("f", &bytes)]);
    let on_server: BTreeSet<Digest> = packed(folder.path(), &spec(), &[]).unwrap().chunks().collect();
    write(folder.path(), "f", &[&bytes[..1_000_000], b"inserted", &bytes[1_000_000..]].concat());
    let second = packed(folder.path(), &spec(), &[]).unwrap();
    let sent: u64 = second
        .chunks()
        .filter(|chunk| !on_server.contains(chunk))
        .filter_map(|chunk| second.chunk_size(&chunk))
        .sum();
    assert!(sent < 2_000_000, "{sent}");
}

fn elf(machine: u16) -> Vec<u8> {
    let mut head = vec![0x7f, b'E', b'L', b'F', 2, 1, 1];
    head.resize(18, 0);
    head.extend(machine.to_le_bytes());
    head
}

#[test]
fn the_architecture_is_that_of_the_programs() {
    let (x86, arm) = (elf(62), elf(183));
    let one = folder(&[("a*", &x86), ("lib.so", &x86), ("text", b"x")]);
    assert_eq!(packed(one.path(), &spec(), &[]).unwrap().manifest.architecture.as_deref(), Some("x86_64"));
    let mixed = folder(&[("a*", &x86), ("b*", &arm)]);
    assert_eq!(packed(mixed.path(), &spec(), &[]).unwrap().manifest.architecture, None);
    let started = packed(mixed.path(), &starting("./b"), &[]).unwrap();
    assert_eq!(started.manifest.architecture.as_deref(), Some("aarch64"), "the one that is started decides");
    let none = folder(&[("text", b"x"), ("cut", b"\x7fELF")]);
    assert_eq!(packed(none.path(), &spec(), &[]).unwrap().manifest.architecture, None);
    let big_endian: Vec<u8> = [&[0x7f, b'E', b'L', b'F', 2, 2][..], &[0; 12], &[0, 22]].concat();
    assert_eq!(elf::machine(&big_endian), Some("s390x"));
}
