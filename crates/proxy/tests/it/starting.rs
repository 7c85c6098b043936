//! A routes file that can't be understood stops the start, and a load of it changes nothing.

use crate::support::{Instance, LONG, Proxy, settings, status, to, write_table};
use allod_proto::routes::{ProxyAnswer, ProxyAsk};
use allod_proxy::{Order, RunError, TableError};
use std::os::unix::fs::PermissionsExt;

/// Orders of somebody who is gone already.
fn stopped() -> tokio::sync::mpsc::UnboundedReceiver<Order> {
    tokio::sync::mpsc::unbounded_channel().1
}

async fn start_with_file(content: &[u8]) -> (Result<(), RunError>, std::path::PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let settings = settings(&folder, Vec::new());
    std::fs::write(&settings.routes, content).unwrap();
    let routes = settings.routes.clone();
    let outcome = tokio::time::timeout(LONG, allod_proxy::run(settings, stopped())).await.unwrap();
    (outcome, routes)
}

#[tokio::test]
async fn a_torn_senseless_or_newer_file_stops_the_start_and_is_named() {
    let torn = b"{\"format\":1,\"generation\":4,\"routes\":[{\"app\":\"blog/prod".as_slice();
    for content in [torn, b"", b"[]", b"{\"format\":1,\"generation\":4,\"routes\":[],\"more\":1}"] {
        let (outcome, routes) = start_with_file(content).await;
        let error = outcome.unwrap_err();
        assert!(matches!(error, RunError::Table(TableError::Parse { .. })), "{error:?}");
        assert!(error.to_string().contains(routes.to_str().unwrap()), "{error}");
    }
    let (outcome, _) = start_with_file(b"{\"format\":2,\"generation\":4,\"routes\":{\"new\":true}}").await;
    assert!(matches!(outcome, Err(RunError::Table(TableError::Newer { format: 2, .. }))), "{outcome:?}");
    let twice = r#"{"app":"blog/production","unit":"web","release":"0123456789ab","match":{"host":null,"path":"/"},
        "target":{"stopped":{"message":""}},"limits":{"body_bytes":1,"response_timeout_ms":1,"idle_timeout_ms":1}}"#;
    let (outcome, _) =
        start_with_file(format!("{{\"format\":1,\"generation\":4,\"routes\":[{twice},{twice}]}}").as_bytes())
            .await;
    assert!(matches!(outcome, Err(RunError::Table(TableError::Invalid { .. }))), "{outcome:?}");
}

#[tokio::test]
async fn no_file_is_an_empty_table() {
    let proxy =
        Proxy::start_with(Vec::new(), |settings| std::fs::remove_file(&settings.routes).unwrap()).await;
    assert_eq!(status(&proxy.get("/").await), 404);
}

#[tokio::test]
async fn a_load_of_a_torn_file_fails_and_the_old_table_serves_on() {
    let instance = Instance::start("one").await;
    let proxy = Proxy::start(to(&[instance.address])).await;
    std::fs::write(proxy.routes_file(), b"{\"format\":1,").unwrap();
    let ProxyAnswer::Failed { message } = proxy.ask(ProxyAsk::Load).await else { panic!("loaded") };
    assert!(message.contains("routes.json") && message.contains("EOF"), "{message}");
    assert_eq!(status(&proxy.get("/").await), 200);
    write_table(&proxy.routes_file(), 9, to(&[instance.address]));
    assert_eq!(proxy.ask(ProxyAsk::Load).await, ProxyAnswer::Loaded { generation: 9 });
}

#[tokio::test]
async fn the_control_socket_is_for_its_owner_only_and_survives_nonsense() {
    let proxy = Proxy::start(Vec::new()).await;
    let mode = std::fs::metadata(proxy.control()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let mut stream =
        tokio::io::BufReader::new(tokio::net::UnixStream::connect(proxy.control()).await.unwrap());
    for ask in ["nonsense\n", "{\"ask\":\"reboot\"}\n"] {
        tokio::io::AsyncWriteExt::write_all(&mut stream, ask.as_bytes()).await.unwrap();
        let mut line = String::new();
        tokio::io::AsyncBufReadExt::read_line(&mut stream, &mut line).await.unwrap();
        assert!(line.contains("\"answer\":\"failed\""), "{line}");
    }
    assert!(matches!(proxy.ask(ProxyAsk::Status).await, ProxyAnswer::Status(_)));
}
