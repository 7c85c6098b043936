//! Named commands: what root declared, who may run it, and running it. Every door ends here, with the same decision and
//! the same lines in the record.

mod approvals;
mod bounded;
mod changes;
mod drive;
mod past;
mod program;
mod ready;
mod remains;
mod runs;
mod store;
mod trusted;
mod turns;
mod user;

#[cfg(test)]
pub(crate) use approvals::ApprovalsRecord;
pub(crate) use changes::{approve, cancel, change, panic};
pub(crate) use past::{Past, again};
pub(crate) use runs::Run;
#[cfg(test)]
pub(crate) use store::{HistoryRecord, RegistryRecord};

use crate::{
    Executor,
    isolation::Isolation,
    layout::Layout,
    perform::{Performed, blocking},
    record::ChangeRecorder,
};
use allod_commands::{Caller, Permit, Rules, dispatch, no_run};
use allod_proto::{
    Command, CommandId, Digest, Fault, FaultCode, Fingerprint, Request, RunId,
    messages::named::{CommandHistoryReply, CommandRun, CommandRunReply, Runnable},
    named::{Definition, RegistryState, RunEvent, RunSummary, STDIN},
};
use approvals::Approvals;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use ready::Ready;
use runs::{Owner, Runs};
use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use store::{Author, Store};
use tokio::sync::oneshot;
use turns::Turns;

/// How often the files of the registry are looked at.
const LOOK: Duration = Duration::from_millis(500);
/// How long a reply waits for a run to end.
const SHORT: Duration = Duration::from_secs(2);
/// How many bytes of events one reply carries.
const REPLY: usize = 256 * 1024;

/// All that the executor knows of named commands.
#[derive(Debug)]
pub(crate) struct Named {
    store: Mutex<Store>,
    approvals: Mutex<Approvals>,
    turns: Arc<Turns>,
    runs: Runs,
    ready: Ready,
    /// What secret parameters are hashed with for the record.
    pepper: [u8; 32],
}

/// A run that waits for its intent. If that never comes, it never begins.
#[derive(Debug)]
pub struct Started {
    run: Arc<Run>,
    intent: Mutex<Option<oneshot::Sender<u64>>>,
}

impl Started {
    /// The intent is in the record: it may begin.
    pub(crate) fn recorded(&self, intent: u64) {
        if let Some(tell) = self.intent.lock().unwrap_or_else(PoisonError::into_inner).take() {
            // If the task has ended, so has the run.
            let _ = tell.send(intent);
        }
    }

    /// The run.
    pub(crate) fn run(&self) -> Arc<Run> {
        Arc::clone(&self.run)
    }

    /// The run's id.
    pub(crate) fn id(&self) -> RunId {
        self.run.id()
    }
}

impl Named {
    /// Takes back what ran before, and ends what is left of it.
    pub(crate) fn restore(&self, past: Past, isolation: &Isolation, layout: &Layout) -> Result<(), Fault> {
        let past = past.ended();
        remains::clear_all(isolation, layout, &past)?;
        self.runs.restore(past);
        Ok(())
    }

    pub(crate) fn open(layout: &Layout) -> Result<Self, String> {
        Ok(Self {
            store: Mutex::new(Store::open(layout.clone())?),
            approvals: Mutex::new(Approvals::open(layout.clone())?),
            turns: Arc::default(),
            runs: Runs::default(),
            ready: Ready::default(),
            pepper: crate::executor::random()?,
        })
    }

    /// Ends the shims that wait for a run.
    pub(crate) async fn close(&self) {
        self.ready.close().await;
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What decides calls now.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.store().rules()
    }

    /// The counter of the registry that stands.
    pub(crate) fn counter(&self) -> u64 {
        self.rules().registry.counter()
    }

    /// Every definition, and where they came from.
    pub(crate) fn registry(&self) -> (RegistryState, Vec<Definition>) {
        let store = self.store();
        let definitions = store.rules().registry.definitions().cloned().collect();
        (store.state(), definitions)
    }

    /// How a definition came to be what it is.
    ///
    /// # Errors
    /// `NotFound` for a name that never was one.
    pub(crate) fn history(&self, name: &allod_proto::NamedCommandName) -> Result<CommandHistoryReply, Fault> {
        self.store().history(name)
    }

    /// All runs, newest first.
    pub(crate) fn summaries(&self) -> Vec<RunSummary> {
        self.runs.all().iter().map(|run| run.summary()).collect()
    }

