//! A corpus of hostile manifests; what each would do is in its name.

use super::*;
use crate::fake::{process, spec};
use allod_proto::{
    Digest, UnitName,
    manifest::ManifestEntry,
    routes::RoutePattern,
    spec::{AppSpec, HealthSpec, RuntimeSpec, UnitKind},
};

fn folder(path: &str) -> ManifestEntry {
    ManifestEntry { path: path.to_owned(), what: EntryKind::Folder {} }
}

fn file(path: &str) -> ManifestEntry {
    sized(path, 3, 1)
}

fn sized(path: &str, size: u64, chunks: usize) -> ManifestEntry {
    let chunks = vec![Digest::of("abc"); chunks];
    ManifestEntry { path: path.to_owned(), what: EntryKind::File { executable: false, size, chunks } }
}

fn link(path: &str, to: &str) -> ManifestEntry {
    ManifestEntry { path: path.to_owned(), what: EntryKind::Link { to: to.to_owned() } }
}

fn manifest(entries: Vec<ManifestEntry>) -> Manifest {
    Manifest { format: FORMAT, spec: spec(), architecture: None, version: None, entries }
}

fn refusal(entries: Vec<ManifestEntry>) -> String {
    check(&manifest(entries)).unwrap_err()
}

#[test]
fn a_path_that_leaves_the_folder_or_hides_is_refused() {
    let bad = [
        "",
        "/",
        "/etc/passwd",
        "..",
        "../x",
        "a/../../x",
        "a/..",
        ".",
        "./a",
        "a/./b",
        "a//b",
        "a/",
        "a\nb",
        "a\0b",
        "a\u{1b}[2J",
        "a\u{85}b",
    ];
    for path in bad {
        for entry in [folder(path), file(path), link(path, "a")] {
            let entries = vec![folder("a"), entry];
            assert!(check(&manifest(entries)).is_err(), "{path:?}");
        }
    }
    assert!(refusal(vec![file(&"x".repeat(256))]).ends_with("longer than 255 bytes"));
    let deep = vec!["d"; 2_100].join("/");
    assert!(refusal(vec![file(&deep)]).ends_with("the path is too long"));
}

#[test]
fn a_path_that_is_there_twice_or_out_of_order_is_refused() {
    for entries in [vec![file("a"), file("a")], vec![file("b"), file("a")], vec![folder("a"), file("a")]] {
        assert!(refusal(entries).ends_with("out of order or there twice"));
    }
}

#[test]
fn a_file_below_no_folder_below_a_file_or_through_a_link_is_refused() {
    assert_eq!(refusal(vec![file("a/b")]), "\"a/b\": its folder is not in the manifest");
    let through = "\"a/b\": lies below something that is not a folder";
    assert_eq!(refusal(vec![file("a"), file("a/b")]), through);
    assert_eq!(refusal(vec![link("a", "z"), file("a/b"), folder("z")]), through);
}

#[test]
fn a_link_out_of_the_folder_is_refused() {
    let bad = ["/etc/passwd", "..", "../x", "../../etc", "", "a\0b", "a\nb"];
    for to in bad {
        assert!(check(&manifest(vec![link("l", to)])).is_err(), "{to:?}");
    }
    assert!(refusal(vec![folder("a"), link("a/l", "../../x")]).ends_with("the link leaves the folder"));
    // `short` is a link to a deep folder's sibling: a later .. would count from where it leads, not from where it stands.
    let detour = vec![
        folder("a"),
        folder("a/b"),
        link("a/b/short", "../../c"),
        folder("c"),
        link("out", "a/b/short/../../x"),
    ];
    assert!(refusal(detour).ends_with(".. only at its beginning"));
    assert!(refusal(vec![link("l", "a/../../..")]).ends_with(".. only at its beginning"));
    assert!(refusal(vec![link("l", "./../x")]).ends_with("the link leaves the folder"));
}

#[test]
fn links_that_stay_are_fine() {
    let entries = vec![
        folder("a"),
        folder("a/b"),
        file("a/b/f"),
        link("a/b/self", "./f"),
        link("a/b/up", "../../c"),
        folder("c"),
        link("dangling", "nowhere/at/all"),
    ];
    assert_eq!(check(&manifest(entries)), Ok(()));
}

