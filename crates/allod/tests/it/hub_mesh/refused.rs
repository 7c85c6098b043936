//! What is refused at the hub's command line, at its control socket and at its public port.

use super::hub::Hub;
use crate::cli::BINARY;
use std::os::unix::fs::PermissionsExt as _;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpStream, UnixStream},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_no_hub_runs_a_deed_says_so_and_what_to_do() {
    let hub = Hub::unborn(BINARY.into(), &[]);
    for words in [
        &["nodes"][..],
        &["keys", "create"],
        &["policy", "show"],
        &["backup", "b"],
        &["noise-key", "prepare"],
    ] {
        let output = hub.plain(words).await;
        assert_eq!(output.code, 7, "{words:?}: {output:?}");
        assert!(output.stderr.contains("no hub answers") && output.stderr.contains("hint:"), "{output:?}");
        assert_eq!(hub.deed(words).await.refused(7).0, "unreachable");
    }
    assert!(!hub.folder.path().join("b").exists(), "an empty backup is not left behind");
    assert_eq!(hub.deed(&["restore", "none"]).await.refused(5).0, "not_found");
    assert_eq!(hub.deed(&["root-key", "take", "--to", "x"]).await.refused(5).0, "not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_names_nobody_or_makes_no_sense_changes_nothing() {
    let hub = Hub::start().await;
    let _one = hub.join("one", &[]).await;
    let _two = hub.join("two", &["--tag", "tag:server"]).await;
    let before = hub.told(&["nodes"]).await["nodes"].to_string();
    let long = "a".repeat(64);
    for (words, exit) in [
        (&["nodes", "rename", "nobody", "x"][..], 5),
        (&["nodes", "rename", "100.64.0.99", "x"], 5),
        (&["nodes", "rename", "999", "x"], 5),
        (&["nodes", "rename", "", "x"], 5),
        (&["nodes", "rename", "one", "two"], 6),
        (&["nodes", "rename", "one", "\u{1b}[2Jroot"], 2),
        (&["nodes", "rename", "one", "a.b"], 2),
        (&["nodes", "rename", "one", "Größe"], 2),
        (&["nodes", "rename", "one", &long], 2),
        (&["nodes", "tag", "one", "server"], 2),
        (&["nodes", "tag", "one", "tag:"], 2),
        (&["nodes", "tag", "one", "tag:a b"], 2),
        (&["nodes", "tag", "nobody", "tag:a"], 5),
        (&["nodes", "expire", "nobody", "--now"], 5),
        (&["nodes", "delete", "one"], 9),
        (&["nodes", "delete", "nobody", "--yes"], 5),
        (&["nodes", "approve", "nobody"], 5),
        (&["nodes", "reject", "nobody"], 5),
        (&["keys", "revoke", "nobody"], 5),
        (&["keys", "create", "--tag", "no tag"], 2),
        (&["keys", "create", "--for", "0s"], 2),
        (&["keys", "create", "--for", "367d"], 2),
        (&["policy", "set", "none.json"], 5),
        (&["noise-key", "take", "none.json"], 5),
    ] {
        let output = hub.deed(words).await;
        assert_eq!(output.code, exit, "{words:?}: {output:?}");
        assert_eq!(output.json()["ok"], false, "{words:?}");
    }
    for usage in [
        &["nodes", "tag", "one"][..],
        &["nodes", "expire", "one"],
        &["nodes", "expire", "one", "--now", "--never"],
        &["nodes", "expire", "one", "--at", "soon"],
        &["keys", "create", "--uses", "0"],
        &["keys", "create", "--uses", "2", "--reusable"],
        &["keys", "create", "--for", "1"],
        &["keys"],
    ] {
        assert_eq!(hub.plain(usage).await.code, 2, "{usage:?}");
    }
    assert_eq!(hub.told(&["nodes"]).await["nodes"].to_string(), before);
    assert_eq!(hub.told(&["keys", "list"]).await["keys"].as_array().unwrap().len(), 2, "no key was made");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_the_control_socket_is_refused_and_hurts_nobody() {
    let hub = Hub::start().await;
    let path = hub.state().join("hub/control.sock");
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(hub.state().join("hub")).unwrap().permissions().mode() & 0o777, 0o700);
    let nested =
        format!("{{\"ask\":\"take_noise_key\",\"overlap_seconds\":1,\"signed\":{}", "[".repeat(100_000));
    let policy = serde_json::json!({"ask": "set_policy", "text": "[".repeat(100_000)}).to_string();
    for line in [
        "",
        "garbage",
        "null",
        "{}",
        r#"{"ask":"become_root"}"#,
        r#"{"ask":"nodes","and":"more"}"#,
        r#"{"ask":"join_token","seconds":60,"uses":-1}"#,
        r#"{"ask":"take_noise_key","signed":{"key":7},"overlap_seconds":1}"#,
        nested.as_str(),
        policy.as_str(),
    ] {
        let mut stream = UnixStream::connect(&path).await.unwrap();
        stream.write_all(format!("{line}\n").as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let short: String = line.chars().take(40).collect();
        assert!(answer.starts_with("{\"answer\":\"failed\","), "{short}: {answer}");
    }
    let mut stream = UnixStream::connect(&path).await.unwrap();
    let endless = vec![b'a'; 5 * 1024 * 1024];
    // It hangs up before all is there.
    let _ = stream.write_all(&endless).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let silent: Vec<_> = silent(&path).await;
    assert_eq!(
        hub.told(&["policy", "show"]).await["is_first"],
        true,
        "it answers beside those that say nothing"
    );
    drop(silent);
}

/// Some that connect and say nothing.
async fn silent(path: &std::path::Path) -> Vec<UnixStream> {
    let mut silent = Vec::new();
    for _ in 0..8 {
        silent.push(UnixStream::connect(path).await.unwrap());
    }
    silent
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_public_port_answers_what_a_coordinator_is_asked_and_nothing_of_the_hub() {
    let hub = Hub::start().await;
    let _member = hub.join("secret-name", &[]).await;
    let ask = async |method: &str, path: &str| {
        let mut stream = TcpStream::connect(hub.address()).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nhost: x\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        for secret in ["secret-name", "SHA256:", "100.64.", "Allod hub", "root key"] {
            assert!(!answer.contains(secret), "{method} {path}: {answer}");
        }
        answer.split(' ').nth(1).unwrap_or_default().to_owned()
    };
    for (path, status) in [
        ("/key", "200"),
        ("/health", "200"),
        ("/derp/probe", "200"),
        ("/derp/latency-check", "200"),
        ("/generate_204", "204"),
        ("/derp", "426"),
        ("/ts2021", "405"),
    ] {
        assert_eq!(ask("GET", path).await, status, "{path}");
    }
    for path in [
        "/",
        "/index.html",
        "/status.json",
        "/status",
        "/ready",
        "/metrics",
        "/witness",
        "/register",
        "/machines",
        "/machine/register",
        "/machine/map",
        "/rpc",
        "/chunks/a/b",
        "/nodes",
        "/keys",
        "/policy",
        "/backup",
        "/control.sock",
        "/approve",
        "/approve/",
        "/approve/x",
        "/approve/../status.json",
        "/key/",
        "//key",
        "/KEY",
        "/key%2f",
        "/health/",
        "/derp/",
        "/derp/mesh",
        "/debug/vars",
        "/admin",
        "/.well-known/x",
        "*",
    ] {
        assert!(matches!(ask("GET", path).await.as_str(), "404" | "400"), "{path}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "WITNESS"] {
            assert!(matches!(ask(method, path).await.as_str(), "404" | "405" | "400"), "{method} {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_that_is_told_what_makes_no_sense_does_not_begin_and_makes_no_network() {
    let hub = Hub::unborn(BINARY.into(), &[]);
    let missing = hub.folder.path().join("none.pem");
    let missing = missing.to_str().unwrap();
    for (words, said) in [
        (&["--coordinator", "0.0.0.0:0", "--stun", "off"][..], "--url is needed"),
        (&["--coordinator", "127.0.0.1:0", "--stun", "off", "--url", "https://x"], "--certificate"),
        (&["--coordinator", "127.0.0.1:0", "--stun", "off", "--domain", "Not A Domain"], "no domain"),
        (
            &["--coordinator", "127.0.0.1:0", "--certificate", missing, "--certificate-key", missing],
            "can't be read",
        ),
        (&["--coordinator", "192.0.2.1:1", "--stun", "off"], "listening on 192.0.2.1:1"),
        (&["--url", "http://x"], "--coordinator"),
    ] {
        let output = hub.plain(words).await;
        assert!(output.code == 1 || output.code == 2, "{words:?}: {output:?}");
        assert!(output.stderr.contains(said), "{words:?}: {output:?}");
        assert!(!hub.state().join("hub/coordinator/coordinator.sqlite").exists(), "{words:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_without_a_coordinator_says_how_to_get_one() {
    let mut hub = Hub::unborn(BINARY.into(), &["--mesh", "loopback", "--listen", "127.0.0.1:0"]);
    hub.begin_without_coordinator().await;
    let (code, message) = hub.deed(&["nodes"]).await.refused(5);
    assert_eq!((code.as_str(), message.as_str()), ("not_found", "this hub runs no coordinator"));
    assert!(hub.plain(&["keys", "create"]).await.stderr.contains("--coordinator ADDRESS:PORT"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_without_a_place_on_the_mesh_coordinates_and_says_so() {
    let hub = Hub::start_with(BINARY.into(), &["--mesh", "static", "--listen", "9845"]).await;
    let member = hub.join("web", &[]).await;
    assert_eq!(hub.node("web").await.unwrap()["addresses"][0], super::address(&member));
    assert!(hub.log().contains("the hub has no place on the mesh"), "{}", hub.log());
}
