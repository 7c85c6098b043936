//! `allod hub` as the coordinator of a mesh: a real hub process, real deeds at it, and nodes of the library that join it.

mod hub;
mod kills;
mod lasting;
mod reach;
mod refused;

use crate::processes::eventually;
use allod_meshnode::control::ControlState;
use hub::{Hub, address, on_the_mesh, until};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_machine_joins_by_a_key_and_is_listed_renamed_tagged_cut_off_and_deleted() {
    let hub = Hub::start().await;
    assert!(hub.plain(&["nodes"]).await.ok().stdout.contains("keys create"), "it says how to begin");
    let laptop = hub.join("laptop", &[]).await;
    let web = hub.join("web", &["--tag", "tag:server"]).await;
    let node = hub.node("laptop").await.unwrap();
    assert_eq!((node["online"].clone(), node["tags"].clone()), (true.into(), serde_json::json!([])));
    assert_eq!(node["addresses"][0], address(&laptop));
    assert_eq!(hub.node("web").await.unwrap()["tags"], serde_json::json!(["tag:server"]));

    let renamed = hub.told(&["nodes", "rename", &address(&web), "web1"]).await;
    assert_eq!(renamed["node"]["name"], "web1");
    let tagged = hub.told(&["nodes", "tag", "web1.mesh.internal", "tag:server", "tag:blue"]).await;
    assert_eq!(tagged["node"]["tags"], serde_json::json!(["tag:server", "tag:blue"]));
    let list = hub.plain(&["nodes", "list"]).await.ok().stdout;
    assert!(
        list.lines().any(|line| line.starts_with("web1  ") && line.contains("tag:server,tag:blue")),
        "{list}"
    );

    let of_web = address(&web).parse().unwrap();
    assert!(laptop.node().whois(of_web).is_some());
    let expired = hub.told(&["nodes", "expire", "web1", "--now"]).await;
    assert_eq!(expired["node"]["expired"], true);
    eventually("nobody knows it any more", async || laptop.node().whois(of_web).is_none().then_some(()))
        .await;
    let number = expired["node"]["id"].to_string();
    let asked = hub.deed(&["nodes", "delete", &number]).await;
    assert_eq!(asked.refused(9).0, "confirmation");
    assert!(asked.refused(9).1.contains("web1"), "{asked:?}");
    hub.told(&["nodes", "delete", &number, "--yes"]).await;
    assert!(hub.node("web1").await.is_none());
    assert!(hub.node("laptop").await.is_some(), "the other stays");
    assert!(hub.log().contains("asked on the control socket"), "changes are in the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_stands_alone_on_stdout_and_lets_in_once() {
    let hub = Hub::start().await;
    let printed = hub.plain(&["keys", "create", "--tag", "tag:server"]).await.ok();
    let token = printed.stdout.strip_suffix('\n').unwrap();
    assert!(token.starts_with("allod-join-1.") && !token.contains('\n'), "{printed:?}");
    assert!(printed.stderr.contains("one machine") && !printed.stderr.contains(token), "{printed:?}");
    let token = allod_meshproto::token::JoinToken::parse(token).unwrap();
    let first = hub.member("first", Some(&token));
    on_the_mesh(&first).await;
    let second = hub.member("second", Some(&token));
    until(&second, |state| matches!(state, ControlState::Refused(_))).await;
    let keys = hub.told(&["keys", "list"]).await["keys"].clone();
    assert_eq!((keys[0]["good"].clone(), keys[0]["uses_left"].clone()), (false.into(), 0.into()));
    assert!(!keys.to_string().contains(token.join_key()), "what is listed lets nobody in");
    assert!(!hub.log().contains(token.join_key()), "nor does the log");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_breaks_its_own_case_is_refused_and_what_was_stays() {
    let hub = Hub::start().await;
    let file = hub.folder.path().join("policy.json");
    let set = async |text: &str| {
        std::fs::write(&file, text).unwrap();
        hub.deed(&["policy", "set", file.to_str().unwrap()]).await
    };
    let first = hub.told(&["policy", "show"]).await;
    assert_eq!(first["is_first"], true);
    let broken = set("{\n\"allow\": [],\n\"alow\": []}").await;
    assert!(broken.refused(2).1.contains("policy.json:3:"), "{broken:?}");
    let case = r#"{"allow":[],"tests":[{"from":"tag:a","to":"tag:b","port":22,"expect":"allow"}]}"#;
    let broken = set(case).await;
    assert!(broken.refused(6).1.contains("case 1 does not hold: tag:a to tag:b port 22"), "{broken:?}");
    let huge = set(&format!("{{\"allow\":[]}}{}", " ".repeat(1 << 20))).await;
    assert_eq!(huge.refused(2).0, "too_large");
    assert_eq!(hub.told(&["policy", "show"]).await, first);

    let good = r#"{"allow":[{"from":["autogroup:member"],"to":["*"],"ports":["*"]}],
        "tests":[{"from":"tag:server","to":"tag:hub","port":9845,"expect":"deny"}]}"#;
    std::fs::write(&file, good).unwrap();
    let tried = hub.plain(&["policy", "test", "policy.json"]).await.ok().stdout;
    assert!(
        tried.contains("- {\"from\":[\"tag:server\"]") && tried.contains("nothing was changed"),
        "{tried}"
    );
    assert_eq!(hub.told(&["policy", "show"]).await, first);
    let done = set(good).await.ok().json();
    assert_eq!((done["is_set"].clone(), done["removed"].as_array().unwrap().len()), (true.into(), 2));
    assert_eq!(hub.told(&["policy", "show"]).await["is_first"], false);
    let example = hub.plain(&["policy", "example"]).await.ok().stdout;
    set(&example).await.ok();
    assert_eq!(hub.told(&["policy", "show"]).await, first);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_https_a_machine_joins_and_nothing_is_answered_in_the_clear() {
    let hub = Hub::start_secure().await;
    let token = hub.token(&[]).await;
    assert_eq!(token.urls(), [format!("https://{}", hub.address())]);
    let web = hub.join("web", &[]).await;
    assert_eq!(hub.node("web").await.unwrap()["addresses"][0], address(&web));
    let mut stream = tokio::net::TcpStream::connect(hub.address()).await.unwrap();
    stream.write_all(b"GET /key HTTP/1.1\r\nhost: x\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    assert!(!answer.starts_with(b"HTTP"), "{answer:?}");
}
