//! A program that has become the agent: it speaks to a real executor on its socket and may send whatever it likes. It
//! can't enrol a key, change a release, or write the record otherwise than by appending.

use crate::{
    processes::eventually,
    running::{Agent, Running},
    wire::{Draft, Signed, body_of, now},
};
use allod_proto::{
    AppRef, Digest, Epoch, FaultCode, Fingerprint, OperationId, ReleaseId, Role, UnitName,
    executor::{Action, Answer, Attached, Begun, Done, Goal, Observation, SignedCall},
    manifest::{EntryKind, FORMAT, Manifest, ManifestEntry, ManifestIndex},
    messages::{
        app::AppDeploy,
        keys::{KeysAdd, KeysList},
        secrets::SecretsExport,
    },
    operation::OperationState,
    spec::{AppSpec, HealthSpec, ProcessSpec, ResourceSpec, UnitKind, UnitSpec},
};
use allod_signing::{DelegatedSigner, KeySigner, Signer as _, Terms};
use std::{collections::BTreeMap, path::PathBuf};
use tokio::net::UnixStream;

/// A real executor, and the connection of somebody who has taken the agent.
struct Taken {
    running: Running,
    identity: Fingerprint,
    attached: Attached,
    agent: Agent,
}

fn app() -> AppRef {
    "shop".parse().unwrap()
}

fn web() -> UnitName {
    UnitName::new("web").unwrap()
}

impl Taken {
    async fn start() -> Self {
        let (running, mut agent) = Running::listening().await;
        let (identity, attached) = (running.identity(), agent.attach().await);
        Self { running, identity, attached, agent }
    }

    async fn attach(&mut self) {
        self.attached = self.agent.attach().await;
    }

    /// Sends bytes and reads one line.
    async fn raw(&mut self, line: &str) -> Option<Answer> {
        self.agent.raw(line.as_bytes()).await
    }

    async fn ask(&mut self, action: Action) -> Answer {
        self.agent.ask(action).await
    }

    async fn refused(&mut self, action: Action) -> FaultCode {
        let shown = format!("{action:?}");
        match self.ask(action).await.outcome {
            Err(fault) => fault.code,
            Ok(done) => panic!("{shown} was done: {done:?}"),
        }
    }

    fn draft<C: allod_proto::command::Call>(&self, params: C) -> Draft {
        Draft::new(&self.identity, &self.attached.epoch, params)
    }

    fn state(&self, name: &str) -> PathBuf {
        self.running.state(name)
    }

    fn enrolled(&self) -> String {
        std::fs::read_to_string(self.state("executor/enrolled")).unwrap()
    }

    /// Puts a release's chunks where the agent keeps them and gives the digest to deploy.
    fn chunks(&self, version: &str) -> Digest {
        let folder = self.state("agent/chunks/shop/production");
        std::fs::create_dir_all(&folder).unwrap();
        let keep = |bytes: &[u8]| {
            let digest = Digest::of(bytes);
            std::fs::write(folder.join(digest.to_string()), bytes).unwrap();
            digest
        };
        let script = format!("echo {version}\nexec sleep 600\n");
        let file = EntryKind::File {
            executable: true,
            size: u64::try_from(script.len()).unwrap(),
            chunks: vec![keep(script.as_bytes())],
        };
        let entries = vec![ManifestEntry { path: "run.sh".to_owned(), what: file }];
        let manifest = Manifest { format: FORMAT, spec: spec(), architecture: None, version: None, entries };
        let manifest = serde_json::to_vec(&manifest).unwrap();
        let size = u64::try_from(manifest.len()).unwrap();
        let index = ManifestIndex { format: FORMAT, size, chunks: vec![keep(&manifest)] };
        keep(&serde_json::to_vec(&index).unwrap())
    }

    /// A deploy that the owner signs.
    async fn deploy(&mut self, version: &str) -> Begun {
        let manifest = self.chunks(version);
        let call = self.draft(AppDeploy { app: app(), manifest }).sign(&self.running.owner).call();
        match self.ask(Action::Perform(call)).await.outcome {
            Ok(Done::Begun(begun)) => *begun,
            other => panic!("{other:?}"),
        }
    }

