//! What stands before a run. The runs themselves are driven through the real binary (`crates/allod/tests/it/named.rs`).

use super::*;
use crate::authorize::bench::{Bench, bench};
use allod_proto::{
    NamedCommandName, Nonce, Timestamp,
    named::{APPROVAL_NAMESPACE, Approval},
};
use allod_signing::{KeySigner, Signer as _, sshsig};
use std::collections::BTreeMap;

async fn with(text: &str) -> Bench {
    let bench = bench().await;
    let file = bench.executor.layout().commands().join("danger.toml");
    std::fs::write(file, format!("summary = \"s\"\nexec = [\"/bin/true\"]\n{text}")).unwrap();
    refresh(&bench.executor).await;
    assert!(bench.executor.named().registry().0.complaints.is_empty());
    bench
}

fn approval(expires: Timestamp, nonce: &str) -> Approval {
    Approval {
        name: NamedCommandName::new("danger").unwrap(),
        params: BTreeMap::new(),
        caller: "builder".to_owned(),
        expires,
        nonce: Nonce::new(nonce.repeat(22)).unwrap(),
    }
}

async fn approve(bench: &Bench, approval: &Approval, signer: &KeySigner, id: &str) -> Result<(), FaultCode> {
    let bytes = approval.bytes(&bench.executor.identity());
    let signature = sshsig::to_base64(&signer.sign(APPROVAL_NAMESPACE, &bytes).unwrap());
    let params = serde_json::json!({ "approval": approval, "signature": signature });
    let body =
        serde_json::json!({ "v": 1, "id": id.repeat(16), "command": "command.approve", "params": params });
    bench.done(&body.to_string(), id).await.map(|_| ()).map_err(|fault| fault.code)
}

#[tokio::test]
async fn an_approval_by_another_key_for_too_long_or_given_twice_is_refused() {
    let bench = with("approval = true").await;
    let now = bench.executor.now();
    let good = approval(now.plus(Duration::from_secs(60)), "a");
    let stranger = KeySigner::generate([9; 32], "stranger");
    assert_eq!(approve(&bench, &good, &stranger, "a").await, Err(FaultCode::Refused));
    let long = approval(now.plus(Duration::from_secs(6000)), "b");
    assert_eq!(approve(&bench, &long, &bench.owner, "b").await, Err(FaultCode::Invalid));
    let over = approval(now, "c");
    assert_eq!(approve(&bench, &over, &bench.owner, "c").await, Err(FaultCode::Invalid));
    assert_eq!(approve(&bench, &good, &bench.owner, "d").await, Ok(()));
    assert_eq!(approve(&bench, &good, &bench.owner, "e").await, Err(FaultCode::Conflict));
    // It outlives the program.
    let bench = bench.reopened().await;
    assert_eq!(approve(&bench, &good, &bench.owner, "f").await, Err(FaultCode::Conflict));
}

#[tokio::test]
async fn what_takes_no_approval_is_not_approved() {
    let bench = with("").await;
    let good = approval(bench.executor.now().plus(Duration::from_secs(60)), "a");
    assert_eq!(approve(&bench, &good, &bench.owner, "a").await, Err(FaultCode::NotFound));
}

#[tokio::test]
async fn a_run_that_can_not_be_recorded_never_begins() {
    let bench = with("").await;
    let call = bench.executor.named().rules();
    let owner = Owner { name: "owner".to_owned(), key: None };
    let definition = call.registry.definitions().next().unwrap().clone();
    let waiting = bench.executor.named().turns.stand(&definition).unwrap();
    let id = RunId::of(&Digest::of("x"));
    let run = bench.executor.named().runs.add(id, &definition.name, &owner, bench.executor.now(), true);
    let (tell, intent) = oneshot::channel();
    drop(tell);
    let peer = allod_commands::PeerCredentials::of(&tokio::net::UnixStream::pair().unwrap().0).unwrap();
    // Only root is known by their uid; the call itself is the same whoever makes it.
    let Some(caller) = Caller::local(&peer) else { return };
    let ask = CommandRun { name: "danger".to_owned(), params: BTreeMap::new(), stdin: None, detach: false };
    let call = call.registry.decide(&caller, &ask, &call.choices).unwrap();
    let plan = drive::Plan { call, caller: String::new(), stdin: None, waiting, intent };
    drive::drive(Arc::clone(&bench.executor), Arc::clone(&run), plan).await;
    let allod_proto::named::RunState::Ended(end) = run.summary().state else { unreachable!() };
    assert_eq!((end.how.as_str(), end.fault.unwrap().code), ("not started", FaultCode::RecordUnavailable));
}

#[test]
fn standard_input_that_is_not_declared_or_too_long_is_refused() {
    let text = |limit: &str| format!("summary = \"s\"\nexec = [\"/bin/cat\"]\nstdin_limit = \"{limit}\"");
    let name = NamedCommandName::new("x").unwrap();
    let definition = |limit: &str| allod_commands::registry::parse(&name, &text(limit)).unwrap();
    assert!(check_stdin(&definition("0B"), None).is_ok());
    assert!(check_stdin(&definition("0B"), Some("eA==")).is_err());
    assert!(check_stdin(&definition("1B"), Some("eA==")).is_ok());
    assert!(check_stdin(&definition("1B"), Some("eHg=")).is_err());
    assert!(check_stdin(&definition("1B"), Some("not base64")).is_err());
}
