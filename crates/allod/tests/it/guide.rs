//! What the documents promise is tried: the guide's marked blocks run in their order against a server, and the tests that
//! SECURITY.md names are there.

use crate::{cli::Output, processes::PATIENCE, world::World};
use allod_signing::KeySigner;
use std::{fmt::Write as _, os::unix::fs::PermissionsExt as _, path::Path, process::Stdio};
use tokio::process::Command;

const GUIDE: &str = include_str!("../../../../docs/guide.md");
const SECURITY: &str = include_str!("../../../../SECURITY.md");

/// The blocks that begin with "```sh test" as one script, which says with each line where in the guide it is.
fn script(guide: &str) -> String {
    let mut script = String::new();
    let mut inside = false;
    for (index, line) in guide.lines().enumerate() {
        match line {
            "```sh test" => {
                inside = true;
                writeln!(script, ": 'docs/guide.md:{}'", index + 2).unwrap();
            }
            "```" => inside = false,
            _ if inside => writeln!(script, "{line}").unwrap(),
            _ => {}
        }
    }
    script
}

#[test]
fn only_marked_blocks_are_run() {
    let guide = "```sh\nno\n```\nno\n```sh test\nyes\n```\n\n```console\nno\n```\n";
    assert_eq!(script(guide), ": 'docs/guide.md:6'\nyes\n");
}

#[tokio::test]
async fn what_the_guide_says_to_type_works_in_the_order_in_which_it_stands() {
    let script = script(GUIDE);
    assert!(script.lines().filter(|line| line.starts_with("allod ")).count() > 20, "{script}");
    let world = World::up().await;
    let home = world.state.with_file_name("guide");
    std::fs::create_dir(&home).unwrap();
    write_key(&home.join("ana"));
    let mut sh = Command::new("sh");
    sh.args(["-eux", "-c", &script]).current_dir(&home).env_clear();
    // The copy of the binary that apps can reach, whatever user they have.
    sh.env("PATH", format!("{}:/usr/local/bin:/usr/bin:/bin", world.state.join("bin").display()));
    sh.env("HOME", &home).env("ALLOD_HOME", &world.cli.home);
    sh.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let ran = tokio::time::timeout(PATIENCE * 4, sh.output())
        .await
        .expect("the guide's commands do not end")
        .unwrap();
    let Output { code, stdout, stderr } = crate::cli::ended(ran);
    assert_eq!(code, 0, "{stdout}\n{stderr}");
}

/// What `ssh-keygen` would write: it isn't on every machine.
fn write_key(file: &Path) {
    let key = KeySigner::generate([77; 32], "ana@laptop");
    std::fs::write(file, key.to_openssh().as_bytes()).unwrap();
    std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(file.with_extension("pub"), key.public_openssh()).unwrap();
}

/// The code spans of a line.
fn spans(line: &str) -> impl Iterator<Item = &str> {
    line.split('`').skip(1).step_by(2)
}

/// Names of tests, each with the file that is named after them.
fn named_tests(text: &str) -> Vec<(&str, &str)> {
    let mut found = Vec::new();
    for line in text.lines().filter(|line| line.starts_with("| Tests |")) {
        let mut waiting = Vec::new();
        for span in spans(line) {
            if span.starts_with("crates/") {
                found.extend(waiting.drain(..).map(|name| (name, span)));
            } else {
                waiting.push(span);
            }
        }
        assert!(waiting.is_empty(), "no file is named for {waiting:?}");
    }
    found
}

#[test]
fn every_test_that_the_threat_model_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let named = named_tests(SECURITY);
    assert!(named.len() > 30, "{named:?}");
    for (test, file) in named {
        let source =
            std::fs::read_to_string(root.join(file)).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert!(source.contains(&format!("fn {test}(")), "SECURITY.md names {test}, which is not in {file}");
    }
}
