use super::*;
use crate::Caller;
use allod_proto::{Role, messages::named::CommandRun};
use proptest::prelude::*;

fn definition(name: &str, text: &str) -> Definition {
    parse(&NamedCommandName::new(name).unwrap(), text).unwrap_or_else(|wrong| panic!("{wrong}"))
}

fn complaints(text: &str) -> Vec<String> {
    let wrong = parse(&NamedCommandName::new("x").unwrap(), text).unwrap_err();
    wrong.iter().map(|complaint| complaint.about("x.toml")).collect()
}

fn registry() -> Registry {
    let deploy = r#"
        summary = "Deploy the site"
        exec = ["/usr/local/bin/deploy", "--branch={branch}", "--copies", "{copies}"]
        callers = ["builder"]
        [params]
        branch = { choice = ["main", "next"], default = "main" }
        copies = { integer = [-1, 5] }
    "#;
    let install = r#"
        summary = "Install a package"
        exec = ["/usr/bin/pip", "install", "--", "{package}"]
        slot = "package"
        callers = ["builder"]
        params.package = { pattern = "[a-z][a-z0-9-]*", max_length = 20 }
    "#;
    let secret = "summary = \"For people\"\nexec = [\"/bin/true\"]";
    let definitions =
        vec![definition("deploy", deploy), definition("pip_install", install), definition("inspect", secret)];
    Registry::new(definitions, 7).unwrap()
}

fn builder() -> Caller {
    Caller::fixture_named("builder", Role::Caller, None)
}

fn ask(name: &str, params: &[(&str, &str)]) -> CommandRun {
    CommandRun {
        name: name.to_owned(),
        params: params.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect(),
        stdin: None,
        detach: false,
    }
}

fn decide(name: &str, params: &[(&str, &str)]) -> Result<Vec<String>, NoCall> {
    registry().decide(&builder(), &ask(name, params), &Choices::default()).map(|call| call.argv().to_vec())
}

#[test]
fn two_lines_are_enough_and_what_is_not_said_is_the_least() {
    let least = definition("x", "summary = \"S\"\nexec = [\"/bin/true\"]");
    assert!(least.callers.is_empty() && least.run_as.is_none() && least.stdin_limit == 0);
    assert_eq!((least.concurrency, least.timeout_ms), (1, 60_000));
}

#[test]
fn every_complaint_comes_at_once_with_its_line_and_what_to_do() {
    let found = complaints(
        "sumary = \"x\"\nexec = [\"true\", \"{nope}\"]\ntimeout = \"soon\"\nrun_as = \"-r\"\n[params]\nBad = { choice = [] }\nunused = { choice = [\"a\"], pattern = \"a\" }\n",
    );
    for (part, line) in [
        ("did you mean summary?", 1),
        ("\"true\" is not absolute", 2),
        ("there is no parameter nope", 2),
        ("not a span of time", 3),
        ("not a user's name", 4),
        ("\"Bad\" is not a parameter's name", 6),
        ("in exactly one way", 7),
    ] {
        let here = format!("x.toml:{line}: ");
        assert!(found.iter().any(|it| it.starts_with(&here) && it.contains(part)), "{part}: {found:#?}");
    }
}

