//! The hub over real sockets: reports in, status out, a person's acknowledgement.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "what fails in a test's helper fails the test"
)]

mod formats;
mod power_cut;
mod reports;
mod running;
mod succession;

use allod_hub::{
    control,
    registry::{Registry, SERVERS_OF_A_SOURCE},
    status::HubStatus,
};
use allod_proto::{
    Fault, FaultCode,
    hub::HubAsk,
    witness::{self, Verdict, WitnessReply},
};
use allod_store::StoreError;
use reports::Server;
use running::{Answer, Running};

fn fault(answer: &Answer) -> Fault {
    let value: serde_json::Value = serde_json::from_str(&answer.body).unwrap();
    serde_json::from_value(value["fault"].clone()).unwrap()
}

async fn status(hub: &Running) -> HubStatus {
    serde_json::from_str(&hub.get("/status.json").await.body).unwrap()
}

async fn verdict(hub: &Running, server: &Server, seq: u64, line: &str) -> WitnessReply {
    let answer = hub.report(&server.report(hub.now(), seq, line)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    serde_json::from_str(&answer.body).unwrap()
}

#[tokio::test]
async fn a_report_that_is_too_large_torn_or_of_another_type_is_refused() {
    let hub = Running::start().await;
    let large = format!("{{\"name\":\"{}\"}}", "a".repeat(witness::BODY));
    assert_eq!(hub.post("application/json", &large).await.status, 413);
    assert_eq!(hub.post("application/json", "{\"name\":").await.status, 400);
    assert_eq!(hub.post("text/plain", "{}").await.status, 415);
    assert_eq!(hub.raw("PUT /witness HTTP/1.1\r\nhost: 127.0.0.1\r\n\r\n").await.status, 405);
    assert!(status(&hub).await.servers.is_empty());
}

#[tokio::test]
async fn a_name_that_somebody_points_at_the_hub_gets_nothing() {
    let hub = Running::start().await;
    let answer = hub.raw("GET /status.json HTTP/1.1\r\nhost: evil.example\r\n\r\n").await;
    assert_eq!(answer.status, 403);
    assert!(!answer.body.contains("servers"));
}

#[tokio::test]
async fn a_forged_report_is_refused_and_not_kept() {
    let hub = Running::start().await;
    let mut report = Server::new(1).report(hub.now(), 1, "one");
    report.name = "bank".to_owned();
    let answer = hub.report(&report).await;
    assert_eq!((answer.status, fault(&answer).code), (401, FaultCode::Refused));
    assert!(status(&hub).await.servers.is_empty());
}

#[tokio::test]
async fn one_address_cannot_take_every_place() {
    let hub = Running::start().await;
    for number in 0..SERVERS_OF_A_SOURCE {
        let server = Server::new(u8::try_from(number).unwrap());
        assert_eq!(verdict(&hub, &server, 1, "one").await.verdict, Verdict::Witnessed);
    }
    let answer = hub.report(&Server::new(99).report(hub.now(), 1, "one")).await;
    assert_eq!(fault(&answer).code, FaultCode::TooMany);
    assert_eq!(
        verdict(&hub, &Server::new(0), 2, "two").await.verdict,
        Verdict::Witnessed,
        "who is known stays"
    );
}

#[tokio::test]
async fn a_record_that_went_back_is_shown_until_a_person_acknowledges_also_over_a_restart() {
    let mut hub = Running::start().await;
    let server = Server::new(1);
    verdict(&hub, &server, 10, "ten").await;
    let reply = verdict(&hub, &server, 4, "four").await;
    assert_eq!((reply.verdict, reply.highest.seq), (Verdict::GoneBack, 10));

    hub.restart().await;
    let shown = status(&hub).await;
    assert!(!shown.well);
    let trouble = shown.servers[0].trouble.clone().unwrap();
    assert_eq!((trouble.verdict, trouble.kept.seq, trouble.reported.seq), (Verdict::GoneBack, 10, 4));
    assert!(hub.get("/").await.body.contains("has lost lines that this hub has witnessed"));

    let ask = HubAsk::Acknowledge { identity: server.identity() };
    control::ask(hub.folder(), &ask).await.unwrap();
    assert_eq!(control::ask(hub.folder(), &ask).await.unwrap_err().code, FaultCode::Conflict);
    let calm = status(&hub).await;
    assert_eq!((calm.servers[0].trouble.clone(), calm.servers[0].head.seq), (None, 4));
    assert_eq!(verdict(&hub, &server, 5, "five").await.verdict, Verdict::Witnessed);
}

#[tokio::test]
async fn a_rewritten_line_is_a_fork() {
    let hub = Running::start().await;
    let server = Server::new(1);
    verdict(&hub, &server, 10, "ten").await;
    assert_eq!(verdict(&hub, &server, 10, "ten").await.verdict, Verdict::Same);
    assert_eq!(verdict(&hub, &server, 10, "other").await.verdict, Verdict::Forked);
}

#[tokio::test]
async fn a_forgotten_server_is_a_stranger_again() {
    let hub = Running::start().await;
    let server = Server::new(1);
    let forget = HubAsk::Forget { identity: server.identity() };
    assert_eq!(control::ask(hub.folder(), &forget).await.unwrap_err().code, FaultCode::NotFound);
    verdict(&hub, &server, 10, "ten").await;
    control::ask(hub.folder(), &forget).await.unwrap();
    assert!(status(&hub).await.servers.is_empty());
    assert_eq!(verdict(&hub, &server, 1, "one").await.verdict, Verdict::Witnessed);
}

#[tokio::test]
async fn a_damaged_file_stops_the_start_and_is_named() {
    let mut hub = Running::start().await;
    verdict(&hub, &Server::new(1), 10, "ten").await;
    let file = std::fs::read_dir(hub.folder().join("servers")).unwrap().next().unwrap().unwrap().path();
    hub.stop().await;
    std::fs::write(&file, "{\"format\":1,\"kind\":\"witnessed ser").unwrap();
    match Registry::open(&hub.folder().join("servers")) {
        Err(StoreError::Damaged { path, .. }) => assert_eq!(path, file),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_server_is_asked_at_the_address_it_reports_from() {
    let hub = Running::start().await;
    let server = Server::new(1);
    let agent = running::fake_agent(server.identity()).await;
    let mut report = server.report(hub.now(), 1, "one");
    report.port = agent.port();
    server.sign(&mut report);
    assert_eq!(hub.report(&report).await.status, 200);
    let mut silent = Server::new(2).report(hub.now(), 1, "one");
    silent.port = agent.port();
    Server::new(2).sign(&mut silent);
    assert_eq!(hub.report(&silent).await.status, 200);

    hub.probe_once().await;
    let shown = status(&hub).await;
    let of = |identity| shown.servers.iter().find(|shown| shown.identity == identity).unwrap();
    assert_eq!(of(server.identity()).answers, Some(true));
    let impostor = of(Server::new(2).identity());
    assert_eq!(impostor.answers, Some(false));
    assert!(impostor.why.as_ref().unwrap().contains("another server answers there"), "{impostor:?}");
}

#[tokio::test]
async fn it_is_alive_and_ready_as_long_as_its_folder_can_be_written() {
    let mut hub = Running::start().await;
    assert_eq!(hub.get("/health").await.status, 200);
    assert_eq!(hub.get("/ready").await.status, 200);
    hub.lose_folder();
    assert_eq!(hub.get("/ready").await.status, 503);
    assert_eq!(hub.get("/health").await.status, 200);
}
