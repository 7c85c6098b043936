//! One run, from its turn to its outcome in the record: the program is sealed, a shim of its own starts it, its output
//! is kept up to its limit, and its whole tree ends with it.

use super::{
    bounded,
    past::{UNKNOWN, unknown_outcome},
    program::{self, Program},
    ready::{self, Prepared},
    remains,
    runs::Run,
    turns::{Turn, Waiting},
    user,
};
use crate::{
    Executor, failure, groups,
    isolation::Isolation,
    perform::blocking,
    shim::{
        order::{Answer, CommandTask, LARGEST_ANSWER_LINE, Order, Task, tell},
        pass,
    },
};
use allod_audit::Ending;
use allod_commands::NamedCall;
use allod_proto::{
    Digest, Fault, FaultCode,
    named::{Definition, RunEnd, RunEvent},
};
use std::{collections::BTreeMap, io, path::PathBuf, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, BufReader},
    process::{Child, ChildStdout},
    sync::oneshot,
    time::timeout,
};

/// How much longer than its command's time a shim may take to say how it ended.
const SLACK: Duration = Duration::from_secs(20);
/// How long until an outcome that could not be written is written again.
const AGAIN: Duration = Duration::from_secs(5);
/// The shortest time that somebody waits for their turn.
const PATIENCE: Duration = Duration::from_secs(60);
/// Where programs that a command starts by name are looked for.
const SEARCH_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// The bound on a command's open files.
const OPEN_FILES: u64 = 4096;

/// What a run is made of.
pub(super) struct Plan {
    pub(super) call: NamedCall,
    pub(super) caller: String,
    /// Standard base64.
    pub(super) stdin: Option<String>,
    pub(super) waiting: Waiting,
    /// The sequence number of the intent, once it is in the record.
    pub(super) intent: oneshot::Receiver<u64>,
}

/// What came of it.
struct Ended {
    how: String,
    output: u64,
    truncated: bool,
    program: Option<Digest>,
    fault: Option<Fault>,
}

impl Ended {
    fn never(how: &str, fault: Fault) -> Self {
        Self { how: how.to_owned(), output: 0, truncated: false, program: None, fault: Some(fault) }
    }
}

/// Carries a run out. Nothing of it starts before its intent is durable, and nobody hears of its end before that is.
pub(super) async fn drive(executor: Arc<Executor>, run: Arc<Run>, plan: Plan) {
    let Plan { call, caller, stdin, waiting, intent } = plan;
    // Without an intent nothing was allowed: the entry was closed as a failure.
    let Ok(intent) = intent.await else {
        let fault = Fault::new(FaultCode::RecordUnavailable, "it could not be recorded, so it was not run");
        run.end(end_of(Ended::never("not started", fault), 0, &call));
        return;
    };
    let began = executor.now();
    let ended = carry_out(&executor, &run, &call, &caller, stdin, waiting).await;
    let mut end = end_of(ended, executor.took_since(began), &call);
    let result = match end.code {
        Some(0) => Ending::Ok,
        None if end.how == UNKNOWN => Ending::Unknown,
        Some(_) | None => Ending::Failed,
    };
    let fault = match (&end.fault, end.code) {
        (Some(fault), _) => Some(fault.clone()),
        (None, Some(0)) => None,
        (None, _) => Some(Fault::new(FaultCode::Invalid, end.how.clone())),
    };
    let reply = Some(serde_json::json!({ "run": run.id(), "end": &end }));
    let outcome = Recorded { intent, result, fault, reply, took_ms: end.took_ms };
    if let Err(fault) = outcome.write(&executor).await {
        tracing::error!(run = %run.id(), %fault, "the outcome of a command could not be recorded; trying again");
        end.fault.get_or_insert(fault);
        tokio::spawn(outcome.write_later(Arc::clone(&executor)));
    }
    run.end(end);
    ready::refill(&executor);
}

/// What is written down of an end.
struct Recorded {
    intent: u64,
    result: Ending,
    fault: Option<Fault>,
    reply: Option<serde_json::Value>,
    took_ms: u64,
}

impl Recorded {
    async fn write(&self, executor: &Executor) -> Result<(), Fault> {
        let (fault, reply) = (self.fault.clone(), self.reply.clone());
        executor.write_outcome(self.intent, self.result, fault, reply, self.took_ms).await
    }

    /// Until there is room, or this life ends: then the next one finds that nobody knows.
    async fn write_later(self, executor: Arc<Executor>) {
        loop {
            tokio::time::sleep(AGAIN).await;
            if self.write(&executor).await.is_ok() {
                return;
            }
        }
    }
}

