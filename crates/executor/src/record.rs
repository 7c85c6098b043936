//! Who holds the pen. The executor writes every change before and after it happens, and what the agent saw of reads.

use crate::{Executor, authorize::Authorized, perform::Performed, rate::Reader};
use allod_audit::{Ending, Intent, Outcome, Record, RecordError, Who};
use allod_commands::{Caller, Entry, Permit, Recorder};
use allod_proto::{
    Command, Fault, FaultCode, Request, Timestamp, executor::Observation, messages::app::Accepted,
};
use allod_signing::{RequestFields, RequestHead, sshsig};
use serde_json::Value;
use std::sync::Arc;

/// Replies larger than this are not kept for a retry; a retry then looks for itself.
const REPLY_KEPT: usize = 16 * 1024;
/// The most observations that the agent may bring at once, and the longest text in one, in characters.
const OBSERVATIONS: usize = 512;
const OBSERVED_TEXT: usize = 256;

/// The way of one changing request into the record.
pub struct ChangeRecorder {
    executor: Arc<Executor>,
    signed: Option<Signed>,
}

/// What a caller signed.
struct Signed {
    head: RequestHead,
    method: String,
    path: String,
}

impl ChangeRecorder {
    /// For a request that verified.
    #[must_use]
    pub fn new(executor: Arc<Executor>, authorized: &Authorized, method: &str, path: &str) -> Self {
        let (method, path) = (method.to_owned(), path.to_owned());
        Self { executor, signed: Some(Signed { head: authorized.head.clone(), method, path }) }
    }

    /// For a caller who came by the gate, or is on the machine.
    #[must_use]
    pub(crate) fn unsigned(executor: Arc<Executor>) -> Self {
        Self { executor, signed: None }
    }

    fn signed_bytes(&self, signed: &Signed) -> Option<String> {
        let route = allod_signing::Route::new(&signed.method, &signed.path).ok()?;
        let audience = self.executor.identity();
        let fields = RequestFields {
            audience: &audience,
            epoch: &signed.head.epoch,
            route,
            timestamp: signed.head.timestamp,
            nonce: &signed.head.nonce,
            body: &signed.head.body,
        };
        String::from_utf8(fields.bytes_under(signed.head.delegation.as_ref())).ok()
    }

    fn intent(&self, permit: &Permit, request: &Request) -> Intent {
        let signed = self.signed.as_ref();
        Intent {
            request: request.id.to_string(),
            who: who(permit.caller()),
            command: request.command.name().as_str().to_owned(),
            app: request.command.app().cloned(),
            target: target(permit, &request.command),
            params: self.params(permit, &request.command),
            nonce: signed.map(|signed| signed.head.nonce.clone()),
            signed_at: signed.map(|signed| signed.head.timestamp),
            signature: signed.map(|signed| sshsig::to_base64(&signed.head.signature)),
            signed: signed.and_then(|signed| self.signed_bytes(signed)),
            delegation: signed
                .and_then(|signed| signed.head.delegation.as_ref())
                .map(allod_signing::Delegation::to_header),
        }
    }

    /// Of a named command: what was decided, with secret parameters hashed.
    fn params(&self, permit: &Permit, command: &Command) -> Value {
        let Some(call) = permit.call() else { return command.recorded_params() };
        let params = call.recorded(|value| self.executor.named().hash(value));
        serde_json::json!({ "params": params, "argv0": call.argv().first(), "registry": call.counter() })
    }
}

/// The named command that a change is about.
fn target(permit: &Permit, command: &Command) -> Option<String> {
    match command {
        Command::CommandRun(_) => permit.call().map(|call| call.definition().name.to_string()),
        Command::CommandAdd(params) => Some(params.name.to_string()),
        Command::CommandRemove(params) => Some(params.name.to_string()),
        Command::CommandApprove(params) => Some(params.approval.name.to_string()),
        _ => None,
    }
}

/// What was asked for, as far as it may be written down where nothing was decided.
fn asked(executor: &Executor, command: &Command) -> Option<String> {
    match command {
        Command::CommandRun(params) => {
            let named = executor.named();
            let is_secret = |name: &str| named.is_secret(&params.name, name);
            let shown = |name: &str, value: &str| {
                if is_secret(name) { named.hash(value) } else { value.to_owned() }
            };
            let given = params.params.iter().map(|(name, value)| format!(" {name}={}", shown(name, value)));
            let words = std::iter::once(params.name.clone()).chain(given).collect::<String>();
            Some(allod_commands::line::escape(words.as_bytes()))
        }
        _ => None,
    }
}

impl Recorder for ChangeRecorder {
    type Answer = Performed;
    type Entry = ChangeEntry;

    async fn open(&self, permit: &Permit, request: &Request) -> Result<ChangeEntry, Fault> {
        let intent = self.intent(permit, request);
        let entry = ChangeEntry::open(&self.executor, intent).await?;
        // Only what a caller signed has an id of theirs; the gate makes its own.
        if let (Some(_), Some(key)) = (&self.signed, permit.caller().key()) {
            let run = permit.call().map(|call| call.definition().name.clone());
            self.executor.memory().tie(key, request.id.as_str(), entry.intent, run);
        }
        Ok(entry)
    }

