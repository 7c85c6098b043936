//! What people get wrong is answered with the place, the reason and the right exit code, and with `--json` always as one
//! document.

use crate::{
    cli::{BINARY, Cli, ended},
    processes::PATIENCE,
    world::{World, fresh_folder},
};
use std::net::TcpListener;

/// A file, the place in it that is to be complained about, and a word of the complaint.
const WRONG: [(&str, &[&str]); 12] = [
    ("name = \"Blog\"\n[units.web]\nstart = [\"x\"]\n", &["allod.toml:1", "Blog"]),
    ("name = \"blog\"\n", &["allod.toml:1", "units"]),
    ("name = \"blog\"\nnam = 1\n[units.web]\nstart = [\"x\"]\n", &["allod.toml:2", "nam"]),
    ("name = \"blog\"\n[units.web]\nstart = \"npm start\"\n", &["allod.toml:3", "start"]),
    ("name = \"blog\"\n[units.web]\nroutes = [\"/\"]\n", &["allod.toml:2", "start"]),
    ("name = \"blog\"\n[units.web]\nstart = [\"x\"]\ninstances = -1\n", &["allod.toml:4", "instances"]),
    (
        "name = \"blog\"\n[units.web]\nstart = [\"x\"]\nroutes = [\"http://a b\"]\n",
        &["allod.toml:4", "routes"],
    ),
    ("name = \"blog\"\n[units.web]\nstart = [\"x\"]\nhealth_timeout = \"soon\"\n", &["allod.toml:4", "soon"]),
    ("name = \"blog\"\n[units.web]\nstart = [\"x\"]\n[units.web]\nstart = [\"y\"]\n", &["allod.toml:4"]),
    ("name = \"blog\"\n[units.web\nstart = [\"x\"]\n", &["allod.toml:2"]),
    (
        "name = \"blog\"\n[units.web]\nstart = [\"x\"]\n[secrets]\nTOKEN = \"hunter2\"\n",
        &["allod.toml:5", "TOKEN"],
    ),
    (
        "name = \"blog\"\n[units.web]\nstart = [\"x\"]\ninstances = \"two\"\ndrain = \"1 moon\"\n",
        &["allod.toml:4", "allod.toml:5"],
    ),
];

#[tokio::test]
async fn every_complaint_about_an_allod_toml_has_its_line() {
    let folder = fresh_folder();
    let cli = Cli::at(folder.path().to_owned());
    for (text, expected) in WRONG {
        std::fs::write(folder.path().join("allod.toml"), text).unwrap();
        let told = cli.plain_in(folder.path(), &["deploy", "--yes"]).await;
        assert_eq!(told.code, 2, "{text}\n{told:?}");
        let json = cli.run(&["deploy"]).await;
        let (code, _) = json.refused(2);
        assert_eq!(code, "invalid");
        for word in expected {
            assert!(told.stderr.contains(word), "{word} is not in what was said of\n{text}\n{}", told.stderr);
        }
        let lines: Vec<_> =
            json.json()["complaints"].as_array().unwrap().iter().map(|it| it["line"].to_string()).collect();
        for line in expected.iter().filter_map(|word| word.strip_prefix("allod.toml:")) {
            assert!(lines.iter().any(|found| found == line), "{lines:?} {json:?}");
        }
        assert!(!told.stderr.contains("hunter2") && !told.stderr.contains("panicked"), "{told:?}");
    }
}

#[tokio::test]
async fn a_folder_without_an_allod_toml_and_files_that_are_none_are_told_apart() {
    let folder = fresh_folder();
    let cli = Cli::at(folder.path().to_owned());
    let absent = cli.run(&["deploy"]).await;
    assert!(matches!(absent.code, 2 | 5), "{absent:?}");
    assert!(absent.stdout.contains("allod init"), "{absent:?}");
    std::fs::write(folder.path().join("allod.toml"), b"\xff\xfe\x00").unwrap();
    assert_eq!(cli.run(&["deploy"]).await.refused(2).0, "invalid");
}