#[test]
fn a_file_that_could_mean_something_else_is_refused() {
    for (bad, why) in [
        ("exec = [\"/bin/sh\", \"-c\", \"{x\"]", "brace"),
        ("exec = [\"/usr/../bin/true\"]", "..) "),
        ("exec = [\"./deploy\"]", "not absolute"),
        ("exec = [\"/opt/{x}/run\"]", "parameter in it"),
        ("exec = \"/bin/true\"", "no shell reads it"),
        ("exec = [\"/bin/true\", \"{p}\"]\nslot = \"p\"\nparams.p = { pattern = \"a\" }", "before --"),
        (
            "exec = [\"/bin/true\", \"--\", \"{p}\"]\nslot = \"p\"\nparams.p = { choice = [\"a\"], default = \"a\" }",
            "default",
        ),
        ("exec = [\"/bin/true\", \"{p}\"]\nparams.p = { choice = [\"--force\"] }", "no value"),
        ("exec = [\"/bin/true\", \"{p}\"]\nparams.p = { choice = [\"a\"], default = \"b\" }", "default"),
        ("exec = [\"/bin/true\", \"{p}\"]\nparams.p = { integer = [5, 1] }", "lower first"),
        ("exec = [\"/bin/true\", \"{p}\"]\nparams.p = { pattern = \"(\" }", "not a pattern"),
        ("exec = [\"/bin/true\", \"{p}\"]\nparams.p = { pattern = \"a\", max_length = 9999 }", "max_length"),
        ("exec = [\"/bin/true\"]\nparams.p = { choice = [\"a\"] }", "used nowhere"),
        ("exec = [\"/bin/true\"]\nenv = { \"ALLOD_RUN\" = \"x\" }", "variable's name"),
        ("exec = [\"/bin/true\"]\ncallers = [\"*\"]", "no patterns"),
        ("exec = [\"/bin/true\"]\ndigest = \"abc\"", "SHA-256"),
        ("exec = [\"/bin/true\"]\ntimeout = \"0s\"", "bounds"),
        ("exec = [\"/bin/true\"]\napproval = { role = \"god\" }", "not a role"),
        ("exec = []", "is empty"),
        ("exec = [", ""),
    ] {
        let why = why.trim_end_matches(") ");
        let found = complaints(&format!("summary = \"s\"\n{bad}"));
        assert!(found.iter().any(|it| it.contains(why)), "{bad}: {found:#?}");
    }
}

#[test]
fn no_command_takes_the_word_that_asks_what_there_is() {
    for reserved in crate::line::RESERVED {
        let name = NamedCommandName::new(reserved).unwrap();
        assert!(parse(&name, "summary = \"s\"\nexec = [\"/bin/true\"]").is_err(), "{reserved}");
    }
}

#[test]
fn an_unknown_name_and_one_that_is_not_for_the_caller_look_alike() {
    let unknown = decide("nothing", &[]).unwrap_err().to_string().replace("nothing", "NAME");
    let hidden = decide("inspect", &[]).unwrap_err().to_string().replace("inspect", "NAME");
    assert_eq!(unknown, hidden);
}

/// X1 and X2 at the decision, so that they hold behind every door.
#[test]
fn x1_an_option_a_path_or_an_address_in_a_name_or_value_is_refused() {
    for name in [
        "deploy --force",
        "pip_install_-r/etc/shadow",
        "pip_install_--index-url=http://x",
        "pip_install_git+https://x",
        "pip_install_./x",
        "pip_install_a@file:///etc",
        "pip_install_",
        "pip_install_A",
        "Deploy",
        "deploy;id",
        "",
    ] {
        assert!(decide(name, &[("copies", "1")]).is_err(), "{name}");
    }
    for value in
        ["--force", "-", "main next", "$(id)", "`id`", "main\n", "ma\u{200b}in", "mаin", "", "main;id"]
    {
        assert!(decide("deploy", &[("branch", value), ("copies", "1")]).is_err(), "{value:?}");
    }
}

#[test]
fn a_value_is_one_argument_or_a_part_of_one() {
    assert_eq!(
        decide("deploy", &[("copies", "-1")]).unwrap(),
        ["/usr/local/bin/deploy", "--branch=main", "--copies", "-1"]
    );
    assert_eq!(
        decide("pip_install_scikit-learn", &[]).unwrap(),
        ["/usr/bin/pip", "install", "--", "scikit-learn"]
    );
    assert_eq!(
        decide("pip_install", &[("package", "requests")]).unwrap(),
        ["/usr/bin/pip", "install", "--", "requests"]
    );
}

#[test]
fn what_is_missing_unknown_out_of_bounds_or_given_twice_is_said_all_at_once() {
    let why = decide("deploy", &[("branch", "other"), ("force", "1")]).unwrap_err().to_string();
    for part in ["copies is missing", "branch must be one of main, next", "no parameter \"force\""] {
        assert!(why.contains(part), "{why}");
    }
    for copies in ["6", "-2", "01", "+1", "1.0", "99999999999999999999"] {
        assert!(decide("deploy", &[("copies", copies)]).is_err(), "{copies}");
    }
    assert!(decide("pip_install_a", &[("package", "b")]).unwrap_err().to_string().contains("twice"));
}