#[test]
fn sizes_that_dont_fit_the_chunks_or_the_bounds_are_refused() {
    let chunk = u64::try_from(limits::CHUNK).unwrap();
    for entry in [sized("a", 0, 1), sized("a", 3, 0), sized("a", chunk + 1, 1), sized("a", 1, 2)] {
        assert!(refusal(vec![entry]).ends_with("its size and its chunks don't fit"));
    }
    let many = usize::try_from(limits::RELEASE_BYTES / chunk).unwrap();
    let most = sized("a", limits::RELEASE_BYTES, many);
    assert_eq!(check(&manifest(vec![most.clone()])), Ok(()));
    assert!(refusal(vec![most, file("b")]).starts_with("more than"));
    assert!(refusal(vec![sized("a", u64::MAX, 1), sized("b", u64::MAX, 1)]).contains("don't fit"));
    let entries = (0..=limits::RELEASE_ENTRIES).map(|n| folder(&format!("{n:09}"))).collect();
    assert!(refusal(entries).starts_with("more than 200000"));
}

#[test]
fn another_format_and_words_that_are_not_words_are_refused() {
    assert!(
        check(&Manifest { format: FORMAT + 1, ..manifest(Vec::new()) }).unwrap_err().contains("format 2")
    );
    for version in ["", "a\u{1b}]0;x\u{7}", &"v".repeat(201)] {
        assert!(check(&Manifest { version: Some(version.to_owned()), ..manifest(Vec::new()) }).is_err());
    }
    assert!(check(&Manifest { architecture: Some("x86 64".to_owned()), ..manifest(Vec::new()) }).is_err());
}

/// What is wrong with a spec that came over the wire.
fn spec_refusal(change: impl FnOnce(&mut AppSpec)) -> String {
    let mut spec = spec();
    change(&mut spec);
    check_spec(&spec).unwrap_err()
}

fn web_refusal(change: impl FnOnce(&mut allod_proto::spec::ProcessSpec)) -> String {
    spec_refusal(|spec| {
        let UnitKind::Process(process) =
            &mut spec.units.get_mut(&UnitName::new("web").unwrap()).unwrap().kind
        else {
            panic!("web is a process")
        };
        change(process);
    })
}

#[test]
fn a_route_that_its_text_never_means_is_refused() {
    let bad = [
        (Some("EXAMPLE.com"), "/"),
        (Some("example.com"), "/x/../admin"),
        (Some("example.com"), ""),
        (Some("example.com/x"), "/"),
        (None, "x"),
        (Some(""), "/"),
        (Some("a b"), "/"),
    ];
    for (host, path) in bad {
        let pattern = RoutePattern { host: host.map(str::to_owned), path: path.to_owned() };
        let why = spec_refusal(|spec| {
            spec.units.get_mut(&UnitName::new("web").unwrap()).unwrap().routes = vec![pattern];
        });
        assert!(why.starts_with("unit web:"), "{why}");
    }
    let twice = spec_refusal(|spec| {
        let route = RoutePattern::parse("example.com").unwrap();
        spec.units.get_mut(&UnitName::new("web").unwrap()).unwrap().routes = vec![route];
    });
    assert_eq!(twice, "unit web: route example.com is there twice");
}

