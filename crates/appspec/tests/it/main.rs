//! Every sample file is a test: those in `valid/` resolve for every environment, those in `invalid/` are complained about
//! in exactly the words beside them.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use allod_appspec::{Detected, DetectedUnit, OnFailure, document, parse};
use allod_proto::{
    AppName, EnvName, UnitName,
    spec::{HealthSpec, SecretHandover, UnitKind},
};
use std::path::{Path, PathBuf};

mod samples;

fn folder(kind: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it").join(kind)
}

fn read(kind: &str, name: &str) -> String {
    let path = folder(kind).join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn everything() -> allod_appspec::Resolved {
    parse(&read("valid", "everything.toml")).unwrap().resolve(&EnvName::default()).unwrap()
}

#[test]
fn an_environment_nobody_wrote_down_is_refused() {
    let written = parse(&read("valid", "environments.toml")).unwrap();
    let complaints = written.resolve(&EnvName::new("stagin").unwrap()).unwrap_err();
    let expected = "allod.toml:1: env: there is no environment stagin; \
                    known here: production, staging; add [env.stagin] for another";
    assert_eq!(complaints.to_string(), expected);
}

#[test]
fn a_secret_written_into_the_file_is_not_repeated() {
    let complaints = parse(&read("invalid", "secret_value.toml")).unwrap_err();
    assert!(!complaints.to_string().contains("hunter2"), "{complaints}");
}

#[test]
fn every_written_value_is_in_what_is_meant() {
    let resolved = everything();
    assert_eq!(resolved.servers, ["web1", "web2"]);
    assert_eq!(resolved.build.unwrap(), ["npm", "run", "build"]);
    assert_eq!(resolved.hooks.before.unwrap(), ["./check", "--all"]);
    assert_eq!(resolved.hooks.after.unwrap(), ["./announce"]);
    assert_eq!(resolved.hooks.timeout, std::time::Duration::from_secs(90));
    assert_eq!((resolved.folder.as_str(), resolved.batch), ("./dist", 2));
    assert_eq!(resolved.ignore, ["*.map"]);
    assert_eq!(resolved.on_failure, OnFailure::Revert);
    let spec = resolved.spec;
    assert_eq!(spec.app.to_string(), "shop/production");
    assert_eq!(spec.keep_releases, 3);
    assert_eq!(spec.release_command.as_deref(), Some(&["./migrate".to_owned()][..]));
    let handovers: Vec<SecretHandover> = spec.secrets.values().copied().collect();
    assert_eq!(handovers, [SecretHandover::Descriptor, SecretHandover::Environment]);
    let web = &spec.units[&UnitName::new("web").unwrap()];
    let routes: Vec<String> = web.routes.iter().map(ToString::to_string).collect();
    assert_eq!(routes, ["shop.example.com", "example.com/shop"]);
    assert!(web.strip_prefix);
    assert_eq!(web.limits.body_bytes, 1 << 30);
    assert_eq!((web.limits.response_timeout_ms, web.limits.idle_timeout_ms), (300_000, 3_600_000));
    let UnitKind::Process(process) = &web.kind else { panic!("a process") };
    assert_eq!(process.instances, 2);
    assert_eq!((process.health_timeout_ms, process.drain_ms, process.stop_grace_ms), (45_000, 60_000, 500));
    assert_eq!(process.resources.memory_bytes, Some(512 << 20));
    assert_eq!(process.resources.open_files, Some(1024));
    let runtime = process.runtime.as_ref().unwrap();
    assert_eq!((runtime.name.as_str(), runtime.version.as_deref()), ("node", Some("22")));
    let site = &spec.units[&UnitName::new("site").unwrap()];
    let UnitKind::Static(site) = &site.kind else { panic!("a static site") };
    assert_eq!((site.root.as_str(), site.fallback.as_deref()), ("public", Some("index.html")));
}

#[test]
fn what_is_not_written_has_its_documented_default() {
    let resolved = parse(&read("valid", "smallest.toml")).unwrap().resolve(&EnvName::default()).unwrap();
    assert_eq!((resolved.folder.as_str(), resolved.batch, resolved.on_failure), (".", 1, OnFailure::Stop));
    assert_eq!(resolved.spec.keep_releases, 5);
    let (_, process) = resolved.spec.processes().next().unwrap();
    assert_eq!(process.instances, 1);
    assert_eq!(process.health, HealthSpec::Running { for_ms: 2_000 });
    assert_eq!(
        (process.health_timeout_ms, process.drain_ms, process.stop_grace_ms),
        (30_000, 30_000, 10_000)
    );
    let routed = parse("name='a'\nunits.web={start=['x'],routes=['a.example']}").unwrap();
    let routed = routed.resolve(&EnvName::default()).unwrap();
    let (_, process) = routed.spec.processes().next().unwrap();
    assert_eq!(process.health, HealthSpec::Http { path: "/".to_owned(), host: None });
}

#[test]
fn an_environment_changes_what_it_names_and_nothing_else() {
    let written = parse(&read("valid", "environments.toml")).unwrap();
    let production = written.resolve(&EnvName::default()).unwrap();
    let staging = written.resolve(&EnvName::new("staging").unwrap()).unwrap();
    assert_eq!((production.spec.keep_releases, staging.spec.keep_releases), (9, 5));
    assert_eq!((production.servers, staging.servers), (vec!["web1".to_owned()], vec!["web2".to_owned()]));
    assert_eq!((&production.spec.vars["LOG"][..], &staging.spec.vars["LOG"][..]), ("info", "debug"));
    assert_eq!(staging.spec.vars["REGION"], "eu");
    assert_eq!((production.spec.secrets.len(), staging.spec.secrets.len()), (1, 2));
    assert_eq!((production.spec.units.len(), staging.spec.units.len()), (1, 2));
    let web = UnitName::new("web").unwrap();
    assert_eq!(staging.spec.process(&web).unwrap().instances, 1);
    assert_eq!(staging.spec.units[&web].routes[0].to_string(), "staging.example.com");
    assert_eq!(staging.spec.process(&web).unwrap().health, production.spec.process(&web).unwrap().health);
}

#[test]
fn what_init_writes_parses_and_means_what_was_detected() {
    let process = |start: &[&str], runtime: Option<&str>| DetectedUnit::Process {
        start: start.iter().map(|word| (*word).to_owned()).collect(),
        runtime: runtime.map(str::to_owned),
    };
    let units = [
        process(&["node", "it's \"quoted\"\\.js"], Some("node@22")),
        process(&["./bin/shop"], None),
        DetectedUnit::Static { root: "public".to_owned() },
    ];
    for unit in units {
        let detected = Detected {
            name: AppName::new("shop").unwrap(),
            what: "a test\nname = \"evil\"".to_owned(),
            unit: unit.clone(),
            build: Some(vec!["make".to_owned()]),
            folder: Some("dist".to_owned()),
            vars: vec![("PYTHONPATH".to_owned(), "vendor".to_owned())],
            notes: vec!["one\ntwo = 2".to_owned()],
        };
        let text = document(&detected);
        let resolved = parse(&text).unwrap_or_else(|complaints| panic!("{complaints}\n{text}"));
        let resolved = resolved.resolve(&EnvName::default()).unwrap();
        assert_eq!(resolved.spec.app.to_string(), "shop/production");
        assert_eq!((resolved.folder.as_str(), resolved.build.unwrap().len()), ("dist", 1));
        assert_eq!(resolved.spec.vars["PYTHONPATH"], "vendor");
        let (_, found) = resolved.spec.units.into_iter().next().unwrap();
        match (unit, found.kind) {
            (DetectedUnit::Process { start, .. }, UnitKind::Process(found)) => assert_eq!(start, found.start),
            (DetectedUnit::Static { root }, UnitKind::Static(found)) => assert_eq!(root, found.root),
            (unit, kind) => panic!("{unit:?} became {kind:?}"),
        }
    }
}

#[test]
fn the_commented_keys_of_init_are_keys() {
    let detected = Detected {
        name: AppName::new("shop").unwrap(),
        what: "a test".to_owned(),
        unit: DetectedUnit::Process { start: vec!["node".to_owned()], runtime: None },
        build: None,
        folder: None,
        vars: Vec::new(),
        notes: Vec::new(),
    };
    // Only lines that are a key or a table behind their comment sign.
    let uncommented: Vec<String> = document(&detected)
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest)
                if rest.starts_with('[') || rest.split_once(" = ").is_some_and(|(key, _)| is_key(key)) =>
            {
                rest.to_owned()
            }
            Some(_) | None => line.to_owned(),
        })
        .collect();
    let text = uncommented.join("\n");
    let written = parse(&text).unwrap_or_else(|complaints| panic!("{complaints}\n{text}"));
    assert_eq!(written.environments().len(), 2);
}

fn is_key(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

proptest::proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "\\PC{0,200}") {
        drop(parse(&text));
    }

    #[test]
    fn no_damage_to_a_good_file_makes_it_panic(at in 0_usize..1200, cut in 0_usize..40, put in "[\\PC\n]{0,8}") {
        let text = read("valid", "everything.toml");
        let chars: Vec<char> = text.chars().collect();
        let at = at.min(chars.len());
        let end = (at + cut).min(chars.len());
        let damaged: String = chars[..at].iter().copied().chain(put.chars()).chain(chars[end..].iter().copied()).collect();
        if let Err(complaints) = parse(&damaged) {
            let lines = damaged.lines().count().max(1) + 1;
            assert!(complaints.iter().all(|complaint| (1..=lines).contains(&complaint.line)));
        }
    }
}