    async fn lines(&mut self) -> Vec<String> {
        match self.ask(Action::RecordRead { from: 1, limit: 1000 }).await.outcome {
            Ok(Done::Lines(lines)) => lines.lines,
            other => panic!("{other:?}"),
        }
    }

    async fn current(&mut self) -> Option<ReleaseId> {
        match self.ask(Action::Look {}).await.outcome {
            Ok(Done::Looked(looked)) => {
                looked.apps.into_iter().find(|it| it.app == app())?.current.map(|it| it.id)
            }
            other => panic!("{other:?}"),
        }
    }
}

fn spec() -> AppSpec {
    let process = ProcessSpec {
        start: ["sh", "run.sh"].map(str::to_owned).into(),
        instances: 1,
        runtime: None,
        health: HealthSpec::Running { for_ms: 1 },
        health_timeout_ms: 1000,
        drain_ms: 100,
        stop_grace_ms: 100,
        resources: ResourceSpec::default(),
    };
    let unit = UnitSpec {
        kind: UnitKind::Process(process),
        routes: Vec::new(),
        strip_prefix: false,
        limits: allod_proto::routes::RouteLimits::default(),
    };
    AppSpec {
        app: app(),
        units: BTreeMap::from([(web(), unit)]),
        vars: BTreeMap::new(),
        secrets: BTreeMap::new(),
        release_command: None,
        keep_releases: 2,
    }
}

fn start(operation: Option<OperationId>, release: &ReleaseId) -> Action {
    Action::InstanceStart { operation, app: app(), unit: web(), release: release.clone(), address: None }
}

fn eve() -> KeySigner {
    KeySigner::generate([66; 32], "eve")
}

fn enrol_eve() -> KeysAdd {
    KeysAdd { line: format!("role=owner {}", eve().public_openssh()) }
}

#[tokio::test]
async fn a_delegation_is_verified_again_before_anything_is_changed() {
    let mut taken = Taken::start().await;
    let before = taken.enrolled();
    let (minute, identity) = (std::time::Duration::from_secs(60), taken.identity.clone());
    let (owner, usual) = (KeySigner::generate([1; 32], "ana"), (now(), now().plus(15 * minute)));
    let delegated = |by: &KeySigner, server: &Fingerprint, role, span| {
        let terms = Terms::new(eve().public_key().clone(), [server.clone()], role, span).unwrap();
        DelegatedSigner::new(eve(), terms.sign(by).unwrap()).unwrap()
    };
    let ended = (now().minus(2 * minute), now().minus(minute));
    let later = (now().plus(2 * minute), now().plus(3 * minute));
    for (why, signer) in [
        ("ended", delegated(&owner, &identity, Role::Owner, ended)),
        ("from the future", delegated(&owner, &identity, Role::Owner, later)),
        ("by a stranger", delegated(&eve(), &identity, Role::Owner, usual)),
        ("for another server", delegated(&owner, &eve_server(), Role::Owner, usual)),
    ] {
        let call = taken.draft(enrol_eve()).sign(&signer).call();
        assert_eq!(taken.refused(Action::Perform(call)).await, FaultCode::Refused, "{why}");
    }
    let operator = delegated(&owner, &identity, Role::Operator, usual);
    let call = taken.draft(enrol_eve()).sign(&operator).call();
    assert_eq!(taken.refused(Action::Perform(call.clone())).await, FaultCode::NotAllowed);
    // The agent exchanges the delegation for one that says more, or leaves it out.
    let lifted = delegated(&owner, &identity, Role::Owner, usual);
    let value = lifted.delegation().unwrap().to_header();
    let exchanged = call.headers.iter().cloned().map(|(name, old)| {
        let new = if name == allod_proto::headers::DELEGATION { value.clone() } else { old };
        (name, new)
    });
    let exchanged = SignedCall { headers: exchanged.collect(), ..call.clone() };
    assert_eq!(taken.refused(Action::Perform(exchanged)).await, FaultCode::Refused);
    let mut without = call;
    without.headers.retain(|(name, _)| name != allod_proto::headers::DELEGATION);
    assert_eq!(taken.refused(Action::Perform(without)).await, FaultCode::Refused);
    assert_eq!(taken.enrolled(), before);
    let good = taken.draft(enrol_eve()).sign(&lifted).call();
    assert!(taken.ask(Action::Perform(good)).await.outcome.is_ok());
    assert_ne!(taken.enrolled(), before);
}