#[test]
fn a_list_has_the_lines_that_were_read_and_no_other() {
    let text = "summary = \"s\"\nexec = [\"/bin/echo\", \"{p}\"]\nparams.p = { list = \"/etc/allod/p\" }";
    let registry = Registry::new(vec![definition("x", text)], 1).unwrap();
    let choices = Choices::new([("/etc/allod/p".to_owned(), ["a".to_owned()].into())].into());
    let owner = Caller::fixture(Role::Owner, None, None);
    assert!(registry.decide(&owner, &ask("x", &[("p", "a")]), &choices).is_ok());
    assert!(registry.decide(&owner, &ask("x", &[("p", "b")]), &choices).is_err());
    assert!(registry.decide(&owner, &ask("x", &[("p", "a")]), &Choices::default()).is_err());
    assert_eq!(registry.lists(), ["/etc/allod/p"].into());
}

#[test]
fn a_name_that_a_family_could_make_is_refused() {
    let family = "summary = \"s\"\nexec = [\"/bin/echo\", \"--\", \"{p}\"]\nslot = \"p\"\nparams.p = { pattern = \"[a-z]+\" }";
    let plain = "summary = \"s\"\nexec = [\"/bin/true\"]";
    let both = vec![definition("get", family), definition("get_all", plain)];
    assert!(Registry::new(both, 1).unwrap_err().join(" ").contains("get_all could also be meant"));
}

#[test]
fn a_change_that_gives_power_is_said_first() {
    let old = definition(
        "x",
        "summary = \"s\"\nexec = [\"/bin/true\"]\ncallers = [\"a\"]\ntimeout = \"10s\"\napproval = true",
    );
    let new = definition(
        "x",
        "summary = \"t\"\nexec = [\"/bin/false\"]\ncallers = [\"b\"]\ntimeout = \"5s\"\nrun_as = \"root\"",
    );
    let lines = difference(Some(&old), Some(&new));
    let more = lines.iter().take_while(|line| line.starts_with("MORE")).count();
    assert_eq!(lines.iter().filter(|line| line.starts_with("MORE")).count(), more);
    for part in ["b may run it", "no approval", "/bin/false", "as root", "a may not run", "10000", "summary"]
    {
        assert!(lines.iter().any(|line| line.contains(part)), "{part}: {lines:#?}");
    }
    assert!(difference(Some(&old), Some(&old)).is_empty());
}

#[test]
fn what_reads_its_arguments_as_a_language_is_warned_of() {
    let bad = definition(
        "x",
        "summary = \"s\"\nexec = [\"/bin/bash\", \"/x\"]\nrun_as = \"root\"\nenv = { LD_PRELOAD = \"/x\" }",
    );
    assert_eq!(lint(&bad).len(), 4, "{:#?}", lint(&bad));
    let good = definition(
        "x",
        "summary = \"s\"\nexec = [\"/usr/bin/systemctl\", \"reload\", \"nginx\"]\ncallers = [\"a\"]",
    );
    assert!(lint(&good).is_empty());
}

fn role() -> impl Strategy<Value = Role> {
    (0..Role::ALL.len()).prop_map(|at| Role::ALL[at])
}

