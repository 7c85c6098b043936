use super::*;
use crate::{
    authorize::bench::{Bench, bench},
    named::refresh,
    perform::perform,
};
use allod_audit::{Door, Who};
use allod_proto::{Digest, Role, executor::Done};

fn server(letter: char) -> Fingerprint {
    Fingerprint::new(format!("SHA256:{}", letter.to_string().repeat(43))).unwrap()
}

fn line(seq: u64, entry: Entry) -> Line {
    Line { prev: Digest::ZERO, seq, at: Timestamp(seq * 1000), boot: 0, entry }
}

fn intent(seq: u64, command: &str) -> Line {
    let who = Who {
        key: None,
        delegate: None,
        name: "root".to_owned(),
        role: Role::Owner,
        door: Door::Socket,
        source: None,
    };
    line(
        seq,
        Entry::Intent(Box::new(Intent {
            request: format!("request-{seq:08}"),
            who,
            command: command.to_owned(),
            app: None,
            target: Some("deploy".to_owned()),
            params: serde_json::json!({ "registry": 3 }),
            nonce: None,
            signed_at: None,
            signature: None,
            signed: None,
            delegation: None,
        })),
    )
}

fn outcome(seq: u64, intent: u64, result: Ending, reply: Option<Value>) -> Line {
    let took_ms = 1;
    line(seq, Entry::Outcome(Box::new(Outcome { intent, result, code: None, message: None, reply, took_ms })))
}

fn with_end(code: i32) -> Option<Value> {
    let how = format!("exit status {code}");
    Some(serde_json::json!({ "run": "run-0123456789ab", "end": {
        "code": code, "how": how, "took_ms": 9, "output_bytes": 5, "truncated": true, "registry": 3 } }))
}

fn past(lines: &[Line]) -> Vec<RunSummary> {
    let mut past = Past::new(server('a'));
    lines.iter().for_each(|line| past.replay(line));
    past.ended()
}

fn end(run: &RunSummary) -> RunEnd {
    let RunState::Ended(end) = &run.state else { unreachable!() };
    end.clone()
}

#[test]
fn what_was_never_begun_and_what_is_no_run_is_no_run() {
    assert!(past(&[intent(1, "command.run"), outcome(2, 1, Ending::Failed, None)]).is_empty());
    assert!(past(&[intent(1, "keys.add"), outcome(2, 1, Ending::Unknown, None)]).is_empty());
    assert!(past(&[intent(1, "command.run")]).is_empty());
    assert!(past(&[outcome(2, 1, Ending::Ok, with_end(0))]).is_empty());
}

#[test]
fn a_run_has_the_end_that_was_recorded_and_one_without_has_an_unknown_one() {
    let runs = past(&[
        intent(1, "command.run"),
        intent(2, "command.run"),
        outcome(3, 2, Ending::Failed, with_end(4)),
        outcome(4, 1, Ending::Unknown, None),
    ]);
    assert_eq!(runs.iter().map(|run| run.at.0).collect::<Vec<_>>(), [1000, 2000], "in the order of asking");
    let unknown = end(&runs[0]);
    assert_eq!((unknown.code, unknown.how.as_str(), unknown.registry), (None, "unknown", 3));
    assert_eq!(unknown.fault.unwrap().code, FaultCode::UnknownOutcome);
    let known = end(&runs[1]);
    assert_eq!((known.code, known.output_bytes, known.truncated), (Some(4), 5, true));
    assert!(runs.iter().all(|run| run.output_gone && run.by == "root" && run.name.as_str() == "deploy"));
}

#[test]
fn the_same_request_is_another_run_on_another_server() {
    let of = |letter| run_id_of(&server(letter), &owner(), "0123456789abcdef");
    assert_eq!(of('a'), of('a'));
    assert_ne!(of('a'), of('b'));
}

#[test]
fn however_long_the_record_is_the_last_ones_are_kept_and_no_more() {
    let mut kept = Past::new(server('a'));
    let last = 6001;
    for seq in (1..=last).step_by(3) {
        kept.replay(&intent(seq, "command.run"));
        kept.replay(&outcome(seq + 1, seq, Ending::Ok, with_end(0)));
        // One whose outcome was lost with a piece of the record.
        kept.replay(&intent(seq + 2, "command.run"));
    }
    assert_eq!(kept.open.len(), OPEN);
    let ended = kept.ended();
    assert_eq!(ended.len(), ENDED);
    assert_eq!(ended.last().unwrap().at, Timestamp(last * 1000));
}