fn end_of(ended: Ended, took_ms: u64, call: &NamedCall) -> RunEnd {
    RunEnd {
        code: ended.how.strip_prefix("exit status ").and_then(|code| code.parse().ok()),
        how: ended.how,
        took_ms,
        output_bytes: ended.output,
        truncated: ended.truncated,
        program: ended.program,
        registry: call.counter(),
        fault: ended.fault,
    }
}

async fn carry_out(
    executor: &Arc<Executor>,
    run: &Run,
    call: &NamedCall,
    caller: &str,
    stdin: Option<String>,
    waiting: Waiting,
) -> Ended {
    let definition = call.definition();
    let _turn = match turn(run, definition, waiting).await {
        Ok(turn) => turn,
        Err(ended) => return ended,
    };
    let program = {
        let definition = definition.clone();
        blocking(move || program::take(&definition))
    };
    let program = match program.await {
        Ok(program) => program,
        Err(fault) => return Ended::never("not started", fault),
    };
    let digest = program.digest;
    let order = match order(executor, run, call, caller, stdin, program.script.is_some()) {
        Ok(order) => order,
        Err(fault) => return Ended { program: Some(digest), ..Ended::never("not started", fault) },
    };
    let uid = match &order.task {
        Task::Command(task) => task.uid,
        Task::Keep { .. } | Task::Once { .. } => None,
    };
    let mut prepared = match ready::take(executor).await {
        Ok(prepared) => prepared,
        Err(fault) => return Ended { program: Some(digest), ..Ended::never("not started", fault) },
    };
    if let Err(fault) = start(order, definition, &program, &mut prepared).await {
        ready::end(prepared).await;
        return Ended { program: Some(digest), ..Ended::never("not started", fault) };
    }
    let Prepared { shim: mut child, programs, group } = prepared;
    // The copies are the shim's now.
    drop((program, programs));
    run.begin();
    let time = Duration::from_millis(definition.timeout_ms).saturating_add(SLACK);
    let followed = follow(run, &mut child, time).await;
    // Without its lifeline a shim ends its tree, whatever went wrong, and itself.
    drop(child.stdin.take());
    let mut ended = match followed {
        Ok(ended) => {
            // What it said was the last that it had to do.
            tokio::spawn(collect(child));
            ended
        }
        Err(fault) => {
            collect(child).await;
            let output = run.summary().output_bytes;
            Ended { output, ..Ended::never(UNKNOWN, unknown_outcome(&run.id(), &fault.message)) }
        }
    };
    ended.program = Some(digest);
    let over = bounded::end(group).await;
    if ended.how == UNKNOWN {
        remains::clear(executor, &run.id(), definition, uid).await;
    }
    match over {
        Some(bound) => over_memory(ended, &groups::over_memory(bound)),
        None => ended,
    }
}

/// Something in its group was killed for its memory: that is how it ended, or why it failed, or it got over it.
fn over_memory(mut ended: Ended, why: &str) -> Ended {
    if ended.how == "signal 9" {
        why.clone_into(&mut ended.how);
    } else if ended.how.starts_with("exit status ") && ended.how != "exit status 0" {
        let message = format!("{}; something that it started was {why}", ended.how);
        ended.fault.get_or_insert(Fault::new(FaultCode::Invalid, message));
    }
    ended
}

/// Waits for a shim's own end, and not for ever.
async fn collect(mut shim: Child) {
    if timeout(SLACK, shim.wait()).await.is_err() {
        let _ = shim.start_kill();
    }
}

/// Waits for one's turn, and not for ever.
async fn turn(run: &Run, definition: &Definition, mut waiting: Waiting) -> Result<Turn, Ended> {
    let patience = Duration::from_millis(definition.timeout_ms).max(PATIENCE);
    tokio::select! {
        turn = timeout(patience, waiting.turn()) => match turn {
            Ok(Ok(turn)) => Ok(turn),
            Ok(Err(fault)) => Err(Ended::never("not started", fault)),
            Err(_) => {
                let message = format!("its turn did not come within {} s", patience.as_secs());
                Err(Ended::never("not started", Fault::new(FaultCode::Busy, message).hint("try again later")))
            }
        },
        () = run.asked_to_end() => {
            Err(Ended::never("cancelled", Fault::new(FaultCode::Cancelled, "it was cancelled while it waited")))
        }
    }
}

