use super::*;
use crate::authorize::bench::{Bench, bench};
use allod_proto::{CommandId, Timestamp, recovery::Login};
use allod_signing::{KeySigner, Signer as _};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

fn own() -> u32 {
    rustix::process::geteuid().as_raw()
}

fn key(seed: u8) -> KeySigner {
    KeySigner::generate([seed; 32], "")
}

fn gate_of(bench: &Bench) -> Gate {
    Gate { executor: Arc::clone(&bench.executor), user: Some(own()), seats: Arc::default() }
}

/// A server with one caller, `builder`.
async fn with_builder() -> (Bench, Gate) {
    let bench = bench().await;
    let line = format!("role=caller {} builder", key(5).public_key().to_openssh());
    bench.executor.keys().add(&line, Timestamp(0)).unwrap();
    let gate = gate_of(&bench);
    (bench, gate)
}

fn ask(seed: u8, request: &[u8]) -> GateAsk {
    GateAsk {
        id: CommandId::new("0123456789abcdef").unwrap(),
        request: Some(STANDARD.encode(request)),
        caller: None,
        login: Login { key: Some(key(seed).fingerprint()), from: Some("192.0.2.7".parse().unwrap()) },
        certificate: false,
        port: Some(50_000),
    }
}

/// What is said to somebody who sends these bytes.
async fn said_to(gate: &Gate, sent: &[u8]) -> String {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let serving = async {
        let seat = gate.seats.take().unwrap();
        let _ = gate.connection(theirs, seat).await;
    };
    let asking = async {
        ours.write_all(sent).await.unwrap();
        let mut said = Vec::new();
        let _ = ours.read_to_end(&mut said).await;
        String::from_utf8(said).unwrap()
    };
    tokio::join!(serving, asking).1
}

async fn answer(gate: &Gate, ask: &GateAsk) -> GateReply {
    let mut line = serde_json::to_vec(ask).unwrap();
    line.push(b'\n');
    let said = said_to(gate, &line).await;
    serde_json::from_str(&said).unwrap_or_else(|error| panic!("{error}: {said}"))
}

async fn fault(gate: &Gate, ask: &GateAsk) -> Fault {
    match answer(gate, ask).await {
        GateReply::Fault(fault) => fault,
        other => panic!("{other:?}"),
    }
}

fn recorded(bench: &Bench) -> Vec<String> {
    bench.executor.record().flush().unwrap();
    let lines = bench.executor.record().read(1, 1000).unwrap();
    lines.into_iter().filter(|line| line.contains("\"door\":\"gate\"")).collect()
}

#[tokio::test]
async fn a_login_that_is_no_caller_is_refused_and_stands_in_the_record_with_what_it_asked_for() {
    let (bench, gate) = with_builder().await;
    for (ask, why) in [
        (ask(9, b"deploy"), "not enrolled"),
        (ask(1, b"deploy"), "role owner"),
        (GateAsk { certificate: true, ..ask(5, b"deploy") }, "certificate"),
        (GateAsk { caller: Some("other".to_owned()), ..ask(5, b"deploy") }, "another caller"),
        (
            GateAsk { login: Login { key: None, ..ask(5, b"").login }, ..ask(5, b"deploy") },
            "did not say which key",
        ),
    ] {
        let before = recorded(&bench).len();
        let fault = fault(&gate, &ask).await;
        assert!(fault.code == FaultCode::Refused && fault.message.contains(why), "{fault:?}");
        let lines = recorded(&bench);
        assert_eq!(lines.len(), before + 1, "{why}");
        let line = &lines[before];
        assert!(line.contains("deploy") && line.contains("192.0.2.7") && line.contains("refused"), "{line}");
    }
}

#[tokio::test]
async fn a_revoked_caller_is_refused_on_the_next_request() {
    let (bench, gate) = with_builder().await;
    assert!(matches!(answer(&gate, &ask(5, b"help")).await, GateReply::Help { .. }));
    bench.executor.keys().revoke(&key(5).fingerprint(), Timestamp(0)).unwrap();
    assert!(fault(&gate, &ask(5, b"help")).await.message.contains("revoked"));
}