async fn with_commands() -> Bench {
    let bench = bench().await;
    let folder = bench.executor.layout().commands();
    std::fs::write(folder.join("danger.toml"), "summary = \"s\"\nexec = [\"/bin/true\"]").unwrap();
    refresh(&bench.executor).await;
    bench
}

fn body(id: &str) -> String {
    serde_json::json!({ "v": 1, "id": id, "command": "command.run", "params": { "name": "danger" } })
        .to_string()
}

/// A life that ended after the intent, or after the outcome: the signed intent is in the record, as the door writes it.
async fn left_by_an_earlier_life(bench: &Bench, id: &str, nonce: &str, outcome: Option<(Ending, Value)>) {
    let call = bench.signed_by(&bench.owner, ("POST", "/rpc"), &body(id), nonce);
    let authorized = crate::authorize::authorize(&bench.executor, &call).unwrap();
    let who = crate::record::who(&authorized.caller);
    let head = authorized.head;
    let fields = allod_signing::RequestFields {
        audience: &bench.executor.identity(),
        epoch: &head.epoch,
        route: allod_signing::Route::new("POST", "/rpc").unwrap(),
        timestamp: head.timestamp,
        nonce: &head.nonce,
        body: &head.body,
    };
    let Entry::Intent(written) = intent(1, "command.run").entry else { unreachable!() };
    let signed = String::from_utf8(fields.bytes_under(None)).unwrap();
    let target = Some("danger".to_owned());
    let intent = Intent { request: id.to_owned(), who, target, signed: Some(signed), ..*written };
    let record = bench.executor.record();
    let head = record.append(Entry::Intent(Box::new(intent))).unwrap();
    if let Some((result, reply)) = outcome {
        let Entry::Outcome(entry) = super::tests::outcome(0, head.seq, result, Some(reply)).entry else {
            unreachable!()
        };
        record.append(Entry::Outcome(entry)).unwrap();
    }
}

#[tokio::test]
async fn a_run_whose_end_nobody_knows_is_never_run_again_and_a_known_end_is_answered_after_a_restart() {
    let bench = with_commands().await;
    let (open, failed) = ("open-0123456789abcdef", "done-0123456789abcdef");
    left_by_an_earlier_life(&bench, open, "a", None).await;
    left_by_an_earlier_life(&bench, failed, "b", Some((Ending::Failed, with_end(4).unwrap()))).await;
    let bench = bench.reopened().await;
    let ask = async |id: &str, nonce: &str| {
        let call = bench.signed_by(&bench.owner, ("POST", "/rpc"), &body(id), nonce);
        perform(&bench.executor, &call).await
    };
    let head = bench.executor.record().head().unwrap().head.seq;
    for nonce in ["c", "d"] {
        let fault = ask(open, nonce).await.unwrap_err();
        assert_eq!((fault.code, fault.request.as_deref()), (FaultCode::UnknownOutcome, Some(open)));
        assert!(fault.hint.is_some());
    }
    let Done::Replied { reply } = ask(failed, "e").await.unwrap() else { unreachable!() };
    let reply: CommandRunReply = serde_json::from_value(reply).unwrap();
    let told = end(&reply.run);
    assert_eq!((told.code, told.output_bytes, told.truncated), (Some(4), 5, true));
    assert!(reply.run.output_gone);
    assert_eq!(reply.events, [RunEvent::Ended(told)]);
    let other = bench.signed_by(&bench.owner, ("POST", "/rpc"), &body(open).replace("danger", "other"), "f");
    assert_eq!(perform(&bench.executor, &other).await.unwrap_err().code, FaultCode::Conflict);
    assert_eq!(bench.executor.record().head().unwrap().head.seq, head, "nothing was begun");
    let listed = bench.executor.named().summaries();
    assert_eq!(listed.len(), 2);
    // Also when it is long out of the list.
    for number in 0..=ENDED {
        let id = RunId::of(&Digest::of(number.to_string()));
        let run = summary(
            id.clone(),
            NamedCommandName::new("x").unwrap(),
            owner(),
            Timestamp(0),
            nobody_knows(&id, 1),
        );
        bench.executor.named().runs.restore(vec![run]);
    }
    let Done::Replied { reply } = ask(failed, "g").await.unwrap() else { unreachable!() };
    assert_eq!(reply["run"]["state"]["ended"]["code"], 4);
}

fn owner() -> Owner {
    Owner { name: "x".to_owned(), key: None }
}