    /// The run of this id.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn run(&self, id: &RunId) -> Result<Arc<Run>, Fault> {
        self.runs.get(id).ok_or_else(|| no_run(id))
    }

    /// The run of this id, if it is this caller's to see. Another's looks like one that never was.
    ///
    /// # Errors
    /// `NotFound`.
    pub(crate) fn run_for(&self, caller: &Caller, id: &RunId) -> Result<Arc<Run>, Fault> {
        let run = self.run(id)?;
        if caller.sees_run(&run.summary()) { Ok(run) } else { Err(no_run(id)) }
    }

    /// Whether a parameter is one that the record has no value of, also where nothing came of the call.
    pub(crate) fn is_secret(&self, command: &str, param: &str) -> bool {
        let names = (allod_proto::NamedCommandName::new(command), allod_proto::ParamName::new(param));
        let (Ok(command), Ok(param)) = names else { return false };
        let rules = self.rules();
        let definition = rules.registry.get(&command);
        definition.and_then(|definition| definition.params.get(&param)).is_some_and(|param| param.secret)
    }

    /// What a secret parameter is in the record: the same for the same value, and nothing more.
    pub(crate) fn hash(&self, value: &str) -> String {
        let digest = Digest::of([self.pepper.as_slice(), value.as_bytes()].concat());
        let short: String = digest.to_string().chars().take(16).collect();
        format!("hash:{short}")
    }
}

/// Takes in what root changed, for ever. What changed, and what is wrong, goes to the record.
pub(crate) async fn watch(executor: &Arc<Executor>) {
    loop {
        refresh(executor).await;
        tokio::time::sleep(LOOK).await;
    }
}

/// Looks at the files once.
pub(crate) async fn refresh(executor: &Arc<Executor>) {
    let looking = Arc::clone(executor);
    let taken = blocking(move || Ok(looking.named().store().refresh(looking.now()))).await;
    note(executor, taken.unwrap_or_default().notes);
}

fn note(executor: &Executor, notes: Vec<String>) {
    for note in notes {
        tracing::info!(note, "the registry of commands");
        let entry = allod_audit::Entry::note("registry", note);
        if let Err(error) = executor.record().append_later(entry) {
            tracing::error!(%error, "a change of the registry could not be recorded");
        }
    }
}

/// The last step before a run: counted, approved, in line. It begins when its intent is in the record.
///
/// # Errors
/// `TooMany`, `Confirmation`, `Busy`, or `Invalid` for standard input that it does not take.
pub(crate) async fn begin(
    executor: &Arc<Executor>,
    permit: &Permit,
    id: &CommandId,
    ask: CommandRun,
) -> Result<Performed, Fault> {
    let missing = || Fault::new(FaultCode::Internal, "a command without a decision");
    let call = permit.call().cloned().ok_or_else(missing)?;
    let caller = permit.caller();
    let definition = call.definition();
    check_stdin(definition, ask.stdin.as_deref())?;
    let named = executor.named();
    let now = executor.now();
    let waiting = named.turns.stand(definition)?;
    {
        let spending = Arc::clone(executor);
        let (call, name, key) = (call.clone(), caller.name().to_owned(), caller.key().cloned());
        blocking(move || {
            let mut approvals = spending.named().approvals.lock().unwrap_or_else(PoisonError::into_inner);
            approvals.spend(&call, (&name, key.as_ref()), now)
        })
        .await?;
    }
    let owner = Owner { name: caller.name().to_owned(), key: caller.key().cloned() };
    let run = run_id_of(executor.record_public_key().fingerprint(), &owner, id.as_str());
    let run = named.runs.add(run, &definition.name, &owner, now, definition.survives_client);
    if !ask.detach {
        run.looked_at();
    }
    let (intent, recorded) = oneshot::channel();
    let plan = drive::Plan { call, caller: owner.name, stdin: ask.stdin, waiting, intent: recorded };
    tokio::spawn(drive::drive(Arc::clone(executor), Arc::clone(&run), plan));
    Ok(Performed::Ran(Box::new(Started { run, intent: Mutex::new(Some(intent)) })))
}

/// The same request by the same caller is the same run, so that a retry finds it. Of two servers, which may be on one
/// machine, no run has another's id; a server is its record key here, which it keeps.
fn run_id_of(server: &Fingerprint, owner: &Owner, id: &str) -> RunId {
    let key = owner.key.as_ref().map_or(owner.name.as_str(), Fingerprint::as_str);
    RunId::of(&Digest::of(format!("allod-run-v1\n{server}\n{key}\n{id}\n")))
}

fn check_stdin(definition: &Definition, stdin: Option<&str>) -> Result<(), Fault> {
    let Some(encoded) = stdin else { return Ok(()) };
    let invalid = |why: String| Fault::new(FaultCode::Invalid, why);
    let bytes = STANDARD.decode(encoded).map_err(|_| invalid("standard input is not base64".to_owned()))?;
    let most = definition.stdin_limit.min(STDIN);
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(match most {
            0 => invalid(format!("{} takes no standard input", definition.name)),
            most => invalid(format!("{} takes at most {most} bytes of standard input", definition.name)),
        });
    }
    Ok(())
}

