use super::{bench::bench, *};
use crate::perform::perform;
use allod_proto::{Timestamp, executor::Done};
use allod_signing::{KeySigner, Signer};

const RPC: (&str, &str) = ("POST", "/rpc");

fn add_a_key(id: &str) -> String {
    let line = format!("role=owner {}", KeySigner::generate([9; 32], "thief").public_openssh());
    format!(r#"{{"v":1,"id":"{}","command":"keys.add","params":{{"line":"{line}"}}}}"#, id.repeat(16))
}

#[tokio::test]
async fn a_chunk_that_reads_like_a_command_is_not_one() {
    let bench = bench().await;
    let body = add_a_key("a");
    let path = format!("/chunks/blog/production/{}", Digest::of(&body));
    let call = bench.signed_by(&bench.owner, ("PUT", &path), &body, "a");
    assert_eq!(bench.code(&call).await, FaultCode::Refused);
    assert_eq!(bench.executor.keys().list().keys.len(), 1);
}

#[tokio::test]
async fn what_a_taken_agent_can_make_of_a_good_call_is_refused() {
    let bench = bench().await;
    let good = bench.signed_by(&bench.owner, RPC, &add_a_key("a"), "a");
    let stranger = bench.signed_by(&KeySigner::generate([7; 32], "x"), RPC, &add_a_key("a"), "b");
    let other_body = SignedCall { body: add_a_key("b"), ..good.clone() };
    let unsigned = SignedCall { headers: Vec::new(), ..good.clone() };
    let other_path = SignedCall { path: "/rpc?x".to_owned(), ..good.clone() };
    for forged in [stranger, other_body, unsigned, other_path] {
        assert_eq!(bench.code(&forged).await, FaultCode::Refused, "{forged:?}");
    }
    assert_eq!(bench.executor.keys().list().keys.len(), 1);
}

#[tokio::test]
async fn a_call_is_done_once_and_its_copy_and_one_of_another_life_are_refused() {
    let bench = bench().await;
    let call = bench.signed_by(&bench.owner, RPC, &add_a_key("a"), "a");
    let of_this_life = bench.signed_by(&bench.owner, RPC, &add_a_key("b"), "b");
    assert!(matches!(perform(&bench.executor, &call).await, Ok(Done::Replied { .. })));
    assert_eq!(bench.code(&call).await, FaultCode::Replay);
    bench.executor.new_epoch().unwrap();
    assert_eq!(bench.code(&of_this_life).await, FaultCode::StaleEpoch);
}

#[tokio::test]
async fn a_retry_with_the_same_id_gets_the_same_answer_and_nothing_is_done_twice() {
    let bench = bench().await;
    let first = bench.signed_by(&bench.owner, RPC, &add_a_key("a"), "a");
    let again = bench.signed_by(&bench.owner, RPC, &add_a_key("a"), "b");
    let Done::Replied { reply } = perform(&bench.executor, &first).await.unwrap() else { unreachable!() };
    let lines = bench.executor.record().head().unwrap().head.seq;
    let Done::Replied { reply: second } = perform(&bench.executor, &again).await.unwrap() else {
        unreachable!()
    };
    assert_eq!(reply, second);
    assert_eq!(bench.executor.record().head().unwrap().head.seq, lines);
}

#[tokio::test]
async fn a_read_is_not_a_change_and_a_key_without_permission_changes_nothing() {
    let bench = bench().await;
    let read = r#"{"v":1,"id":"aaaaaaaaaaaaaaaa","command":"keys.list","params":{}}"#;
    assert_eq!(bench.code(&bench.signed_by(&bench.owner, RPC, read, "a")).await, FaultCode::Invalid);
    let deployer = KeySigner::generate([3; 32], "deployer");
    let line = format!("role=deployer {}", deployer.public_openssh());
    bench.executor.keys().add(&line, Timestamp(0)).unwrap();
    assert_eq!(
        bench.code(&bench.signed_by(&deployer, RPC, &add_a_key("b"), "b")).await,
        FaultCode::NotAllowed
    );
    bench.executor.keys().revoke(&deployer.fingerprint(), Timestamp(0)).unwrap();
    assert_eq!(bench.code(&bench.signed_by(&deployer, RPC, &add_a_key("c"), "c")).await, FaultCode::Refused);
}
