//! Adding servers, and looking at them.

use crate::{person::Person, server::Server};
use std::sync::Arc;
use tokio::sync::Barrier;

async fn add(person: &Person, server: &Server) {
    let (address, identity) = (server.address.to_string(), server.identity.to_string());
    let ended = person.run(&["servers", "add", &address, "--identity", &identity]).await;
    assert_eq!(ended.exit, 0, "{ended:?}");
}

#[tokio::test]
async fn an_add_that_fails_says_its_step_and_saves_nothing() {
    let person = Person::new(1);
    let stranger = Person::new(2);
    let server = Server::start("web1", 50, 1).await;
    let (address, identity) = (server.address.to_string(), server.identity.to_string());
    let wrong = format!("SHA256:{}", "a".repeat(43));
    let mut gone = Server::start("web2", 60, 1).await;
    let gone_address = gone.address.to_string();
    gone.stop().await;
    let cases: [(&Person, &[&str], u8, &str); 6] = [
        (&person, &["servers", "add", "10.1.2.3"], 2, "check the address"),
        (&person, &["servers", "add", &gone_address], 7, "ask who is there"),
        (&person, &["servers", "add", &address, "--name", "-"], 2, "choose a name"),
        (&person, &["servers", "add", &address, "--identity", &wrong], 10, "compare the identity"),
        // `--yes` is no comparison.
        (&person, &["servers", "add", &address, "--yes"], 9, "compare the identity"),
        (&stranger, &["servers", "add", &address, "--identity", &identity], 3, "make a signed call"),
    ];
    for (who, line, exit, step) in cases {
        let line: Vec<_> = line.iter().copied().chain(["--json"]).collect();
        let ended = who.run(&line).await;
        assert_eq!(ended.exit, exit, "{line:?} {ended:?}");
        assert_eq!(ended.json()["step"], step, "{ended:?}");
        assert_eq!(ended.json()["ok"], false);
        assert_eq!(who.inventory(), None, "{line:?}");
    }
}

#[tokio::test]
async fn what_ssh_says_at_the_recovery_door_must_be_what_answers_on_the_mesh() {
    let person = Person::new(1);
    let server = Server::start("web1", 50, 1).await;
    let (address, identity) = (server.address.to_string(), server.identity.to_string());
    let other = format!("SHA256:{}", "a".repeat(43));
    let line = ["servers", "add", &address, "--recovery", "rescue@127.0.0.1:2222", "--json"];
    let asked = format!("printf '%s\\n' \"$@\" >'{}'", person.path("asked").display());
    for (script, exit, step) in [
        ("echo Permission denied >&2; exit 255".to_owned(), 7, "read the identity over SSH"),
        ("echo welcome".to_owned(), 7, "read the identity over SSH"),
        (format!("echo 'identity   {other}'"), 10, "compare the identity"),
    ] {
        person.has_ssh(&script);
        let ended = person.run(&line).await;
        assert_eq!(ended.exit, exit, "{script}: {ended:?}");
        assert_eq!(ended.json()["step"], step, "{ended:?}");
        assert_eq!(person.inventory(), None, "{script}");
    }
    // What is wrong in the flag's word never reaches ssh.
    person.has_ssh(&format!("{asked}; echo 'identity   {identity}'"));
    let added = person.run(&line).await;
    assert_eq!(added.exit, 0, "{added:?}");
    let words = std::fs::read_to_string(person.path("asked")).unwrap();
    assert!(words.ends_with("-p\n2222\n-l\nrescue\n--\n127.0.0.1\nidentity\n"), "{words}");
    assert!(words.contains("BatchMode=yes"), "{words}");
}

#[tokio::test]
async fn a_server_under_a_taken_name_leaves_the_inventory_as_it_was() {
    let person = Person::new(1);
    let (first, second) = (Server::start("web1", 50, 1).await, Server::start("web1", 60, 1).await);
    add(&person, &first).await;
    let before = person.inventory();
    let (address, identity) = (second.address.to_string(), second.identity.to_string());
    let ended = person.run(&["servers", "add", &address, "--identity", &identity]).await;
    assert_eq!(ended.exit, 6, "{ended:?}");
    assert_eq!(person.inventory(), before);
}

