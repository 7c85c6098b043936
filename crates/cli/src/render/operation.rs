//! Watching an operation on a server to its end, live on a terminal and as plain lines elsewhere. Ctrl-C leaves the
//! operation alone: it belongs to the server.

use super::steps::{began_line, line, step_name, still_running};
use crate::{failure::Failure, output::Output, session::Session};
use allod_proto::{
    Fault, FaultCode, OperationId, ReleaseId,
    command::StreamItem,
    messages::ops::OpsAttach,
    operation::{Happening, OperationEvent, OperationState, Step},
};
use allod_rpc::client::{Client, ClientError, Stream};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};
use std::time::Duration;

/// How often a stream that was cut is taken up again without anything new coming from it.
const REATTACH: u32 = 15;

/// How an operation ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// Which.
    pub operation: OperationId,
    /// How.
    pub state: OperationState,
    /// The release that serves now.
    pub serving: Option<ReleaseId>,
    /// Why it did not end well.
    pub fault: Option<Fault>,
}

impl Ended {
    /// The release that serves, or the fault; it has been said on stderr already.
    ///
    /// # Errors
    /// [`Failure`] when the operation failed or was cancelled.
    pub fn into_result(self) -> Result<Option<ReleaseId>, Failure> {
        let fault = match self.state {
            OperationState::Done => return Ok(self.serving),
            OperationState::Running => Fault::new(FaultCode::Internal, "the operation did not end"),
            OperationState::Failed => {
                self.fault.unwrap_or_else(|| Fault::new(FaultCode::Internal, "the operation failed"))
            }
            OperationState::Cancelled => {
                self.fault.unwrap_or_else(|| Fault::new(FaultCode::Cancelled, "the operation was cancelled"))
            }
        };
        Err(Failure::from(fault)
            .with("operation", self.operation.as_str())
            .with("serving", self.serving.map(String::from))
            .already_said())
    }
}

/// Follows an operation to its end, with its steps on stderr.
///
/// # Errors
/// [`Failure`] with exit code 130 after Ctrl-C, and when the server can't be heard any more.
pub async fn follow(
    session: &Session,
    client: &mut Client,
    operation: &OperationId,
) -> Result<Ended, Failure> {
    let mut view = View::new(session);
    follow_with(session, client, operation, |event| {
        view.show(&event.what);
        Ok(())
    })
    .await
}