fn order(
    executor: &Executor,
    run: &Run,
    call: &NamedCall,
    caller: &str,
    stdin: Option<String>,
    is_script: bool,
) -> Result<Order, Fault> {
    let definition = call.definition();
    let user = user::of(executor, definition)?;
    let mut env: BTreeMap<String, String> = definition.env.clone();
    env.entry("PATH".to_owned()).or_insert_with(|| SEARCH_PATH.to_owned());
    env.entry("LANG".to_owned()).or_insert_with(|| "C.UTF-8".to_owned());
    env.insert("ALLOD_CALLER".to_owned(), caller.to_owned());
    env.insert("ALLOD_RUN".to_owned(), run.id().to_string());
    let own = matches!(executor.isolation(), Isolation::OwnUids { .. }) && definition.run_as.is_none();
    Ok(Order {
        argv: call.argv().to_vec(),
        env,
        cwd: PathBuf::from(&definition.directory),
        tmp: PathBuf::new(),
        secrets: BTreeMap::new(),
        secret_env: BTreeMap::new(),
        open_files: Some(OPEN_FILES),
        // A second bound, on its user: for all of its runs together.
        processes: own.then(|| u64::from(definition.process_bound()) * u64::from(definition.concurrency)),
        notify: None,
        group: Vec::new(),
        executor_uid: rustix::process::geteuid().as_raw(),
        task: Task::Command(CommandTask {
            interpreter: definition.interpreter.clone(),
            is_script,
            uid: user.map(|user| user.uid),
            gid: user.map(|user| user.gid),
            timeout_ms: definition.timeout_ms,
            output_limit: definition.output_limit,
            stdin,
        }),
    })
}

/// Gives a shim that waits the sealed program, its bounds and its order.
async fn start(
    mut order: Order,
    definition: &Definition,
    program: &Program,
    prepared: &mut Prepared,
) -> Result<(), Fault> {
    let failed = |error: io::Error| failure::of_io("start a shim", &error);
    bounded::bound(prepared.group.as_ref(), definition)?;
    order.group = prepared.group.as_ref().map(|group| group.paths()).unwrap_or_default();
    pass::send(&prepared.programs, &program.executed).map_err(failed)?;
    if let Some(script) = &program.script {
        pass::send(&prepared.programs, script).map_err(failed)?;
    }
    let orders = prepared.shim.stdin.as_mut().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
    tell(order, orders).await
}

/// Takes what the shim says, to its end. Asked to end, it lets go of the shim, which ends its tree and says so.
async fn follow(run: &Run, child: &mut Child, time: Duration) -> Result<Ended, Fault> {
    let failed = |error: io::Error| failure::of_io("hear a command's shim", &error);
    let stdout = child.stdout.take().ok_or_else(|| failed(io::ErrorKind::BrokenPipe.into()))?;
    let mut lines = BufReader::with_capacity(64 * 1024, stdout);
    let mut overdue = std::pin::pin!(tokio::time::sleep(time));
    let (mut output, mut cancelled) = (0_u64, false);
    let mut abandoned = std::pin::pin!(run.abandoned());
    // What was read of a line stays here when something else comes first.
    let mut line = Vec::new();
    loop {
        let answer = tokio::select! {
            biased;
            () = run.asked_to_end(), if !cancelled => {
                cancelled = true;
                drop(child.stdin.take());
                continue;
            }
            () = &mut abandoned, if !cancelled => {
                cancelled = true;
                drop(child.stdin.take());
                continue;
            }
            answer = next(&mut lines, &mut line) => answer.map_err(failed)?,
            () = &mut overdue => return Err(failed(io::ErrorKind::TimedOut.into())),
        };
        match answer {
            Some(Answer::Output { stream, bytes }) => {
                let size = u64::try_from(bytes.len()).unwrap_or(u64::MAX) / 4 * 3;
                output = output.saturating_add(size);
                run.output(RunEvent::Output { stream, bytes }, size);
            }
            Some(Answer::Ended { exit, .. }) if exit == UNKNOWN => {
                return Err(Fault::new(FaultCode::Internal, "the shim did not see its end"));
            }
            Some(Answer::Ended { exit, output, truncated }) => {
                let how = if cancelled { "cancelled".to_owned() } else { exit };
                return Ok(Ended { how, output, truncated, program: None, fault: None });
            }
            Some(Answer::Error(why)) => {
                let fault =
                    Fault::new(FaultCode::Invalid, format!("the program could not be started: {why}"));
                return Ok(Ended::never("not started", fault));
            }
            Some(Answer::Ready {} | Answer::Started(_) | Answer::Ran(_)) => {
                return Err(Fault::new(FaultCode::Internal, "the shim answered something else"));
            }
            None => return Err(Fault::new(FaultCode::Internal, "the shim ended without a word")),
        }
    }
}

/// The next line; safe to drop and to begin again with the same `line`.
async fn next(lines: &mut BufReader<ChildStdout>, line: &mut Vec<u8>) -> io::Result<Option<Answer>> {
    let had = u64::try_from(line.len()).unwrap_or(u64::MAX);
    lines.take(LARGEST_ANSWER_LINE.saturating_sub(had)).read_until(b'\n', line).await?;
    if line.is_empty() {
        return Ok(None);
    }
    let answer = serde_json::from_slice(line);
    line.clear();
    Ok(Some(answer?))
}
