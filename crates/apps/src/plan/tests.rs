//! Plans as people read them.

use super::*;
use crate::fake::{spec, unit};
use allod_proto::{SecretName, routes::RoutePattern};

fn shown(lines: &[PlanLine]) -> String {
    lines.iter().map(|line| format!("{} {}\n", line.sign, line.text)).collect()
}

const ALL_THERE: Upload = Upload { files: 120, bytes: 47_185_920, missing: 0, missing_bytes: 0 };

#[test]
fn a_first_deploy_shows_everything_that_comes() {
    let mut new = spec();
    new.vars.insert("LOG".to_owned(), "info".to_owned());
    new.secrets.insert(SecretName::new("TOKEN").unwrap(), SecretHandover::Descriptor);
    let upload = Upload { files: 1, bytes: 2_000, missing: 1, missing_bytes: 2_000 };
    let expected = "\
+ unit site: files of public
+ route example.com -> site
+ unit web: node, 2 copies
+ route shop.example.com -> web
+ unit worker: node, 1 copy
+ variable LOG = \"info\"
+ secret TOKEN (descriptor)
~ 1 file, 1.9 KB: 1.9 KB to upload
~ runs ./migrate before anything new starts
~ starts 2 copies of web, then stops the old
~ starts 1 copy of worker, then stops the old
";
    assert_eq!(shown(&describe(None, &new, &BTreeMap::new(), upload)), expected);
}

#[test]
fn a_deploy_of_the_same_says_that_nothing_changes() {
    let scale = BTreeMap::from([(unit("web"), 5)]);
    let expected = "  no change of configuration
  120 files, 45 MB: all on the server
~ runs ./migrate before anything new starts
~ starts 5 copies of web (as scaled; allod.toml says 2), then stops the old
~ starts 1 copy of worker, then stops the old
";
    assert_eq!(shown(&describe(Some(&spec()), &spec(), &scale, ALL_THERE)), expected);
}

#[test]
fn every_change_has_its_line() {
    let mut old = spec();
    old.vars.insert("LOG".to_owned(), "info".to_owned());
    old.vars.insert("GONE".to_owned(), "x".to_owned());
    old.secrets.insert(SecretName::new("OLD").unwrap(), SecretHandover::Descriptor);
    old.secrets.insert(SecretName::new("TOKEN").unwrap(), SecretHandover::Descriptor);
    let mut new = spec();
    new.vars.insert("LOG".to_owned(), "x\u{1b}[2J".repeat(40));
    new.secrets.insert(SecretName::new("TOKEN").unwrap(), SecretHandover::Environment);
    new.keep_releases = 9;
    new.release_command = None;
    new.units.remove(&unit("worker"));
    let web = new.units.get_mut(&unit("web")).unwrap();
    web.routes = vec![RoutePattern::parse("new.example.com").unwrap()];
    web.strip_prefix = true;
    web.limits.body_bytes = 1 << 30;
    let UnitKind::Process(process) = &mut web.kind else { panic!("web is a process") };
    process.start = vec!["node".to_owned(), "server.js".to_owned()];
    process.health = HealthSpec::Tcp;
    process.drain_ms = 1_500;
    process.resources.memory_bytes = Some(512 << 20);
    let UnitKind::Static(site) = &mut new.units.get_mut(&unit("site")).unwrap().kind else {
        panic!("static")
    };
    site.fallback = Some("index.html".to_owned());
    let lines = describe(Some(&old), &new, &BTreeMap::new(), ALL_THERE);
    let expected = "\
~ site: fallback: none -> index.html
- route shop.example.com -> web
+ route new.example.com -> web
~ web: strip_prefix: false -> true
~ web: limits: 128 MB a request, 60 s to answer, 300 s idle -> 1 GB a request, 60 s to answer, 300 s idle
~ web: start: node -> node server.js
~ web: health: http /health -> tcp
~ web: drain: 5 s -> 1500 ms
~ web: memory: none -> 512 MB
- unit worker
- variable GONE
";
    let shown = shown(&lines);
    assert!(shown.starts_with(expected), "{shown}");
    assert!(
        shown
            .contains("\n- secret OLD\n~ secret TOKEN: descriptor -> environment\n~ keep_releases: 5 -> 9\n")
    );
    assert!(!shown.contains('\u{1b}'), "no value reaches the terminal as a command");
    assert!(!shown.contains("./migrate"));
}

#[test]
fn sizes_are_rounded_down_to_a_tenth() {
    let sizes =
        [(0, "0 bytes"), (1023, "1023 bytes"), (1024, "1 KB"), (1_600_000, "1.5 MB"), (1 << 30, "1 GB")];
    for (bytes, text) in sizes {
        assert_eq!(size(bytes), text);
    }
}