#[tokio::test]
async fn another_machine_at_a_pinned_address_is_loud_until_a_person_trusts_it() {
    let person = Person::new(1);
    let mut server = Server::start("web1", 50, 1).await;
    add(&person, &server).await;
    server.stop().await;
    let other = Server::start("web1", 60, 1).await;
    // The same address, another machine.
    let path = person.path("allod/servers.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace(&server.address.to_string(), &other.address.to_string())).unwrap();
    let ended = person.run(&["servers", "status", "--json"]).await;
    assert_eq!(ended.exit, 10, "{ended:?}");
    assert_eq!(ended.json()["fault"]["code"], "untrusted");
    let unasked = person.run(&["servers", "trust", "web1", "--yes"]).await;
    assert_eq!(unasked.exit, 9, "{unasked:?}");
    let trusted = person.run(&["servers", "trust", "web1", "--identity", other.identity.as_str()]).await;
    assert_eq!(trusted.exit, 0, "{trusted:?}");
    assert_eq!(person.run(&["servers", "status"]).await.exit, 0);
}

#[tokio::test]
async fn a_dead_server_costs_its_own_row_only() {
    let person = Person::new(1);
    let mut dead = Server::start("web2", 60, 1).await;
    for server in [&Server::start("web1", 50, 1).await, &dead, &Server::start("web3", 70, 1).await] {
        add(&person, server).await;
    }
    dead.stop().await;
    let ended = person.run(&["servers", "status"]).await;
    assert_eq!(ended.exit, 7);
    let rows: Vec<_> =
        ended.out.lines().take(4).map(|line| line.split_whitespace().take(2).collect::<Vec<_>>()).collect();
    assert_eq!(rows[1..], [["web1", "ok"], ["web2", "unreachable"], ["web3", "ok"]], "{}", ended.out);
    let json = person.run(&["servers", "status", "--json"]).await.json();
    let ok: Vec<_> =
        json["servers"].as_array().unwrap().iter().map(|row| row["ok"].as_bool().unwrap()).collect();
    assert_eq!(ok, [true, false, true]);
    assert!(json["servers"][0]["status"]["started_at"].as_str().unwrap().ends_with('Z'));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_twenty_servers_one_that_never_answers_costs_its_own_row_only() {
    let person = Person::new(1);
    let mut all = Vec::new();
    for n in 0..20_u8 {
        let name: &'static str = Box::leak(format!("web{n:02}").into_boxed_str());
        let server = Server::start(name, 40 + 2 * n, 1).await;
        add(&person, &server).await;
        all.push(server);
    }
    all[7].stop().await;
    // Its port takes connections and says nothing to any: worse than gone.
    let _silent = std::net::TcpListener::bind(all[7].address).unwrap();
    // None of the others answers before all of them are asked: who would ask one after the other hears nobody.
    let company = Arc::new(Barrier::new(19));
    assert!(all.iter().all(|server| server.company.set(Arc::clone(&company)).is_ok()));
    let ended = person.run(&["servers", "status", "--json"]).await;
    let json = ended.json();
    assert_eq!((ended.exit, &json["fault"]["code"]), (7, &"timeout".into()), "{ended:?}");
    // It was given up when its time was over: nobody waits for longer.
    let seconds = allod_cli::commands::fleet::DEADLINE.as_secs();
    let sentence = format!("web07 did not answer within {seconds} s");
    assert_eq!(json["fault"]["message"], sentence.as_str());
    let rows = json["servers"].as_array().unwrap();
    let told: Vec<_> =
        rows.iter().map(|row| (row["server"].as_str().unwrap(), row["ok"].as_bool().unwrap())).collect();
    let names: Vec<_> = (0..20).map(|n| format!("web{n:02}")).collect();
    let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), name != "web07")).collect();
    assert_eq!(told, wanted);
    assert_eq!(rows[7]["fault"]["message"], sentence.as_str(), "{}", rows[7]);
    for row in rows.iter().filter(|row| row["ok"] == true) {
        let status = &row["status"];
        assert!(status["started_at"].is_string() && status["apps"][0]["routes"][0] == "example.com", "{row}");
    }
}

#[tokio::test]
async fn a_key_with_loose_permissions_is_not_used() {
    use std::os::unix::fs::PermissionsExt as _;
    let person = Person::new(1);
    let server = Server::start("web1", 50, 1).await;
    let path = person.path(".ssh/id_ed25519");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ended = person
        .run(&["servers", "add", &server.address.to_string(), "--identity", server.identity.as_str()])
        .await;
    assert_eq!(ended.exit, 3);
    assert!(ended.err.contains("may be read by others"), "{ended:?}");
    let doctor = person.run(&["doctor"]).await;
    assert_eq!(doctor.exit, 8);
    assert!(doctor.out.contains(&format!("chmod 600 {}", path.display())), "{doctor:?}");
}

#[tokio::test]
async fn removing_asks_first() {
    let person = Person::new(1);
    add(&person, &Server::start("web1", 50, 1).await).await;
    let before = person.inventory();
    let ended = person.run(&["servers", "remove", "web1"]).await;
    assert_eq!(ended.exit, 9);
    assert!(ended.err.contains("--yes"), "{ended:?}");
    assert_eq!(person.inventory(), before);
    assert_eq!(person.run(&["servers", "remove", "web1", "--yes"]).await.exit, 0);
    assert_eq!(person.run(&["servers", "list", "--json"]).await.json()["servers"], serde_json::json!([]));
}
