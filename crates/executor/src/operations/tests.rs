use super::*;
use crate::authorize::bench::bench;
use allod_proto::{Digest, Timestamp};

fn operation() -> OpenOperation {
    OpenOperation {
        id: OperationId::of(&Digest::of("one")),
        app: "shop".parse().unwrap(),
        command: "app.deploy".to_owned(),
        by: "ann".to_owned(),
        at: Timestamp(0),
        goal: Goal::Stop {},
        promoted: false,
    }
}

fn ran() -> Ran {
    Ran { exit: "exit status 0".to_owned(), ok: true, tail: vec!["migrated".to_owned()] }
}

#[tokio::test]
async fn a_release_command_that_began_and_has_no_end_is_not_begun_again() {
    let bench = bench().await;
    let id = operation().id;
    assert_eq!(bench.executor.begin_release_command(&id).unwrap_err().code, FaultCode::NotFound);
    bench.executor.begin(operation()).unwrap();
    assert_eq!(bench.executor.begin_release_command(&id).unwrap(), None);
    let fault = bench.executor.begin_release_command(&id).unwrap_err();
    assert_eq!(fault.code, FaultCode::Conflict);
    assert!(fault.message.contains("unknown outcome"), "{fault}");
    let again = bench.reopened().await;
    assert_eq!(again.executor.begin_release_command(&id).unwrap_err().code, FaultCode::Conflict);
}

#[tokio::test]
async fn a_release_command_that_ended_gives_the_same_answer_also_in_the_next_life() {
    let bench = bench().await;
    let id = operation().id;
    bench.executor.begin(operation()).unwrap();
    bench.executor.begin_release_command(&id).unwrap();
    bench.executor.end_release_command(&id, &ran()).unwrap();
    assert_eq!(bench.executor.begin_release_command(&id).unwrap(), Some(ran()));
    let again = bench.reopened().await;
    assert_eq!(again.executor.begin_release_command(&id).unwrap(), Some(ran()));
}

#[tokio::test]
async fn what_the_agent_says_of_a_failure_is_cut_before_it_fills_the_record() {
    let bench = bench().await;
    let id = operation().id;
    bench.executor.begin(operation()).unwrap();
    let long = Fault::new(FaultCode::Internal, "é".repeat(1_000_000));
    bench.executor.finish(&id, OperationState::Failed, Some(long)).await.unwrap();
    bench.executor.record().flush().unwrap();
    let lines = bench.executor.record().read(1, 100).unwrap();
    let outcome = lines.iter().find(|line| line.contains("\"entry\":\"outcome\"")).unwrap();
    assert!(outcome.contains(&"é".repeat(SAID)) && outcome.len() < 3 * SAID, "{}", outcome.len());
}
