//! The agent's one connection to the executor: many asks in flight, each with a deadline. When it breaks, the agent has
//! nothing to stand on and ends; whoever started it starts it anew.

use allod_proto::{
    Fault, FaultCode,
    executor::{Action, Answer, Ask, Done},
    limits,
    record::SignedHead,
};
use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::UnixStream,
    sync::{mpsc, oneshot, watch},
};

type Waiting = Arc<Mutex<HashMap<u64, oneshot::Sender<Result<Done, Fault>>>>>;

/// The connection.
pub(crate) struct ExecutorLink {
    next: AtomicU64,
    waiting: Waiting,
    outgoing: mpsc::Sender<Vec<u8>>,
    head: watch::Receiver<Option<SignedHead>>,
    lost: watch::Receiver<bool>,
}

impl ExecutorLink {
    /// Takes over a connected socket.
    pub(crate) fn new(stream: UnixStream) -> Self {
        let (read, mut write) = stream.into_split();
        let (outgoing, mut lines) = mpsc::channel::<Vec<u8>>(256);
        let (tell_head, head) = watch::channel(None);
        let (tell_lost, lost) = watch::channel(false);
        let waiting = Waiting::default();
        tokio::spawn(async move {
            while let Some(line) = lines.recv().await {
                if write.write_all(&line).await.is_err() {
                    return;
                }
            }
        });
        let answered = Arc::clone(&waiting);
        tokio::spawn(async move {
            if let Err(error) = read_answers(read, &answered, &tell_head).await {
                tracing::error!(%error, "the executor's answers can't be read");
            }
            answered.lock().unwrap_or_else(PoisonError::into_inner).clear();
            tell_lost.send_replace(true);
        });
        Self { next: AtomicU64::new(1), waiting, outgoing, head, lost }
    }

    /// Resolves when the executor is gone.
    pub(crate) async fn lost(&self) {
        let mut lost = self.lost.clone();
        let _ = lost.wait_for(|lost| *lost).await;
    }

    /// The newest head of the record that the executor told.
    pub(crate) fn head(&self) -> Option<SignedHead> {
        self.head.borrow().clone()
    }

    /// Asks, and waits for the answer as long as this kind of ask may take.
    pub(crate) async fn ask(&self, action: Action) -> Result<Done, Fault> {
        let deadline = deadline(&action);
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut line = serde_json::to_vec(&Ask { id, action })
            .map_err(|error| Fault::new(FaultCode::Internal, format!("an ask can't be written: {error}")))?;
        if line.len() >= limits::LINE {
            return Err(Fault::new(FaultCode::TooLarge, "the request is too large to pass on"));
        }
        line.push(b'\n');
        let (answer, answered) = oneshot::channel();
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).insert(id, answer);
        if *self.lost.borrow() || self.outgoing.send(line).await.is_err() {
            self.forget(id);
            return Err(gone());
        }
        match tokio::time::timeout(deadline, answered).await {
            Ok(Ok(outcome)) => outcome,
            Ok(Err(_)) => Err(gone()),
            Err(_) => {
                self.forget(id);
                let message = format!("the executor did not answer within {} s", deadline.as_secs());
                Err(Fault::new(FaultCode::Timeout, message)
                    .hint("`allod doctor` looks at the server's programs"))
            }
        }
    }

    fn forget(&self, id: u64) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
    }
}

async fn read_answers(
    read: tokio::net::unix::OwnedReadHalf,
    waiting: &Waiting,
    head: &watch::Sender<Option<SignedHead>>,
) -> std::io::Result<()> {
    let mut read = BufReader::new(read);
    loop {
        let mut line = Vec::new();
        let limit = u64::try_from(limits::LINE).unwrap_or(u64::MAX).saturating_mul(2);
        if (&mut read).take(limit).read_until(b'\n', &mut line).await? == 0 {
            return Ok(());
        }
        let answer: Answer = serde_json::from_slice(&line)?;
        if let Some(new) = answer.head {
            head.send_if_modified(|old| {
                let higher = old.as_ref().is_none_or(|old| old.head.seq < new.head.seq);
                if higher {
                    *old = Some(new);
                }
                higher
            });
        }
        let asker = waiting.lock().unwrap_or_else(PoisonError::into_inner).remove(&answer.id);
        if let Some(asker) = asker {
            let _ = asker.send(answer.outcome);
        }
    }
}

fn deadline(action: &Action) -> Duration {
    match action {
        Action::Perform(_) | Action::RecordVerify {} | Action::RecordStats {} => Duration::from_secs(300),
        Action::ReleaseCommand { .. } => Duration::from_secs(620),
        Action::InstanceStop { grace_ms, .. } => Duration::from_millis(grace_ms.saturating_add(15_000)),
        Action::InstanceCheck { timeout_ms, .. } => Duration::from_millis(timeout_ms.saturating_add(5_000)),
        Action::Finish { .. } => Duration::from_secs(120),
        Action::Attach { .. }
        | Action::InstanceStart { .. }
        | Action::InstanceForget { .. }
        | Action::Promote { .. }
        | Action::Look {}
        | Action::Secrets { .. }
        | Action::Releases { .. }
        | Action::Observe(_)
        | Action::RecordRead { .. }
        | Action::Keys {}
        | Action::GateAsked { .. }
        | Action::LogRead { .. }
        | Action::LogList { .. }
        | Action::Commands {}
        | Action::CommandHistory { .. }
        | Action::Runs {}
        | Action::RunRead { .. }
        | Action::RunLeft { .. } => Duration::from_secs(20),
    }
}

fn gone() -> Fault {
    Fault::new(FaultCode::Unreachable, "the executor is not there just now").hint("try again in a moment")
}

/// An answer of another kind than the ask's.
pub(crate) fn unexpected() -> Fault {
    Fault::new(FaultCode::Internal, "the executor answered something else than was asked")
}

/// Takes one kind of answer, or the fault that it is another.
macro_rules! expect_done {
    ($outcome:expr, $pattern:pat => $value:expr) => {
        match $outcome {
            Ok($pattern) => Ok($value),
            Ok(_) => Err($crate::executor_link::unexpected()),
            Err(fault) => Err(fault),
        }
    };
}
pub(crate) use expect_done;
