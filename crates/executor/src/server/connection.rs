//! One connection. Whatever its peer sends, or does not, costs a bounded piece of memory and time: lines, asks under way,
//! answers that are not taken, and how long it may be here without saying that it is the agent.

use super::{
    lane::{Lanes, Place},
    line::{Cut, Lines},
    seats::{End, Seat},
};
use crate::{Executor, actions, executor::AgentSeen};
use allod_proto::{
    Fault, FaultCode,
    executor::{Action, Answer, Ask},
    limits,
};
use std::{sync::Arc, time::Duration};
use tokio::{
    io::{AsyncWriteExt as _, ReadHalf, WriteHalf},
    net::UnixStream,
    sync::mpsc,
    time::timeout,
};

/// The longest line of somebody who has not attached: an attach is all that it may hold.
const FIRST_LINE: usize = 4096;
/// How long somebody may be here without attaching.
const ATTACH: Duration = Duration::from_secs(30);
/// How long a line may take from its first byte to its last.
const LINE: Duration = Duration::from_secs(20);
/// How long a peer may leave an answer unread.
const UNREAD: Duration = Duration::from_secs(30);
/// Answers that wait for the writer; each keeps its place on a lane until it is written.
const ANSWERS: usize = 64;

type Outgoing = mpsc::Sender<(Answer, Option<Place>)>;

/// Serves a connection until its peer, its place or the patience with it ends.
pub(super) async fn serve(executor: Arc<Executor>, stream: UnixStream, (seat, end): (Seat, End)) {
    talk(&executor, stream, &seat, end).await;
    executor.agent().take_if(|agent| agent.connection == seat.id());
}

async fn talk(executor: &Arc<Executor>, stream: UnixStream, seat: &Seat, mut end: End) {
    // Not `into_split`, whose end is a shutdown: of a socket that was handed over somebody else may still have a copy.
    let (read, write) = tokio::io::split(stream);
    let (answers, outgoing) = mpsc::channel(ANSWERS);
    let writing = write_answers(write, outgoing);
    tokio::pin!(writing);
    tokio::select! {
        biased;
        _ = &mut end => return,
        () = &mut writing => return,
        () = read_asks(executor, Lines::new(read), answers, seat) => {}
    }
    // It asks no more; what is under way is still answered.
    tokio::select! {
        _ = end => {}
        () = writing => {}
    }
}

/// Ends when nobody has anything to say any more, or the peer does not listen.
async fn write_answers(
    mut write: WriteHalf<UnixStream>,
    mut outgoing: mpsc::Receiver<(Answer, Option<Place>)>,
) {
    while let Some((answer, place)) = outgoing.recv().await {
        let mut line = serde_json::to_vec(&answer).unwrap_or_default();
        line.push(b'\n');
        match timeout(UNREAD, write.write_all(&line)).await {
            Ok(Ok(())) => drop(place),
            Ok(Err(error)) => return tracing::debug!(%error, "a peer of the executor has left"),
            Err(_) => return tracing::warn!("a peer of the executor does not read its answers"),
        }
    }
}

/// Asks are answered as they are done, many at a time. What makes no sense costs the connection.
async fn read_asks(
    executor: &Arc<Executor>,
    mut lines: Lines<ReadHalf<UnixStream>>,
    answers: Outgoing,
    seat: &Seat,
) {
    let lanes = Lanes::default();
    let mut attached = false;
    loop {
        let Some(begun) = lanes.begin().await else { return };
        let (id, fault) = match next(&mut lines, attached).await {
            Ok(None) => return,
            Ok(Some(ask)) if attached || seat_taken(&ask, seat) => {
                attached = true;
                *executor.agent() = Some(AgentSeen { connection: seat.id(), asked_at: executor.now() });
                let (executor, answers, lanes) = (Arc::clone(executor), answers.clone(), lanes.clone());
                tokio::spawn(async move {
                    let place = lanes.enter(begun, &ask.action).await;
                    let outcome = actions::carry_out(&executor, ask.action).await;
                    let head = executor.record().head().ok();
                    // Who has left needs no answer.
                    let _ = answers.send((Answer { id: ask.id, outcome, head }, Some(place))).await;
                });
                continue;
            }
            Ok(Some(ask)) => (ask.id, Fault::new(FaultCode::Malformed, "attach comes first on a connection")),
            Err(fault) => (0, fault),
        };
        tracing::warn!(%fault, "a connection to the executor is ended");
        let _ = answers.send((Answer { id, outcome: Err(fault), head: None }, None)).await;
        return;
    }
}

/// The agent's first ask makes the connection its own.
fn seat_taken(ask: &Ask, seat: &Seat) -> bool {
    matches!(ask.action, Action::Attach { .. }) && seat.attach()
}

async fn next(lines: &mut Lines<ReadHalf<UnixStream>>, attached: bool) -> Result<Option<Ask>, Fault> {
    let line = if attached {
        lines.next(limits::LINE, LINE).await
    } else {
        timeout(ATTACH, lines.next(FIRST_LINE, LINE)).await.unwrap_or(Err(Cut::TooSlow(ATTACH)))
    };
    let Some(line) = line.map_err(|cut| cut.to_fault())? else { return Ok(None) };
    let ask = serde_json::from_slice(&line)
        .map_err(|error| Fault::new(FaultCode::Malformed, format!("not an ask: {error}")))?;
    Ok(Some(ask))
}
