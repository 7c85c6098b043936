//! Every action there is, asked by an agent that was taken and has no caller's authority. An action that is added does
//! not compile here before it is said what it needs.

use super::*;
use crate::authorize::bench::{Bench, bench};
use allod_proto::{
    Digest, InstanceId, OperationId, ReleaseId, Timestamp, UnitName, executor::Observation,
    executor::SignedCall, operation::OperationState,
};
use allod_signing::KeySigner;

/// What lets an action do something.
#[derive(Debug, PartialEq)]
enum Needs {
    /// The caller's own fresh signature over a command.
    Signature,
    /// An operation that such a signature opened, or what one made current.
    Wanted,
    /// Nothing: it looks.
    Nothing,
    /// Nothing: it begins an epoch, which ends what was signed for the one before.
    Epoch,
    /// Nothing: it adds to the record what the agent says, at a rate.
    Record,
}

/// Exhaustive on purpose.
fn needs(action: &Action) -> Needs {
    match action {
        Action::Perform(_) => Needs::Signature,
        Action::InstanceStart { .. }
        | Action::InstanceStop { .. }
        | Action::InstanceCheck { .. }
        | Action::InstanceForget { .. }
        | Action::ReleaseCommand { .. }
        | Action::Promote { .. }
        | Action::Finish { .. } => Needs::Wanted,
        Action::Attach { .. } => Needs::Epoch,
        Action::Observe(_) => Needs::Record,
        Action::Look {}
        | Action::Secrets { .. }
        | Action::Releases { .. }
        | Action::RecordRead { .. }
        | Action::RecordVerify {}
        | Action::RecordStats {}
        | Action::GateAsked { .. }
        | Action::Keys {}
        | Action::LogRead { .. }
        | Action::LogList { .. }
        | Action::Commands {}
        | Action::CommandHistory { .. }
        | Action::Runs {}
        | Action::RunRead { .. } => Needs::Nothing,
        Action::RunLeft { .. } => Needs::Wanted,
    }
}

/// How many actions `needs` knows: counted here, so that the list below can't miss one.
const ACTIONS: usize = 25;

/// One of each, made up.
fn made_up() -> Vec<Action> {
    let app: allod_proto::AppRef = "shop".parse().unwrap();
    let operation = OperationId::of(&Digest::of("made up"));
    let instance = InstanceId::new("web-00112233").unwrap();
    let release = ReleaseId::new("0123456789ab").unwrap();
    let unsigned = SignedCall {
        method: "POST".to_owned(),
        path: "/rpc".to_owned(),
        headers: Vec::new(),
        body: add_a_key("a"),
        source: None,
        door: "rpc".to_owned(),
    };
    let refusals = Observation::Refusals {
        minute: Timestamp(0),
        source: "x".repeat(9000),
        reason: "y".to_owned(),
        count: 1,
    };
    vec![
        Action::Attach { version: "v".repeat(100_000) },
        Action::Perform(unsigned),
        Action::InstanceStart {
            operation: Some(operation.clone()),
            app: app.clone(),
            unit: UnitName::new("web").unwrap(),
            release,
            address: None,
        },
        Action::InstanceStop { instance: instance.clone(), grace_ms: u64::MAX },
        Action::InstanceCheck { instance: instance.clone(), timeout_ms: u64::MAX },
        Action::InstanceForget { instance },
        Action::ReleaseCommand { operation: operation.clone() },
        Action::Promote { operation: operation.clone() },
        Action::Finish { operation, state: OperationState::Done, fault: None },
        Action::Look {},
        Action::Secrets { app: app.clone() },
        Action::Releases { app: app.clone() },
        Action::Observe(vec![refusals]),
        Action::RecordRead { from: i64::MIN, limit: u32::MAX },
        Action::RecordVerify {},
        Action::RecordStats {},
        Action::GateAsked { from: "192.0.2.7".parse().unwrap(), port: 1, since: Timestamp(0) },
        Action::Keys {},
        Action::LogRead {
            app: app.clone(),
            file: "../../executor/record.key".to_owned(),
            offset: 0,
            limit: u64::MAX,
        },
        Action::LogList { app },
        Action::Commands {},
        Action::CommandHistory { name: "deploy-site".parse().unwrap() },
        Action::Runs {},
        Action::RunRead { run: "run-0123456789ab".parse().unwrap(), after: 0 },
        Action::RunLeft { run: "run-0123456789ab".parse().unwrap() },
    ]
}