    /// One line, not two syncs that a caller without permission could ask for in a loop.
    async fn denied(&self, caller: &Caller, request: &Request, fault: &Fault) {
        let reader = Reader {
            key: caller.key().cloned(),
            name: caller.name().to_owned(),
            // Each login over ssh has a port of its own, and they are one asker.
            source: caller.source().map(|source| source.split(" port ").next().unwrap_or(source).to_owned()),
        };
        let denied = allod_audit::Read {
            request: request.id.to_string(),
            who: who(caller),
            command: request.command.name().as_str().to_owned(),
            app: request.command.app().cloned(),
            asked: asked(&self.executor, &request.command),
            said: Some(cut(&fault.message)),
            registry: matches!(request.command, Command::CommandRun(_))
                .then(|| self.executor.named().counter()),
            result: Ending::Failed,
            code: Some(fault.code),
            took_ms: 0,
        };
        // What the agent says of a read is an entry of another kind: it can't look like this.
        let entry = allod_audit::Entry::Denied(Box::new(denied));
        if let Err(fault) = self.executor.record_at_a_rate(reader, 1, entry) {
            tracing::error!(%fault, "a denial could not be recorded");
        }
    }
}

/// The open entry of a change.
pub struct ChangeEntry {
    executor: Arc<Executor>,
    intent: u64,
    began: Timestamp,
    closed: bool,
}

impl Entry for ChangeEntry {
    type Answer = Performed;

    async fn close(mut self, outcome: &Result<Performed, Fault>) -> Result<(), Fault> {
        self.closed = true;
        match outcome {
            Ok(Performed::Replied(reply)) => self.write(Ending::Ok, None, Some(reply.clone())).await,
            Ok(Performed::Begun(begun)) => {
                let operation = begun.id.clone();
                self.executor.opened(&begun.app, &operation, self.intent)?;
                let accepted = Accepted { operation, release: begun.release().cloned() };
                self.executor.memory().done(self.intent, serde_json::to_value(accepted).ok());
                Ok(())
            }
            Ok(Performed::Ran(started)) => {
                // A retry finds the run. Its outcome is written when it ends.
                let reply = serde_json::json!({ "run": started.id() });
                self.executor.memory().done(self.intent, Some(reply));
                started.recorded(self.intent);
                Ok(())
            }
            Err(fault) => self.write(Ending::Failed, Some(fault.clone()), None).await,
        }
    }
}

impl ChangeEntry {
    /// Writes the intent; it is durable when this returns.
    pub(crate) async fn open(executor: &Arc<Executor>, intent: Intent) -> Result<Self, Fault> {
        let head = append(executor.record(), allod_audit::Entry::Intent(Box::new(intent))).await?;
        let executor = Arc::clone(executor);
        let began = executor.now();
        Ok(Self { executor, intent: head.seq, began, closed: false })
    }

    async fn write(&self, result: Ending, fault: Option<Fault>, reply: Option<Value>) -> Result<(), Fault> {
        let took_ms = self.executor.took_since(self.began);
        self.executor.write_outcome(self.intent, result, fault, reply, took_ms).await
    }
}

impl Drop for ChangeEntry {
    fn drop(&mut self) {
        if self.closed {
            return;
        }
        let outcome = Outcome {
            intent: self.intent,
            result: Ending::Unknown,
            code: None,
            message: Some("unknown outcome: the program stopped in the middle".to_owned()),
            reply: None,
            took_ms: self.executor.took_since(self.began),
        };
        if let Err(error) =
            self.executor.record().append_later(allod_audit::Entry::Outcome(Box::new(outcome)))
        {
            tracing::error!(%error, "an unknown outcome could not be recorded");
        }
        self.executor.memory().failed(self.intent);
    }
}

impl Executor {
    /// Writes how a change ended, durably, and remembers the reply for a retry.
    pub(crate) async fn write_outcome(
        &self,
        intent: u64,
        result: Ending,
        fault: Option<Fault>,
        reply: Option<Value>,
        took_ms: u64,
    ) -> Result<(), Fault> {
        let kept = reply.filter(|reply| reply.to_string().len() <= REPLY_KEPT);
        let outcome = Outcome {
            intent,
            result,
            code: fault.as_ref().map(|fault| fault.code),
            message: fault.map(|fault| fault.message),
            reply: kept.clone(),
            took_ms,
        };
        let was_done = result == Ending::Ok || kept.is_some();
        // What was done is done, also when its outcome can't be written: a retry must not do it again.
        match result {
            Ending::Ok => self.memory().done(intent, kept),
            Ending::Failed | Ending::Unknown if kept.is_some() => self.memory().done(intent, kept),
            Ending::Failed | Ending::Unknown => self.memory().failed(intent),
        }
        self.append_outcome(outcome).await.map_err(|fault| {
            let done = "it was done, but its outcome could not be recorded".to_owned();
            if was_done { Fault { message: done, ..fault } } else { fault }
        })
    }