proptest! {
    /// D9: for random registries and callers, a command is listed if and only if it may be run.
    #[test]
    fn what_is_listed_is_what_may_be_run(
        defined in proptest::collection::btree_map("[a-c]{1,2}(_[a-c])?", proptest::collection::vec("[ab]", 0..3), 0..6),
        name in "[ab]",
        role in role(),
        narrowed in proptest::option::of(proptest::collection::vec("[a-c]{1,2}(_[a-c])?", 0..3)),
    ) {
        let text = |callers: &Vec<String>| format!("summary = \"s\"\nexec = [\"/bin/true\"]\ncallers = {callers:?}");
        let definitions = defined.iter().map(|(name, callers)| definition(name, &text(callers))).collect();
        let registry = Registry::new(definitions, 1).unwrap();
        let caller = Caller::fixture_named(&name, role, narrowed);
        let listed: Vec<String> = registry.runnable(&caller).iter().map(|it| it.name.to_string()).collect();
        for name in defined.keys() {
            let runs = registry.decide(&caller, &ask(name, &[]), &Choices::default()).is_ok();
            prop_assert_eq!(runs, listed.contains(name), "{}", name);
        }
    }

    #[test]
    fn no_text_makes_the_reader_panic(text in "\\PC{0,200}", exec in "[\\x00-\\x7f]{0,40}") {
        let name = NamedCommandName::new("x").unwrap();
        let _ = parse(&name, &text);
        let _ = parse(&name, &format!("summary = \"s\"\nexec = [\"/bin/true\", {exec:?}]"));
    }

    #[test]
    fn no_name_and_no_value_makes_more_than_the_declared_arguments(name in "\\PC{0,40}", key in "\\PC{0,10}", value in "\\PC{0,40}") {
        let owner = Caller::fixture(Role::Owner, None, None);
        let asked = ask(&name, &[("copies", "1"), (&key, &value)]);
        if let Ok(call) = registry().decide(&owner, &asked, &Choices::default()) {
            prop_assert_eq!(call.argv().len(), call.definition().exec.len());
            prop_assert!(call.argv().iter().all(|part| part.bytes().all(|byte| (0x21..0x7f).contains(&byte))));
        }
    }
}

#[test]
fn a_bound_that_bounds_nothing_or_lets_nothing_start_is_refused() {
    for (bad, why) in [
        ("memory = \"64\"", "not a size"),
        ("memory = 64", "expected"),
        ("memory = \"64MiB\"", "not a size; write 64KB, 128MB or 2GB"),
        ("memory = \"1MB\"", "must be at least 4MB"),
        ("memory = \"18446744073709551615GB\"", "not a size"),
        ("processes = 0", "not from 1 to 32768"),
        ("processes = 40000", "not from 1 to 32768"),
        ("processes = \"50\"", "expected"),
    ] {
        let found = complaints(&format!("summary = \"S\"\nexec = [\"/bin/true\"]\n{bad}"));
        assert!(
            found.len() == 1 && found[0].starts_with("x.toml:3: ") && found[0].contains(why),
            "{bad}: {found:#?}"
        );
    }
}

#[test]
fn what_a_run_may_use_is_bounded_also_where_its_file_says_nothing() {
    let least = definition("x", "summary = \"S\"\nexec = [\"/bin/true\"]");
    assert_eq!((least.memory(), least.process_bound()), (1 << 30, 512));
    // What is not said is not told: definitions of earlier versions keep their digest, and earlier clients read these.
    let told = serde_json::to_string(&least).unwrap();
    assert!(!told.contains("memory") && !told.contains("processes"), "{told}");
    let said = definition("x", "summary = \"S\"\nexec = [\"/bin/true\"]\nmemory = \"64MB\"\nprocesses = 50");
    assert_eq!((said.memory(), said.process_bound()), (64 << 20, 50));
}

#[test]
fn another_bound_is_a_change_of_limits_and_gives_nobody_power() {
    let with = |more: &str| definition("x", &format!("summary = \"S\"\nexec = [\"/bin/true\"]\n{more}"));
    let lines = difference(Some(&with("")), Some(&with("memory = \"2GB\"\nprocesses = 1000")));
    let told = [
        "changed: limit of memory, in bytes: 2147483648, was 1073741824",
        "changed: limit of processes: 1000, was 512",
    ];
    assert_eq!(lines, told);
    assert_eq!(difference(Some(&with("")), Some(&with("memory = \"1GB\""))), [""; 0], "the same said");
    assert_eq!(lint(&with("callers = [\"b\"]\nmemory = \"64GB\"")).len(), 1);
    assert_eq!(lint(&with("callers = [\"b\"]\nprocesses = 5000")).len(), 1);
}
