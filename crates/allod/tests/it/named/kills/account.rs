//! What truly ran, by the account that the commands themselves keep, beside what the record says of it.

use super::{
    Found, Named,
    calls::{Call, Told},
};
use crate::processes::{eventually, is_alive};
use allod_proto::{
    FaultCode,
    messages::{audit::AuditVerify, named::CommandRuns},
    named::RunState,
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// The account so far.
pub(super) struct Account {
    scratch: PathBuf,
    /// How much of the account and of the record was looked at.
    read: usize,
    seq: u64,
}

/// A call's line of the record, and how it ended there.
#[derive(Debug)]
struct Recorded {
    intent: u64,
    token: String,
    outcomes: Vec<Value>,
}

impl Account {
    pub(super) fn new(named: &Named) -> Self {
        let scratch = named.scratch();
        for name in ["account", "lock", "wrong"] {
            let file = scratch.join(name);
            std::fs::write(&file, "").unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o666)).unwrap();
        }
        Self { scratch, read: 0, seq: 0 }
    }

    /// What was done until now is nobody's round.
    pub(super) async fn begin(&mut self, named: &Named) {
        drop(named.lines_after(&mut self.seq).await);
    }

    /// What every process of these commands carries in its environment.
    pub(super) fn marker(&self) -> String {
        let folder = self.scratch.parent().and_then(Path::file_name).unwrap().to_string_lossy().into_owned();
        folder.chars().filter(char::is_ascii_alphanumeric).collect()
    }

    /// A command that says when it began and when it ended, and leaves somebody behind who would never end. One that is
    /// alone holds a lock with all it started.
    pub(super) fn script(&self, is_alone: bool) -> String {
        let folder = self.scratch.display();
        let alone = format!(
            "exec 9>>{folder}/lock\nflock -n 9 || echo \"two at once: $1 $ALLOD_RUN\" >>{folder}/wrong"
        );
        format!(
            "{}\necho \"begin $1 $ALLOD_RUN\" >>{folder}/account\nsync -d {folder}/account\n\
             setsid sleep 1000 >/dev/null 2>&1 &\nsleep 0.$2\n\
             echo \"end $1 $ALLOD_RUN\" >>{folder}/account\nsync -d {folder}/account",
            if is_alone { alone } else { String::new() }
        )
    }

    /// Nothing ran without an intent, each intent has one end, what was told is what is recorded, and nothing is left. A run
    /// ends by a signal only where the process that was to be its program was killed as a shim.
    pub(super) async fn is_whole(
        &mut self,
        named: &Named,
        what: &str,
        shims: usize,
        told: Vec<(&Call, Told)>,
        codes: Vec<(&Call, Option<i32>)>,
    ) -> Found {
        is_idle(named, what).await;
        let recorded = self.recorded(named, what).await;
        let (began, ended) = self.told_by_themselves(what);
        let marker = format!("CAMPAIGN={}", self.marker());
        eventually(&format!("{what}: nothing of a run is left"), async || {
            carriers(&marker).is_empty().then_some(())
        })
        .await;
        let wrong = std::fs::read_to_string(self.scratch.join("wrong")).unwrap();
        assert_eq!(wrong, "", "{what}");
        for (token, times) in &began {
            assert_eq!(*times, 1, "{what}: {token} ran {times} times");
            assert!(recorded.iter().any(|one| one.token == *token), "{what}: {token} ran without an intent");
        }
        let mut found =
            Found { intents: recorded.len(), began: began.len(), ended: ended.len(), ..Found::default() };
        let mut signalled = 0;
        for one in &recorded {
            let [outcome] = one.outcomes.as_slice() else { panic!("{what}: {one:?}") };
            match outcome["result"].as_str().unwrap() {
                "ok" => {
                    found.good += 1;
                    assert!(
                        began.contains_key(&one.token) && ended.contains_key(&one.token),
                        "{what}: {one:?}"
                    );
                }
                "failed" => {
                    found.bad += 1;
                    signalled += usize::from(outcome["message"].to_string().contains("signal"));
                    eprintln!("{what}: {} failed: {}", one.token, outcome["message"]);
                }
                "unknown" => found.unknown += 1,
                other => panic!("{what}: {other}"),
            }
        }
        assert!(signalled <= shims, "{what}: {signalled} runs ended by a signal that nobody sent them");
        let result_of = |token: &str| {
            let one = recorded.iter().rev().find(|one| one.token == token);
            one.map_or(&Value::Null, |one| &one.outcomes[0])
        };
        for (call, told) in &told {
            let outcome = result_of(&call.token);
            match told {
                Told::Ended(end)
                    if end.fault.as_ref().is_none_or(|it| it.code != FaultCode::UnknownOutcome) =>
                {
                    assert_eq!(
                        outcome["reply"]["end"],
                        serde_json::to_value(end).unwrap(),
                        "{what}: {call:?}"
                    );
                }
                Told::Ended(_) | Told::Unknown => {
                    assert_eq!(outcome["result"], "unknown", "{what}: {call:?} {outcome}");
                }
            }
        }
        for (call, _) in codes.iter().filter(|(_, code)| *code == Some(0)) {
            assert_eq!(
                result_of(&call.token)["result"],
                "ok",
                "{what}: {call:?} was told that it ended well"
            );
        }
        found
    }

    /// The calls in them, each with its outcomes.
    async fn recorded(&mut self, named: &Named, what: &str) -> Vec<Recorded> {
        let mut found: Vec<Recorded> = Vec::new();
        for line in named.lines_after(&mut self.seq).await {
            if line["entry"] == "intent" && line["command"] == "command.run" {
                let token = line["params"]["params"]["token"].as_str().unwrap().to_owned();
                found.push(Recorded { intent: line["seq"].as_u64().unwrap(), token, outcomes: Vec::new() });
            } else if line["entry"] == "outcome" {
                let of = found.iter_mut().find(|one| line["intent"] == one.intent);
                of.unwrap_or_else(|| panic!("{what}: an outcome of an earlier round: {line}"))
                    .outcomes
                    .push(line);
            }
        }
        found
    }

    /// How often each call began and came to its end since the last round.
    fn told_by_themselves(&mut self, what: &str) -> (BTreeMap<String, usize>, BTreeMap<String, usize>) {
        let text = std::fs::read_to_string(self.scratch.join("account")).unwrap();
        let (mut began, mut ended) = (BTreeMap::new(), BTreeMap::new());
        for line in text[self.read..].lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words.as_slice() {
                ["begin", token, _] => *began.entry((*token).to_owned()).or_default() += 1,
                ["end", token, _] => *ended.entry((*token).to_owned()).or_default() += 1,
                _ => panic!("{what}: {line}"),
            }
        }
        self.read = text.len();
        (began, ended)
    }

    /// The whole chain holds.
    pub(super) async fn verify(&self, named: &Named) {
        let verified = eventually("the record is verified", async || {
            named.auditor().await?.call(AuditVerify {}).await.ok()
        })
        .await;
        assert_eq!(verified.found, None);
    }
}

/// No run waits or goes on.
async fn is_idle(named: &Named, what: &str) {
    eventually(&format!("{what}: every run has ended"), async || {
        let runs = named.auditor().await?.call(CommandRuns {}).await.ok()?.runs;
        runs.iter().all(|run| matches!(run.state, RunState::Ended(_))).then_some(())
    })
    .await;
}

/// Processes that have this in their environment.
fn carriers(marker: &str) -> Vec<u32> {
    let carries = |pid: &u32| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == marker.as_bytes()) && is_alive(*pid)
    };
    let all = std::fs::read_dir("/proc").unwrap();
    all.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok()).filter(carries).collect()
}