#[tokio::test]
async fn no_change_is_made_without_an_enrolled_callers_own_fresh_signature() {
    let mut taken = Taken::start().await;
    let before = taken.enrolled();
    let signed = |draft: Draft, key: &KeySigner| draft.sign(key);
    let good = signed(taken.draft(enrol_eve()), &taken.running.owner);

    let unsigned = SignedCall { headers: Vec::new(), ..good.call() };
    assert_eq!(taken.refused(Action::Perform(unsigned)).await, FaultCode::Refused);
    let unenrolled = signed(taken.draft(enrol_eve()), &eve());
    assert_eq!(taken.refused(Action::Perform(unenrolled.call())).await, FaultCode::Refused);
    // A real signature of the owner under another wish, and under another name.
    let other_body = SignedCall { body: String::from_utf8(body_of(enrol_eve())).unwrap(), ..good.call() };
    assert_eq!(taken.refused(Action::Perform(other_body)).await, FaultCode::Refused);
    let mut named: Signed = signed(taken.draft(enrol_eve()), &eve());
    named.head.fingerprint = good.head.fingerprint.clone();
    assert_eq!(taken.refused(Action::Perform(named.call())).await, FaultCode::Refused);
    for elsewhere in [
        Draft { path: "/chunks/a".to_owned(), ..taken.draft(enrol_eve()) },
        Draft { method: "PUT", ..taken.draft(enrol_eve()) },
        Draft { audience: eve_server(), ..taken.draft(enrol_eve()) },
    ] {
        let call = SignedCall {
            method: "POST".to_owned(),
            path: "/rpc".to_owned(),
            ..elsewhere.sign(&taken.running.owner).call()
        };
        assert_eq!(taken.refused(Action::Perform(call)).await, FaultCode::Refused);
    }
    let old =
        Draft { epoch: Epoch::from_random([9; 16]), ..taken.draft(enrol_eve()) }.sign(&taken.running.owner);
    assert_eq!(taken.refused(Action::Perform(old.call())).await, FaultCode::StaleEpoch);
    let late =
        Draft { timestamp: now().minus(std::time::Duration::from_secs(120)), ..taken.draft(enrol_eve()) };
    let late = late.sign(&taken.running.owner).call();
    assert_eq!(taken.refused(Action::Perform(late)).await, FaultCode::Clock);
    let read = taken.draft(KeysList {}).sign(&taken.running.owner).call();
    assert_eq!(taken.refused(Action::Perform(read)).await, FaultCode::Invalid);
    let mut headers = good.call();
    headers.headers.extend(good.call().headers);
    assert_eq!(taken.refused(Action::Perform(headers)).await, FaultCode::Refused);

    assert_eq!(taken.enrolled(), before, "a key was enrolled");
    let lines = taken.lines().await;
    assert!(!lines.iter().any(|line| line.contains("\"entry\":\"intent\"")), "{lines:?}");

    // The same request as the owner made it is done, once.
    assert!(taken.ask(Action::Perform(good.call())).await.outcome.is_ok());
    assert!(taken.enrolled().contains("eve"));
    assert_eq!(taken.refused(Action::Perform(good.call())).await, FaultCode::Replay);
}

fn eve_server() -> Fingerprint {
    use allod_signing::Signer as _;
    eve().fingerprint()
}

#[tokio::test]
async fn a_request_that_the_agent_kept_for_its_next_life_is_stale() {
    let mut taken = Taken::start().await;
    let kept = taken.draft(enrol_eve()).sign(&taken.running.owner).call();
    let before = taken.enrolled();
    taken.attach().await;
    assert_eq!(taken.refused(Action::Perform(kept)).await, FaultCode::StaleEpoch);
    assert_eq!(taken.enrolled(), before);
}