/// Counts a call before anything is written for it: who asks too often costs no sync.
///
/// # Errors
/// `TooMany`.
pub(crate) fn admit(executor: &Executor, caller: &Caller, ask: &CommandRun) -> Result<(), Fault> {
    let rules = executor.named().rules();
    let Ok(call) = rules.registry.decide(caller, ask, &rules.choices) else { return Ok(()) };
    let who = caller.key().map_or(caller.name(), Fingerprint::as_str);
    executor.named().turns.count(who, call.definition(), executor.now())
}

/// The reply to whoever asked: complete, if the run is short.
pub(crate) async fn reply(run: &Run, detach: bool) -> CommandRunReply {
    if !detach {
        let _ = tokio::time::timeout(SHORT, run.ended()).await;
    }
    // The summary first: what it says ended has its end among the events, or behind them.
    CommandRunReply { run: run.summary(), events: run.events(0, REPLY) }
}

/// A run that somebody follows. Whoever asked for it and lets go is gone.
#[derive(Debug)]
pub(crate) struct Following {
    run: Arc<Run>,
    seen: usize,
    has_asked: bool,
}

impl Following {
    /// What happens next; `None` after its end.
    pub(crate) async fn next(&mut self) -> Option<RunEvent> {
        let after = self.seen;
        let ended = self.run.has_ended();
        if let Some(event) = self.run.events(after, 0).pop() {
            self.seen += 1;
            return Some(event);
        }
        if ended {
            return None;
        }
        self.run.more_than(after).await;
        self.seen += 1;
        self.run.events(after, 0).pop()
    }

    /// A look at a run that somebody asked for before.
    pub(crate) fn look(run: Arc<Run>) -> Self {
        Self { run, seen: 0, has_asked: false }
    }

    /// How it stands.
    pub(crate) fn summary(&self) -> RunSummary {
        self.run.summary()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        if self.has_asked {
            self.run.left();
        }
    }
}

/// What standard input a command takes from this caller: the decision without its consequences.
pub(crate) fn stdin_limit(executor: &Executor, caller: &Caller, ask: &CommandRun) -> u64 {
    let rules = executor.named().rules();
    let call = rules.registry.decide(caller, ask, &rules.choices);
    call.map_or(0, |call| call.definition().stdin_limit.min(STDIN))
}

/// What this caller may run, by the rule that decides.
pub(crate) fn runnable(executor: &Executor, caller: &Caller) -> Vec<Runnable> {
    executor.named().rules().registry.runnable(caller)
}

/// Runs a command for somebody who came by the gate or is on the machine: decided, recorded, followed.
///
/// # Errors
/// Whatever of it refuses; that is in the record then.
pub(crate) async fn run(
    executor: &Arc<Executor>,
    caller: Caller,
    id: CommandId,
    ask: CommandRun,
) -> Result<Following, Fault> {
    let waits = !ask.detach;
    let request = Request { v: allod_proto::VERSION, id, command: Command::CommandRun(ask) };
    let recorder = ChangeRecorder::unsigned(Arc::clone(executor));
    match allowed(executor, &recorder, caller, request).await? {
        Performed::Ran(started) => {
            let run = started.run();
            if waits {
                run.is_held();
            }
            Ok(Following { run, seen: 0, has_asked: waits })
        }
        Performed::Replied(_) | Performed::Begun(_) => {
            Err(Fault::new(FaultCode::Internal, "a command answered something else"))
        }
    }
}

/// Looks for room to write, counts, decides, records and begins: what every door has in common.
///
/// # Errors
/// Whatever of it refuses.
pub(crate) async fn allowed(
    executor: &Arc<Executor>,
    recorder: &ChangeRecorder,
    caller: Caller,
    request: Request,
) -> Result<Performed, Fault> {
    use allod_commands::Recorder as _;
    if let Err(fault) = executor.make_room_for(&request.command) {
        let fault = fault.request(request.id.as_str());
        recorder.denied(&caller, &request, &fault).await;
        return Err(fault);
    }
    if let Command::CommandRun(ask) = &request.command
        && let Err(fault) = admit(executor, &caller, ask)
    {
        recorder.denied(&caller, &request, &fault).await;
        return Err(fault);
    }
    let rules = executor.named().rules();
    let acting = Arc::clone(executor);
    let run = |permit, request| async move { crate::perform::act(&acting, permit, request).await };
    dispatch(recorder, Some(&rules), caller, request, run).await
}

#[cfg(test)]
mod tests;
