//! Watching operations.

use crate::{person::Person, server::Server};
use allod_proto::operation::OperationEvent;
use serde_json::json;

async fn attached(events: serde_json::Value, line: &[&str]) -> crate::person::Ended {
    let events: Vec<OperationEvent> = serde_json::from_value(events).unwrap();
    let person = Person::new(1);
    let server = Server::start_with("web1", 50, 1, |line| line, events).await;
    let (address, identity) = (server.address.to_string(), server.identity.to_string());
    assert_eq!(person.run(&["servers", "add", &address, "--identity", &identity]).await.exit, 0);
    person.run(line).await
}

#[tokio::test]
async fn a_failed_deploy_shows_probe_and_log_and_ends_with_its_code() {
    let events = json!([
        {"seq": 0, "at": 1, "event": "began", "step": "health", "detail": "web 1 of 1"},
        {"seq": 1, "at": 2, "event": "failure", "step": "health", "instance": "web-0011aabb",
         "fault": {"code": "unhealthy", "message": "web did not become healthy", "hint": "listen on $PORT"},
         "probe": {"target": "GET http://127.0.0.1:20001/health", "error": "connection refused",
                   "listens_on": ["127.0.0.1:3000"], "tries": 12, "took_ms": 1},
         "log_tail": ["starting", "listening on \u{1b}[31m3000"]},
        {"seq": 2, "at": 3, "event": "finished", "state": "failed",
         "fault": {"code": "unhealthy", "message": "web did not become healthy"}, "serving": "0123456789ab"}
    ]);
    let ended = attached(events.clone(), &["ops", "attach", "op-0123456789ab"]).await;
    assert_eq!(ended.exit, 8, "{ended:?}");
    insta::assert_snapshot!(ended.err, @r"
    · health  web 1 of 1
    ✗ health: web did not become healthy
      instance: web-0011aabb
      last probe: GET http://127.0.0.1:20001/health: connection refused (asked 12 times, the last took 1 ms); it really listens on 127.0.0.1:3000
      hint: listen on $PORT
      last lines of its log:
        starting
        listening on \u{1b}[31m3000
    ✗ failed: web did not become healthy; release 0123456789ab serves
    ");
    let json = attached(events, &["ops", "attach", "op-0123456789ab", "--json"]).await;
    assert_eq!(json.exit, 8);
    let lines: Vec<serde_json::Value> =
        json.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 4);
    assert_eq!(lines[3]["fault"]["code"], "unhealthy");
}

#[tokio::test]
async fn a_deploy_that_went_well_ends_well() {
    let events = json!([
        {"seq": 0, "at": 1, "event": "began", "step": "release_command"},
        {"seq": 1, "at": 2, "event": "ended", "step": "release_command", "took_ms": 1234, "detail": "exit status 0"},
        {"seq": 2, "at": 3, "event": "finished", "state": "done", "serving": "0123456789ab"}
    ]);
    let ended = attached(events, &["ops", "attach", "op-0123456789ab"]).await;
    assert_eq!((ended.exit, ended.out.as_str()), (0, ""), "{ended:?}");
    insta::assert_snapshot!(ended.err, @r"
    · release command
    ✓ release command    1.2 s  exit status 0
    ✓ done release 0123456789ab serves
    ");
}