#[tokio::test]
async fn a_key_with_less_than_the_command_needs_is_refused_here_too() {
    let mut taken = Taken::start().await;
    let vic = KeySigner::generate([3; 32], "vic");
    let line = format!("role=viewer {}", vic.public_openssh());
    let call = taken.draft(KeysAdd { line }).sign(&taken.running.owner).call();
    assert!(taken.ask(Action::Perform(call)).await.outcome.is_ok());
    let before = taken.enrolled();
    let call = taken.draft(enrol_eve()).sign(&vic).call();
    assert_eq!(taken.refused(Action::Perform(call)).await, FaultCode::NotAllowed);
    let export = SecretsExport { app: app(), recipient: taken.attached.recipient.clone() };
    let call = taken.draft(export).sign(&vic).call();
    assert_eq!(taken.refused(Action::Perform(call)).await, FaultCode::NotAllowed);
    assert_eq!(taken.enrolled(), before);
    // A denial costs no sync of its own, and follows within a moment.
    eventually("the denials are in the record", async || {
        let lines = taken.lines().await;
        let denied = |line: &&String| line.contains("not_allowed") && line.contains("\"name\":\"vic\"");
        (lines.iter().filter(denied).count() == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn only_a_release_that_a_caller_brought_can_run() {
    let mut taken = Taken::start().await;
    // Nothing was deployed: neither made-up releases nor chunks that merely lie there can be started.
    taken.chunks("evil");
    let made_up = ReleaseId::new("0123456789ab").unwrap();
    assert_eq!(taken.refused(start(None, &made_up)).await, FaultCode::NotFound);

    let begun = taken.deploy("v1").await;
    let Goal::Release { release, .. } = &begun.operation.goal else { panic!("{begun:?}") };
    let (v1, operation) = (release.id.clone(), begun.operation.id.clone());
    assert_eq!(taken.refused(start(None, &v1)).await, FaultCode::NotAllowed, "it is not current yet");
    let other = OperationId::of(&Digest::of("other"));
    assert_eq!(taken.refused(start(Some(other.clone()), &v1)).await, FaultCode::NotAllowed);
    assert_eq!(taken.refused(start(Some(operation.clone()), &made_up)).await, FaultCode::NotAllowed);

    // An operation that nobody opened can't be promoted or ended, and one that was not promoted can't be done.
    assert_eq!(taken.refused(Action::Promote { operation: other.clone() }).await, FaultCode::NotFound);
    let finish =
        |operation: &OperationId, state| Action::Finish { operation: operation.clone(), state, fault: None };
    assert_eq!(taken.refused(finish(&other, OperationState::Failed)).await, FaultCode::NotFound);
    assert_eq!(taken.refused(finish(&operation, OperationState::Done)).await, FaultCode::Conflict);
    assert_eq!(taken.refused(finish(&operation, OperationState::Running)).await, FaultCode::Invalid);
    assert_eq!(taken.current().await, None);

    // As it was meant to go.
    let Ok(Done::Started { .. }) = taken.ask(start(Some(operation.clone()), &v1)).await.outcome else {
        panic!()
    };
    assert!(taken.ask(Action::Promote { operation: operation.clone() }).await.outcome.is_ok());
    assert!(taken.ask(finish(&operation, OperationState::Done)).await.outcome.is_ok());
    assert_eq!(taken.current().await, Some(v1.clone()));
    assert_eq!(taken.refused(Action::Promote { operation }).await, FaultCode::NotFound, "it has ended");
    // No more copies than a caller asked for (twice as many while they are replaced).
    assert!(taken.ask(start(None, &v1)).await.outcome.is_ok());
    assert_eq!(taken.refused(start(None, &v1)).await, FaultCode::NotAllowed);
    assert_eq!(taken.current().await, Some(v1));
}

#[tokio::test]
async fn chunks_that_the_agent_changed_make_no_release() {
    let mut taken = Taken::start().await;
    let manifest = taken.chunks("v1");
    let folder = taken.state("agent/chunks/shop/production");
    for chunk in std::fs::read_dir(&folder).unwrap() {
        let path = chunk.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        if text.starts_with("echo") {
            std::fs::write(&path, text.replace("v1", "xx")).unwrap();
        }
    }
    let call = taken.draft(AppDeploy { app: app(), manifest }).sign(&taken.running.owner).call();
    let code = taken.refused(Action::Perform(call)).await;
    assert_ne!(code, FaultCode::Internal, "a changed chunk is a refusal, not a defect");
    assert_eq!(taken.current().await, None);
    assert!(
        !taken.state("releases/shop/production").exists()
            || is_empty(taken.state("releases/shop/production"))
    );
}

fn is_empty(folder: PathBuf) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

#[tokio::test]
async fn the_record_can_only_grow() {
    let mut taken = Taken::start().await;
    let call = taken.draft(enrol_eve()).sign(&taken.running.owner).call();
    assert!(taken.ask(Action::Perform(call)).await.outcome.is_ok());
    let before = taken.lines().await;
    // There is no such ask as one that edits, cuts or closes the record.
    for line in [
        r#"{"id":1,"action":{"record_write":{"seq":1,"line":"x"}}}"#,
        r#"{"id":1,"action":{"record_truncate":{"to":1}}}"#,
        r#"{"id":1,"action":{"keys_write":{"enrolled":""}}}"#,
        r#"{"id":1,"action":{"look":{"x":1}}}"#,
        "nonsense",
    ] {
        let answer = taken.raw(line).await.unwrap();
        assert_eq!(answer.outcome.unwrap_err().code, FaultCode::Malformed, "{line}");
        // What makes no sense costs the connection.
        let socket = taken.running.socket();
        taken.agent = Agent::new(UnixStream::connect(socket).await.unwrap());
        taken.attach().await;
    }
    // A lie about what was read is appended as what the agent says of reads, and as nothing else.
    let lie = Observation::Read {
        delegate: None,
        request: "r".to_owned(),
        key: None,
        name: "ana\n{\"entry\":\"intent\"}".to_owned(),
        role: allod_proto::Role::Owner,
        door: "rpc".to_owned(),
        source: None,
        command: "keys.add".to_owned(),
        app: None,
        code: None,
        took_ms: 0,
    };
    assert!(taken.ask(Action::Observe(vec![lie])).await.outcome.is_ok());
    let after = eventually("the lie is written", async || {
        let lines = taken.lines().await;
        lines.iter().any(|line| line.contains("\"entry\":\"read\"")).then_some(lines)
    })
    .await;
    assert_eq!(after[..before.len()], before[..]);
    let intents =
        |lines: &[String]| lines.iter().filter(|line| line.contains("\"entry\":\"intent\"")).count();
    assert_eq!(intents(&after), intents(&before));
    let Ok(Done::Verified(verified)) = taken.ask(Action::RecordVerify {}).await.outcome else { panic!() };
    assert_eq!(verified.found, None);
}

#[tokio::test]
async fn files_outside_an_apps_logs_are_out_of_reach() {
    let mut taken = Taken::start().await;
    let begun = taken.deploy("v1").await;
    let finish =
        Action::Finish { operation: begun.operation.id.clone(), state: OperationState::Failed, fault: None };
    assert!(taken.ask(finish).await.outcome.is_ok());
    let logs = taken.state("logs/shop/production");
    std::fs::create_dir_all(&logs).unwrap();
    // An app may put anything into its own folder of logs, also a link with the right name.
    let link = "web-0011aabb.0123456789ab.log";
    std::os::unix::fs::symlink(taken.state("executor/record.key"), logs.join(link)).unwrap();
    for file in [
        "../../../executor/record.key",
        "../../../executor/enrolled",
        "/etc/passwd",
        "..",
        "",
        "web-0011aabb.0123456789ab.log/../../../executor/enrolled",
        "a\0b.0123456789ab.log",
        link,
    ] {
        let ask = Action::LogRead { app: app(), file: file.to_owned(), offset: 0, limit: 1000 };
        let answer = taken.ask(ask).await;
        let fault = answer.outcome.expect_err(file);
        assert!(!fault.message.contains("PRIVATE KEY"), "{fault:?}");
    }
}

#[tokio::test]
async fn nothing_is_answered_before_attach() {
    let taken = Taken::start().await;
    let mut stranger = Agent::new(UnixStream::connect(taken.running.socket()).await.unwrap());
    let answer = stranger.ask(Action::Keys {}).await;
    assert_eq!(answer.outcome.unwrap_err().code, FaultCode::Malformed);
    assert!(stranger.answer().await.is_none(), "it costs the connection");
}