#[test]
fn a_spec_that_could_not_have_been_written_is_refused() {
    assert_eq!(spec_refusal(|spec| spec.units.clear()), "the app has no unit");
    for start in [&[][..], &[""], &["/bin/sh"], &["../x"], &["a/../../x"], &["node", "a\0b"]] {
        let why = web_refusal(|web| web.start = start.iter().map(|word| (*word).to_owned()).collect());
        assert!(why.starts_with("unit web: start:"), "{why}");
    }
    for name in ["", "1A", "A-B", "A=B", "PATH", "ALLOD_SECRETS_FD", "NOTIFY_SOCKET"] {
        spec_refusal(|spec| drop(spec.vars.insert(name.to_owned(), "x".to_owned())));
    }
    spec_refusal(|spec| drop(spec.vars.insert("A".to_owned(), "x\0y".to_owned())));
    spec_refusal(|spec| spec.release_command = Some(vec!["/bin/rm".to_owned()]));
    web_refusal(|web| web.instances = 65);
    web_refusal(|web| web.drain_ms = u64::MAX);
    web_refusal(|web| web.runtime = Some(RuntimeSpec { name: "-c".to_owned(), version: None }));
    web_refusal(|web| web.runtime = Some(RuntimeSpec { name: "../node".to_owned(), version: None }));
    for path in ["", "up", "/a b", "/a\r\nX: y"] {
        web_refusal(|web| web.health = HealthSpec::Http { path: path.to_owned(), host: None });
    }
    web_refusal(|web| {
        web.health = HealthSpec::Http { path: "/".to_owned(), host: Some("a\r\nx".to_owned()) };
    });
    let site = |root: &str, fallback: Option<&str>| {
        let site =
            allod_proto::spec::StaticSpec { root: root.to_owned(), fallback: fallback.map(str::to_owned) };
        spec_refusal(|spec| {
            spec.units.get_mut(&UnitName::new("site").unwrap()).unwrap().kind = UnitKind::Static(site)
        })
    };
    for bad in ["/etc", "..", "a/../../b", "./a"] {
        site(bad, None);
        site("", Some(bad));
    }
}

#[test]
fn the_specs_that_people_write_pass() {
    assert_eq!(check_spec(&spec()), Ok(()));
    let text = "name='a'\nunits.a={start=['./x'],runtime='node@22.1',routes=['*.b.example/c'],health={command=['./y']}}";
    let resolved = allod_appspec::parse(text).unwrap().resolve(&allod_proto::EnvName::default()).unwrap();
    assert_eq!(check_spec(&resolved.spec), Ok(()));
    let mut small = spec();
    small.units.retain(|name, _| name.as_str() == "web");
    small.units.get_mut(&UnitName::new("web").unwrap()).unwrap().kind = process(0, HealthSpec::Ready);
    assert_eq!(check_spec(&small), Ok(()));
}

proptest::proptest! {
    /// Whatever a link says: if it passes, following it step by step, through any other links that pass, stays inside.
    #[test]
    fn links_that_pass_never_leave(
        targets in proptest::collection::vec("(\\.\\./){0,3}(a|b|c|l0|l1|l2|\\.\\.|\\.)(/(a|b|c|l0|l1|l2|\\.\\.|\\.)){0,4}", 3),
        places in proptest::collection::vec(0_usize..3, 3),
    ) {
        let homes = ["", "a/", "a/b/"];
        let mut entries = vec![folder("a"), folder("a/b"), folder("a/b/c"), folder("c")];
        for (number, (to, place)) in targets.iter().zip(&places).enumerate() {
            entries.push(link(&format!("{}l{number}", homes[*place]), to));
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        let manifest = manifest(entries);
        if check(&manifest).is_ok() {
            for entry in &manifest.entries {
                if let EntryKind::Link { .. } = entry.what {
                    assert!(stays(&manifest, &entry.path), "{manifest:?}");
                }
            }
        }
    }
}

/// Follows a path the way a kernel does; false if it ever goes above the folder.
fn stays(manifest: &Manifest, path: &str) -> bool {
    let mut at: Vec<String> = Vec::new();
    let mut todo: Vec<String> = path.split('/').rev().map(str::to_owned).collect();
    for _ in 0..200 {
        let Some(part) = todo.pop() else { return true };
        match part.as_str() {
            "." | "" => {}
            ".." => {
                if at.pop().is_none() {
                    return false;
                }
            }
            _ => {
                let here = [at.clone(), vec![part.clone()]].concat().join("/");
                match manifest.entries.iter().find(|entry| entry.path == here).map(|entry| &entry.what) {
                    Some(EntryKind::Link { to }) => todo.extend(to.split('/').rev().map(str::to_owned)),
                    Some(EntryKind::Folder {}) => at.push(part),
                    // A missing name or a file ends the walk.
                    Some(EntryKind::File { .. }) | None => return true,
                }
            }
        }
    }
    true
}
