//! One request by one door: its exit code, what it was told, and its lines of the record without what is another's by nature.

use super::super::Named;
use crate::processes::eventually;
use allod_proto::FaultCode;
use serde_json::Value;

/// By which door, and as whom.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// The caller's key, signed.
    Signed,
    /// The caller's key, as sshd told.
    Gate,
    /// The owner's key.
    SignedByOwner,
    /// Root.
    OnTheMachine,
}

/// What came of it.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) exit: i32,
    way: Way,
    /// The reason and what to do about it, as told.
    message: String,
    hint: Option<String>,
    lines: Vec<Value>,
}

impl Asked {
    pub(super) async fn new(named: &Named, way: Way, words: &str) -> Self {
        let mut seq = 0;
        named.lines_after(&mut seq).await;
        let split: Vec<&str> = words.split(' ').collect();
        let (exit, message, hint) = match way {
            Way::Signed => signed(named.run(&split).await),
            Way::SignedByOwner => signed(named.world.allod(&[&["run"], split.as_slice()].concat()).await),
            Way::Gate => unsigned(named.as_sshd_begins_it(words).output().await.unwrap()),
            Way::OnTheMachine => unsigned(named.on_the_machine(&split).output().await.unwrap()),
        };
        let mut found: Vec<Value> = Vec::new();
        let lines = eventually(&format!("{words} by {way:?} is in the record"), async || {
            found.extend(named.lines_after(&mut seq).await.into_iter().filter(is_of_a_run));
            let is = |kind: &str| found.iter().any(|line| line["entry"] == kind);
            (is("denied") || (is("intent") && is("outcome"))).then(|| found.clone())
        })
        .await;
        Self { exit, way, message, hint, lines }
    }

    /// The fault's code, by the record.
    pub(super) fn code(&self) -> Option<FaultCode> {
        let code = self.lines.iter().find_map(|line| line["code"].as_str())?;
        Some(serde_json::from_value(code.into()).unwrap())
    }

    /// The same but for who and where.
    pub(super) fn is_the_same_as(&self, other: &Self, words: &str) {
        assert_eq!(self.exit, other.exit, "{words}: {self:?}\n{other:?}");
        // How a command ended that was run is told in a line of each door's own.
        let was_run =
            |line: &Value| line["reply"]["end"].is_object() && line["reply"]["end"]["fault"].is_null();
        if !self.lines.iter().any(was_run) {
            assert_eq!(without_ids(&self.message), without_ids(&other.message), "{words}");
            assert!(!self.message.is_empty(), "{words}: {self:?}");
        }
        let whom =
            |asked: &Self| asked.hint.clone().map(|hint| hint.split("--caller").next().map(str::to_owned));
        if self.lines.iter().any(|line| line["entry"] == "denied") {
            assert_eq!(whom(self), whom(other), "{words}");
        }
        let (mine, theirs): (Vec<_>, Vec<_>) =
            (self.lines.iter().map(plain).collect(), other.lines.iter().map(plain).collect());
        assert_eq!(mine, theirs, "{words} by {:?} and by {:?}", self.way, other.way);
    }
}

fn signed(output: crate::cli::Output) -> (i32, String, Option<String>) {
    let fault = output.json()["fault"].clone();
    let hint = fault["hint"].as_str().map(str::to_owned);
    (output.code, fault["message"].as_str().unwrap_or_default().to_owned(), hint)
}

fn unsigned(output: std::process::Output) -> (i32, String, Option<String>) {
    let said = String::from_utf8(output.stderr).unwrap();
    let mut lines = said.lines();
    let message = lines.next().unwrap_or_default().trim_start_matches("allod: ").to_owned();
    let hint = lines.map(str::trim).collect::<Vec<_>>().join("\n");
    (output.status.code().unwrap(), message, (!hint.is_empty()).then_some(hint))
}

fn is_of_a_run(line: &Value) -> bool {
    let kind = line["entry"].as_str().unwrap();
    match kind {
        "intent" | "denied" => line["command"] == "command.run",
        // Those of other commands have no end of a run in their replies, or no reply.
        "outcome" => !line["reply"]["end"].is_null() || line["result"] == "failed",
        _ => false,
    }
}

/// A text without the ids of runs.
fn without_ids(text: &str) -> String {
    text.split(' ')
        .map(|word| if word.starts_with("run-") { "RUN" } else { word })
        .collect::<Vec<_>>()
        .join(" ")
}

/// A line without its place in the chain, its times, who asked and the proof of it.
fn plain(line: &Value) -> Value {
    let mut line = line.clone();
    for name in ["prev", "seq", "at", "boot", "request", "who", "took_ms", "intent"] {
        line.as_object_mut().unwrap().remove(name);
    }
    for proof in ["nonce", "signed_at", "signature", "signed", "delegation"] {
        line.as_object_mut().unwrap().remove(proof);
    }
    if let Some(reply) = line.get_mut("reply").and_then(Value::as_object_mut) {
        reply.remove("run");
        if let Some(end) = reply.get_mut("end").and_then(Value::as_object_mut) {
            end.remove("took_ms");
            if let Some(fault) = end.get_mut("fault") {
                let message = without_ids(fault["message"].as_str().unwrap()).into();
                *fault = [fault["code"].clone(), message].into_iter().collect();
            }
        }
    }
    if let Some(message) = line.get("message").and_then(Value::as_str).map(without_ids) {
        line["message"] = message.into();
    }
    line
}