#[tokio::test]
async fn servers_that_are_unknown_gone_or_others_are_told_apart() {
    let (world, other) = tokio::join!(World::up(), World::up());
    assert_eq!(world.allod(&["--server", "nope", "keys", "list"]).await.refused(5).0, "not_found");
    let folder = fresh_folder();
    let fresh = Cli::at(folder.path().to_owned());
    assert_eq!(fresh.run(&["keys", "list"]).await.refused(5).0, "not_found");

    // Another server at the pinned address.
    let key = world.enrol("ana", 8, &["--role", "owner"]).await;
    let person = world.person("ana", &key);
    person.run(&["keys", "list"]).await.ok();
    let inventory = person.home.join("servers.toml");
    let text = std::fs::read_to_string(&inventory).unwrap();
    let (here, there) = (world.management.to_string(), other.management.to_string());
    std::fs::write(&inventory, text.replace(&here, &there)).unwrap();
    for words in [&["servers", "status"][..], &["keys", "list"], &["audit", "show"], &["audit", "verify"]] {
        let refused = person.run(words).await;
        assert_eq!(refused.code, 10, "{refused:?}");
        assert!(refused.json().to_string().contains("untrusted"), "{refused:?}");
    }
    // Nobody there.
    drop(other);
    for words in [&["servers", "status"][..], &["keys", "list"], &["audit", "verify"], &["ops", "list"]] {
        let refused = person.run(words).await;
        assert_eq!(refused.code, 7, "{refused:?}");
        assert!(refused.json().to_string().contains("unreachable"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_command_line_that_makes_no_sense_is_one_document_too() {
    let folder = fresh_folder();
    let cli = Cli::at(folder.path().to_owned());
    for words in [
        &["deplooy"][..],
        &["keys", "add"],
        &["keys", "add", "x", "--role", "king"],
        &["servers", "add", "10.1.2.3"],
        &["ops", "attach", "not an id"],
        &["audit", "show", "--last", "0"],
        &["up", "--http-port", "70000"],
        &["--key", "/nonexistent", "keys", "list", "--server", "-"],
    ] {
        let refused = cli.run(words).await;
        assert!(refused.code == 2 || refused.code == 5, "{words:?}: {refused:?}");
        assert_eq!(refused.json()["ok"], false, "{refused:?}");
        assert!(!refused.stderr.contains("panicked"), "{refused:?}");
    }
}

#[tokio::test]
async fn a_second_up_on_the_same_state_names_the_first() {
    let world = World::up().await;
    let state = world.state.to_string_lossy().into_owned();
    let refused = world.allod(&["up", "--state", &state]).await;
    assert_ne!(refused.code, 0);
    let said = format!("process {}", world.up_pid());
    assert!(refused.json()["fault"]["message"].as_str().unwrap().contains(&said), "{refused:?}");
    world.allod(&["servers", "status"]).await.ok();
}

#[tokio::test]
async fn a_port_in_use_is_named_before_anything_starts() {
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = held.local_addr().unwrap().port();
    let folder = fresh_folder();
    let cli = Cli::at(folder.path().to_owned());
    let state = folder.path().join("s").to_string_lossy().into_owned();
    for flag in ["--http-port", "--management-port", "--hub-port"] {
        let mut up =
            cli.command(&["--json", "up", "--mesh", "loopback", "--state", &state, flag, &port.to_string()]);
        let output = tokio::time::timeout(PATIENCE, up.output()).await.expect("it goes on without its port");
        let refused = ended(output.unwrap());
        assert_ne!(refused.code, 0, "{BINARY} up {flag}");
        let message = refused.json()["fault"]["message"].as_str().unwrap().to_owned();
        assert!(message.contains(&port.to_string()), "{message}");
    }
}

#[tokio::test]
async fn up_ends_with_everything_that_it_began() {
    let mut world = World::up().await;
    world.app("blog").deploy(&world, "v1").await.ok();
    let all = world.processes();
    assert!(all.len() >= 6, "four programs, a shim and an app: {all:?}");
    assert_eq!(world.stop(), Some(0));
    let left: Vec<_> = all.into_iter().filter(|pid| crate::processes::is_alive(*pid)).collect();
    assert_eq!(left, Vec::<u32>::new());
}