    /// On a disk that filled meanwhile, with the room that was set aside: what was begun is accounted for.
    async fn append_outcome(&self, outcome: Outcome) -> Result<(), Fault> {
        let entry = allod_audit::Entry::Outcome(Box::new(outcome));
        match append(self.record(), entry.clone()).await {
            Err(fault) if fault.code == FaultCode::DiskFull => {
                self.room().spend();
                append(self.record(), entry).await.map(|_| ())
            }
            written => written.map(|_| ()),
        }
    }

    /// Takes in what the agent saw. It says so itself, and the record says that it does.
    ///
    /// # Errors
    /// When the queue is full.
    pub(crate) fn observe(&self, seen: &[Observation]) -> Result<(), Fault> {
        if seen.len() > OBSERVATIONS {
            return Err(Fault::new(FaultCode::TooLarge, "too many observations at once"));
        }
        for observation in seen {
            let (reader, count) = reader_of(observation);
            self.record_at_a_rate(reader, count, entry_of(observation))?;
        }
        Ok(())
    }

    /// Writes what costs nobody anything, or counts it: see [`crate::rate`].
    ///
    /// # Errors
    /// When the queue is full.
    pub(crate) fn record_at_a_rate(
        &self,
        reader: Reader,
        count: u64,
        entry: allod_audit::Entry,
    ) -> Result<(), Fault> {
        let scarce = self.room().is_scarce();
        if !scarce {
            self.write_counts(false);
        }
        if self.rate().admit(reader, count, scarce, self.now()) {
            self.record().append_later(entry).map_err(|error| record_fault(&error))?;
        }
        Ok(())
    }

    /// Writes the counts of the minutes that are over, or of all.
    pub(crate) fn write_counts(&self, all: bool) {
        let counts = if all { self.rate().all() } else { self.rate().past(self.now()) };
        for counted in counts {
            if let Err(error) = self.record().append_later(allod_audit::Entry::Counted(counted)) {
                tracing::error!(%error, "a count could not be recorded");
            }
        }
    }
}

fn cut(text: &str) -> String {
    text.chars().take(OBSERVED_TEXT).collect()
}

/// Who made an observation's line, and how much it counts for.
fn reader_of(observation: &Observation) -> (Reader, u64) {
    match observation {
        Observation::Read { key, name, source, .. } => {
            let source = source.as_deref().map(cut);
            (Reader { key: key.clone(), name: cut(name), source }, 1)
        }
        Observation::Refusals { count, .. } => (Reader::agent("refusals of strangers"), *count),
    }
}

fn entry_of(observation: &Observation) -> allod_audit::Entry {
    match observation.clone() {
        Observation::Read {
            request,
            key,
            delegate,
            name,
            role,
            door,
            source,
            command,
            app,
            code,
            took_ms,
        } => {
            let door = if door == "socket" { allod_audit::Door::Socket } else { allod_audit::Door::Rpc };
            allod_audit::Entry::Read(Box::new(allod_audit::Read {
                request: cut(&request),
                who: Who { key, delegate, name: cut(&name), role, door, source: source.as_deref().map(cut) },
                command: cut(&command),
                app,
                asked: None,
                said: None,
                registry: None,
                result: if code.is_none() { Ending::Ok } else { Ending::Failed },
                code,
                took_ms,
            }))
        }
        Observation::Refusals { minute, source, reason, count } => {
            allod_audit::Entry::Refusals(allod_audit::Refusals {
                from_minute: minute,
                source: cut(&source),
                reason: cut(&reason),
                count,
            })
        }
    }
}

/// The caller as the record names them.
#[must_use]
pub fn who(caller: &Caller) -> Who {
    Who {
        key: caller.key().cloned(),
        delegate: caller.delegate().cloned(),
        name: caller.name().to_owned(),
        role: caller.role(),
        door: caller.door(),
        source: caller.source().map(str::to_owned),
    }
}

/// Appends and waits until it is durable, off the runtime's own thread.
pub(crate) async fn append(
    record: &Record,
    entry: allod_audit::Entry,
) -> Result<allod_proto::record::Head, Fault> {
    let record = record.clone();
    let appended = tokio::task::spawn_blocking(move || record.append(&entry)).await;
    match appended {
        Ok(Ok(head)) => Ok(head),
        Ok(Err(error)) => Err(record_fault(&error)),
        Err(error) => Err(Fault::new(FaultCode::Internal, format!("the record's writer stopped: {error}"))),
    }
}

/// A record error as a fault.
#[must_use]
pub fn record_fault(error: &RecordError) -> Fault {
    tracing::error!(%error, cause = ?std::error::Error::source(error).map(ToString::to_string), "the record refused");
    Fault::new(error.code(), format!("the record can't be written, so nothing was done: {error}"))
        .hint("`allod doctor` says what is the matter; often the disk is full")
}