fn add_a_key(id: &str) -> String {
    let line = format!("role=owner {}", KeySigner::generate([9; 32], "thief").public_openssh());
    format!(r#"{{"v":1,"id":"{}","command":"keys.add","params":{{"line":"{line}"}}}}"#, id.repeat(16))
}

/// Everything that only a caller may change, byte by byte.
fn state(bench: &Bench) -> std::collections::BTreeMap<std::path::PathBuf, Digest> {
    let mut found = std::collections::BTreeMap::new();
    let layout = bench.executor.layout();
    let mut folders = vec![layout.executor(), layout.releases(), layout.data_folder()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).unwrap().flatten() {
            let path = entry.path();
            if path.is_dir() {
                folders.push(path);
            } else if path.file_name().is_none_or(|name| name != "reserve") {
                found.insert(path.clone(), Digest::of(std::fs::read(path).unwrap()));
            }
        }
    }
    found
}

#[tokio::test]
async fn every_action_without_authority_does_nothing() {
    let bench = bench().await;
    // The first life of an agent makes the key that secrets are sealed to.
    carry_out(&bench.executor, Action::Attach { version: "1".to_owned() }).await.unwrap();
    let before = state(&bench);
    let actions = made_up();
    let kinds: std::collections::HashSet<_> = actions.iter().map(std::mem::discriminant).collect();
    assert_eq!((kinds.len(), actions.len()), (ACTIONS, ACTIONS), "one of each");
    for action in actions {
        let (what, needs) = (format!("{action:?}").chars().take(60).collect::<String>(), needs(&action));
        let outcome = carry_out(&bench.executor, action).await;
        if matches!(needs, Needs::Signature | Needs::Wanted) {
            let code = outcome.expect_err(&what).code;
            let refused = matches!(code, FaultCode::Refused | FaultCode::NotFound | FaultCode::NotAllowed);
            assert!(refused, "{what}: {code:?}");
        }
        assert_eq!(state(&bench), before, "{what}");
    }
    assert!(bench.executor.instances().all().is_empty());
    assert_eq!(bench.executor.keys().list().keys.len(), 1);
}

#[tokio::test]
async fn what_the_agent_says_of_reads_never_looks_like_a_denial_or_a_change() {
    let bench = bench().await;
    let viewer = KeySigner::generate([3; 32], "viewer");
    let line = format!("role=viewer {}", viewer.public_openssh());
    bench.executor.keys().add(&line, Timestamp(0)).unwrap();
    let call = bench.signed_by(&viewer, ("POST", "/rpc"), &add_a_key("b"), "b");
    assert_eq!(bench.code(&call).await, FaultCode::NotAllowed);
    let read = Observation::Read {
        delegate: None,
        request: "\",\"entry\":\"denied".to_owned(),
        key: None,
        name: "denied".to_owned(),
        role: allod_proto::Role::Owner,
        door: "rpc".to_owned(),
        source: None,
        command: "keys.add".to_owned(),
        app: None,
        code: Some(FaultCode::NotAllowed),
        took_ms: 0,
    };
    carry_out(&bench.executor, Action::Observe(vec![read])).await.unwrap();
    bench.executor.record().flush().unwrap();
    let lines = bench.executor.record().read(1, 100).unwrap();
    let entries: Vec<String> = lines
        .iter()
        .map(|line| {
            serde_json::from_str::<serde_json::Value>(line).unwrap()["entry"].as_str().unwrap().to_owned()
        })
        .collect();
    assert_eq!(entries.iter().filter(|entry| *entry == "denied").count(), 1, "{lines:?}");
    assert_eq!(entries.iter().filter(|entry| *entry == "read").count(), 1, "{lines:?}");
}

#[tokio::test]
async fn what_of_a_run_has_no_bound_here_is_told_with_the_commands() {
    let bench = bench().await;
    let done = carry_out(&bench.executor, Action::Commands {}).await.unwrap();
    let Done::Commands { registry, .. } = done else { panic!("{done:?}") };
    let why = registry.unbounded.unwrap();
    assert_eq!(
        why,
        "memory and the number of processes have no bound: no control groups: they are turned off: --groups none"
    );
}
