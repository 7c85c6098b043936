//! `allod up --demo`: what Allod promises, shown on real programs with the commands a person would type. Each step says
//! what it proves and fails the whole when it does not.

mod load;
mod raw;
mod steps;

use super::{local_server::Client, network::Reach, places::Places, supervisor::Pids};
use crate::{failure::Failure, render::text::safe, session::Session};
use allod_proto::{FaultCode, Fingerprint};
use serde_json::{Map, Value, json};
use std::{path::PathBuf, time::Instant};

/// What the demonstration plays on.
pub(super) struct Stage<'a> {
    pub(super) session: &'a Session,
    pub(super) client: &'a Client,
    pub(super) places: &'a Places,
    /// The port for visitors.
    pub(super) http: u16,
    pub(super) reach: &'a Reach,
    /// How many programs there are to run.
    pub(super) programs: usize,
    pub(super) identity: &'a Fingerprint,
    pub(super) pids: Pids,
}

/// What a step found out.
struct Found {
    /// In words.
    words: String,
    /// For programs.
    fields: Map<String, Value>,
}

impl Found {
    fn new(words: impl Into<String>) -> Self {
        Self { words: words.into(), fields: Map::new() }
    }

    fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.fields.insert(name.to_owned(), value.into());
        self
    }
}

/// Why a step did not prove what it is to prove.
fn broken(message: impl Into<String>) -> Failure {
    Failure::new(FaultCode::Internal, message)
}

impl Stage<'_> {
    /// Where the example app is written.
    fn app(&self) -> PathBuf {
        self.places.state().join("demo/hello")
    }

    /// Plays one step and tells what came of it.
    async fn step(
        &self,
        proves: &str,
        command: &str,
        play: impl Future<Output = Result<Found, Failure>>,
    ) -> Result<(), Failure> {
        let begun = Instant::now();
        let played = play.await;
        let seconds = begun.elapsed().as_secs_f64();
        let (words, mut value) = match &played {
            Ok(found) => (found.words.clone(), Value::Object(found.fields.clone())),
            Err(failure) => (failure.fault.message.clone(), json!({ "fault": failure.fault })),
        };
        if let Value::Object(fields) = &mut value {
            fields.insert("step".to_owned(), proves.into());
            fields.insert("ok".to_owned(), played.is_ok().into());
            fields.insert("seconds".to_owned(), ((seconds * 1000.0).round() / 1000.0).into());
            fields.insert("command".to_owned(), command.into());
        }
        self.session.output.item(&value, |style| {
            let mark = if played.is_ok() { style.good("✓") } else { style.bad("✗") };
            let (proves, words) = (safe(proves), safe(&words));
            let command = if command.is_empty() {
                String::new()
            } else {
                format!("  {}\n", style.dim(&format!("$ {}", safe(command))))
            };
            format!("{mark} {proves} ({seconds:.1} s)\n{command}  {words}\n")
        })?;
        played.map(drop)
    }
}

/// Plays it.
///
/// # Errors
/// [`Failure`] of the first step that does not prove what it is to prove.
pub(super) async fn run(stage: &Stage<'_>) -> Result<(), Failure> {
    let add =
        format!("allod servers add local --address {} --identity {}", stage.reach.management, stage.identity);
    stage.step("separate programs run, on a mesh of their own", "allod up", steps::programs(stage)).await?;
    stage
        .step("the server is known by its identity, read past the network", &add, steps::pinned(stage))
        .await?;
    stage.step("an unsigned call is refused", "", steps::unsigned(stage)).await?;
    stage.step("a signed call works once, and its copy is refused", "", steps::replayed(stage)).await?;
    stage.step("an app is deployed", "allod deploy", steps::first_deploy(stage)).await?;
    stage
        .step("a new version replaces it without a failed request", "allod deploy", steps::redeploy(stage))
        .await?;
    stage
        .step("a version that is not healthy stays out", "allod deploy", steps::broken_deploy(stage))
        .await?;
    stage
        .step("one command brings the version before back", "allod rollback", steps::rollback(stage))
        .await?;
    stage.step("two instances share the work", "allod scale web=2", steps::scale(stage)).await?;
    stage
        .step("visitors notice nothing when the agent is killed", "kill -9 <agent>", steps::kill_agent(stage))
        .await?;
    stage
        .step(
            "everything stands in a record that nobody has changed",
            "allod audit verify",
            steps::verify(stage),
        )
        .await
}