#[tokio::test]
async fn x11_a_line_that_is_no_request_is_one_escaped_line_of_the_record() {
    let (bench, gate) = with_builder().await;
    let hostile: [&[u8]; 5] = [
        b"deploy\n{\"entry\":\"intent\"}",
        b"deploy \x1b[2J",
        b"deploy\",\"decision\":\"allow",
        b"deploy\r\0\xff",
        &[b'a'; 100_000],
    ];
    for (number, request) in hostile.into_iter().enumerate() {
        let fault = fault(&gate, &ask(5, request)).await;
        assert_eq!(fault.code, FaultCode::Invalid);
        let lines = recorded(&bench);
        assert_eq!(lines.len(), number + 1);
        let line = &lines[number];
        assert!(line.bytes().all(|byte| (0x20..0x7f).contains(&byte)) && line.len() < 3_000, "{line}");
        assert!(line.contains("builder"), "{line}");
    }
}

#[tokio::test]
async fn x22_a_name_that_is_not_there_and_one_that_is_not_allowed_look_the_same() {
    let (_bench, gate) = with_builder().await;
    let (one, other) =
        (fault(&gate, &ask(5, b"deploy")).await, fault(&gate, &ask(5, b"no-such-thing")).await);
    let without_name = |fault: Fault| fault.message.replace("deploy", "X").replace("no-such-thing", "X");
    assert_eq!((one.code, one.hint.clone()), (other.code, other.hint.clone()));
    assert_eq!(without_name(one), without_name(other));
}

#[tokio::test]
async fn a_login_without_a_command_gets_help_and_is_recorded() {
    let (bench, gate) = with_builder().await;
    let reply = answer(&gate, &GateAsk { request: None, ..ask(5, b"") }).await;
    assert!(matches!(&reply, GateReply::Help { text, .. } if text.contains("builder")), "{reply:?}");
    assert_eq!(recorded(&bench).len(), 1);
}

#[tokio::test]
async fn what_is_no_ask_is_refused_and_costs_its_connection_only() {
    let (bench, gate) = with_builder().await;
    let long = vec![b'x'; allod_proto::gate::ASK + 1];
    let no_base64 =
        r#"{"id":"0123456789abcdef","request":"$","caller":null,"login":{},"port":null}"#.to_owned() + "\n";
    let field_too_many =
        r#"{"id":"0123456789abcdef","request":null,"caller":null,"login":{},"port":null,"uid":0}"#.to_owned()
            + "\n";
    for sent in [long.as_slice(), b"{}\n", b"\n", b"\xff\n", no_base64.as_bytes(), field_too_many.as_bytes()]
    {
        let said = said_to(&gate, sent).await;
        assert!(said.contains("\"fault\""), "{said}");
    }
    assert!(recorded(&bench).is_empty());
    assert!(matches!(answer(&gate, &ask(5, b"help")).await, GateReply::Help { .. }));
}

#[tokio::test(start_paused = true)]
async fn half_an_ask_and_silence_is_given_up() {
    let (_bench, gate) = with_builder().await;
    let said = said_to(&gate, b"{\"id\"").await;
    assert!(said.contains("timeout"), "{said}");
}

#[tokio::test]
async fn a_folder_of_somebody_else_or_a_link_gets_no_door() {
    let bench = bench().await;
    assert!(open(&bench.executor, None).is_ok());
    let folder = bench.executor.layout().gate_folder();
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(open(&bench.executor, None).is_err());
    let elsewhere = tempfile::tempdir().unwrap();
    std::os::unix::fs::symlink(elsewhere.path(), &folder).unwrap();
    assert!(open(&bench.executor, None).is_err());
}

#[tokio::test]
async fn whom_the_gate_told_of_is_remembered_for_whoever_reads_sshds_log() {
    let (bench, gate) = with_builder().await;
    fault(&gate, &ask(9, b"deploy")).await;
    let from = "192.0.2.7".parse().unwrap();
    let asked = bench.executor.gate_asked();
    assert_eq!(asked.count(from, 50_000, Timestamp(0)), 1);
    assert_eq!(asked.count(from, 50_001, Timestamp(0)), 0);
}