/// Follows an operation to its end and hands each event to `show`, each once and in order.
///
/// # Errors
/// As [`follow`], and what `show` fails with.
pub async fn follow_with(
    session: &Session,
    client: &mut Client,
    operation: &OperationId,
    mut show: impl FnMut(&OperationEvent) -> Result<(), Failure>,
) -> Result<Ended, Failure> {
    let mut after = None;
    let mut cuts = 0;
    loop {
        let attach = OpsAttach { operation: operation.clone(), after };
        let server = client.peer().name.clone();
        let attached = tokio::select! {
            attached = client.stream(attach) => attached.map_err(Stopped::Client),
            () = session.interrupted() => Err(left_alone(session, operation, &server)),
        };
        let seen = after;
        let outcome = match attached {
            Ok(mut stream) => watch(session, client, &mut stream, operation, &mut after, &mut show).await,
            Err(stopped) => Err(stopped),
        };
        match outcome {
            Ok(ended) => return Ok(ended),
            Err(Stopped::Client(error)) if may_reattach(&error) && cuts < REATTACH => {
                cuts = if after == seen { cuts + 1 } else { 1 };
                session.output.note(&format!("{error}; taking it up again"));
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Err(Stopped::Client(error)) => {
                session.output.note(&still_running(operation, &client.peer().name));
                return Err(error.into());
            }
            Err(Stopped::Failure(failure)) => return Err(*failure),
        }
    }
}

enum Stopped {
    Client(ClientError),
    Failure(Box<Failure>),
}

/// An agent that restarts goes on with its operations.
fn may_reattach(error: &ClientError) -> bool {
    matches!(error, ClientError::CutOff { .. } | ClientError::Lost { .. } | ClientError::Unreachable { .. })
}

/// Ctrl-C: the operation is the server's and goes on.
fn left_alone(session: &Session, operation: &OperationId, server: &str) -> Stopped {
    let text = still_running(operation, server);
    session.output.say("\n");
    session.output.note(&text);
    let failure = Failure::interrupted(text).with("operation", operation.as_str()).already_said();
    Stopped::Failure(Box::new(failure))
}

async fn watch(
    session: &Session,
    client: &Client,
    stream: &mut Stream,
    operation: &OperationId,
    after: &mut Option<u64>,
    show: &mut impl FnMut(&OperationEvent) -> Result<(), Failure>,
) -> Result<Ended, Stopped> {
    let server = client.peer().name.clone();
    loop {
        let item = tokio::select! {
            item = stream.next() => item.map_err(Stopped::Client)?,
            () = session.interrupted() => return Err(left_alone(session, operation, &server)),
        };
        match item {
            Some(StreamItem::Operation(event)) => {
                if after.is_some_and(|after| event.seq <= after) {
                    continue;
                }
                *after = Some(event.seq);
                show(&event).map_err(|failure| Stopped::Failure(Box::new(failure)))?;
                if let Happening::Finished { state, fault, serving } = event.what {
                    return Ok(Ended { operation: operation.clone(), state, serving, fault });
                }
            }
            Some(
                StreamItem::Log(_)
                | StreamItem::Run(_)
                | StreamItem::Record(_)
                | StreamItem::Idle {}
                | StreamItem::Fault(_)
                | StreamItem::End {},
            ) => {}
            None => {
                let why = "it ended before the operation did".to_owned();
                return Err(Stopped::Client(ClientError::CutOff { what: server, why }));
            }
        }
    }
}

/// The steps of an operation on stderr.
pub struct View<'a> {
    output: &'a Output,
    live: Option<MultiProgress>,
    running: Vec<(Step, ProgressBar)>,
}

impl<'a> View<'a> {
    /// Live on a terminal, plain lines elsewhere.
    #[must_use]
    pub fn new(session: &'a Session) -> Self {
        let live = session.output.is_live().then(MultiProgress::new);
        Self { output: &session.output, live, running: Vec::new() }
    }

    /// Shows something that happened.
    pub fn show(&mut self, what: &Happening) {
        let style = self.output.error_style();
        match what {
            Happening::Began { step, detail } => match &self.live {
                Some(live) => {
                    let bar = live.add(spinner(*step, detail.as_deref()));
                    self.running.push((*step, bar));
                }
                None => self.say(&began_line(*step, detail.as_deref(), style)),
            },
            Happening::Ended { step, .. } => {
                if let Some(at) = self.running.iter().position(|(running, _)| running == step) {
                    self.running.remove(at).1.finish_and_clear();
                }
                self.lines(what);
            }
            Happening::Failure(_) | Happening::Finished { .. } => {
                for (_, bar) in self.running.drain(..) {
                    bar.finish_and_clear();
                }
                self.lines(what);
            }
            Happening::Note { .. } => self.lines(what),
        }
    }

    fn lines(&self, what: &Happening) {
        if let Some(text) = line(what, self.output.error_style()) {
            self.say(&text);
        }
    }

    fn say(&self, text: &str) {
        match &self.live {
            Some(live) => live.suspend(|| self.output.say(&format!("{text}\n"))),
            None => self.output.say(&format!("{text}\n")),
        }
    }
}

impl Drop for View<'_> {
    fn drop(&mut self) {
        for (_, bar) in self.running.drain(..) {
            bar.finish_and_clear();
        }
    }
}

fn spinner(step: Step, detail: Option<&str>) -> ProgressBar {
    let bar = ProgressBar::new_spinner();
    if let Ok(style) = ProgressStyle::with_template("{spinner} {prefix:<16}{elapsed:>8}  {msg:.dim}") {
        bar.set_style(style);
    }
    bar.set_prefix(step_name(step));
    bar.set_message(detail.map(super::safe).unwrap_or_default());
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
